// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {ReleaseBudget} from "../libraries/ReleaseBudget.sol";
import {Test} from "./support/Test.sol";

/// @notice What counts against the stake: the latest window and the one before it, and nothing older.
contract ReleaseBudgetTest is Test {
    ReleaseBudget private budget;
    mapping(uint256 window => uint256 amount) private released;

    function test_add_keepsTheWindowBefore() public {
        budget.add(7, 100);
        budget.add(8, 20);
        vm.assertEq(budget.used(8), 120);
        vm.assertEq(budget.used(9), 20);
        vm.assertEq(budget.used(10), 0);
    }

    function test_add_forgetsAnOlderWindow() public {
        budget.add(7, 100);
        budget.add(9, 20);
        vm.assertEq(budget.used(9), 20);
    }

    function testFuzz_used_isTheSumOfTwoWindows(uint8[12] calldata steps, uint96[12] calldata amounts) public {
        uint256 window = 100;
        for (uint256 i; i < steps.length; ++i) {
            window += steps[i] % 4;
            uint96 amount = amounts[i] / 12;
            budget.add(window, amount);
            released[window] += amount;
            for (uint256 later = window; later < window + 3; ++later) {
                vm.assertEq(budget.used(later), released[later] + released[later - 1]);
            }
        }
    }
}
