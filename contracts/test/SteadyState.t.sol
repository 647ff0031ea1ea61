// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Fixture} from "./support/Fixture.sol";

/// @notice A worker that has been through its ring once opens no new storage slot any more.
contract SteadyStateTest is Fixture {
    function setUp() public override {
        super.setUp();
        fund(payer, worker, session, DEPOSIT);
        fund(otherPayer, worker, session, DEPOSIT);
        for (uint96 i; i < 64; ++i) claim(0, 1_000 * (i + 1)); // each pays a fee
        vm.warp(START + WINDOW);
        for (uint64 i; i < 64; ++i) channels.release(worker, i);
    }

    function test_claim_opensNoSlotInSteadyState() public {
        for (uint96 i; i < 65; ++i) {
            bytes memory batch = bytes.concat(
                voucher(0, 1_000 * (100 + i)),
                pack(sign(sessionSecret, otherPayer, worker, 0, 1_000 * (100 + i), 1, ROOT))
            );
            // The very first claim of the other channel too: its deposit is in the slot already.
            (uint256 written, uint256 opened) = _slots(abi.encodeCall(channels.claim, (worker, batch)));
            vm.assertEq(opened, 0);
            vm.assertEq(written, 5, "two channels, the ring's head, and two words of a claim");
            vm.warp(vm.getBlockTimestamp() + WINDOW);
            (uint64 next, , , ) = channels.accountOf(worker);
            (, opened) = _slots(abi.encodeCall(channels.release, (worker, next - 1)));
            vm.assertEq(opened, 0);
        }
    }

    /// @dev The counter counts: a first claim does open slots.
    function test_claim_opensSlotsOnTheFirstRound() public {
        address fresh = makeAddr("fresh worker");
        fund(payer, fresh, session, 100);
        bytes memory one = pack(sign(sessionSecret, payer, fresh, 0, 20, 1, ROOT));
        vm.record();
        vm.prank(fresh);
        channels.claim(fresh, one);
        (, bytes32[] memory written) = vm.accesses(address(channels));
        vm.assertEq(_distinct(written), 4);
        uint256 opened;
        for (uint256 i; i < written.length; ++i) if (vm.load(address(channels), written[i]) != 0) ++opened;
        vm.assertGt(opened, 3);
    }

    /// @return written how many slots of Channels the worker's call writes
    /// @return opened how many of them were zero before and are not afterwards
    function _slots(bytes memory data) private returns (uint256 written, uint256 opened) {
        uint256 state = vm.snapshotState();
        vm.record();
        _call(data);
        (, bytes32[] memory slots) = vm.accesses(address(channels));
        bytes32[] memory values = new bytes32[](slots.length);
        for (uint256 i; i < slots.length; ++i) values[i] = vm.load(address(channels), slots[i]);
        vm.revertToState(state);
        for (uint256 i; i < slots.length; ++i) {
            if (values[i] != 0 && vm.load(address(channels), slots[i]) == 0) ++opened;
        }
        written = _distinct(slots);
        _call(data);
    }

    function _call(bytes memory data) private {
        vm.prank(worker);
        (bool done, ) = address(channels).call(data);
        vm.assertTrue(done);
    }

    function _distinct(bytes32[] memory list) private pure returns (uint256 count) {
        for (uint256 i; i < list.length; ++i) {
            bool seen;
            for (uint256 j; j < i; ++j) seen = seen || list[j] == list[i];
            if (!seen) ++count;
        }
    }
}
