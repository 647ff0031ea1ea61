// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Channels} from "../Channels.sol";
import {IChannels} from "../interfaces/IChannels.sol";
import {Fixture} from "./support/Fixture.sol";
import {Reenterer} from "./support/Reenterer.sol";
import {HookToken} from "./support/Tokens.sol";

/// @notice What becomes of a claim: release, fee, withdrawal.
contract ChannelsReleaseTest is Fixture {
    /// @dev What the worker's stake lets through within a window.
    uint96 private constant CAPACITY = STAKE / STAKE_MULTIPLE;

    function setUp() public override {
        super.setUp();
        fund(payer, worker, session, 10 * CAPACITY);
    }

    function test_release_movesAClaimToEarningsLessTheFee() public {
        claim(0, 1_001);
        vm.assertEq(channels.releasableAt(worker, 0), START + WINDOW);
        vm.warp(START + WINDOW);
        vm.expectEmit(address(channels));
        emit IChannels.Released(worker, 0, 1_001, 50);
        vm.prank(stranger);
        vm.assertEq(channels.release(worker, 0), 1_001);
        (, uint256 pending, uint256 earnings, ) = channels.accountOf(worker);
        vm.assertEq(pending, 0);
        vm.assertEq(earnings, 951);
        vm.assertEq(channels.fees(), 50);
        vm.assertEq(channels.claimOf(worker, 0).amount, 0);
    }

    function test_release_takesNoFeeWithoutARecipient() public {
        IChannels.Parameters memory parameters = channelParameters();
        parameters.feeRecipient = address(0);
        address predicted = vm.computeCreateAddress(address(this), vm.getNonce(address(this)));
        vm.mockCall(address(stakes), abi.encodeCall(stakes.channels, ()), abi.encode(predicted));
        channels = new Channels(parameters);
        vm.prank(payer);
        token.approve(address(channels), type(uint256).max);
        fund(payer, worker, session, 1_000);
        claim(0, 1_000);
        vm.warp(START + WINDOW);
        channels.release(worker, 0);
        (, , uint256 earnings, ) = channels.accountOf(worker);
        vm.assertEq(earnings, 1_000);
        vm.expectRevert(IChannels.NothingToWithdraw.selector);
        channels.withdrawFees();
    }

    function test_release_waitsForTheChallengeWindow() public {
        claim(0, 10);
        vm.warp(START + WINDOW - 1);
        _waits(0, START + WINDOW);
    }

    function test_release_refusesWhatIsNotPending() public {
        vm.expectRevert(abi.encodeWithSelector(IChannels.NoClaim.selector, worker, 0));
        channels.release(worker, 0);
        claim(0, 10);
        vm.expectRevert(abi.encodeWithSelector(IChannels.NoClaim.selector, worker, 1));
        channels.release(worker, 1);
        vm.warp(START + WINDOW);
        channels.release(worker, 0);
        vm.expectRevert(abi.encodeWithSelector(IChannels.NoClaim.selector, worker, 0));
        channels.release(worker, 0);
        vm.expectRevert(abi.encodeWithSelector(IChannels.NoClaim.selector, worker, 0));
        channels.releasableAt(worker, 0);
    }

    function test_release_refusesAFrozenClaim() public {
        claim(0, 10);
        vm.prank(slasher);
        channels.freeze(worker, 0, 10);
        vm.warp(START + 2 * UNBONDING);
        vm.assertEq(channels.releasableAt(worker, 0), type(uint256).max);
        vm.expectRevert(abi.encodeWithSelector(IChannels.ClaimFrozen.selector, worker, 0));
        channels.release(worker, 0);
        vm.prank(slasher);
        channels.unfreeze(worker, 0, 10);
        channels.release(worker, 0);
    }

    function test_release_letsGoWhatIsNotFrozen() public {
        claim(0, 1_000);
        vm.prank(slasher);
        channels.freeze(worker, 0, 300);
        vm.warp(START + WINDOW);
        vm.assertEq(channels.releasableAt(worker, 0), START + WINDOW);
        vm.expectEmit(address(channels));
        emit IChannels.Released(worker, 0, 700, 35);
        vm.assertEq(channels.release(worker, 0), 700);
        vm.assertEq(channels.claimOf(worker, 0).amount, 300);
        vm.expectRevert(abi.encodeWithSelector(IChannels.ClaimFrozen.selector, worker, 0));
        channels.release(worker, 0);
        (, uint256 pending, uint256 earnings, ) = channels.accountOf(worker);
        vm.assertEq(pending, 300);
        vm.assertEq(earnings, 665);

        vm.prank(slasher);
        channels.unfreeze(worker, 0, 100);
        vm.assertEq(channels.release(worker, 0), 100);
        vm.prank(slasher);
        channels.unfreeze(worker, 0, 200);
        vm.assertEq(channels.release(worker, 0), 200);
        vm.expectRevert(abi.encodeWithSelector(IChannels.NoClaim.selector, worker, 0));
        channels.release(worker, 0);
    }

    /// @dev What is frozen needs no stake behind it until it is let go.
    function test_release_needsStakeForWhatIsNotFrozenOnly() public {
        claim(0, CAPACITY + 1);
        vm.prank(slasher);
        channels.freeze(worker, 0, 1);
        vm.warp(START + WINDOW);
        channels.release(worker, 0);
        vm.prank(slasher);
        channels.unfreeze(worker, 0, 1);
        _waits(0, (START / WINDOW + 3) * WINDOW);
    }

    function test_release_letsThroughWhatTheStakeBacks() public {
        claim(0, CAPACITY);
        vm.warp(START + WINDOW);
        channels.release(worker, 0);
    }

    function test_release_holdsBackWhatTheStakeDoesNotBack() public {
        claim(0, CAPACITY + 1);
        vm.warp(START + WINDOW);
        _waits(0, START + UNBONDING);
        vm.warp(START + UNBONDING);
        channels.release(worker, 0);
    }

    function test_release_countsWhatWasReleasedWithinAWindow() public {
        claim(0, CAPACITY - 10);
        claim(0, CAPACITY + 1);
        vm.warp(START + WINDOW);
        channels.release(worker, 0);
        // Fixed windows: this one and the next count the first release, the one after does not.
        uint256 window = vm.getBlockTimestamp() / WINDOW;
        _waits(1, (window + 2) * WINDOW);
        vm.warp((window + 2) * WINDOW - 1);
        _waits(1, (window + 2) * WINDOW);
        vm.warp((window + 2) * WINDOW);
        channels.release(worker, 1);
    }

    function test_release_usesTheRoomThatIsLeft() public {
        claim(0, CAPACITY - 10);
        claim(0, CAPACITY);
        claim(0, CAPACITY + 1);
        vm.warp(START + WINDOW);
        channels.release(worker, 0);
        channels.release(worker, 1);
        uint256 window = vm.getBlockTimestamp() / WINDOW;
        _waits(2, (window + 2) * WINDOW);
    }

    function test_release_freesTheRoomOfTwoWindowsAgo() public {
        claim(0, 60);
        claim(0, CAPACITY - 40); // CAPACITY - 100 more
        claim(0, CAPACITY + 60); // 100 more
        uint256 window = (START + WINDOW) / WINDOW + 1;
        vm.warp(window * WINDOW);
        channels.release(worker, 0);
        vm.warp((window + 1) * WINDOW);
        channels.release(worker, 1);
        // 60 of the window before and CAPACITY - 100 of this one leave 40; the next window leaves 100.
        _waits(2, (window + 2) * WINDOW);
        vm.warp((window + 2) * WINDOW);
        channels.release(worker, 2);
    }

    function test_release_waitsForTheJailed() public {
        claim(0, 10);
        vm.prank(slasher);
        stakes.jail(worker);
        vm.warp(START + WINDOW);
        _waits(0, START + UNBONDING);
        vm.warp(START + UNBONDING - 1);
        _waits(0, START + UNBONDING);
        vm.warp(START + UNBONDING);
        channels.release(worker, 0);
        (, , uint256 earnings, ) = channels.accountOf(worker);
        vm.assertEq(earnings, 10);
    }

    function test_release_waitsForWhoIsUnbonding() public {
        claim(0, 10);
        vm.prank(worker);
        stakes.requestUnbond(1);
        vm.warp(START + WINDOW);
        _waits(0, START + UNBONDING);
        vm.prank(worker);
        stakes.cancelUnbond();
        channels.release(worker, 0);
    }

    function test_release_waitsForWhoNeverStaked() public {
        fund(payer, stranger, session, 100);
        bytes memory packed = pack(sign(sessionSecret, payer, stranger, 0, 100, 1, ROOT));
        vm.prank(stranger);
        channels.claim(stranger, packed);
        vm.assertEq(channels.releasableAt(stranger, 0), START + UNBONDING);
    }

    /// @dev Late releases need no stake, so they take nothing from what it lets through.
    function test_release_doesNotCountWhatWaitedForTheUnbondingPeriod() public {
        claim(0, CAPACITY + 1);
        vm.warp(START + UNBONDING - WINDOW);
        claim(0, 2 * CAPACITY + 1);
        vm.warp(START + UNBONDING);
        channels.release(worker, 0);
        channels.release(worker, 1);
    }

    function test_releasableAt_neverExceedsTheUnbondingPeriod() public {
        claim(0, CAPACITY);
        vm.warp(START + UNBONDING - 2 * WINDOW);
        claim(0, 2 * CAPACITY);
        vm.warp(START + UNBONDING - 1);
        channels.release(worker, 1);
        // The next two windows have no room, but the time that needs none comes first.
        vm.assertEq(channels.releasableAt(worker, 0), START + UNBONDING);
    }

    /// @dev Earnings and fees are kept apart, and each goes where it belongs.
    function test_withdraw_paysWorkerAndTreasury() public {
        claim(0, 1_000);
        vm.warp(START + WINDOW);
        channels.release(worker, 0);
        vm.expectEmit(address(channels));
        emit IChannels.EarningsWithdrawn(worker, stranger, 950);
        vm.prank(worker);
        vm.assertEq(channels.withdrawEarnings(stranger), 950);
        vm.assertEq(token.balanceOf(stranger), 950);
        vm.expectEmit(address(channels));
        emit IChannels.FeesWithdrawn(treasury, 50);
        vm.prank(stranger);
        vm.assertEq(channels.withdrawFees(), 50);
        vm.assertEq(token.balanceOf(treasury), 50);
        vm.assertEq(channels.fees(), 0);
        (, , uint256 earnings, ) = channels.accountOf(worker);
        vm.assertEq(earnings, 0);
    }

    function test_withdrawEarnings_refusesWhenThereIsNothing() public {
        claim(0, 1_000);
        vm.startPrank(worker);
        vm.expectRevert(IChannels.NothingToWithdraw.selector);
        channels.withdrawEarnings(worker);
        vm.expectRevert(IChannels.ZeroAddress.selector);
        channels.withdrawEarnings(address(0));
    }

    function test_withdrawEarnings_isOnlyForTheColdKey() public {
        claim(0, 1_000);
        vm.warp(START + WINDOW);
        channels.release(worker, 0);
        vm.prank(hot);
        vm.expectRevert(IChannels.NothingToWithdraw.selector);
        channels.withdrawEarnings(hot);
    }

    function test_withdrawFees_refusesWhenThereIsNothing() public {
        vm.expectRevert(IChannels.NothingToWithdraw.selector);
        channels.withdrawFees();
    }

    function test_withdrawEarnings_survivesAReentrantToken() public {
        HookToken hooked = new HookToken();
        hooked.mint(address(this), 100_000);
        deploy(hooked);
        endow(payer, 50_000);
        Reenterer thief = new Reenterer();
        fund(payer, worker, session, 1_000);
        fund(payer, address(thief), session, 1_000);
        bytes memory packed = pack(sign(sessionSecret, payer, address(thief), 0, 500, 1, ROOT));
        thief.run(address(channels), abi.encodeCall(channels.claim, (address(thief), packed)));
        vm.warp(START + UNBONDING);
        channels.release(address(thief), 0);
        thief.run(address(hooked), abi.encodeCall(hooked.listen, (true)));
        bytes memory withdraw = abi.encodeCall(channels.withdrawEarnings, (address(thief)));
        thief.arm(address(channels), withdraw);
        vm.expectRevert(IChannels.NothingToWithdraw.selector);
        thief.run(address(channels), withdraw);
        vm.assertEq(hooked.balanceOf(address(channels)), 2_000);
    }

    /// @dev Whenever claims come and are released: within any running window no more than the stake backs.
    function testFuzz_release_staysWithinTheStakeInEveryRunningWindow(
        uint96[10] memory amounts,
        uint24[10] memory waits
    ) public {
        uint256[] memory times = new uint256[](10);
        uint256[] memory sums = new uint256[](10);
        uint96 total;
        uint256 released;
        for (uint256 i; i < 10; ++i) {
            uint96 amount = uint96(bound(amounts[i], 1, CAPACITY));
            total += amount;
            claim(0, total);
            vm.warp(vm.getBlockTimestamp() + (waits[i] % (2 * WINDOW)));
            for (uint64 j; j <= i; ++j) {
                uint96 pending = channels.claimOf(worker, j).amount;
                if (pending == 0) continue;
                uint256 until = channels.releasableAt(worker, j);
                if (vm.getBlockTimestamp() < until) {
                    _waits(j, until);
                    continue;
                }
                bool backed = vm.getBlockTimestamp() < uint256(channels.claimOf(worker, j).claimedAt) + UNBONDING;
                channels.release(worker, j);
                if (backed) (times[released], sums[released++]) = (vm.getBlockTimestamp(), pending);
            }
        }
        for (uint256 i; i < released; ++i) {
            uint256 within;
            for (uint256 j; j <= i; ++j) if (times[j] + WINDOW > times[i]) within += sums[j];
            vm.assertLe(within * STAKE_MULTIPLE, STAKE);
        }
    }

    /// @dev Whatever happens to the worker, its claim becomes earnings in the end.
    function testFuzz_release_neverVoidsAnHonestClaim(
        uint96 amount,
        bool jailed,
        uint96 unbonded,
        uint96 slashed
    ) public {
        amount = uint96(bound(amount, 1, 10 * CAPACITY));
        claim(0, amount);
        if (unbonded != 0) {
            vm.prank(worker);
            stakes.requestUnbond(bound(unbonded, 1, STAKE));
        }
        vm.startPrank(slasher);
        stakes.slash(worker, slashed, treasury);
        if (jailed) stakes.jail(worker);
        vm.stopPrank();
        uint256 until = channels.releasableAt(worker, 0);
        vm.assertGe(until, START + WINDOW);
        vm.assertLe(until, START + UNBONDING);
        vm.warp(until - 1);
        _waits(0, until);
        vm.warp(until);
        vm.assertEq(channels.release(worker, 0), amount);
    }

    function _waits(uint64 index, uint256 until) private {
        vm.assertEq(channels.releasableAt(worker, index), until);
        vm.expectRevert(abi.encodeWithSelector(IChannels.NotReleasable.selector, until));
        channels.release(worker, index);
    }
}
