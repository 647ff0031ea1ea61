// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IChannels} from "../interfaces/IChannels.sol";
import {Fixture} from "./support/Fixture.sol";
import {RefusingToken} from "./support/Tokens.sol";

/// @notice What only the slasher may do to a claim.
contract ChannelsSlasherTest is Fixture {
    function setUp() public override {
        super.setUp();
        fund(payer, worker, session, DEPOSIT);
    }

    function test_setFrozen_stopsAndAllowsARelease() public {
        claim(0, 10);
        vm.expectEmit(address(channels));
        emit IChannels.Frozen(worker, 0, true);
        vm.prank(slasher);
        channels.setFrozen(worker, 0, true);
        vm.assertTrue(channels.claimOf(worker, 0).frozen);
        vm.expectEmit(address(channels));
        emit IChannels.Frozen(worker, 0, false);
        vm.prank(slasher);
        channels.setFrozen(worker, 0, false);
        vm.assertFalse(channels.claimOf(worker, 0).frozen);
    }

    function test_setFrozen_touchesOneClaimOnly() public {
        claim(0, 10);
        claim(0, 20);
        vm.prank(slasher);
        channels.setFrozen(worker, 1, true);
        vm.assertFalse(channels.claimOf(worker, 0).frozen);
        vm.assertTrue(channels.claimOf(worker, 1).frozen);
        vm.warp(START + WINDOW);
        channels.release(worker, 0);
    }

    function test_setFrozen_refusesWhatIsNotPending() public {
        claim(0, 10);
        vm.warp(START + WINDOW);
        channels.release(worker, 0);
        vm.startPrank(slasher);
        vm.expectRevert(abi.encodeWithSelector(IChannels.NoClaim.selector, worker, 0));
        channels.setFrozen(worker, 0, true);
        vm.expectRevert(abi.encodeWithSelector(IChannels.NoClaim.selector, worker, 1));
        channels.setFrozen(worker, 1, true);
    }

    /// @dev The last step of a dispute must not stumble over a claim that is gone.
    function test_setFrozen_neverRefusesToUnfreeze() public {
        vm.recordLogs();
        vm.startPrank(slasher);
        channels.setFrozen(worker, 0, false);
        channels.setFrozen(worker, 77, false);
        channels.setFrozen(stranger, 0, false);
        vm.assertEq(vm.getRecordedLogs().length, 0);
    }

    /// @dev Slot 0 holds claim 65 now: what is said about claim 1 must not reach it.
    function test_setFrozen_doesNotReachTheNextClaimOfASlot() public {
        for (uint96 i; i < 64; ++i) claim(0, i + 1);
        vm.warp(START + WINDOW);
        for (uint64 i; i < 2; ++i) channels.release(worker, i);
        vm.assertEq(claim(0, 100), 64);
        vm.assertEq(claim(0, 101), 65);
        vm.startPrank(slasher);
        channels.setFrozen(worker, 65, true);
        channels.setFrozen(worker, 1, false);
        vm.assertTrue(channels.claimOf(worker, 65).frozen);
        vm.expectRevert(abi.encodeWithSelector(IChannels.NoClaim.selector, worker, 0));
        channels.setFrozen(worker, 0, true);
        vm.assertEq(channels.forfeit(worker, 1, 5, treasury), 0);
        vm.assertEq(channels.claimOf(worker, 65).amount, 1);
    }

    function test_forfeit_takesPartOfAClaim() public {
        claim(0, 100);
        uint256 before = token.balanceOf(payer);
        vm.startPrank(slasher);
        channels.setFrozen(worker, 0, true);
        vm.expectEmit(address(channels));
        emit IChannels.Forfeited(worker, 0, 30, payer);
        vm.assertEq(channels.forfeit(worker, 0, 30, payer), 30);
        vm.assertEq(token.balanceOf(payer), before + 30);
        vm.assertEq(channels.claimOf(worker, 0).amount, 70);
        vm.assertTrue(channels.claimOf(worker, 0).frozen);
        (, uint256 pending, , ) = channels.accountOf(worker);
        vm.assertEq(pending, 70);
    }

    function test_forfeit_freesTheSlotWithTheLastUnit() public {
        claim(0, 100);
        vm.startPrank(slasher);
        channels.setFrozen(worker, 0, true);
        vm.assertEq(channels.forfeit(worker, 0, type(uint256).max, payer), 100);
        vm.assertFalse(channels.claimOf(worker, 0).frozen);
        vm.assertEq(channels.claimOf(worker, 0).amount, 0);
        vm.assertEq(channels.forfeit(worker, 0, 1, payer), 0);
        (, uint256 pending, , ) = channels.accountOf(worker);
        vm.assertEq(pending, 0);
    }

    function test_forfeit_returnsNothingWhereNothingIsPending() public {
        vm.recordLogs();
        vm.startPrank(slasher);
        vm.assertEq(channels.forfeit(worker, 0, 5, payer), 0);
        vm.assertEq(channels.forfeit(stranger, 9, 5, payer), 0);
        vm.assertEq(vm.getRecordedLogs().length, 0);
    }

    /// @dev A refusal of the token does not undo the penalty; the money waits for whom it is meant.
    function test_forfeit_keepsWhatCannotBeSent() public {
        RefusingToken refusing = new RefusingToken();
        refusing.mint(address(this), 1_000_000);
        deploy(refusing);
        endow(payer, 1_000);
        fund(payer, worker, session, 100);
        claim(0, 100);
        vm.startPrank(slasher);
        refusing.refuse(payer, false);
        vm.assertEq(channels.forfeit(worker, 0, 30, payer), 30);
        refusing.refuse(payer, true);
        vm.assertEq(channels.forfeit(worker, 0, 30, payer), 30);
        vm.assertEq(channels.forfeit(worker, 0, 30, address(0)), 30);
        vm.stopPrank();
        (, , uint256 owed, ) = channels.accountOf(payer);
        vm.assertEq(owed, 60);
        vm.prank(payer);
        channels.withdrawEarnings(stranger);
        vm.assertEq(refusing.balanceOf(stranger), 60);
    }

    function test_slasherOnly_refusesEverybodyElse() public {
        claim(0, 10);
        address[3] memory callers = [worker, payer, stranger];
        for (uint256 i; i < 3; ++i) {
            vm.startPrank(callers[i]);
            vm.expectRevert(abi.encodeWithSelector(IChannels.NotSlasher.selector, callers[i]));
            channels.setFrozen(worker, 0, true);
            vm.expectRevert(abi.encodeWithSelector(IChannels.NotSlasher.selector, callers[i]));
            channels.forfeit(worker, 0, 1, callers[i]);
            vm.stopPrank();
        }
    }

    function testFuzz_forfeit_takesNoMoreThanIsPending(uint96 total, uint256[4] memory amounts) public {
        total = uint96(bound(total, 1, DEPOSIT));
        claim(0, total);
        uint256 taken;
        vm.startPrank(slasher);
        for (uint256 i; i < 4; ++i) taken += channels.forfeit(worker, 0, amounts[i] >> (64 * i), treasury);
        vm.stopPrank();
        vm.assertEq(token.balanceOf(treasury), taken);
        (, uint256 pending, , ) = channels.accountOf(worker);
        vm.assertEq(pending + taken, total);
        if (pending == 0) return;
        vm.warp(START + WINDOW);
        vm.assertEq(channels.release(worker, 0), pending);
    }
}
