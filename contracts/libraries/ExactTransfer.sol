// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";

/// @title Money in, to the last unit
library ExactTransfer {
    using SafeERC20 for IERC20;

    /// @notice Same error as in IChannels and IStakeRegistry.
    error TokenMismatch(uint256 expected, uint256 received);

    /// @notice Moves `amount` from `from` to this contract, and reverts unless exactly that arrived: tokens that take a fee
    /// on the way, and any other change of the balance in between, would leave promises without money behind them.
    function pull(IERC20 token, address from, uint256 amount) internal {
        uint256 before = token.balanceOf(address(this));
        token.safeTransferFrom(from, address(this), amount);
        uint256 received = token.balanceOf(address(this)) - before;
        if (received != amount) revert TokenMismatch(amount, received);
    }
}
