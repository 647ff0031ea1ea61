// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IChannels} from "../interfaces/IChannels.sol";
import {IStakeRegistry} from "../interfaces/IStakeRegistry.sol";
import {Fixture} from "./support/Fixture.sol";
import {Ghosts} from "./support/Ghosts.sol";
import {Handler} from "./support/Handler.sol";
import {RefusingToken} from "./support/Tokens.sol";

/// @dev Of this file, because the runner knows the contracts of test files only.
contract Actors is Handler {
    constructor(IChannels channels, address slasher) Handler(channels, slasher) {}
}

/// @notice What holds after any sequence of calls. The runner draws calls of the handler, which must never revert; the
/// handler keeps books of its own, which the contracts have to agree with.
contract InvariantsTest is Fixture {
    uint256 private constant RING = 64;

    Actors private handler;
    uint256 private actors;

    function setUp() public override {
        vm.warp(START);
        vm.roll(1_000_000);
        deploy(new RefusingToken());
        handler = new Actors(channels, slasher);
        actors = handler.ACTORS();
    }

    function targetContracts() public view returns (address[] memory targets) {
        return only(address(handler));
    }

    /// @dev The handler is no empty shell: a long run does everything there is to do.
    function test_handler_reachesEverything() external {
        for (uint256 i; i < 4_000; ++i) _step(uint256(keccak256(abi.encode(i))));
        string[24] memory everything = [
            "pass",
            "fund",
            "requestClose",
            "finishClose",
            "claim",
            "claim of nothing",
            "ring full",
            "release",
            "release on stake",
            "withdrawEarnings",
            "withdrawForfeited",
            "withdrawFees",
            "release in part",
            "freeze",
            "unfreeze",
            "forfeit",
            "forfeit and keep",
            "refuse",
            "stake",
            "requestUnbond",
            "withdrawStake",
            "slash",
            "slash and keep",
            "rotateHotKey"
        ];
        for (uint256 i; i < everything.length; ++i) vm.assertGt(handler.done(everything[i]), 1, everything[i]);
        vm.assertGt(handler.done("cancelUnbond"), 1);
        _all();
        handler.jail(0);
        handler.jail(16);
        for (uint256 i; i < 200; ++i) _step(uint256(keccak256(abi.encode("jailed", i))));
        vm.assertEq(handler.done("jail"), 2);
        _all();
    }

    // money in channels

    /// @dev deposits - claimed + pending + earnings + fees: Channels owns exactly what it owes.
    function invariant_channelsOwnWhatTheyOwe() public view {
        uint256 owed = channels.fees();
        for (uint256 i; i < handler.CHANNELS(); ++i) {
            IChannels.Channel memory channel = _channel(i);
            owed += channel.deposit - channel.claimed;
        }
        for (uint256 i; i < actors; ++i) {
            (, uint256 pending, uint256 earnings, ) = channels.accountOf(handler.workers(i));
            owed += pending + earnings;
        }
        (, , uint256 kept, ) = channels.accountOf(handler.odd());
        vm.assertEq(token.balanceOf(address(channels)), owed + kept);
    }

    /// @dev What was put into channels is in them, or was claimed, or went back.
    function invariant_depositsAreClaimedOrRefunded() public view {
        uint256 inside;
        for (uint256 i; i < handler.CHANNELS(); ++i) inside += _channel(i).deposit - _channel(i).claimed;
        vm.assertEq(handler.funded(), inside + handler.claimed() + handler.refunded());
    }

    /// @dev Refunds + payments + burn: every claimed unit is pending, released, or taken by a dispute.
    function invariant_claimsArePendingReleasedOrForfeited() public view {
        uint256 pending;
        for (uint256 i; i < actors; ++i) {
            (, uint256 waiting, , ) = channels.accountOf(handler.workers(i));
            pending += waiting;
        }
        vm.assertEq(handler.claimed(), pending + handler.released() + handler.forfeited());
        vm.assertEq(handler.forfeited(), handler.forfeitedToOthers() + handler.forfeitedAndKept());
    }

    /// @dev `claimed` is what the vouchers shown so far bring, the highest counting once, in any order and any batches;
    /// so it only grows within an epoch.
    function invariant_vouchersCountOnceInAnyOrder() public view {
        for (uint256 i; i < handler.CHANNELS(); ++i) vm.assertEq(_channel(i).claimed, _channelGhost(i).claimed);
    }

    function invariant_claimedNeverExceedsTheDeposit() public view {
        for (uint256 i; i < handler.CHANNELS(); ++i) {
            IChannels.Channel memory channel = _channel(i);
            vm.assertLe(channel.claimed, channel.deposit);
            vm.assertEq(channel.deposit, _channelGhost(i).deposit);
        }
    }

    /// @dev Each close begins the next epoch, and nothing else does: no voucher comes back to life.
    function invariant_epochsOnlyRise() public view {
        for (uint256 i; i < handler.CHANNELS(); ++i) vm.assertEq(_channel(i).epoch, _channelGhost(i).epoch);
    }

    /// @dev Nobody can move the time at which a payer is out, and then the payer gets all that is unclaimed.
    function invariant_clientsExitWithinTheirDelay() public {
        for (uint256 i; i < handler.CHANNELS(); ++i) {
            Ghosts.ChannelGhost memory ghost = _channelGhost(i);
            vm.assertEq(_channel(i).closingAt, ghost.closingAt);
            if (ghost.closingAt == 0) continue;
            vm.assertLe(ghost.closingAt, vm.getBlockTimestamp() + WITHDRAWAL_DELAY);
            (address from, address to, address key) = handler.namesOf(i);
            uint256 state = vm.snapshotState();
            if (vm.getBlockTimestamp() < ghost.closingAt) vm.warp(ghost.closingAt);
            vm.prank(from);
            vm.assertEq(channels.finishClose(key, only(to)), ghost.deposit - ghost.claimed);
            vm.revertToState(state);
            return; // one is enough for each call, and another is first after it
        }
    }

    /// @dev A worker that claims its best voucher before the payer can leave gets all of it.
    function invariant_theHighestVoucherIsNeverLost() public view {
        vm.assertEq(handler.lost(), 0);
    }

    // claims

    /// @dev A claim shrinks by release and forfeit only, and keeps its time, block and freeze.
    function invariant_pendingLeavesOnlyByTimeOrDispute() public view {
        Ghosts.ClaimGhost[] memory claims = handler.claimGhosts();
        for (uint256 i; i < claims.length; ++i) {
            IChannels.Claim memory found = channels.claimOf(claims[i].worker, claims[i].index);
            vm.assertEq(found.amount, claims[i].amount);
            vm.assertEq(found.claimedAt, claims[i].claimedAt);
            vm.assertEq(found.blockNumber, claims[i].blockNumber);
            vm.assertEq(found.frozen, claims[i].frozen);
            vm.assertLe(found.frozen, found.amount);
        }
        vm.assertEq(handler.releasedEarly(), 0);
    }

    /// @dev Pending is the sum of a worker's claims, which never take more slots than the ring has.
    function invariant_theRingNeverGrows() public view {
        Ghosts.ClaimGhost[] memory claims = handler.claimGhosts();
        for (uint256 i; i < actors; ++i) {
            address who = handler.workers(i);
            (uint64 next, uint256 pending, , ) = channels.accountOf(who);
            (uint256 sum, uint256 count, uint256 slots) = (0, 0, 0);
            for (uint256 j; j < claims.length; ++j) {
                if (claims[j].worker != who) continue;
                vm.assertLt(claims[j].index, next);
                sum += claims[j].amount;
                slots |= 1 << (claims[j].index % RING);
                ++count;
            }
            vm.assertEq(pending, sum);
            vm.assertLe(count, RING);
            for (uint256 j; j < RING; ++j) if (slots & (1 << j) != 0) --count;
            vm.assertEq(count, 0, "two claims in one slot");
        }
    }

    /// @dev Jail and missing stake delay a release up to the unbonding period; only a freeze stops it.
    function invariant_releaseComesInTime() public view {
        Ghosts.ClaimGhost[] memory claims = handler.claimGhosts();
        for (uint256 i; i < claims.length; ++i) {
            uint256 until = channels.releasableAt(claims[i].worker, claims[i].index);
            if (claims[i].frozen == claims[i].amount) {
                vm.assertEq(until, type(uint256).max);
                continue;
            }
            vm.assertGe(until, claims[i].claimedAt + WINDOW);
            vm.assertLe(until, claims[i].claimedAt + UNBONDING);
        }
    }

    /// @dev Within any running window no more is released on the strength of the stake than it backs ten times.
    function invariant_releasesAreBacked() public view {
        vm.assertEq(handler.releasedUnbacked(), 0);
    }

    /// @dev Neither jail nor slash takes what was earned: per worker, claimed is pending, released or forfeited.
    function invariant_jailVoidsNoHonestMoney() public {
        for (uint256 i; i < actors; ++i) {
            address who = handler.workers(i);
            Ghosts.WorkerGhost memory ghost = handler.workerGhost(who);
            (, uint256 pending, uint256 earnings, ) = channels.accountOf(who);
            vm.assertEq(ghost.claimed, pending + ghost.released + ghost.forfeited);
            vm.assertEq(earnings, ghost.earnings);
        }
        Ghosts.ClaimGhost[] memory claims = handler.claimGhosts();
        if (claims.length == 0 || claims[0].frozen == claims[0].amount) return;
        uint256 state = vm.snapshotState();
        vm.warp(claims[0].claimedAt + UNBONDING > block.timestamp ? claims[0].claimedAt + UNBONDING : block.timestamp);
        uint256 free = claims[0].amount - claims[0].frozen;
        vm.assertEq(channels.release(claims[0].worker, claims[0].index), free);
        vm.revertToState(state);
    }

    /// @dev The fee is its share of each release, rounded down, and goes to its recipient only.
    function invariant_feesAddUp() public view {
        vm.assertEq(channels.fees(), handler.fees());
        vm.assertEq(channels.fees() + token.balanceOf(treasury), handler.feesTaken());
        vm.assertLe(handler.feesTaken() * 10_000, handler.released() * FEE_BPS);
    }

    // stake

    function invariant_theRegistryOwnsWhatIsAtStake() public view {
        uint256 reachable;
        for (uint256 i; i < actors; ++i) reachable += stakes.slashable(handler.workers(i));
        vm.assertEq(token.balanceOf(address(stakes)), reachable + handler.slashedAndKept());
    }

    /// @dev What was staked is still there, or was paid out, or slashed; so nobody is slashed for more than was staked.
    function invariant_slashedNeverExceedsStaked() public view {
        for (uint256 i; i < actors; ++i) {
            Ghosts.WorkerGhost memory ghost = handler.workerGhost(handler.workers(i));
            uint256 left = stakes.slashable(handler.workers(i));
            vm.assertEq(ghost.staked, left + ghost.unstaked + ghost.slashed);
            vm.assertLe(ghost.slashed, ghost.staked);
        }
    }

    /// @dev Nothing of a stake can be withdrawn while a claim or a request of the last unbonding period reaches it.
    function invariant_stakeStaysWhileAnythingReachesIt() public view {
        for (uint256 i; i < actors; ++i) {
            address who = handler.workers(i);
            vm.assertGe(stakes.withdrawableAt(who), handler.workerGhost(who).reachableUntil);
        }
        vm.assertEq(handler.withdrawnEarly(), 0);
    }

    /// @dev The jailed and those on their way out back nothing.
    function invariant_onlyStakeThatStaysBacks() public view {
        for (uint256 i; i < actors; ++i) {
            address who = handler.workers(i);
            IStakeRegistry.Participant memory found = stakes.participantOf(who);
            bool backs = !found.jailed && found.unbonding == 0;
            vm.assertEq(stakes.backingOf(who), backs ? found.stake : 0);
            vm.assertEq(found.jailed, handler.workerGhost(who).jailed);
        }
    }

    function invariant_hotKeysChangeByDelayOnly() public view {
        for (uint256 i; i < actors; ++i) {
            address who = handler.workers(i);
            vm.assertEq(stakes.hotKeyOf(who), handler.hotKeyOf(who));
            vm.assertTrue(stakes.everHotKeyOf(who, handler.hotKeyOf(who)));
        }
    }

    // both

    /// @dev Everybody holds what its own doings brought, to the unit.
    function invariant_everybodyHoldsWhatIsTheirs() public view {
        for (uint256 i; i < actors; ++i) {
            vm.assertEq(token.balanceOf(handler.payers(i)), handler.balance(handler.payers(i)));
            vm.assertEq(token.balanceOf(handler.workers(i)), handler.balance(handler.workers(i)));
        }
        address[4] memory others = [handler.odd(), treasury, address(channels), address(stakes)];
        for (uint256 i; i < 4; ++i) vm.assertEq(token.balanceOf(others[i]), handler.balance(others[i]));
    }

    function _all() private {
        invariant_channelsOwnWhatTheyOwe();
        invariant_depositsAreClaimedOrRefunded();
        invariant_claimsArePendingReleasedOrForfeited();
        invariant_vouchersCountOnceInAnyOrder();
        invariant_claimedNeverExceedsTheDeposit();
        invariant_epochsOnlyRise();
        invariant_clientsExitWithinTheirDelay();
        invariant_theHighestVoucherIsNeverLost();
        invariant_pendingLeavesOnlyByTimeOrDispute();
        invariant_theRingNeverGrows();
        invariant_releaseComesInTime();
        invariant_releasesAreBacked();
        invariant_jailVoidsNoHonestMoney();
        invariant_feesAddUp();
        invariant_theRegistryOwnsWhatIsAtStake();
        invariant_slashedNeverExceedsStaked();
        invariant_stakeStaysWhileAnythingReachesIt();
        invariant_onlyStakeThatStaysBacks();
        invariant_hotKeysChangeByDelayOnly();
        invariant_everybodyHoldsWhatIsTheirs();
    }

    function _channel(uint256 number) private view returns (IChannels.Channel memory) {
        (address from, address to, address key) = handler.namesOf(number);
        return channels.channelOf(from, to, key);
    }

    function _channelGhost(uint256 number) private view returns (Ghosts.ChannelGhost memory) {
        return handler.channelGhost(number);
    }

    function _step(uint256 seed) private {
        uint96 amount = uint96(seed >> 96) >> (seed % 24);
        uint256 kind = (seed >> 32) % 22;
        seed >>= 8;
        if (kind < 2) handler.pass(seed);
        else if (kind < 5) handler.fund(seed, amount);
        else if (kind < 10) handler.claim(seed, amount, uint8(seed >> 8));
        else if (kind < 12) handler.release(seed);
        else if (kind == 12) handler.requestClose(seed);
        else if (kind == 13) handler.finishClose(seed);
        else if (kind == 14) handler.withdrawEarnings(seed);
        else if (kind == 15) handler.forfeit(seed, amount >> 40);
        else if (kind == 16 && seed % 8 < 2) handler.freeze(seed, seed % 8 == 0 ? type(uint96).max : amount >> 20);
        else if (kind == 16) handler.unfreeze(seed, seed % 8 < 6 ? type(uint96).max : amount >> 24);
        else if (kind == 17) handler.stake(seed, amount);
        else if (kind == 18 && seed % 8 == 0) handler.requestUnbond(seed >> 4, amount);
        else if (kind == 19) handler.withdrawStake(seed);
        else if (kind == 20 && seed % 2 == 0) handler.slash(seed >> 1, amount >> 20);
        else if (kind == 20) handler.rotateHotKey(seed);
        else if (seed % 16 == 0) handler.cancelUnbond(seed >> 4);
        else if (seed % 16 == 1) handler.fillRing((seed >> 4) << 4);
        else if (seed % 16 < 6) handler.withdrawFees();
        else if (seed % 16 < 10) handler.withdrawForfeited();
        else handler.refuse(seed & 32 == 0);
    }
}
