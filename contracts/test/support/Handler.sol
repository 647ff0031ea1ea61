// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {MessageHashUtils} from "@openzeppelin/contracts/utils/cryptography/MessageHashUtils.sol";

import {IChannels} from "../../interfaces/IChannels.sol";
import {SignedObjects} from "../../libraries/SignedObjects.sol";
import {StakeHandler} from "./StakeHandler.sol";

/// @title Three workers, three payers, a slasher and time, doing whatever the invariant runner draws
/// @notice Every function does something allowed or nothing at all, so that any revert is a finding. Worker 0 is diligent:
/// it keeps room in its ring, and claims the best voucher of a channel before the payer can take the rest back.
abstract contract Handler is StakeHandler {
    uint256 private constant HISTORY = 12;
    uint256 private constant DILIGENT_CLAIMS = 40;

    constructor(IChannels channels, address slasher) StakeHandler(channels, slasher) {}

    function pass(uint256 time) external {
        vm.warp(vm.getBlockTimestamp() + bound(time, 1, 3 days));
        vm.roll(vm.getBlockNumber() + 1);
        ++done["pass"];
    }

    /// @notice One channel, by the call for one or by that for several; or two of the same payer and session key.
    function fund(uint256 seed, uint96 amount) external {
        amount = uint96(bound(amount, 1, 1_000e18));
        uint256 first = _channel(seed);
        uint256 second = (first / ACTORS ** 2) * ACTORS ** 2 + ((seed >> 64) % ACTORS) * ACTORS + (first % ACTORS);
        if (_channels[first].closingAt != 0 || _channels[second].closingAt != 0) return;
        (address payer, address worker, address session) = namesOf(first);
        if (seed % 3 == 0) {
            vm.prank(payer);
            CHANNEL_CONTRACT.fundChannel(session, worker, amount);
            _funded(first, amount);
            return;
        }
        IChannels.Funding[] memory fundings = new IChannels.Funding[](seed % 3);
        fundings[0] = IChannels.Funding(worker, amount);
        _funded(first, amount);
        if (seed % 3 == 2) {
            (, address other, ) = namesOf(second);
            fundings[1] = IChannels.Funding(other, amount / 2 + 1);
            _funded(second, amount / 2 + 1);
        }
        vm.prank(payer);
        CHANNEL_CONTRACT.fund(session, fundings);
        ++done["fund"];
    }

    function requestClose(uint256 seed) external {
        ChannelGhost storage channel = _channels[_channel(seed)];
        if (channel.deposit == 0 || channel.closingAt != 0) return;
        (address payer, address worker, address session) = namesOf(_channel(seed));
        vm.prank(payer);
        CHANNEL_CONTRACT.requestClose(session, _only(worker));
        channel.closingAt = vm.getBlockTimestamp() + CHANNEL_CONTRACT.withdrawalDelay();
        ++done["requestClose"];
    }

    /// @notice Takes the payer out, if its delay is over: that always works, and brings all that was not claimed.
    function finishClose(uint256 seed) external {
        uint256 number = _channel(seed);
        ChannelGhost storage channel = _channels[number];
        if (channel.closingAt == 0 || vm.getBlockTimestamp() < channel.closingAt) return;
        (address payer, address worker, address session) = namesOf(number);
        uint256 reached = _min(channel.promised, channel.deposit);
        if (worker == workers[0]) {
            if (reached > channel.claimed) _claim(worker, _sign(number, channel.epoch, channel.promised, false));
            lost += reached - channel.claimed;
        }
        uint256 rest = channel.deposit - channel.claimed;
        vm.prank(payer);
        vm.assertEq(CHANNEL_CONTRACT.finishClose(session, _only(worker)), rest, "refund");
        refunded += rest;
        _pay(address(CHANNEL_CONTRACT), payer, rest);
        _channels[number] = ChannelGhost(0, 0, 0, channel.epoch + 1, 0);
        ++done["finishClose"];
    }

    /// @notice A batch of one new voucher and of old ones, of any epoch, in any order; sometimes forged, or signed early.
    function claim(uint256 seed, uint96 total, uint8 olds) external {
        uint256 number = _channel(seed);
        (, address worker, ) = namesOf(number);
        bool diligent = worker == workers[0];
        if (diligent && _pendingOf(worker) >= DILIGENT_CLAIMS) return;
        total = uint96(bound(total, 0, 1_200e18));
        uint256 epoch = _channels[number].epoch + (!diligent && seed % 16 == 9 ? 1 : 0);
        uint256 fresh = _sign(number, epoch, total, seed % 16 == 7);
        uint256[] memory batch = new uint256[](1 + (olds % 4));
        for (uint256 i; i < batch.length; ++i) batch[i] = (fresh + (i * (1 + olds / 4))) % _vouchers.length;
        if (seed & 8 == 0) (batch[0], batch[batch.length - 1]) = (batch[batch.length - 1], batch[0]);
        _claim(worker, batch);
    }

    /// @notice A worker that claims unit by unit until its ring has no room.
    function fillRing(uint256 seed) external {
        uint256 number = _channel(seed);
        ChannelGhost storage channel = _channels[number];
        (, address worker, ) = namesOf(number);
        if (seed % 16 != 0 || worker == workers[0] || channel.deposit < channel.claimed + 65) return;
        for (uint256 i = _pendingOf(worker); i < 65; ++i)
            _claim(worker, _sign(number, channel.epoch, channel.claimed + 1, false));
        ++done["fillRing"];
    }

    function release(uint256 pick) external {
        if (_claims.length == 0) return;
        pick %= _claims.length;
        ClaimGhost memory one = _claims[pick];
        if (vm.getBlockTimestamp() < CHANNEL_CONTRACT.releasableAt(one.worker, one.index)) return;
        uint256 backing = STAKES.backingOf(one.worker);
        if (one.frozen != 0) ++done["release in part"];
        one.amount -= one.frozen;
        vm.assertEq(CHANNEL_CONTRACT.release(one.worker, one.index), one.amount, "released");

        uint256 window = CHANNEL_CONTRACT.challengeWindow();
        if (vm.getBlockTimestamp() < one.claimedAt + window) releasedEarly += one.amount;
        if (vm.getBlockTimestamp() < one.claimedAt + STAKES.unbondingPeriod()) {
            _releases.push(ReleaseGhost(one.worker, one.amount, vm.getBlockTimestamp()));
            uint256 needed = _releasedWithin(one.worker, window) * CHANNEL_CONTRACT.stakeMultiple();
            if (needed > backing) releasedUnbacked += needed - backing;
            ++done["release on stake"];
        }
        uint256 fee = (one.amount * CHANNEL_CONTRACT.feeBps()) / 10_000;
        feesTaken += fee;
        fees += fee;
        released += one.amount;
        _workers[one.worker].released += one.amount;
        _workers[one.worker].earnings += one.amount - fee;
        _take(pick, one.amount);
        ++done["release"];
    }

    function withdrawEarnings(uint256 pick) external {
        address worker = workers[pick % ACTORS];
        uint256 amount = _workers[worker].earnings;
        if (amount == 0) return;
        vm.prank(worker);
        vm.assertEq(CHANNEL_CONTRACT.withdrawEarnings(worker), amount, "earnings");
        _workers[worker].earnings = 0;
        _pay(address(CHANNEL_CONTRACT), worker, amount);
        ++done["withdrawEarnings"];
    }

    /// @notice What could not be sent waits for whom it is meant, who can name another place.
    function withdrawForfeited() external {
        if (oddEarnings == 0) return;
        vm.prank(odd);
        vm.assertEq(CHANNEL_CONTRACT.withdrawEarnings(payers[0]), oddEarnings, "forfeited earnings");
        _pay(address(CHANNEL_CONTRACT), payers[0], oddEarnings);
        oddEarnings = 0;
        ++done["withdrawForfeited"];
    }

    function withdrawFees() external {
        if (fees == 0) return;
        vm.assertEq(CHANNEL_CONTRACT.withdrawFees(), fees, "fees");
        _pay(address(CHANNEL_CONTRACT), CHANNEL_CONTRACT.feeRecipient(), fees);
        fees = 0;
        ++done["withdrawFees"];
    }

    /// @dev Every voucher brings its step exactly, whatever stands beside it; sent by the cold or by the hot key.
    function _claim(address worker, uint256 voucher) private {
        uint256[] memory batch = new uint256[](1);
        batch[0] = voucher;
        _claim(worker, batch);
    }

    function _claim(address worker, uint256[] memory batch) private {
        bytes memory packed;
        uint256[] memory before = new uint256[](CHANNELS);
        for (uint256 i; i < CHANNELS; ++i) before[i] = _channels[i].claimed;
        uint256 expected;
        for (uint256 i; i < batch.length; ++i) {
            VoucherGhost storage voucher = _vouchers[batch[i]];
            ChannelGhost storage channel = _channels[voucher.channel];
            (, address to, ) = namesOf(voucher.channel);
            packed = bytes.concat(packed, voucher.packed);
            uint256 reached = _min(voucher.total, channel.deposit);
            if (voucher.forged || to != worker || voucher.epoch != channel.epoch) continue;
            if (reached <= channel.claimed) continue;
            expected += reached - channel.claimed;
            channel.claimed = reached;
        }
        vm.prank(expected % 2 == 0 ? worker : _hotKey(_workers[worker]));
        try CHANNEL_CONTRACT.claim(worker, packed) returns (uint64 index, uint256 amount) {
            vm.assertEq(amount, expected, "a voucher counted twice, or not at all");
            claimed += amount;
            _workers[worker].claimed += amount;
            _claims.push(ClaimGhost(worker, index, amount, vm.getBlockTimestamp(), vm.getBlockNumber(), 0));
            _reach(worker);
            ++done["claim"];
        } catch (bytes memory reason) {
            if (expected == 0) vm.assertEq(reason, abi.encodeWithSelector(IChannels.NothingToClaim.selector));
            else vm.assertEq(bytes32(bytes4(reason)), bytes32(IChannels.RingFull.selector));
            if (expected != 0) vm.assertEq(_pendingOf(worker), 64, "a ring that is not full refuses");
            for (uint256 i; i < CHANNELS; ++i) _channels[i].claimed = before[i];
            ++done[expected == 0 ? "claim of nothing" : "ring full"];
        }
    }

    function _funded(uint256 channel, uint256 amount) private {
        (address payer, , ) = namesOf(channel);
        _channels[channel].deposit += amount;
        funded += amount;
        _pay(payer, address(CHANNEL_CONTRACT), amount);
    }

    /// @return voucher its number
    function _sign(uint256 number, uint256 epoch, uint256 total, bool forged) private returns (uint256 voucher) {
        (address payer, address worker, ) = namesOf(number);
        bytes32 hash = SignedObjects.hash(
            SignedObjects.Voucher(payer, worker, uint64(epoch), uint128(total), 1, bytes32(0))
        );
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(
            forged ? uint256(hash) : _secrets[number / ACTORS ** 2],
            MessageHashUtils.toTypedDataHash(CHANNEL_CONTRACT.domainSeparator(), hash)
        );
        bytes memory packed = abi.encodePacked(
            abi.encodePacked(payer, uint96(total), bytes32(0), r),
            abi.encodePacked(bytes32(uint256(s) | (uint256(v - 27) << 255)), uint24(epoch), uint64(1))
        );
        ChannelGhost storage channel = _channels[number];
        if (!forged && epoch == channel.epoch && total > channel.promised) channel.promised = total;
        voucher = _vouchers.length < HISTORY ? _vouchers.length : done["claim"] % HISTORY;
        if (voucher == _vouchers.length) _vouchers.push();
        _vouchers[voucher] = VoucherGhost(number, epoch, total, forged, packed);
    }

    /// @dev The lowest four bits of the seed are free for other choices.
    function _channel(uint256 seed) private pure returns (uint256) {
        return (seed >> 4) % CHANNELS;
    }

    function _only(address one) private pure returns (address[] memory list) {
        list = new address[](1);
        list[0] = one;
    }
}
