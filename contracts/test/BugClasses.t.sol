// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Channels} from "../Channels.sol";
import {IChannels} from "../interfaces/IChannels.sol";
import {IStakeRegistry} from "../interfaces/IStakeRegistry.sol";
import {StakeRegistry} from "../StakeRegistry.sol";
import {Fixture} from "./support/Fixture.sol";
import {PlainBatch} from "./support/PlainBatch.sol";
import {Reenterer} from "./support/Reenterer.sol";
import {HookToken} from "./support/Tokens.sol";

/// @notice What went wrong elsewhere, tried here. The tests of each contract have more of the same kinds.
contract BugClassesTest is Fixture {
    bytes private constant NOTHING = abi.encodePacked(IChannels.NothingToClaim.selector);

    function setUp() public override {
        super.setUp();
        fund(payer, worker, session, DEPOSIT);
    }

    // signatures that bind too little

    /// @dev Each byte of a voucher matters, and so do the worker, the contract and the chain.
    function test_underboundSignature_everyByteOfAVoucherIsBound() public {
        bytes memory good = voucher(0, 20);
        for (uint256 i; i < good.length; ++i) {
            for (uint256 bit; bit < 8; bit += 7) {
                bytes memory altered = bytes.concat(good);
                altered[i] ^= bytes1(uint8(1 << bit));
                _refused(worker, altered);
            }
        }
        vm.prank(worker);
        (, uint256 amount) = channels.claim(worker, good);
        vm.assertEq(amount, 20);
    }

    function test_replay_overWorkers() public {
        enter(stranger, makeAddr("its hot key"), STAKE);
        fund(payer, stranger, session, DEPOSIT);
        bytes memory one = voucher(0, 20);
        vm.prank(stranger);
        vm.expectRevert(NOTHING);
        channels.claim(stranger, one);
    }

    /// @dev One session key of two payers: the other's voucher brings nothing from this one's deposit.
    function test_replay_overPayers() public {
        bytes memory one = pack(sign(sessionSecret, otherPayer, worker, 0, 20, 1, ROOT));
        _refused(worker, one);
        PlainBatch.Voucher memory moved = sign(sessionSecret, otherPayer, worker, 0, 20, 1, ROOT);
        moved.payer = payer;
        _refused(worker, pack(moved));
        fund(otherPayer, worker, session, 5);
        vm.prank(worker);
        channels.claim(worker, one);
        vm.assertEq(channels.channelOf(payer, worker, session).claimed, 0);
        vm.assertEq(channels.channelOf(otherPayer, worker, session).claimed, 5);
    }

    function test_replay_overRedeployments() public {
        bytes memory old = voucher(0, 20);
        deploy(token);
        vm.prank(payer);
        token.approve(address(channels), type(uint256).max);
        fund(payer, worker, session, DEPOSIT);
        _refused(worker, old);
        vm.assertEq(claim(0, 20), 0);
    }

    function test_replay_overChains() public {
        bytes memory here = voucher(0, 20);
        vm.chainId(1);
        bytes memory there = voucher(0, 20);
        _refused(worker, here);
        vm.prank(worker);
        channels.claim(worker, there);
    }

    /// @dev Closed and opened again, twice: a voucher counts in its own epoch only, even one signed too early.
    function test_reopenedChannel_vouchersCountInTheirEpochOnly() public {
        bytes[3] memory vouchers = [voucher(0, 20), voucher(1, 21), voucher(2, 22)];
        for (uint256 epoch; epoch < 3; ++epoch) {
            for (uint256 i; i < 3; ++i) if (i != epoch) _refused(worker, vouchers[i]);
            vm.prank(worker);
            (, uint256 amount) = channels.claim(worker, vouchers[epoch]);
            vm.assertEq(amount, 20 + epoch);
            vm.startPrank(payer);
            channels.requestClose(session, only(worker));
            vm.warp(vm.getBlockTimestamp() + WITHDRAWAL_DELAY);
            channels.finishClose(session, only(worker));
            vm.stopPrank();
            vm.assertEq(channels.channelOf(payer, worker, session).epoch, epoch + 1);
            _refused(worker, vouchers[epoch]);
            fund(payer, worker, session, DEPOSIT);
        }
    }

    /// @dev The other form of a signature, (r, order - s) with the other v, does not fit into the compact form as good.
    function test_signatureMalleability_otherFormBringsNothing() public {
        uint256 order = 0xfffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141;
        PlainBatch.Voucher memory one = sign(sessionSecret, payer, worker, 0, 20, 1, ROOT);
        uint256 s = order - (uint256(one.vs) & (type(uint256).max >> 1));
        uint256 v = 1 - (uint256(one.vs) >> 255);
        one.vs = bytes32(s | (v << 255));
        _refused(worker, pack(one));
        // And whatever the claim, a voucher pays once: `claimed` is a height, not a list of signatures.
        claim(0, 20);
        _refused(worker, voucher(0, 20));
    }

    // races

    /// @dev In the very second in which the payer may leave, whoever comes first wins, and no unit is paid twice.
    function test_withdrawVersusClaim_theFirstOfTheSecondWins() public {
        bytes memory best = voucher(0, 30);
        vm.prank(payer);
        channels.requestClose(session, only(worker));
        vm.warp(START + WITHDRAWAL_DELAY);
        uint256 state = vm.snapshotState();
        vm.prank(worker);
        channels.claim(worker, best);
        vm.prank(payer);
        vm.assertEq(channels.finishClose(session, only(worker)), DEPOSIT - 30);
        vm.assertEq(token.balanceOf(address(channels)), 30);

        vm.revertToState(state);
        vm.prank(payer);
        vm.assertEq(channels.finishClose(session, only(worker)), DEPOSIT);
        _refused(worker, best);
        vm.assertEq(token.balanceOf(address(channels)), 0);
    }

    /// @dev A payer in a hurry gets nothing before its time, by no call and no order of calls.
    function test_payerDrain_nothingLeavesBeforeTheDelay() public {
        uint256 before = token.balanceOf(payer);
        vm.startPrank(payer);
        channels.requestClose(session, only(worker));
        vm.warp(START + WITHDRAWAL_DELAY - 1);
        vm.expectRevert(abi.encodeWithSelector(IChannels.TooEarly.selector, START + WITHDRAWAL_DELAY));
        channels.finishClose(session, only(worker));
        vm.expectRevert(abi.encodeWithSelector(IChannels.ChannelClosing.selector, worker, session));
        channels.requestClose(session, only(worker));
        vm.expectRevert(abi.encodeWithSelector(IChannels.ChannelClosing.selector, worker, session));
        channels.fundChannel(session, worker, 1);
        vm.expectRevert(IChannels.NothingToWithdraw.selector);
        channels.withdrawEarnings(payer);
        // As a worker of its own it has channels of its own only.
        bytes memory own = pack(sign(sessionSecret, payer, payer, 0, DEPOSIT, 1, ROOT));
        vm.expectRevert(NOTHING);
        channels.claim(payer, own);
        vm.expectRevert(abi.encodeWithSelector(IChannels.NotTheWorker.selector, payer));
        channels.claim(worker, own);
        vm.stopPrank();
        vm.assertEq(token.balanceOf(payer), before);
        vm.assertEq(claim(0, DEPOSIT), 0);
    }

    /// @dev Payer, worker and session key may be one account: it moves its own money, and pays the fee for it.
    function test_oneAccountInAllRoles_gainsNothing() public {
        uint256 before = token.balanceOf(session) + token.balanceOf(address(channels));
        endow(session, 100);
        vm.startPrank(session);
        channels.fundChannel(session, session, 100);
        channels.claim(session, pack(sign(sessionSecret, session, session, 0, 100, 1, ROOT)));
        vm.warp(START + UNBONDING);
        channels.release(session, 0);
        vm.assertEq(channels.withdrawEarnings(session), 95);
        vm.stopPrank();
        vm.assertEq(token.balanceOf(session), 95);
        vm.assertEq(token.balanceOf(session) + token.balanceOf(address(channels)), before + 100);
    }

    // slashing

    /// @dev A worker that sees a slash coming: claim, unbond and leave inside the window. All of it stays within reach.
    function test_slashEvasion_byWithdrawingInsideTheWindow() public {
        vm.prank(worker);
        stakes.requestUnbond(STAKE);
        vm.warp(START + UNBONDING - 1);
        claim(0, 20);
        for (uint256 wait; wait <= UNBONDING; wait += UNBONDING / 2) {
            vm.warp(START + UNBONDING - 1 + wait);
            if (wait == UNBONDING) break;
            vm.prank(worker);
            vm.expectRevert(abi.encodeWithSelector(IStakeRegistry.StillReachable.selector, START + 2 * UNBONDING - 1));
            stakes.withdrawStake(worker);
        }
        uint256 state = vm.snapshotState();
        vm.prank(slasher);
        vm.assertEq(stakes.slash(worker, STAKE, treasury), STAKE);
        vm.revertToState(state);
        vm.prank(worker);
        vm.assertEq(stakes.withdrawStake(worker), STAKE);
    }

    /// @dev Matured, called back, counted, and asked out again: the time begins anew.
    function test_slashEvasion_byCancellingAMaturedUnbond() public {
        vm.prank(worker);
        stakes.requestUnbond(STAKE);
        claim(0, 20);
        vm.warp(START + UNBONDING);
        vm.startPrank(worker);
        stakes.cancelUnbond();
        stakes.requestUnbond(STAKE);
        vm.expectRevert(abi.encodeWithSelector(IStakeRegistry.StillReachable.selector, START + 2 * UNBONDING));
        stakes.withdrawStake(worker);
        vm.stopPrank();
    }

    /// @dev The recipient is called by the token in the middle of a slash, and does what it can.
    function test_slash_survivesARecipientThatCallsBack() public {
        HookToken hooked = new HookToken();
        hooked.mint(address(this), 10_000);
        deploy(hooked);
        Reenterer thief = new Reenterer();
        hooked.transfer(address(thief), 100);
        thief.run(address(hooked), abi.encodeCall(hooked.approve, (address(stakes), 100)));
        thief.run(address(stakes), abi.encodeCall(stakes.register, (IStakeRegistry.Role.Worker, hot)));
        thief.run(address(stakes), abi.encodeCall(stakes.stake, (100)));
        thief.run(address(stakes), abi.encodeCall(stakes.requestUnbond, (60)));
        vm.warp(START + UNBONDING);
        thief.run(address(hooked), abi.encodeCall(hooked.listen, (true)));
        // It runs off with what is unbonding, as the slash of the rest pays it: that is already out of the books.
        thief.arm(address(stakes), abi.encodeCall(stakes.withdrawStake, (stranger)));
        vm.prank(slasher);
        vm.assertEq(stakes.slash(address(thief), 90, address(thief)), 90);
        vm.assertEq(hooked.balanceOf(stranger), 10);
        vm.assertEq(hooked.balanceOf(address(thief)), 90);
        vm.assertEq(hooked.balanceOf(address(stakes)), 0);
        // One that refuses by reverting is slashed all the same.
        enter(worker, makeAddr("another hot key"), 50);
        thief.arm(address(stakes), abi.encodeCall(stakes.withdrawStake, (stranger)));
        vm.prank(slasher);
        vm.assertEq(stakes.slash(worker, 20, address(thief)), 20);
        vm.assertEq(stakes.slashable(worker), 30);
        vm.assertEq(hooked.balanceOf(address(stakes)), 50);
    }

    function test_slasherZero_nobodyHasItsPowers() public {
        slasherless();
        address[3] memory callers = [slasher, worker, treasury];
        for (uint256 i; i < 3; ++i) {
            vm.startPrank(callers[i]);
            vm.expectRevert(abi.encodeWithSelector(IStakeRegistry.NotSlasher.selector, callers[i]));
            stakes.slash(worker, 1, callers[i]);
            vm.expectRevert(abi.encodeWithSelector(IStakeRegistry.NotSlasher.selector, callers[i]));
            stakes.jail(worker);
            vm.expectRevert(abi.encodeWithSelector(IChannels.NotSlasher.selector, callers[i]));
            channels.freeze(worker, 0, 1);
            vm.expectRevert(abi.encodeWithSelector(IChannels.NotSlasher.selector, callers[i]));
            channels.unfreeze(worker, 0, 1);
            vm.expectRevert(abi.encodeWithSelector(IChannels.NotSlasher.selector, callers[i]));
            channels.forfeit(worker, 0, 1, callers[i]);
            vm.stopPrank();
        }
    }

    // deadlines

    /// @dev One second before, at, and after each time that the contracts keep.
    function test_deadlines_holdToTheSecond() public {
        claim(0, 20);
        vm.startPrank(worker);
        stakes.requestUnbond(1);
        stakes.rotateHotKey(stranger);
        vm.stopPrank();
        vm.prank(payer);
        channels.requestClose(session, only(worker));
        int8[3] memory offsets = [-1, int8(0), 1];
        for (uint256 i; i < 3; ++i) {
            bool due = offsets[i] >= 0;
            _at(START + HOT_KEY_DELAY, offsets[i]);
            vm.assertEq(stakes.hotKeyOf(worker), due ? stranger : hot);
            vm.assertEq(stakes.participantOf(worker).nextHotKeyAt, due ? 0 : START + HOT_KEY_DELAY);

            _at(START + WITHDRAWAL_DELAY, offsets[i]);
            uint256 state = vm.snapshotState();
            vm.prank(payer);
            if (!due) vm.expectRevert(abi.encodeWithSelector(IChannels.TooEarly.selector, START + WITHDRAWAL_DELAY));
            channels.finishClose(session, only(worker));
            vm.revertToState(state);

            // With a unit of its stake on the way out, the claim waits as long as that does.
            _at(START + UNBONDING, offsets[i]);
            state = vm.snapshotState();
            vm.prank(worker);
            if (!due)
                vm.expectRevert(abi.encodeWithSelector(IStakeRegistry.StillReachable.selector, START + UNBONDING));
            stakes.withdrawStake(worker);
            if (!due) vm.expectRevert(abi.encodeWithSelector(IChannels.NotReleasable.selector, START + UNBONDING));
            channels.release(worker, 0);
            vm.revertToState(state);
        }
        vm.warp(START + 1);
        vm.prank(worker);
        stakes.cancelUnbond();
        for (uint256 i; i < 3; ++i) {
            _at(START + WINDOW, offsets[i]);
            uint256 state = vm.snapshotState();
            if (offsets[i] < 0) {
                vm.expectRevert(abi.encodeWithSelector(IChannels.NotReleasable.selector, START + WINDOW));
            }
            channels.release(worker, 0);
            vm.revertToState(state);
        }
    }

    // loops, leaves and packing

    /// @dev The worst ring, 63 slots frozen for good, and the largest batch fit well into a block.
    function test_unboundedLoops_theWorstCallsAreBounded() public {
        for (uint96 i; i < 64; ++i) claim(0, i + 1);
        vm.startPrank(slasher);
        for (uint64 i; i < 63; ++i) channels.freeze(worker, i, 1);
        vm.stopPrank();
        vm.warp(START + WINDOW);
        channels.release(worker, 63);
        bytes memory one = voucher(0, 100);
        uint256 before = gasleft();
        vm.prank(worker);
        (uint64 index, ) = channels.claim(worker, one);
        vm.assertLt(before - gasleft(), 400_000);
        vm.assertEq(index, 127);
        _refusedWith(worker, voucher(0, 200), abi.encodeWithSelector(IChannels.RingFull.selector, 128));
    }

    /// @dev A group of entries, and the whole of groups, are hashed under different tags: neither poses as the other.
    function test_leafNodeConfusion_aGroupIsNoWhole() public {
        PlainBatch plain = new PlainBatch(channels);
        bytes[] memory entries = new bytes[](9);
        for (uint256 i; i < 9; ++i) entries[i] = abi.encodePacked(bytes20(keccak256(abi.encode(i))), new bytes(56));
        bytes32 whole = plain.commit(entries, 9);
        bytes memory first = hex"00";
        for (uint256 i; i < 8; ++i) first = bytes.concat(first, entries[i]);
        bytes32 second = keccak256(bytes.concat(hex"00", entries[8]));
        bytes memory nodes = abi.encodePacked(keccak256(first), second);
        vm.assertEq(whole, keccak256(bytes.concat(hex"01", nodes)));
        vm.assertNotEq(whole, keccak256(bytes.concat(hex"00", nodes)));
        vm.assertNotEq(plain.commit(entries, 1), keccak256(bytes.concat(hex"00", entries[0])));
    }

    /// @dev Fields are packed end to end, but each has its length: bytes that move between them make another commitment.
    function test_packedEncoding_fieldsCannotFlowIntoEachOther() public {
        fund(payer, worker, stranger, 1);
        uint256 state = vm.snapshotState();
        bytes32[2] memory commitments;
        bytes32[2] memory roots = [bytes32(uint256(1) << 248), bytes32(uint256(1))];
        for (uint256 i; i < 2; ++i) {
            bytes memory one = pack(sign(sessionSecret, payer, worker, 0, 20, 1, roots[i]));
            vm.prank(worker);
            channels.claim(worker, one);
            commitments[i] = channels.claimOf(worker, 0).commitment;
            vm.revertToState(state);
        }
        vm.assertNotEq(commitments[0], commitments[1]);
        // The id of a channel is over three whole words.
        vm.assertNotEq(
            keccak256(abi.encode(payer, worker, session)),
            keccak256(abi.encodePacked(payer, worker, session))
        );
        vm.assertEq(channels.channelOf(payer, worker, session).deposit, DEPOSIT);
        vm.assertEq(channels.channelOf(worker, payer, session).deposit, 0);
        vm.assertEq(channels.channelOf(payer, session, worker).deposit, 0);
    }

    /// @dev A fee is rounded down, so many small releases pay no more than one large, and never more than their share.
    function test_feeRounding_isAlwaysInFavourOfTheWorker() public {
        uint96[6] memory totals = [uint96(1), 20, 39, 59, 60, 10_060]; // steps of 1, 19, 19, 20, 1, 10,000
        uint256[6] memory fees = [uint256(0), 0, 0, 1, 0, 500];
        for (uint256 i; i < 6; ++i) claim(0, totals[i]);
        vm.warp(START + WINDOW);
        uint256 sum;
        for (uint64 i; i < 6; ++i) {
            channels.release(worker, i);
            sum += fees[i];
            vm.assertEq(channels.fees(), sum);
        }
        (, , uint256 earnings, ) = channels.accountOf(worker);
        vm.assertEq(earnings, 10_060 - sum);
    }

    /// @dev The last epoch cannot be left behind, which a channel reaches after two hundred centuries of closing.
    function test_epochs_doNotWrapAround() public {
        bytes32 slot = keccak256(abi.encode(payer, worker, session));
        uint256 state = uint256(vm.load(address(channels), slot)) | (uint256(type(uint24).max) << 96);
        vm.store(address(channels), slot, bytes32(state));
        vm.assertEq(channels.channelOf(payer, worker, session).epoch, type(uint24).max);
        vm.startPrank(payer);
        channels.requestClose(session, only(worker));
        vm.warp(START + WITHDRAWAL_DELAY);
        vm.expectRevert(abi.encodeWithSignature("Panic(uint256)", 0x11));
        channels.finishClose(session, only(worker));
        vm.stopPrank();
        claim(type(uint24).max, 7);
    }

    function slasherless() private {
        IStakeRegistry.Parameters memory parameters = stakeParameters(
            vm.computeCreateAddress(address(this), vm.getNonce(address(this)) + 1)
        );
        parameters.slasher = address(0);
        stakes = new StakeRegistry(parameters);
        channels = new Channels(channelParameters());
        vm.assertEq(channels.slasher(), address(0));
    }

    function _at(uint256 time, int8 offset) private {
        vm.warp(uint256(int256(time) + offset));
    }

    function _refused(address caller, bytes memory packed) private {
        _refusedWith(caller, packed, NOTHING);
    }

    function _refusedWith(address caller, bytes memory packed, bytes memory reason) private {
        vm.prank(caller);
        vm.expectRevert(reason);
        channels.claim(worker, packed);
    }
}
