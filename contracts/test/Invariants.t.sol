// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IChannels} from "../interfaces/IChannels.sol";
import {WorkToken} from "../WorkToken.sol";
import {Fixture} from "./support/Fixture.sol";
import {Handler} from "./support/Handler.sol";

/// @dev Of this file, because the runner knows the contracts of test files only.
contract Actors is Handler {
    constructor(IChannels channels, address slasher) Handler(channels, slasher) {}
}

/// @notice What holds after any sequence of calls. The runner draws calls of the handler, which must never revert.
contract InvariantsTest is Fixture {
    Actors private handler;

    function setUp() public override {
        vm.warp(START);
        vm.roll(1_000_000);
        deploy(new WorkToken(address(this), SUPPLY));
        handler = new Actors(channels, slasher);
        for (uint256 i; i < 3; ++i) {
            token.transfer(handler.workers(i), 10_000_000e18);
            token.transfer(handler.payers(i), 10_000_000e18);
        }
    }

    function targetContracts() public view returns (address[] memory targets) {
        return only(address(handler));
    }

    /// @dev The handler is no empty shell: a long run does everything there is to do.
    function test_handler_reachesEverything() external {
        for (uint256 i; i < 3_000; ++i) {
            uint256 seed = uint256(keccak256(abi.encode(i)));
            uint96 amount = uint96(seed >> 96) >> (seed % 24);
            uint256 kind = (seed >> 32) % 20;
            if (kind < 3) handler.pass(seed);
            else if (kind < 5) handler.fund(seed, amount);
            else if (kind < 8) handler.claim(seed, amount, uint8(seed));
            else if (kind < 11) handler.release(seed);
            else if (kind == 11) handler.requestClose(seed);
            else if (kind == 12) handler.finishClose(seed);
            else if (kind == 13) handler.withdrawEarnings(seed);
            else if (kind == 14) handler.forfeit(seed, amount >> 40);
            else if (kind == 15) handler.freeze(seed, seed % 8 == 0);
            else if (kind == 16) handler.stake(seed, amount);
            else if (kind == 17) handler.requestUnbond(seed, amount);
            else if (kind == 18) handler.withdrawStake(seed);
            else if (seed % 4 == 0) handler.slash(seed, amount >> 20);
            else if (seed % 4 == 1) handler.cancelUnbond(seed);
            else if (seed % 4 == 2) handler.withdrawFees();
        }
        vm.assertGt(handler.funded(), handler.claimed());
        vm.assertGt(handler.claimed(), handler.released());
        vm.assertGt(handler.refunded(), 0);
        vm.assertGt(handler.released(), 0);
        vm.assertGt(handler.forfeited(), 0);
        vm.assertGt(handler.unstaked(), 0);
        vm.assertGt(handler.slashed(), 0);
        this.invariant_solvency();
        this.invariant_conservation();
        this.invariant_stake();
    }

    /// @dev Channels owns exactly what it owes.
    function invariant_solvency() external view {
        (uint256 deposits, uint256 claims) = handler.channelSums();
        (uint256 pending, uint256 earnings) = _accounts();
        vm.assertEq(token.balanceOf(address(channels)), deposits - claims + pending + earnings + channels.fees());
    }

    /// @dev Every unit that came in went out, or is in one place.
    function invariant_conservation() external view {
        (uint256 deposits, uint256 claims) = handler.channelSums();
        (uint256 pending, uint256 earnings) = _accounts();
        vm.assertEq(handler.funded(), deposits - claims + handler.claimed() + handler.refunded());
        vm.assertEq(handler.claimed(), pending + handler.released() + handler.forfeited());
        vm.assertEq(earnings, handler.earned());
        vm.assertEq(channels.fees(), handler.fees());
    }

    /// @dev Pending is the sum over the ring, and leaves it only by release or forfeit.
    function invariant_pending() external view {
        for (uint256 i; i < 3; ++i) {
            address who = handler.workers(i);
            (uint64 next, uint256 pending, , ) = channels.accountOf(who);
            uint256 sum;
            for (uint64 j = next > 64 ? next - 64 : 0; j < next; ++j) {
                try channels.claimOf(who, j) returns (IChannels.Claim memory found) {
                    sum += found.amount;
                } catch {}
            }
            // A slot passed over while it was in use may hold an older claim.
            vm.assertLe(sum, pending);
            if (next <= 64) vm.assertEq(sum, pending);
        }
    }

    /// @dev Nobody is slashed for more than was staked, and the registry owns exactly what is reachable.
    function invariant_stake() external view {
        uint256 reachable;
        for (uint256 i; i < 3; ++i) reachable += stakes.slashable(handler.workers(i));
        vm.assertEq(token.balanceOf(address(stakes)), reachable);
        vm.assertEq(handler.staked(), reachable + handler.unstaked() + handler.slashed());
        vm.assertLe(handler.slashed(), handler.staked());
    }

    /// @dev While anything can still reach it, stake cannot be withdrawn.
    function invariant_withdrawal() external view {
        for (uint256 i; i < 3; ++i) {
            address who = handler.workers(i);
            vm.assertGe(stakes.withdrawableAt(who), handler.reachableUntil(who));
        }
    }

    /// @dev Jail and missing stake delay a release; only a freeze stops it.
    function invariant_delay() external view {
        for (uint256 i; i < 3; ++i) {
            address who = handler.workers(i);
            (uint64 next, , , ) = channels.accountOf(who);
            for (uint64 j = next > 64 ? next - 64 : 0; j < next; ++j) {
                try channels.claimOf(who, j) returns (IChannels.Claim memory found) {
                    if (found.amount == 0) continue;
                    uint256 until = channels.releasableAt(who, j);
                    if (found.frozen) {
                        vm.assertEq(until, type(uint256).max);
                        continue;
                    }
                    vm.assertGe(until, uint256(found.claimedAt) + WINDOW);
                    vm.assertLe(until, uint256(found.claimedAt) + UNBONDING);
                } catch {}
            }
        }
    }

    function _accounts() private view returns (uint256 pending, uint256 earnings) {
        for (uint256 i; i < 3; ++i) {
            (, uint256 waiting, uint256 own, ) = channels.accountOf(handler.workers(i));
            pending += waiting;
            earnings += own;
        }
    }
}
