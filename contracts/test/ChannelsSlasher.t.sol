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

    function test_freeze_stopsAndUnfreezeAllowsARelease() public {
        claim(0, 10);
        vm.startPrank(slasher);
        vm.expectEmit(address(channels));
        emit IChannels.Frozen(worker, 0, 4);
        vm.assertEq(channels.freeze(worker, 0, 4), 4);
        vm.assertEq(channels.claimOf(worker, 0).frozen, 4);
        vm.expectEmit(address(channels));
        emit IChannels.Frozen(worker, 0, 3);
        vm.assertEq(channels.freeze(worker, 0, 3), 3);
        vm.assertEq(channels.claimOf(worker, 0).frozen, 7);
        vm.expectEmit(address(channels));
        emit IChannels.Unfrozen(worker, 0, 2);
        vm.assertEq(channels.unfreeze(worker, 0, 2), 2);
        vm.assertEq(channels.claimOf(worker, 0).frozen, 5);
        vm.assertEq(channels.unfreeze(worker, 0, 5), 5);
        vm.assertEq(channels.claimOf(worker, 0).frozen, 0);
        vm.assertEq(channels.freeze(worker, 0, 1), 1);
        vm.assertEq(channels.claimOf(worker, 0).frozen, 1);
    }

    function test_freeze_stopsNoMoreThanIsPending() public {
        claim(0, 10);
        vm.startPrank(slasher);
        vm.assertEq(channels.freeze(worker, 0, 4), 4);
        vm.assertEq(channels.freeze(worker, 0, type(uint256).max), 6);
        vm.recordLogs();
        vm.assertEq(channels.freeze(worker, 0, 1), 0);
        vm.assertEq(vm.getRecordedLogs().length, 0);
        vm.assertEq(channels.claimOf(worker, 0).frozen, 10);
        vm.assertEq(channels.unfreeze(worker, 0, type(uint256).max), 10);
        vm.assertEq(channels.claimOf(worker, 0).frozen, 0);
    }

    function test_freeze_touchesOneClaimOnly() public {
        claim(0, 10);
        claim(0, 20);
        vm.prank(slasher);
        channels.freeze(worker, 1, 10);
        vm.assertEq(channels.claimOf(worker, 0).frozen, 0);
        vm.assertEq(channels.claimOf(worker, 1).frozen, 10);
        vm.warp(START + WINDOW);
        channels.release(worker, 0);
    }

    /// @dev Neither the first nor the last step of a dispute may stumble over a claim that is gone.
    function test_freeze_doesNothingWhereNothingIsPending() public {
        claim(0, 10);
        vm.warp(START + WINDOW);
        channels.release(worker, 0);
        vm.recordLogs();
        vm.startPrank(slasher);
        vm.assertEq(channels.freeze(worker, 0, 1), 0);
        vm.assertEq(channels.freeze(worker, 77, 1), 0);
        vm.assertEq(channels.freeze(stranger, 0, 1), 0);
        vm.assertEq(channels.unfreeze(worker, 0, 1), 0);
        vm.assertEq(channels.unfreeze(worker, 77, 1), 0);
        vm.assertEq(channels.unfreeze(stranger, 0, 1), 0);
        vm.assertEq(vm.getRecordedLogs().length, 0);
        vm.stopPrank();
        claim(0, 20);
        vm.prank(slasher);
        vm.assertEq(channels.unfreeze(worker, 1, 5), 0);
        vm.assertEq(vm.getRecordedLogs().length, 1); // the claim
    }

    /// @dev Slot 1 holds claim 65 now: what is said about claim 1 must not reach it, nor may an old freeze.
    function test_freeze_doesNotReachTheNextClaimOfASlot() public {
        for (uint96 i; i < 64; ++i) claim(0, i + 1);
        vm.startPrank(slasher);
        channels.freeze(worker, 1, 1);
        channels.unfreeze(worker, 1, 1);
        vm.stopPrank();
        vm.warp(START + WINDOW);
        for (uint64 i; i < 2; ++i) channels.release(worker, i);
        vm.assertEq(claim(0, 100), 64);
        vm.assertEq(claim(0, 103), 65);
        vm.assertEq(channels.claimOf(worker, 65).frozen, 0);
        vm.startPrank(slasher);
        channels.freeze(worker, 65, 2);
        vm.assertEq(channels.unfreeze(worker, 1, 2), 0);
        vm.assertEq(channels.freeze(worker, 1, 1), 0);
        vm.assertEq(channels.claimOf(worker, 65).frozen, 2);
        vm.assertEq(channels.forfeit(worker, 1, 5, treasury), 0);
        vm.assertEq(channels.claimOf(worker, 65).amount, 3);
    }

    function test_forfeit_takesPartOfAClaim() public {
        claim(0, 100);
        uint256 before = token.balanceOf(payer);
        vm.startPrank(slasher);
        channels.freeze(worker, 0, 60);
        vm.expectEmit(address(channels));
        emit IChannels.Forfeited(worker, 0, 30, payer);
        vm.assertEq(channels.forfeit(worker, 0, 30, payer), 30);
        vm.assertEq(token.balanceOf(payer), before + 30);
        vm.assertEq(channels.claimOf(worker, 0).amount, 70);
        vm.assertEq(channels.claimOf(worker, 0).frozen, 60);
        (, uint256 pending, , ) = channels.accountOf(worker);
        vm.assertEq(pending, 70);
    }

    /// @dev One dispute does not take what another one holds.
    function test_forfeit_leavesWhatIsFrozen() public {
        claim(0, 100);
        vm.startPrank(slasher);
        channels.freeze(worker, 0, 60);
        vm.assertEq(channels.forfeit(worker, 0, 90, payer), 40);
        vm.recordLogs();
        vm.assertEq(channels.forfeit(worker, 0, 90, payer), 0);
        vm.assertEq(vm.getRecordedLogs().length, 0);
        channels.unfreeze(worker, 0, 60);
        vm.assertEq(channels.forfeit(worker, 0, 90, payer), 60);
    }

    function test_forfeit_freesTheSlotWithTheLastUnit() public {
        claim(0, 100);
        vm.startPrank(slasher);
        vm.assertEq(channels.forfeit(worker, 0, type(uint256).max, payer), 100);
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
            channels.freeze(worker, 0, 1);
            vm.expectRevert(abi.encodeWithSelector(IChannels.NotSlasher.selector, callers[i]));
            channels.unfreeze(worker, 0, 1);
            vm.expectRevert(abi.encodeWithSelector(IChannels.NotSlasher.selector, callers[i]));
            channels.forfeit(worker, 0, 1, callers[i]);
            vm.stopPrank();
        }
    }

    function testFuzz_forfeit_takesNoMoreThanIsPending(uint96 total, uint96 frozen, uint256[4] memory amounts) public {
        total = uint96(bound(total, 1, DEPOSIT));
        claim(0, total);
        uint256 taken;
        vm.startPrank(slasher);
        uint256 held = channels.freeze(worker, 0, frozen);
        for (uint256 i; i < 4; ++i) taken += channels.forfeit(worker, 0, amounts[i] >> (64 * i), treasury);
        vm.assertLe(held + taken, total);
        channels.unfreeze(worker, 0, held);
        vm.stopPrank();
        vm.assertEq(token.balanceOf(treasury), taken);
        (, uint256 pending, , ) = channels.accountOf(worker);
        vm.assertEq(pending + taken, total);
        if (pending == 0) return;
        vm.warp(START + WINDOW);
        vm.assertEq(channels.release(worker, 0), pending);
    }
}
