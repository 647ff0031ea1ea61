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
        uint256 before = _balance(token);
        token.safeTransferFrom(from, address(this), amount);
        uint256 received = _balance(token);
        unchecked {
            received -= before; // below zero it is far above every amount
        }
        if (received != amount) revert TokenMismatch(amount, received);
    }

    /// @dev `token.balanceOf(address(this))` at a third of what the compiler's call costs, since every channel pays for two.
    function _balance(IERC20 token) private view returns (uint256 held) {
        bytes4 selector = IERC20.balanceOf.selector;
        bool done;
        assembly ("memory-safe") {
            mstore(0, selector)
            mstore(4, address())
            done := staticcall(gas(), token, 0, 0x24, 0, 0x20)
            done := and(done, gt(returndatasize(), 0x1f))
            held := mload(0)
        }
        if (!done) revert SafeERC20.SafeERC20FailedOperation(address(token));
    }
}
