// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Vm} from "./Vm.sol";

/// @title Base of every Solidity test
/// @notice `vm` has the cheat codes and the assertions (`vm.assertEq(left, right)`). The runner calls `setUp()` before
/// each `test_*` function, and `testFuzz_*` with drawn arguments.
abstract contract Test {
    /// @dev The address at which the test runner answers cheat codes.
    Vm internal constant vm = Vm(address(uint160(uint256(keccak256("hevm cheat code")))));

    /// @notice Fold a drawn value into the closed range [low, high]; values already inside stay as they are.
    function bound(uint256 value, uint256 low, uint256 high) internal pure returns (uint256) {
        vm.assertLe(low, high, "bound: low is above high");
        if (value >= low && value <= high) return value;
        // The whole uint256 range returned above, so `high - low + 1` cannot overflow.
        return low + (value % (high - low + 1));
    }

    /// @notice A labelled account and its key, both derived from `name`.
    function makeAccount(string memory name) internal returns (address account, uint256 privateKey) {
        privateKey = uint256(keccak256(bytes(name)));
        account = vm.addr(privateKey);
        vm.label(account, name);
    }

    /// @notice A labelled account derived from `name`, for when nothing needs its signature.
    function makeAddr(string memory name) internal returns (address account) {
        (account, ) = makeAccount(name);
    }
}
