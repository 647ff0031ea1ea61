// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {ERC20} from "@openzeppelin/contracts/token/ERC20/ERC20.sol";
import {ERC20Permit} from "@openzeppelin/contracts/token/ERC20/extensions/ERC20Permit.sol";

/// @title The token of a local deployment: stake, deposits and fees
/// @notice Fixed supply, 18 decimals, nobody can mint or burn. Deployments elsewhere use any plain ERC-20 instead.
/// @dev Behaves as OpenZeppelin's, with books of its own: the first spender that an owner trusts without limit stands
/// beside the owner's balance, so that a transfer by it reads one slot and not two.
contract WorkToken is ERC20, ERC20Permit {
    struct Allowance {
        uint256 value; // means nothing for whom the owner trusts
    }

    uint256 private constant TRUSTED_SHIFT = 96;

    uint256 private immutable _supply;
    /// @dev address trusted (160 bits) | uint96 balance
    mapping(address owner => uint256) private _accounts;
    mapping(address owner => mapping(address spender => Allowance)) private _allowances;

    error SupplyOutOfRange(uint256 supply);

    /// @param recipient gets the whole supply
    /// @param supply base units, from 1 to type(uint96).max: amounts in the other contracts are uint96
    constructor(address recipient, uint256 supply) ERC20("eFedLLM Work", "WORK") ERC20Permit("eFedLLM Work") {
        if (supply == 0 || supply > type(uint96).max) revert SupplyOutOfRange(supply);
        if (recipient == address(0)) revert ERC20InvalidReceiver(recipient);
        _supply = supply;
        _accounts[recipient] = supply;
        emit Transfer(address(0), recipient, supply);
    }

    function totalSupply() public view override returns (uint256) {
        return _supply;
    }

    function balanceOf(address owner) public view override returns (uint256) {
        return uint96(_accounts[owner]);
    }

    function allowance(address owner, address spender) public view override returns (uint256) {
        bool trusted = spender != address(0) && _trustedBy(owner) == spender;
        return trusted ? type(uint256).max : _allowances[owner][spender].value;
    }

    /// @dev Both addresses are somebody's: OpenZeppelin checks that before, and nothing is minted or burned.
    function _update(address from, address to, uint256 value) internal override {
        uint256 account = _accounts[from];
        if (uint96(account) < value) revert ERC20InsufficientBalance(from, uint96(account), value);
        unchecked {
            // Balances are the low bits of a word, and all of them together are the supply, which fits.
            _accounts[from] = account - value;
            _accounts[to] += value;
        }
        emit Transfer(from, to, value);
    }

    /// @dev `owner` is whoever calls, or who signed a permit. Always with an event: `_spendAllowance` has its own way.
    function _approve(address owner, address spender, uint256 value, bool) internal override {
        if (spender == address(0)) revert ERC20InvalidSpender(spender);
        address trusted = _trustedBy(owner);
        bool unlimited = value == type(uint256).max;
        if (unlimited && trusted == address(0)) _trust(owner, spender);
        else if (!unlimited && trusted == spender) _trust(owner, address(0));
        if (!unlimited || _trustedBy(owner) != spender) _allowances[owner][spender].value = value;
        emit Approval(owner, spender, value);
    }

    function _spendAllowance(address owner, address spender, uint256 value) internal override {
        if (_trustedBy(owner) == spender) return;
        Allowance storage allowed = _allowances[owner][spender];
        uint256 left = allowed.value;
        if (left == type(uint256).max) return;
        if (left < value) revert ERC20InsufficientAllowance(spender, left, value);
        unchecked {
            allowed.value = left - value;
        }
    }

    function _trust(address owner, address spender) private {
        _accounts[owner] = uint96(_accounts[owner]) | (uint256(uint160(spender)) << TRUSTED_SHIFT);
    }

    function _trustedBy(address owner) private view returns (address) {
        return address(uint160(_accounts[owner] >> TRUSTED_SHIFT));
    }
}
