// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {ERC20} from "@openzeppelin/contracts/token/ERC20/ERC20.sol";
import {ERC20Permit} from "@openzeppelin/contracts/token/ERC20/extensions/ERC20Permit.sol";

/// @title The token of a local deployment: stake, deposits and fees
/// @notice Fixed supply, 18 decimals, nobody can mint. Deployments elsewhere use any plain ERC-20 instead.
contract WorkToken is ERC20, ERC20Permit {
    error SupplyOutOfRange(uint256 supply);

    /// @param recipient gets the whole supply
    /// @param supply base units, from 1 to type(uint96).max: amounts in the other contracts are uint96
    constructor(address recipient, uint256 supply) ERC20("eFedLLM Work", "WORK") ERC20Permit("eFedLLM Work") {
        if (supply == 0 || supply > type(uint96).max) revert SupplyOutOfRange(supply);
        _mint(recipient, supply);
    }
}
