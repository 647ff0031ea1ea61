// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {MessageHashUtils} from "@openzeppelin/contracts/utils/cryptography/MessageHashUtils.sol";

import {IChannels} from "../../interfaces/IChannels.sol";
import {IStakeRegistry} from "../../interfaces/IStakeRegistry.sol";
import {SignedObjects} from "../../libraries/SignedObjects.sol";
import {Test} from "./Test.sol";

/// @title Three workers, three payers, a slasher and time, doing whatever the invariant runner draws
/// @notice Every function does something allowed or nothing at all, so that any revert is a finding. It keeps books of its
/// own ("ghosts"), from what was asked for and what was returned, never from the contracts' state.
abstract contract Handler is Test {
    uint256 private constant ACTORS = 3;
    uint256 private constant HISTORY = 8;

    IChannels private immutable CHANNELS;
    IStakeRegistry private immutable STAKES;
    IERC20 private immutable TOKEN;
    address private immutable SLASHER;

    address[] public workers;
    address[] public payers;
    address[] public sessions;
    uint256[] private _secrets;

    // Ghosts, in base units.
    uint256 public funded;
    uint256 public refunded;
    uint256 public claimed;
    uint256 public released;
    uint256 public forfeited;
    uint256 public earned;
    uint256 public fees;
    uint256 public staked;
    uint256 public unstaked;
    uint256 public slashed;
    mapping(address worker => uint256) public claimedBy;
    /// @notice Highest total that each channel was paid in its epoch: what vouchers ever brought.
    mapping(bytes32 channel => uint256) public paidInEpoch;
    /// @notice What each channel got in its epoch.
    mapping(bytes32 channel => uint256) public fundedInEpoch;
    mapping(bytes32 channel => uint256) public highestClaimed;
    /// @notice The latest moment from which nothing may reach a worker's stake any more.
    mapping(address worker => uint256) public reachableUntil;
    uint256 public calls;

    uint64[] private _claims;
    address[] private _claimants;
    bytes[] private _oldVouchers;
    address[] private _oldWorkers;

    constructor(IChannels channels, address slasher) {
        (CHANNELS, STAKES, TOKEN, SLASHER) = (channels, channels.stakeRegistry(), channels.token(), slasher);
        for (uint256 i; i < ACTORS; ++i) {
            bytes32 n = bytes32(i);
            workers.push(makeAddr(string.concat("worker ", vm.toString(n))));
            payers.push(makeAddr(string.concat("payer ", vm.toString(n))));
            (address session, uint256 secret) = makeAccount(string.concat("session ", vm.toString(n)));
            sessions.push(session);
            _secrets.push(secret);
            _approve(payers[i]);
            _approve(workers[i]);
            vm.prank(workers[i]);
            STAKES.register(IStakeRegistry.Role.Worker, makeAddr(string.concat("hot ", vm.toString(n))));
        }
    }

    function pass(uint256 time) external {
        vm.warp(vm.getBlockTimestamp() + bound(time, 1, 3 days));
        vm.roll(vm.getBlockNumber() + 1);
        ++calls;
    }

    function fund(uint256 seed, uint96 amount) external {
        (address payer, address worker, address session, ) = _channel(seed);
        if (CHANNELS.channelOf(payer, worker, session).closingAt != 0) return;
        amount = uint96(bound(amount, 1, 1_000e18));
        vm.prank(payer);
        if (seed & 1 == 0) {
            CHANNELS.fundChannel(session, worker, amount);
        } else {
            IChannels.Funding[] memory fundings = new IChannels.Funding[](1);
            fundings[0] = IChannels.Funding(worker, amount);
            CHANNELS.fund(session, fundings);
        }
        funded += amount;
        fundedInEpoch[_key(payer, worker, session)] += amount;
        ++calls;
    }

    function requestClose(uint256 seed) external {
        (address payer, address worker, address session, ) = _channel(seed);
        IChannels.Channel memory channel = CHANNELS.channelOf(payer, worker, session);
        if (channel.deposit == 0 || channel.closingAt != 0) return;
        vm.prank(payer);
        CHANNELS.requestClose(session, _only(worker));
        ++calls;
    }

    /// @notice Takes the payer out, if its delay is over: that must always work, and bring all that was not claimed.
    function finishClose(uint256 seed) external {
        (address payer, address worker, address session, ) = _channel(seed);
        uint40 closingAt = CHANNELS.channelOf(payer, worker, session).closingAt;
        if (closingAt == 0 || vm.getBlockTimestamp() < closingAt) return;
        bytes32 key = _key(payer, worker, session);
        uint256 before = TOKEN.balanceOf(payer);
        vm.prank(payer);
        uint256 refund = CHANNELS.finishClose(session, _only(worker));
        vm.assertEq(refund, fundedInEpoch[key] - paidInEpoch[key], "refund");
        vm.assertEq(TOKEN.balanceOf(payer), before + refund);
        refunded += refund;
        fundedInEpoch[key] = 0;
        paidInEpoch[key] = 0;
        ++calls;
    }

    /// @notice A batch of one new voucher and of old ones, of any epoch, in any order.
    function claim(uint256 seed, uint96 total, uint8 olds) external {
        (address payer, address worker, address session, uint256 secret) = _channel(seed);
        bytes32 key = _key(payer, worker, session);
        uint24 epoch = CHANNELS.channelOf(payer, worker, session).epoch;
        total = uint96(bound(total, 0, 1_200e18));
        bytes memory fresh = _voucher(secret, payer, worker, epoch, total);
        bytes memory batch;
        for (uint256 i; i < olds % 4 && i < _oldVouchers.length; ++i) {
            if (_oldWorkers[i] == worker) batch = bytes.concat(batch, _oldVouchers[i]);
        }
        batch = seed & 8 == 0 ? bytes.concat(batch, fresh) : bytes.concat(fresh, batch);
        vm.prank(worker);
        try CHANNELS.claim(worker, batch) returns (uint64 index, uint256 amount) {
            uint256 reached = total < fundedInEpoch[key] ? total : fundedInEpoch[key];
            uint256 moved = reached > paidInEpoch[key] ? reached - paidInEpoch[key] : 0;
            // Old vouchers may add what their channels have got since; the new one never brings more than its step.
            vm.assertGe(amount, moved, "voucher brought too little");
            _count(worker, amount);
            _claims.push(index);
            _claimants.push(worker);
            reachableUntil[worker] = vm.getBlockTimestamp() + STAKES.unbondingPeriod();
        } catch (bytes memory reason) {
            bytes4 selector = bytes4(reason);
            vm.assertTrue(selector == IChannels.NothingToClaim.selector || selector == IChannels.RingFull.selector);
        }
        _remember(worker, fresh);
        _refresh(worker);
        ++calls;
    }

    function release(uint256 pick) external {
        (address worker, uint64 index, uint256 amount) = _pending(pick);
        if (amount == 0 || vm.getBlockTimestamp() < CHANNELS.releasableAt(worker, index)) return;
        (, , uint256 before, ) = CHANNELS.accountOf(worker);
        uint256 feesBefore = CHANNELS.fees();
        vm.assertEq(CHANNELS.release(worker, index), amount, "released");
        (, , uint256 earnings, ) = CHANNELS.accountOf(worker);
        released += amount;
        fees += CHANNELS.fees() - feesBefore;
        earned += earnings - before;
        vm.assertEq(earnings - before + CHANNELS.fees() - feesBefore, amount, "split");
        ++calls;
    }

    /// @notice What stays in the ring is bound to go in the end, or to be forfeited.
    function withdrawEarnings(uint256 pick) external {
        address worker = workers[pick % ACTORS];
        (, , uint256 earnings, ) = CHANNELS.accountOf(worker);
        if (earnings == 0) return;
        vm.prank(worker);
        earned -= CHANNELS.withdrawEarnings(worker);
        ++calls;
    }

    function withdrawFees() external {
        if (CHANNELS.fees() == 0) return;
        fees -= CHANNELS.withdrawFees();
        ++calls;
    }

    function freeze(uint256 pick, bool frozen) external {
        (address worker, uint64 index, uint256 amount) = _pending(pick);
        if (amount == 0 && frozen) return;
        vm.prank(SLASHER);
        CHANNELS.setFrozen(worker, index, frozen);
        ++calls;
    }

    function forfeit(uint256 pick, uint96 amount) external {
        (address worker, uint64 index, uint256 pending) = _pending(pick);
        vm.prank(SLASHER);
        uint256 taken = CHANNELS.forfeit(worker, index, amount, payers[pick % ACTORS]);
        vm.assertEq(taken, amount < pending ? amount : pending);
        forfeited += taken;
        ++calls;
    }

    function stake(uint256 pick, uint96 amount) external {
        address worker = workers[pick % ACTORS];
        if (STAKES.participantOf(worker).jailed) return;
        amount = uint96(bound(amount, 1, 10_000e18));
        vm.prank(worker);
        STAKES.stake(amount);
        staked += amount;
        ++calls;
    }

    function requestUnbond(uint256 pick, uint96 amount) external {
        address worker = workers[pick % ACTORS];
        uint96 locked = STAKES.participantOf(worker).stake;
        if (locked == 0) return;
        vm.prank(worker);
        STAKES.requestUnbond(bound(amount, 1, locked));
        uint256 until = vm.getBlockTimestamp() + STAKES.unbondingPeriod();
        if (until > reachableUntil[worker]) reachableUntil[worker] = until;
        ++calls;
    }

    function cancelUnbond(uint256 pick) external {
        address worker = workers[pick % ACTORS];
        if (pick % 5 != 0 || STAKES.participantOf(worker).unbonding == 0) return;
        vm.prank(worker);
        STAKES.cancelUnbond();
        ++calls;
    }

    function withdrawStake(uint256 pick) external {
        address worker = workers[pick % ACTORS];
        if (vm.getBlockTimestamp() < STAKES.withdrawableAt(worker)) return;
        vm.assertGe(vm.getBlockTimestamp(), reachableUntil[worker], "stake left while it could be reached");
        vm.prank(worker);
        unstaked += STAKES.withdrawStake(worker);
        ++calls;
    }

    function slash(uint256 pick, uint96 amount) external {
        address worker = workers[pick % ACTORS];
        uint256 reachable = STAKES.slashable(worker);
        uint256 wanted = bound(amount, 0, 12_000e18);
        vm.prank(SLASHER);
        uint256 taken = STAKES.slash(worker, wanted, payers[pick % ACTORS]);
        vm.assertEq(taken, wanted < reachable ? wanted : reachable);
        slashed += taken;
        ++calls;
    }

    function jail(uint256 pick) external {
        if (pick % 16 != 0) return; // for ever, so rarely
        vm.prank(SLASHER);
        STAKES.jail(workers[(pick / 16) % ACTORS]);
        ++calls;
    }

    /// @notice Sums over all channels there can be: what they hold and what was claimed of it.
    function channelSums() external view returns (uint256 deposits, uint256 claims) {
        for (uint256 i; i < ACTORS ** 3; ++i) {
            (address payer, address worker, address session, ) = _channel(i << 4);
            IChannels.Channel memory channel = CHANNELS.channelOf(payer, worker, session);
            deposits += channel.deposit;
            claims += channel.claimed;
            vm.assertLe(channel.claimed, channel.deposit, "claimed above deposit");
            vm.assertEq(channel.deposit, fundedInEpoch[_key(payer, worker, session)], "deposit");
            vm.assertEq(channel.claimed, paidInEpoch[_key(payer, worker, session)], "claimed");
        }
    }

    function _count(address worker, uint256 amount) private {
        claimed += amount;
        claimedBy[worker] += amount;
    }

    /// @dev What each of the worker's channels was paid, which may only grow within an epoch.
    function _refresh(address worker) private {
        for (uint256 i; i < ACTORS ** 3; ++i) {
            (address payer, address to, address session, ) = _channel(i << 4);
            if (to != worker) continue;
            bytes32 key = _key(payer, to, session);
            uint256 paid = CHANNELS.channelOf(payer, to, session).claimed;
            vm.assertGe(paid, paidInEpoch[key], "claimed went back");
            paidInEpoch[key] = paid;
        }
    }

    function _remember(address worker, bytes memory voucher) private {
        if (_oldVouchers.length < HISTORY) {
            _oldVouchers.push(voucher);
            _oldWorkers.push(worker);
        } else {
            _oldVouchers[calls % HISTORY] = voucher;
            _oldWorkers[calls % HISTORY] = worker;
        }
    }

    function _pending(uint256 pick) private view returns (address worker, uint64 index, uint256 amount) {
        if (_claims.length == 0) return (workers[0], 0, 0);
        pick %= _claims.length;
        (worker, index) = (_claimants[pick], _claims[pick]);
        try CHANNELS.claimOf(worker, index) returns (IChannels.Claim memory found) {
            amount = found.amount;
        } catch {}
    }

    /// @dev The lowest four bits of the seed are free for other choices.
    function _channel(uint256 seed) private view returns (address, address, address, uint256) {
        seed >>= 4;
        uint256 s = (seed / 9) % ACTORS;
        return (payers[seed % ACTORS], workers[(seed / 3) % ACTORS], sessions[s], _secrets[s]);
    }

    function _voucher(
        uint256 secret,
        address payer,
        address worker,
        uint24 epoch,
        uint96 total
    ) private view returns (bytes memory) {
        bytes32 hash = SignedObjects.hash(SignedObjects.Voucher(payer, worker, epoch, total, 1, bytes32(0)));
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(
            secret,
            MessageHashUtils.toTypedDataHash(CHANNELS.domainSeparator(), hash)
        );
        bytes32 vs = bytes32(uint256(s) | (uint256(v - 27) << 255));
        return abi.encodePacked(payer, total, bytes32(0), r, vs, epoch, uint64(1));
    }

    function _approve(address who) private {
        vm.startPrank(who);
        TOKEN.approve(address(CHANNELS), type(uint256).max);
        TOKEN.approve(address(STAKES), type(uint256).max);
        vm.stopPrank();
    }

    function _key(address payer, address worker, address session) private pure returns (bytes32) {
        return keccak256(abi.encode(payer, worker, session));
    }

    function _only(address one) private pure returns (address[] memory list) {
        list = new address[](1);
        list[0] = one;
    }
}
