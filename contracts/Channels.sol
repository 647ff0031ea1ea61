// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";
import {EIP712} from "@openzeppelin/contracts/utils/cryptography/EIP712.sol";
import {Math} from "@openzeppelin/contracts/utils/math/Math.sol";

import {IChannels} from "./interfaces/IChannels.sol";
import {IStakeRegistry} from "./interfaces/IStakeRegistry.sol";
import {ChannelState, ChannelStates} from "./libraries/ChannelState.sol";
import {ClaimRing} from "./libraries/ClaimRing.sol";
import {ExactTransfer} from "./libraries/ExactTransfer.sol";
import {ReleaseBudget} from "./libraries/ReleaseBudget.sol";
import {VoucherBatch} from "./libraries/VoucherBatch.sol";

/// @title Payment channels, see IChannels
/// @dev No reentrancy guard: every function has written its state before it calls the token, and money that comes in must
/// change the balance by exactly its amount, so a call from inside a transfer finds nothing half done.
contract Channels is IChannels, EIP712 {
    using SafeERC20 for IERC20;
    using ClaimRing for ClaimRing.Ring;
    using ClaimRing for ClaimRing.Slot;

    uint256 private constant BPS = 10_000;
    uint256 private constant MAX_FEE_BPS = 2_000;
    uint256 private constant MAX_CHALLENGE_WINDOW = 30 days;
    uint256 private constant MAX_WITHDRAWAL_DELAY = 90 days;
    uint256 private constant MAX_STAKE_MULTIPLE = 1_000;
    uint256 private constant MAX_BATCH = 256; // fits a block, and keeps a commitment's proofs at 8 hashes

    /// @inheritdoc IChannels
    IERC20 public immutable token;
    /// @inheritdoc IChannels
    IStakeRegistry public immutable stakeRegistry;
    /// @inheritdoc IChannels
    address public immutable slasher;
    /// @inheritdoc IChannels
    address public immutable feeRecipient;
    /// @inheritdoc IChannels
    uint16 public immutable feeBps;
    /// @inheritdoc IChannels
    uint40 public immutable challengeWindow;
    /// @inheritdoc IChannels
    uint40 public immutable withdrawalDelay;
    /// @inheritdoc IChannels
    uint16 public immutable stakeMultiple;
    uint40 private immutable _unbondingPeriod;

    struct Account {
        ClaimRing.Ring ring;
        ReleaseBudget budget;
        uint256 earnings;
    }

    // Channels themselves are at the slots that ChannelStates.slotOf gives.
    mapping(address worker => Account) private _accounts;
    /// @inheritdoc IChannels
    uint256 public fees;

    modifier onlySlasher() {
        if (msg.sender != slasher) revert NotSlasher(msg.sender);
        _;
    }

    constructor(Parameters memory parameters) EIP712("eFedLLM", "1") {
        IStakeRegistry stakes = parameters.stakeRegistry;
        uint40 window = parameters.challengeWindow;
        if (address(stakes.channels()) != address(this)) revert ParameterOutOfRange("stakeRegistry", 0);
        if (parameters.feeBps > MAX_FEE_BPS) revert ParameterOutOfRange("feeBps", parameters.feeBps);
        if (window == 0 || window > MAX_CHALLENGE_WINDOW) revert ParameterOutOfRange("challengeWindow", window);
        if (parameters.withdrawalDelay <= window || parameters.withdrawalDelay > MAX_WITHDRAWAL_DELAY) {
            revert ParameterOutOfRange("withdrawalDelay", parameters.withdrawalDelay);
        }
        // A claim made just before the stake may go is still open to challenge for one window, and to its game for another.
        if (stakes.unbondingPeriod() <= 2 * uint256(window)) {
            revert ParameterOutOfRange("unbondingPeriod", stakes.unbondingPeriod());
        }
        if (parameters.stakeMultiple == 0 || parameters.stakeMultiple > MAX_STAKE_MULTIPLE) {
            revert ParameterOutOfRange("stakeMultiple", parameters.stakeMultiple);
        }
        token = stakes.token();
        stakeRegistry = stakes;
        slasher = stakes.slasher();
        feeRecipient = parameters.feeRecipient;
        feeBps = parameters.feeRecipient == address(0) ? 0 : parameters.feeBps;
        challengeWindow = window;
        withdrawalDelay = parameters.withdrawalDelay;
        stakeMultiple = parameters.stakeMultiple;
        _unbondingPeriod = stakes.unbondingPeriod();
    }

    /// @inheritdoc IChannels
    function fund(address sessionKey, Funding[] calldata channels) external {
        if (channels.length == 0) revert EmptyBatch();
        uint256 sum; // of as many uint96 as fit a block
        for (uint256 i; i < channels.length; ++i) {
            uint256 amount = channels[i].amount;
            _fund(sessionKey, channels[i].worker, amount);
            unchecked {
                sum += amount;
            }
        }
        ExactTransfer.pull(token, msg.sender, sum);
    }

    /// @inheritdoc IChannels
    function fundChannel(address sessionKey, address worker, uint256 amount) external {
        _fund(sessionKey, worker, amount);
        ExactTransfer.pull(token, msg.sender, amount);
    }

    /// @inheritdoc IChannels
    function requestClose(address sessionKey, address[] calldata workers) external {
        if (workers.length == 0) revert EmptyBatch();
        uint40 closingAt = uint40(block.timestamp) + withdrawalDelay;
        for (uint256 i; i < workers.length; ++i) {
            bytes32 slot = ChannelStates.slotOf(msg.sender, workers[i], sessionKey);
            ChannelState state = ChannelStates.load(slot);
            if (state.deposit() == 0) revert NoChannel(msg.sender, workers[i], sessionKey);
            if (state.isClosing()) revert ChannelClosing(workers[i], sessionKey);

            state.closing(closingAt).store(slot);
            emit CloseRequested(msg.sender, workers[i], sessionKey, state.epoch(), closingAt);
        }
    }

    /// @inheritdoc IChannels
    function finishClose(address sessionKey, address[] calldata workers) external returns (uint256 refund) {
        if (workers.length == 0) revert EmptyBatch();
        for (uint256 i; i < workers.length; ++i) {
            bytes32 slot = ChannelStates.slotOf(msg.sender, workers[i], sessionKey);
            ChannelState state = ChannelStates.load(slot);
            if (!state.isClosing()) revert NotClosing(workers[i], sessionKey);
            if (block.timestamp < state.closingAt()) revert TooEarly(state.closingAt());

            uint256 rest = state.deposit() - state.claimed();
            refund += rest;
            state.closed().store(slot);
            emit ChannelClosed(msg.sender, workers[i], sessionKey, state.epoch(), rest);
        }
        token.safeTransfer(msg.sender, refund);
    }

    /// @inheritdoc IChannels
    function claim(address worker, bytes calldata vouchers) external returns (uint64 claimIndex, uint256 amount) {
        if (msg.sender != worker && msg.sender != stakeRegistry.hotKeyOf(worker)) revert NotTheWorker(msg.sender);
        uint256 size = vouchers.length / VoucherBatch.VOUCHER_BYTES;
        if (vouchers.length % VoucherBatch.VOUCHER_BYTES != 0) revert MalformedBatch(vouchers.length);
        if (size == 0) revert EmptyBatch();
        if (size > MAX_BATCH) revert BatchTooLarge(size);

        uint256 end;
        (amount, end) = VoucherBatch.settle(_domainSeparatorV4(), worker, vouchers);
        if (amount == 0) revert NothingToClaim();
        if (amount > type(uint96).max) revert AmountTooLarge(amount);
        bytes32 commitment = VoucherBatch.commit(end);
        claimIndex = _accounts[worker].ring.push(uint96(amount), commitment);
        VoucherBatch.emitClaimed(worker, claimIndex, amount, commitment, end);
    }

    /// @inheritdoc IChannels
    function release(address worker, uint64 claimIndex) external returns (uint256 amount) {
        Account storage account = _accounts[worker];
        ClaimRing.Slot storage slot = _pendingClaim(worker, claimIndex);
        amount = slot.amount - slot.frozenOf();
        if (amount == 0) revert ClaimFrozen(worker, claimIndex);
        uint256 until = releasableAt(worker, claimIndex);
        if (block.timestamp < until) revert NotReleasable(until);

        uint256 fee = (amount * feeBps) / BPS;
        // Once the stake may be gone it backs nothing, and nothing needs to be counted against it.
        if (block.timestamp < uint256(slot.claimedAt) + _unbondingPeriod) {
            account.budget.add(block.timestamp / challengeWindow, uint96(amount));
        }
        account.ring.take(slot, uint96(amount));
        account.earnings += amount - fee;
        fees += fee;
        emit Released(worker, claimIndex, amount, fee);
    }

    /// @inheritdoc IChannels
    function withdrawEarnings(address to) external returns (uint256 amount) {
        if (to == address(0)) revert ZeroAddress();
        amount = _accounts[msg.sender].earnings;
        if (amount == 0) revert NothingToWithdraw();

        _accounts[msg.sender].earnings = 0;
        emit EarningsWithdrawn(msg.sender, to, amount);
        token.safeTransfer(to, amount);
    }

    /// @inheritdoc IChannels
    function withdrawFees() external returns (uint256 amount) {
        amount = fees;
        if (amount == 0) revert NothingToWithdraw();

        fees = 0;
        emit FeesWithdrawn(feeRecipient, amount);
        token.safeTransfer(feeRecipient, amount);
    }

    /// @inheritdoc IChannels
    function freeze(address worker, uint64 claimIndex, uint256 amount) external onlySlasher returns (uint256 frozen) {
        ClaimRing.Ring storage ring = _accounts[worker].ring;
        if (!ring.isPending(claimIndex)) return 0;

        frozen = ring.find(worker, claimIndex).freeze(amount);
        if (frozen != 0) emit Frozen(worker, claimIndex, frozen);
    }

    /// @inheritdoc IChannels
    function unfreeze(
        address worker,
        uint64 claimIndex,
        uint256 amount
    ) external onlySlasher returns (uint256 unfrozen) {
        ClaimRing.Ring storage ring = _accounts[worker].ring;
        if (!ring.isPending(claimIndex)) return 0;

        unfrozen = ring.find(worker, claimIndex).unfreeze(amount);
        if (unfrozen != 0) emit Unfrozen(worker, claimIndex, unfrozen);
    }

    /// @inheritdoc IChannels
    function forfeit(
        address worker,
        uint64 claimIndex,
        uint256 amount,
        address to
    ) external onlySlasher returns (uint256 taken) {
        ClaimRing.Ring storage ring = _accounts[worker].ring;
        if (!ring.isPending(claimIndex)) return 0;

        ClaimRing.Slot storage slot = ring.find(worker, claimIndex);
        taken = Math.min(amount, slot.amount - slot.frozenOf());
        if (taken == 0) return 0;
        ring.take(slot, uint96(taken));
        emit Forfeited(worker, claimIndex, taken, to);
        // A refusal must not undo the penalty.
        if (!token.trySafeTransfer(to, taken)) _accounts[to].earnings += taken;
    }

    /// @inheritdoc IChannels
    function channelOf(address payer, address worker, address sessionKey) external view returns (Channel memory) {
        return ChannelStates.load(ChannelStates.slotOf(payer, worker, sessionKey)).unpack();
    }

    /// @inheritdoc IChannels
    function claimOf(address worker, uint64 claimIndex) external view returns (Claim memory) {
        ClaimRing.Slot storage slot = _accounts[worker].ring.find(worker, claimIndex);
        return
            Claim({
                amount: slot.amount,
                claimedAt: slot.claimedAt,
                blockNumber: slot.blockNumber,
                frozen: uint96(slot.frozenOf()),
                commitment: slot.commitment
            });
    }

    /// @inheritdoc IChannels
    function accountOf(
        address worker
    ) external view returns (uint64 next, uint256 pending, uint256 earnings, uint40 lastClaimAt) {
        Account storage account = _accounts[worker];
        return (account.ring.next, account.ring.pending, account.earnings, account.ring.lastClaimAt);
    }

    /// @inheritdoc IChannels
    function domainSeparator() external view returns (bytes32) {
        return _domainSeparatorV4();
    }

    /// @inheritdoc IChannels
    function releasableAt(address worker, uint64 claimIndex) public view returns (uint256) {
        ClaimRing.Slot storage slot = _pendingClaim(worker, claimIndex);
        uint256 amount = slot.amount - slot.frozenOf();
        if (amount == 0) return type(uint256).max;
        uint256 latest = uint256(slot.claimedAt) + _unbondingPeriod;
        uint256 capacity = stakeRegistry.backingOf(worker) / stakeMultiple;
        if (amount > capacity) return latest;

        uint256 earliest = uint256(slot.claimedAt) + challengeWindow;
        uint256 start = Math.max(earliest, block.timestamp) / challengeWindow;
        uint256 window = _accounts[worker].budget.firstWindow(start, amount, capacity);
        return Math.min(Math.max(earliest, window * challengeWindow), latest);
    }

    /// @dev Books the amount; the caller has to bring the money in.
    function _fund(address sessionKey, address worker, uint256 amount) private {
        if (sessionKey == address(0)) revert ZeroAddress();
        if (worker == address(0)) revert ZeroAddress();
        if (amount == 0) revert ZeroAmount();
        bytes32 slot = ChannelStates.slotOf(msg.sender, worker, sessionKey);
        ChannelState state = ChannelStates.load(slot);
        if (state.isClosing()) revert ChannelClosing(worker, sessionKey);
        if (amount > state.room()) revert AmountTooLarge(amount);

        state = state.funded(amount);
        state.store(slot);
        emit ChannelFunded(msg.sender, worker, sessionKey, state.epoch(), amount, state.deposit());
    }

    function _pendingClaim(address worker, uint64 claimIndex) private view returns (ClaimRing.Slot storage slot) {
        slot = _accounts[worker].ring.find(worker, claimIndex);
        if (slot.amount == 0) revert NoClaim(worker, claimIndex);
    }
}
