// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IERC20Errors} from "@openzeppelin/contracts/interfaces/draft-IERC6093.sol";

import {IStakeRegistry} from "../interfaces/IStakeRegistry.sol";
import {StakeRegistry} from "../StakeRegistry.sol";
import {Fixture} from "./support/Fixture.sol";
import {Reenterer} from "./support/Reenterer.sol";
import {FeeToken, HookToken, RefusingToken} from "./support/Tokens.sol";

/// @notice Stake, unbonding, slash and jail.
contract StakeRegistryStakeTest is Fixture {
    function test_stake_locksTheAmount() public {
        endow(worker, 5);
        uint256 before = token.balanceOf(address(stakes));
        vm.expectEmit(address(stakes));
        emit IStakeRegistry.Staked(worker, 5, STAKE + 5);
        vm.prank(worker);
        stakes.stake(5);
        vm.assertEq(token.balanceOf(address(stakes)), before + 5);
        vm.assertEq(stakes.participantOf(worker).stake, STAKE + 5);
        vm.assertEq(stakes.backingOf(worker), STAKE + 5);
        vm.assertTrue(stakes.isActiveWorker(worker));
    }

    function test_stake_refusesNothing() public {
        vm.prank(worker);
        vm.expectRevert(IStakeRegistry.ZeroAmount.selector);
        stakes.stake(0);
    }

    function test_stake_refusesAStranger() public {
        vm.prank(stranger);
        vm.expectRevert(abi.encodeWithSelector(IStakeRegistry.NotRegistered.selector, stranger));
        stakes.stake(1);
    }

    function test_stake_refusesTheJailed() public {
        vm.prank(slasher);
        stakes.jail(worker);
        vm.prank(worker);
        vm.expectRevert(abi.encodeWithSelector(IStakeRegistry.IsJailed.selector, worker));
        stakes.stake(1);
    }

    function test_stake_refusesMoreThanFits() public {
        FeeToken other = new FeeToken();
        other.mint(address(this), uint256(type(uint96).max) * 2);
        deploy(other);
        enter(worker, hot, type(uint96).max - 10);
        endow(worker, 100);
        vm.startPrank(worker);
        vm.expectRevert(abi.encodeWithSelector(IStakeRegistry.AmountTooLarge.selector, 11));
        stakes.stake(11);
        // What is unbonding may come back, so it counts.
        stakes.requestUnbond(50);
        vm.expectRevert(abi.encodeWithSelector(IStakeRegistry.AmountTooLarge.selector, 11));
        stakes.stake(11);
        stakes.stake(10);
        stakes.cancelUnbond();
        vm.assertEq(stakes.backingOf(worker), type(uint96).max);
        vm.expectRevert(abi.encodeWithSelector(IStakeRegistry.AmountTooLarge.selector, type(uint256).max));
        stakes.stake(type(uint256).max);
    }

    function test_stake_refusesATokenThatTakesAFee() public {
        FeeToken other = new FeeToken();
        other.mint(address(this), 1_000);
        deploy(other);
        endow(worker, 500);
        other.charge(true);
        vm.startPrank(worker);
        stakes.register(IStakeRegistry.Role.Worker, hot);
        vm.expectRevert(abi.encodeWithSelector(IStakeRegistry.TokenMismatch.selector, 200, 198));
        stakes.stake(200);
    }

    function test_stake_refusesWithoutAllowance() public {
        vm.startPrank(worker);
        token.approve(address(stakes), 0);
        vm.expectRevert(
            abi.encodeWithSelector(IERC20Errors.ERC20InsufficientAllowance.selector, address(stakes), 0, 1)
        );
        stakes.stake(1);
    }

    function test_requestUnbond_movesStakeAndStartsTheTime() public {
        vm.expectEmit(address(stakes));
        emit IStakeRegistry.UnbondRequested(worker, 300, 300, START);
        vm.prank(worker);
        stakes.requestUnbond(300);
        IStakeRegistry.Participant memory found = stakes.participantOf(worker);
        vm.assertEq(found.stake, STAKE - 300);
        vm.assertEq(found.unbonding, 300);
        vm.assertEq(found.unbondingSince, START);
        vm.assertEq(stakes.slashable(worker), STAKE);
        // Nothing backs releases while any of it is on its way out.
        vm.assertEq(stakes.backingOf(worker), 0);
        vm.assertFalse(stakes.isActiveWorker(worker));
        vm.assertEq(stakes.withdrawableAt(worker), START + UNBONDING);
    }

    function test_requestUnbond_restartsTheTimeForAllOfIt() public {
        vm.startPrank(worker);
        stakes.requestUnbond(300);
        vm.warp(START + 100);
        vm.expectEmit(address(stakes));
        emit IStakeRegistry.UnbondRequested(worker, STAKE - 300, STAKE, START + 100);
        stakes.requestUnbond(STAKE - 300);
        vm.assertEq(stakes.withdrawableAt(worker), START + 100 + UNBONDING);
    }

    function test_requestUnbond_refusesBadAmounts() public {
        vm.startPrank(worker);
        vm.expectRevert(IStakeRegistry.ZeroAmount.selector);
        stakes.requestUnbond(0);
        vm.expectRevert(abi.encodeWithSelector(IStakeRegistry.InsufficientStake.selector, STAKE, uint256(STAKE) + 1));
        stakes.requestUnbond(uint256(STAKE) + 1);
    }

    function test_requestUnbond_refusesAStranger() public {
        vm.prank(stranger);
        vm.expectRevert(abi.encodeWithSelector(IStakeRegistry.NotRegistered.selector, stranger));
        stakes.requestUnbond(1);
    }

    function test_cancelUnbond_bringsItBack() public {
        vm.startPrank(worker);
        stakes.requestUnbond(300);
        vm.expectEmit(address(stakes));
        emit IStakeRegistry.UnbondCancelled(worker, 300, STAKE);
        stakes.cancelUnbond();
        vm.assertEq(stakes.backingOf(worker), STAKE);
        vm.assertEq(stakes.participantOf(worker).unbondingSince, 0);
        vm.assertEq(stakes.withdrawableAt(worker), type(uint256).max);
        vm.expectRevert(abi.encodeWithSelector(IStakeRegistry.NothingUnbonding.selector, worker));
        stakes.cancelUnbond();
    }

    function test_withdrawStake_paysOutAfterTheUnbondingPeriod() public {
        vm.startPrank(worker);
        stakes.requestUnbond(300);
        vm.warp(START + UNBONDING - 1);
        vm.expectRevert(abi.encodeWithSelector(IStakeRegistry.StillReachable.selector, START + UNBONDING));
        stakes.withdrawStake(stranger);
        vm.warp(START + UNBONDING);
        vm.expectEmit(address(stakes));
        emit IStakeRegistry.StakeWithdrawn(worker, stranger, 300);
        vm.assertEq(stakes.withdrawStake(stranger), 300);
        vm.assertEq(token.balanceOf(stranger), 300);
        vm.assertEq(stakes.slashable(worker), STAKE - 300);
        vm.assertEq(stakes.participantOf(worker).unbondingSince, 0);
        vm.assertEq(stakes.withdrawableAt(worker), type(uint256).max);
        vm.expectRevert(abi.encodeWithSelector(IStakeRegistry.NothingUnbonding.selector, worker));
        stakes.withdrawStake(stranger);
    }

    function test_withdrawStake_refusesTheZeroAddress() public {
        vm.prank(worker);
        vm.expectRevert(IStakeRegistry.ZeroAddress.selector);
        stakes.withdrawStake(address(0));
    }

    function test_withdrawStake_waitsForTheLatestClaim() public {
        fund(payer, worker, session, DEPOSIT);
        vm.prank(worker);
        stakes.requestUnbond(STAKE);
        vm.warp(START + UNBONDING - 1);
        claim(0, 1);
        vm.assertEq(stakes.withdrawableAt(worker), START + 2 * UNBONDING - 1);
        vm.warp(START + UNBONDING);
        vm.prank(worker);
        vm.expectRevert(abi.encodeWithSelector(IStakeRegistry.StillReachable.selector, START + 2 * UNBONDING - 1));
        stakes.withdrawStake(worker);
    }

    function test_withdrawStake_countsAClaimBeforeTheRequest() public {
        fund(payer, worker, session, DEPOSIT);
        claim(0, 1);
        vm.warp(START + 50);
        vm.prank(worker);
        stakes.requestUnbond(1);
        vm.assertEq(stakes.withdrawableAt(worker), START + 50 + UNBONDING);
    }

    function test_withdrawStake_staysOpenToTheJailed() public {
        vm.prank(slasher);
        stakes.jail(worker);
        vm.startPrank(worker);
        stakes.requestUnbond(STAKE);
        vm.warp(START + UNBONDING);
        vm.assertEq(stakes.withdrawStake(worker), STAKE);
    }

    function test_slash_takesFromStakeFirst() public {
        vm.prank(worker);
        stakes.requestUnbond(300);
        vm.expectEmit(address(stakes));
        emit IStakeRegistry.Slashed(worker, STAKE - 299, STAKE - 299, treasury);
        vm.prank(slasher);
        vm.assertEq(stakes.slash(worker, STAKE - 299, treasury), STAKE - 299);
        vm.assertEq(stakes.participantOf(worker).stake, 0);
        vm.assertEq(stakes.participantOf(worker).unbonding, 299);
        vm.assertEq(token.balanceOf(treasury), STAKE - 299);
    }

    function test_slash_takesAllThereIs() public {
        vm.prank(worker);
        stakes.requestUnbond(300);
        vm.expectEmit(address(stakes));
        emit IStakeRegistry.Slashed(worker, type(uint256).max, STAKE, treasury);
        vm.startPrank(slasher);
        vm.assertEq(stakes.slash(worker, type(uint256).max, treasury), STAKE);
        vm.assertEq(stakes.slashable(worker), 0);
        vm.assertEq(stakes.withdrawableAt(worker), type(uint256).max);
        vm.assertEq(stakes.slash(worker, 1, treasury), 0);
    }

    function test_slash_returnsNothingForAStranger() public {
        vm.expectEmit(address(stakes));
        emit IStakeRegistry.Slashed(stranger, 5, 0, treasury);
        vm.prank(slasher);
        vm.assertEq(stakes.slash(stranger, 5, treasury), 0);
    }

    /// @dev A slash that reverts is no slash.
    function test_slash_neverRevertsForAnOddRecipient() public {
        RefusingToken other = new RefusingToken();
        other.mint(address(this), 1_000);
        deploy(other);
        enter(worker, hot, 100);
        vm.startPrank(slasher);
        vm.assertEq(stakes.slash(worker, 10, address(0)), 10);
        other.refuse(treasury, false);
        vm.assertEq(stakes.slash(worker, 10, treasury), 10);
        other.refuse(treasury, true);
        vm.assertEq(stakes.slash(worker, 10, treasury), 10);
        vm.assertEq(stakes.slash(worker, 10, address(stakes)), 10);
        vm.assertEq(stakes.slashable(worker), 60);
        vm.assertEq(other.balanceOf(address(stakes)), 100);
    }

    function test_slash_reachesAllStagesOfUnbonding() public {
        vm.startPrank(worker);
        stakes.requestUnbond(STAKE);
        vm.warp(START + UNBONDING + 1);
        vm.stopPrank();
        vm.prank(slasher);
        vm.assertEq(stakes.slash(worker, STAKE, treasury), STAKE);
        vm.prank(worker);
        vm.expectRevert(abi.encodeWithSelector(IStakeRegistry.NothingUnbonding.selector, worker));
        stakes.withdrawStake(worker);
    }

    function test_slash_refusesEverybodyElse() public {
        vm.expectRevert(abi.encodeWithSelector(IStakeRegistry.NotSlasher.selector, address(this)));
        stakes.slash(worker, 1, address(this));
    }

    function test_jail_endsBackingForEver() public {
        vm.expectEmit(address(stakes));
        emit IStakeRegistry.Jailed(worker);
        vm.startPrank(slasher);
        stakes.jail(worker);
        stakes.jail(worker);
        stakes.jail(stranger);
        vm.stopPrank();
        vm.assertTrue(stakes.participantOf(worker).jailed);
        vm.assertFalse(stakes.isActiveWorker(worker));
        vm.assertEq(stakes.slashable(worker), STAKE);
    }

    function test_jail_refusesEverybodyElse() public {
        vm.prank(worker);
        vm.expectRevert(abi.encodeWithSelector(IStakeRegistry.NotSlasher.selector, worker));
        stakes.jail(worker);
    }

    function test_slasherZero_nobodyCanSlash() public {
        IStakeRegistry.Parameters memory parameters = stakeParameters(address(channels));
        parameters.slasher = address(0);
        stakes = new StakeRegistry(parameters);
        vm.prank(slasher);
        vm.expectRevert(abi.encodeWithSelector(IStakeRegistry.NotSlasher.selector, slasher));
        stakes.jail(worker);
    }

    /// @dev A hook of the token runs in the middle of `stake`: a second stake inside the first would be counted twice.
    function test_stake_survivesAReentrantToken() public {
        HookToken other = new HookToken();
        other.mint(address(this), 1_000);
        deploy(other);
        Reenterer thief = new Reenterer();
        other.transfer(address(thief), 100);
        thief.run(address(other), abi.encodeCall(other.approve, (address(stakes), 100)));
        thief.run(address(stakes), abi.encodeCall(stakes.register, (IStakeRegistry.Role.Worker, hot)));
        thief.run(address(other), abi.encodeCall(other.listen, (true)));
        thief.arm(address(stakes), abi.encodeCall(stakes.stake, (30)));
        vm.expectRevert(abi.encodeWithSelector(IStakeRegistry.TokenMismatch.selector, 20, 50));
        thief.run(address(stakes), abi.encodeCall(stakes.stake, (20)));
    }

    /// @dev Money that goes out is gone from the books before the recipient can call back.
    function test_withdrawStake_survivesAReentrantToken() public {
        HookToken other = new HookToken();
        other.mint(address(this), 1_000);
        deploy(other);
        Reenterer thief = new Reenterer();
        enter(worker, hot, 500);
        other.transfer(address(thief), 100);
        thief.run(address(other), abi.encodeCall(other.approve, (address(stakes), 100)));
        thief.run(address(stakes), abi.encodeCall(stakes.register, (IStakeRegistry.Role.Worker, stranger)));
        thief.run(address(stakes), abi.encodeCall(stakes.stake, (100)));
        thief.run(address(stakes), abi.encodeCall(stakes.requestUnbond, (100)));
        vm.warp(START + UNBONDING);
        thief.run(address(other), abi.encodeCall(other.listen, (true)));
        thief.arm(address(stakes), abi.encodeCall(stakes.withdrawStake, (address(thief))));
        vm.expectRevert(abi.encodeWithSelector(IStakeRegistry.NothingUnbonding.selector, address(thief)));
        thief.run(address(stakes), abi.encodeCall(stakes.withdrawStake, (address(thief))));
        vm.assertEq(other.balanceOf(address(stakes)), 600);
    }

    function testFuzz_unbonding_neverPaysMoreThanWasStaked(uint96[6] memory amounts, uint32[6] memory waits) public {
        uint256 paid;
        uint256 slashed;
        for (uint256 i; i < 6; ++i) {
            skip(waits[i] % (UNBONDING + 1));
            uint256 locked = stakes.participantOf(worker).stake;
            if (locked != 0) {
                vm.prank(worker);
                stakes.requestUnbond(bound(amounts[i], 1, locked));
            }
            if (i % 3 == 1) {
                vm.prank(slasher);
                slashed += stakes.slash(worker, amounts[i] / 4, treasury);
            }
            if (block.timestamp >= stakes.withdrawableAt(worker)) {
                vm.prank(worker);
                paid += stakes.withdrawStake(stranger);
            }
        }
        vm.assertEq(paid + slashed + stakes.slashable(worker), STAKE);
        vm.assertEq(token.balanceOf(address(stakes)), stakes.slashable(worker));
        vm.assertEq(token.balanceOf(stranger), paid);
    }

    function skip(uint256 seconds_) private {
        vm.warp(vm.getBlockTimestamp() + seconds_);
    }
}
