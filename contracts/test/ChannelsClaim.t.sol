// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IChannels} from "../interfaces/IChannels.sol";
import {Fixture} from "./support/Fixture.sol";
import {PlainBatch} from "./support/PlainBatch.sol";
import {FeeToken} from "./support/Tokens.sol";

contract ChannelsClaimTest is Fixture {
    uint256 private constant ORDER = 0xfffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141;

    PlainBatch private plain;

    function setUp() public override {
        super.setUp();
        plain = new PlainBatch(channels);
        fund(payer, worker, session, DEPOSIT);
    }

    function test_claim_movesWhatAVoucherPromises() public {
        PlainBatch.Voucher[] memory batch = new PlainBatch.Voucher[](1);
        batch[0] = sign(sessionSecret, payer, worker, 0, 20, 3, ROOT);
        bytes memory entry = abi.encodePacked(
            bytes20(keccak256(abi.encode(payer, worker, session))),
            uint96(0),
            uint96(20),
            ROOT
        );
        bytes32 commitment = keccak256(bytes.concat(hex"01", keccak256(bytes.concat(hex"00", entry))));
        vm.expectEmit(address(channels));
        emit IChannels.Claimed(worker, 0, 20, commitment, entry);
        vm.prank(worker);
        (uint64 index, uint256 amount) = channels.claim(worker, pack(batch[0]));

        vm.assertEq(index, 0);
        vm.assertEq(amount, 20);
        vm.assertEq(channels.channelOf(payer, worker, session).claimed, 20);
        vm.assertEq(channels.channelOf(payer, worker, session).deposit, DEPOSIT);
        (uint64 next, uint256 pending, uint256 earnings, uint40 lastClaimAt) = channels.accountOf(worker);
        vm.assertEq(next, 1);
        vm.assertEq(pending, 20);
        vm.assertEq(earnings, 0);
        vm.assertEq(lastClaimAt, START);
        IChannels.Claim memory stored = channels.claimOf(worker, 0);
        vm.assertEq(stored.amount, 20);
        vm.assertEq(stored.claimedAt, START);
        vm.assertEq(stored.blockNumber, 1_000_000);
        vm.assertEq(stored.frozen, 0);
        vm.assertEq(stored.commitment, commitment);
    }

    function test_claim_isCumulative() public {
        claim(0, 20);
        vm.warp(START + 5);
        vm.roll(1_000_007);
        uint64 index = claim(0, 50);
        vm.assertEq(index, 1);
        vm.assertEq(channels.claimOf(worker, 1).amount, 30);
        vm.assertEq(channels.claimOf(worker, 1).claimedAt, START + 5);
        vm.assertEq(channels.claimOf(worker, 1).blockNumber, 1_000_007);
        (, uint256 pending, , uint40 lastClaimAt) = channels.accountOf(worker);
        vm.assertEq(pending, 50);
        vm.assertEq(lastClaimAt, START + 5);
        vm.assertEq(channels.channelOf(payer, worker, session).claimed, 50);
    }

    function test_claim_isOpenToTheHotKey() public {
        bytes memory packed = voucher(0, 20);
        vm.prank(hot);
        channels.claim(worker, packed);
        vm.assertEq(channels.claimOf(worker, 0).amount, 20);
    }

    function test_claim_followsARotationOfTheHotKey() public {
        address next = makeAddr("next hot");
        vm.prank(worker);
        stakes.rotateHotKey(next);
        bytes memory packed = voucher(0, 20);
        _refused(next, packed, abi.encodeWithSelector(IChannels.NotTheWorker.selector, next));
        vm.warp(START + HOT_KEY_DELAY);
        _refused(hot, packed, abi.encodeWithSelector(IChannels.NotTheWorker.selector, hot));
        vm.prank(next);
        channels.claim(worker, packed);
    }

    /// @dev A payer with vouchers of one unit could fill the ring, or keep the stake unbonding for ever.
    function test_claim_refusesStrangers() public {
        bytes memory packed = voucher(0, 20);
        address[3] memory callers = [payer, session, stranger];
        for (uint256 i; i < 3; ++i) {
            _refused(callers[i], packed, abi.encodeWithSelector(IChannels.NotTheWorker.selector, callers[i]));
        }
    }

    function test_claim_worksForAWorkerThatNeverRegistered() public {
        fund(payer, stranger, session, 30);
        PlainBatch.Voucher memory one = sign(sessionSecret, payer, stranger, 0, 30, 1, ROOT);
        vm.prank(stranger);
        channels.claim(stranger, pack(one));
        vm.assertEq(channels.claimOf(stranger, 0).amount, 30);
    }

    function test_claim_goesOnForTheJailed() public {
        vm.prank(slasher);
        stakes.jail(worker);
        claim(0, 20);
        vm.assertEq(channels.claimOf(worker, 0).amount, 20);
    }

    function test_claim_goesOnWhileTheChannelCloses() public {
        vm.prank(payer);
        channels.requestClose(session, only(worker));
        vm.warp(START + WITHDRAWAL_DELAY + 1 days);
        claim(0, DEPOSIT);
        vm.prank(payer);
        vm.assertEq(channels.finishClose(session, only(worker)), 0);
    }

    function test_claim_countsUpToTheDeposit() public {
        claim(0, DEPOSIT + 5);
        vm.assertEq(channels.claimOf(worker, 0).amount, DEPOSIT);
        // The same voucher brings the rest once the payer has added to the channel.
        bytes memory same = voucher(0, DEPOSIT + 5);
        _refused(worker, same, abi.encodeWithSelector(IChannels.NothingToClaim.selector));
        fund(payer, worker, session, 9);
        vm.prank(worker);
        channels.claim(worker, same);
        vm.assertEq(channels.claimOf(worker, 1).amount, 5);
    }

    function test_claim_skipsWhatBringsNothing() public {
        claim(0, 10);
        fund(otherPayer, worker, session, 30);
        PlainBatch.Voucher[] memory batch = new PlainBatch.Voucher[](8);
        batch[0] = sign(sessionSecret, payer, worker, 0, 10, 1, ROOT); // claimed before
        batch[1] = sign(sessionSecret, payer, worker, 0, 9, 1, ROOT); // older
        batch[2] = sign(sessionSecret, payer, worker, 1, 40, 1, ROOT); // of another epoch
        batch[3] = sign(uint256(keccak256("hot")), payer, worker, 0, 40, 1, ROOT); // of a stranger
        batch[4] = sign(sessionSecret, payer, stranger, 0, 40, 1, ROOT); // for another worker
        batch[5] = sign(sessionSecret, payer, worker, 0, 40, 1, ROOT);
        batch[5].count = 2; // altered
        batch[6] = sign(sessionSecret, otherPayer, worker, 0, 25, 1, ROOT); // good
        batch[7] = sign(sessionSecret, stranger, worker, 0, 25, 1, ROOT); // of a payer without channel
        (uint256 amount, bytes memory entries, bytes32 commitment) = plain.settle(worker, batch);
        vm.assertEq(amount, 25);
        vm.expectEmit(address(channels));
        emit IChannels.Claimed(worker, 1, 25, commitment, entries);
        vm.prank(worker);
        channels.claim(worker, _pack(batch));
        vm.assertEq(channels.channelOf(payer, worker, session).claimed, 10);
        vm.assertEq(channels.channelOf(otherPayer, worker, session).claimed, 25);
    }

    function test_claim_skipsAVoucherOfAnotherDeployment() public {
        PlainBatch.Voucher memory here = sign(sessionSecret, payer, worker, 0, 10, 1, ROOT);
        vm.chainId(999);
        PlainBatch.Voucher memory elsewhere = sign(sessionSecret, payer, worker, 0, 10, 1, ROOT);
        _refused(worker, pack(here), abi.encodeWithSelector(IChannels.NothingToClaim.selector));
        vm.chainId(31337);
        _refused(worker, pack(elsewhere), abi.encodeWithSelector(IChannels.NothingToClaim.selector));
        vm.prank(worker);
        channels.claim(worker, pack(here));
    }

    /// @dev ecrecover answers with nothing, not with an error. A channel of "nobody" cannot exist, nor one that the rest
    /// of a failed call would lead to: where the session key is expected stands the epoch.
    function test_claim_skipsASignatureOfNobody() public {
        fund(payer, worker, address(1), 10);
        PlainBatch.Voucher memory one = sign(sessionSecret, payer, worker, 1, 10, 1, ROOT);
        one.r = bytes32(0);
        _refused(worker, pack(one), abi.encodeWithSelector(IChannels.NothingToClaim.selector));
        one = sign(sessionSecret, payer, worker, 0, 10, 1, ROOT);
        one.r = bytes32(ORDER);
        _refused(worker, pack(one), abi.encodeWithSelector(IChannels.NothingToClaim.selector));
        // And with the epoch that the channel of address(1) has: close it once.
        vm.startPrank(payer);
        channels.requestClose(address(1), only(worker));
        vm.warp(START + WITHDRAWAL_DELAY);
        channels.finishClose(address(1), only(worker));
        vm.stopPrank();
        fund(payer, worker, address(1), 10);
        one = sign(sessionSecret, payer, worker, 1, 10, 1, ROOT);
        one.vs = bytes32(0);
        _refused(worker, pack(one), abi.encodeWithSelector(IChannels.NothingToClaim.selector));
    }

    /// @dev The sliver of large s that the compact form can still express.
    function test_claim_skipsASignatureWithALargeS() public {
        PlainBatch.Voucher memory one = sign(sessionSecret, payer, worker, 0, 10, 1, ROOT);
        uint256 half = ORDER / 2;
        for (uint256 over; over < 2; ++over) {
            one.vs = bytes32(half + over);
            address signer = ecrecover(_digest(one), 27, one.r, one.vs);
            fund(payer, worker, signer, 10);
            if (over == 1) _refused(worker, pack(one), abi.encodeWithSelector(IChannels.NothingToClaim.selector));
            else {
                vm.prank(worker);
                channels.claim(worker, pack(one));
            }
        }
    }

    function test_claim_refusesABatchThatBringsNothing() public {
        _refused(worker, voucher(0, 0), abi.encodeWithSelector(IChannels.NothingToClaim.selector));
        _refused(worker, voucher(3, 20), abi.encodeWithSelector(IChannels.NothingToClaim.selector));
    }

    function test_claim_refusesAMalformedBatch() public {
        bytes memory packed = voucher(0, 20);
        _refused(worker, "", abi.encodeWithSelector(IChannels.EmptyBatch.selector));
        _refused(worker, bytes.concat(packed, hex"00"), abi.encodeWithSelector(IChannels.MalformedBatch.selector, 140));
        _refused(worker, new bytes(138), abi.encodeWithSelector(IChannels.MalformedBatch.selector, 138));
        _refused(worker, new bytes(139 * 257), abi.encodeWithSelector(IChannels.BatchTooLarge.selector, 257));
        _refused(worker, new bytes(139 * 256), abi.encodeWithSelector(IChannels.NothingToClaim.selector));
    }

    /// @dev Only tokens with more units than uint96 counts can come here: the worker claims in smaller batches.
    function test_claim_refusesASumThatDoesNotFit() public {
        FeeToken large = new FeeToken();
        large.mint(address(this), uint256(type(uint96).max) * 2);
        deploy(large);
        endow(payer, type(uint96).max);
        endow(otherPayer, 1);
        fund(payer, worker, session, type(uint96).max);
        fund(otherPayer, worker, session, 1);
        bytes memory first = pack(sign(sessionSecret, payer, worker, 0, type(uint96).max, 1, ROOT));
        bytes memory second = pack(sign(sessionSecret, otherPayer, worker, 0, 1, 1, ROOT));
        _refused(
            worker,
            bytes.concat(first, second),
            abi.encodeWithSelector(IChannels.AmountTooLarge.selector, uint256(type(uint96).max) + 1)
        );
        vm.startPrank(worker);
        channels.claim(worker, first);
        channels.claim(worker, second);
        (, uint256 pending, , ) = channels.accountOf(worker);
        vm.assertEq(pending, uint256(type(uint96).max) + 1);
    }

    function test_claim_paysOneVoucherOncePerBatch() public {
        PlainBatch.Voucher[] memory batch = new PlainBatch.Voucher[](3);
        batch[0] = sign(sessionSecret, payer, worker, 0, 20, 1, ROOT);
        batch[1] = batch[0];
        batch[2] = sign(sessionSecret, payer, worker, 0, 30, 2, ROOT);
        (uint256 amount, bytes memory entries, bytes32 commitment) = plain.settle(worker, batch);
        vm.assertEq(amount, 30);
        vm.assertEq(entries.length, 2 * 76);
        vm.expectEmit(address(channels));
        emit IChannels.Claimed(worker, 0, 30, commitment, entries);
        vm.prank(worker);
        channels.claim(worker, _pack(batch));
    }

    function test_claim_fillsTheRingAndThenWaits() public {
        for (uint96 i; i < 64; ++i) vm.assertEq(claim(0, i + 1), i);
        bytes memory more = voucher(0, 100);
        _refused(worker, more, abi.encodeWithSelector(IChannels.RingFull.selector, 64));
        vm.warp(START + WINDOW);
        channels.release(worker, 5);
        vm.prank(worker);
        (uint64 index, ) = channels.claim(worker, more);
        // 64 .. 68 stand for slots that are still in use.
        vm.assertEq(index, 69);
        (uint64 next, , , ) = channels.accountOf(worker);
        vm.assertEq(next, 70);
        vm.expectRevert(abi.encodeWithSelector(IChannels.NoClaim.selector, worker, 5));
        channels.claimOf(worker, 5);
        vm.expectRevert(abi.encodeWithSelector(IChannels.NoClaim.selector, worker, 64));
        channels.claimOf(worker, 64);
    }

    function test_claim_passesOverAFrozenSlot() public {
        claim(0, 1);
        vm.prank(slasher);
        channels.freeze(worker, 0, 1);
        for (uint96 i = 1; i < 64; ++i) claim(0, i + 1);
        vm.warp(START + WINDOW);
        for (uint64 i = 1; i < 64; ++i) channels.release(worker, i);
        vm.assertEq(claim(0, 100), 65);
        vm.assertEq(channels.claimOf(worker, 0).amount, 1);
    }

    function test_claimOf_refusesWhatWasNeverThere() public {
        vm.expectRevert(abi.encodeWithSelector(IChannels.NoClaim.selector, worker, 0));
        channels.claimOf(worker, 0);
        claim(0, 1);
        vm.expectRevert(abi.encodeWithSelector(IChannels.NoClaim.selector, worker, 64));
        channels.claimOf(worker, 64);
        vm.expectRevert(abi.encodeWithSelector(IChannels.NoClaim.selector, worker, type(uint64).max));
        channels.claimOf(worker, type(uint64).max);
    }

    function test_claim_takesABatchOfTheLargestSize() public {
        PlainBatch.Voucher[] memory batch = _manyVouchers(256);
        (uint256 amount, bytes memory entries, bytes32 commitment) = plain.settle(worker, batch);
        vm.expectEmit(address(channels));
        emit IChannels.Claimed(worker, 0, amount, commitment, entries);
        vm.prank(worker);
        channels.claim(worker, _pack(batch));
    }

    /// @dev Every length of the last group of eight.
    function test_claim_commitsToBatchesOfEverySize() public {
        PlainBatch.Voucher[] memory all = _manyVouchers(26);
        for (uint256 size = 1; size <= 26; ++size) {
            PlainBatch.Voucher[] memory batch = new PlainBatch.Voucher[](size);
            for (uint256 i; i < size; ++i) batch[i] = all[i];
            uint256 state = vm.snapshotState();
            (uint256 amount, bytes memory entries, bytes32 commitment) = plain.settle(worker, batch);
            vm.expectEmit(address(channels));
            emit IChannels.Claimed(worker, 0, amount, commitment, entries);
            vm.prank(worker);
            channels.claim(worker, _pack(batch));
            vm.revertToState(state);
        }
    }

    /// @dev The assembly does what the plain twin says, for good and bad vouchers in any order, twice over.
    function testFuzz_claim_doesWhatThePlainTwinSays(uint256 seed, uint8[12] memory kinds) public {
        fund(payer, worker, stranger, 7);
        fund(otherPayer, worker, session, 40);
        for (uint256 round; round < 2; ++round) {
            PlainBatch.Voucher[] memory batch = new PlainBatch.Voucher[](12);
            for (uint256 i; i < 12; ++i)
                batch[i] = _anyVoucher(uint256(keccak256(abi.encode(seed, round, i))), kinds[i]);
            (uint256 amount, bytes memory entries, bytes32 commitment) = plain.settle(worker, batch);
            if (amount == 0) {
                _refused(worker, _pack(batch), abi.encodeWithSelector(IChannels.NothingToClaim.selector));
                continue;
            }
            (uint64 next, , , ) = channels.accountOf(worker);
            vm.expectEmit(address(channels));
            emit IChannels.Claimed(worker, next, amount, commitment, entries);
            vm.prank(worker);
            channels.claim(worker, _pack(batch));
        }
        _agree(payer, session);
        _agree(otherPayer, session);
    }

    /// @dev Bytes of a stranger: whatever they are, nothing moves.
    function testFuzz_claim_movesNothingForRandomBytes(bytes32[9] memory noise) public {
        bytes memory packed = abi.encodePacked(noise);
        assembly ("memory-safe") {
            mstore(packed, 278)
        }
        _refused(worker, packed, abi.encodeWithSelector(IChannels.NothingToClaim.selector));
    }

    /// @dev However vouchers are ordered and split into claims, the channel pays its highest total, once.
    function testFuzz_claim_paysTheSameInAnyOrder(uint96[6] memory totals, uint8 split) public {
        uint256 highest;
        bytes memory first;
        bytes memory second;
        for (uint256 i; i < 6; ++i) {
            totals[i] = uint96(bound(totals[i], 1, DEPOSIT * 2));
            if (totals[i] > highest) highest = totals[i];
            bytes memory one = voucher(0, totals[i]);
            if (i < split % 6) first = bytes.concat(first, one);
            else second = bytes.concat(second, one);
        }
        vm.startPrank(worker);
        if (first.length != 0) channels.claim(worker, first);
        try channels.claim(worker, second) {} catch (bytes memory reason) {
            vm.assertEq(bytes32(reason), bytes32(IChannels.NothingToClaim.selector));
        }
        (, uint256 pending, , ) = channels.accountOf(worker);
        vm.assertEq(pending, highest < DEPOSIT ? highest : DEPOSIT);
        vm.assertEq(channels.channelOf(payer, worker, session).claimed, pending);
    }

    function _anyVoucher(uint256 seed, uint8 kind) private view returns (PlainBatch.Voucher memory one) {
        address from = seed & 1 == 0 ? payer : otherPayer;
        uint96 total = uint96(kind & 1 == 0 ? (seed >> 8) % 100 : (seed >> 8) % (2 * DEPOSIT));
        one = sign(sessionSecret, from, worker, kind % 7 == 6 ? 1 : 0, total, uint64(seed >> 128), bytes32(seed));
        if (kind % 11 == 3) one.r = bytes32(seed);
        if (kind % 11 == 5) one.vs ^= bytes32(uint256(1) << 255);
        if (kind % 11 == 7) one.vs = bytes32(0);
        if (kind % 11 == 9) one.receiptsRoot ^= bytes32(uint256(1));
    }

    function _manyVouchers(uint256 size) private returns (PlainBatch.Voucher[] memory batch) {
        batch = new PlainBatch.Voucher[](size);
        for (uint256 i; i < size; ++i) {
            (address key, uint256 secret) = makeAccount(string(abi.encodePacked("session ", bytes32(i))));
            fund(payer, worker, key, uint96(100 + i));
            batch[i] = sign(secret, payer, worker, 0, uint96(60 + 2 * i), uint64(i), keccak256(abi.encode(i)));
        }
    }

    function _agree(address from, address key) private view {
        IChannels.Channel memory channel = channels.channelOf(from, worker, key);
        vm.assertLe(channel.claimed, channel.deposit);
        vm.assertEq(channel.epoch, 0);
        vm.assertEq(channel.closingAt, 0);
    }

    function _digest(PlainBatch.Voucher memory one) private view returns (bytes32) {
        bytes32 hash = keccak256(
            abi.encode(
                keccak256(
                    "Voucher(address payer,address worker,uint64 epoch,uint128 total,uint64 count,bytes32 receiptsRoot)"
                ),
                one.payer,
                worker,
                one.epoch,
                one.total,
                one.count,
                one.receiptsRoot
            )
        );
        return keccak256(abi.encodePacked(hex"1901", channels.domainSeparator(), hash));
    }

    function _pack(PlainBatch.Voucher[] memory batch) private pure returns (bytes memory packed) {
        for (uint256 i; i < batch.length; ++i) packed = bytes.concat(packed, pack(batch[i]));
    }

    function _refused(address caller, bytes memory packed, bytes memory reason) private {
        vm.prank(caller);
        vm.expectRevert(reason);
        channels.claim(worker, packed);
    }
}
