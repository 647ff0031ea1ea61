// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {ERC20} from "@openzeppelin/contracts/token/ERC20/ERC20.sol";

/// @title Tokens to compare ours with, and tokens that are not plain
contract PlainToken is ERC20("Plain", "PLAIN") {
    function mint(address to, uint256 amount) external {
        _mint(to, amount);
    }
}

contract FeeToken is ERC20("Fee", "FEE") {
    bool public charging;

    function mint(address to, uint256 amount) external {
        _mint(to, amount);
    }

    function charge(bool on) external {
        charging = on;
    }

    /// @dev One in a hundred stays on the way.
    function _update(address from, address to, uint256 amount) internal override {
        super._update(from, to, amount);
        if (charging && from != address(0) && to != address(0)) super._update(to, address(0), amount / 100);
    }
}

/// @notice Calls sender and recipient, like ERC-777, when they ask for it.
contract HookToken is ERC20("Hook", "HOOK") {
    mapping(address account => bool) public listens;

    function mint(address to, uint256 amount) external {
        _mint(to, amount);
    }

    function listen(bool on) external {
        listens[msg.sender] = on;
    }

    function _update(address from, address to, uint256 amount) internal override {
        if (listens[from]) IHooked(from).onToken();
        super._update(from, to, amount);
        if (listens[to]) IHooked(to).onToken();
    }
}

interface IHooked {
    function onToken() external;
}

/// @notice Does not pay everybody.
contract RefusingToken is ERC20("Refusing", "NO") {
    mapping(address account => bool) public refused;
    bool public silent;

    function mint(address to, uint256 amount) external {
        _mint(to, amount);
    }

    /// @param silently whether transfers to it return false instead of reverting
    function refuse(address account, bool silently) external {
        refused[account] = true;
        silent = silently;
    }

    function accept(address account) external {
        refused[account] = false;
    }

    function transfer(address to, uint256 amount) public override returns (bool) {
        if (!refused[to]) return super.transfer(to, amount);
        require(silent, "refused");
        return false;
    }
}
