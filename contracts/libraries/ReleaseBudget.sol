// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// @notice What a worker released on the strength of its stake, in the latest window and in the one before. Windows are
/// numbered `time / length`. Amounts fit: within a window a ring slot releases no more than the claim that it holds, if in
/// parts, so a window sums at most 64.
struct ReleaseBudget {
    uint40 window;
    uint104 current;
    uint104 previous;
}

using ReleaseBudgets for ReleaseBudget global;

/// @title How much was released lately
/// @notice Two fixed windows cover every running one that ends in the later of them, so their sum is never too small.
library ReleaseBudgets {
    /// @notice What counts against the stake in `window`, which is not before the latest one.
    function used(ReleaseBudget storage budget, uint256 window) internal view returns (uint256) {
        if (window == budget.window) return uint256(budget.current) + budget.previous;
        return window == uint256(budget.window) + 1 ? budget.current : 0;
    }

    /// @notice Counts `amount` as released in `window`, which is not before the latest one.
    function add(ReleaseBudget storage budget, uint256 window, uint96 amount) internal {
        if (window != budget.window) {
            budget.previous = window == uint256(budget.window) + 1 ? budget.current : 0;
            budget.current = 0;
            budget.window = uint40(window);
        }
        budget.current += amount;
    }

    /// @notice Number of the first window from `window` on in which `amount` more stays within `capacity`, which is not
    /// less than `amount`.
    function firstWindow(
        ReleaseBudget storage budget,
        uint256 window,
        uint256 amount,
        uint256 capacity
    ) internal view returns (uint256) {
        while (budget.used(window) + amount > capacity) ++window; // nothing is used two windows later
        return window;
    }
}
