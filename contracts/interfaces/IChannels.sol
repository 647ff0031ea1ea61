// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";

import {IStakeRegistry} from "./IStakeRegistry.sol";

/// @title Payment channels: deposits, cumulative vouchers, claims, pending until released
/// @notice One channel per (payer, worker, session key); its whole state is one storage slot, so that a claim reads and
/// writes one slot. The session key is never stored: it is recovered from the voucher and is part of the slot's key, so a
/// stranger's signature leads to an empty channel.
interface IChannels {
    struct Channel {
        uint96 deposit;
        uint96 claimed;
        uint40 closingAt; // 0: not closing; else the time from which the payer may take back the rest
        uint24 epoch; // grows with every close: no voucher of an earlier epoch counts again
    }

    struct Funding {
        address worker;
        uint96 amount;
    }

    /// @notice One batch of claims of one worker, in a ring of 64 reused slots.
    struct Claim {
        uint96 amount; // base units, gross; 0 after release
        uint40 claimedAt;
        uint64 blockNumber; // fixes the beacon of the batch's draws
        uint96 frozen; // how much of the amount is under dispute
        bytes32 commitment; // root over the batch's entries, see docs/protocol.md
    }

    /// @notice Constructor arguments. Token and slasher are those of the stake registry.
    struct Parameters {
        IStakeRegistry stakeRegistry; // already deployed, and naming the address at which Channels will be
        address feeRecipient; // zero: no protocol fee
        uint16 feeBps; // of what is released; at most 2,000
        uint40 challengeWindow; // seconds, 1 .. 30 days; less than half of the unbonding period
        uint40 withdrawalDelay; // seconds, longer than the challenge window, at most 90 days
        uint16 stakeMultiple; // stake needed per unit released within a challenge window, 1 .. 1,000
    }

    event ChannelFunded(
        address indexed payer,
        address indexed worker,
        address indexed sessionKey,
        uint24 epoch,
        uint256 amount,
        uint256 deposit
    );
    event CloseRequested(
        address indexed payer,
        address indexed worker,
        address indexed sessionKey,
        uint24 epoch,
        uint40 closingAt
    );
    event ChannelClosed(
        address indexed payer,
        address indexed worker,
        address indexed sessionKey,
        uint24 epoch,
        uint256 refund
    );
    /// @param entries packed, 76 bytes each, see docs/protocol.md: the preimages of the commitment's leaves
    event Claimed(address indexed worker, uint64 indexed claimIndex, uint256 amount, bytes32 commitment, bytes entries);
    event Released(address indexed worker, uint64 indexed claimIndex, uint256 amount, uint256 fee);
    event EarningsWithdrawn(address indexed worker, address indexed to, uint256 amount);
    event FeesWithdrawn(address indexed to, uint256 amount);
    event Frozen(address indexed worker, uint64 indexed claimIndex, uint256 amount);
    event Unfrozen(address indexed worker, uint64 indexed claimIndex, uint256 amount);
    event Forfeited(address indexed worker, uint64 indexed claimIndex, uint256 amount, address indexed to);

    error ZeroAmount();
    error ZeroAddress();
    error AmountTooLarge(uint256 amount);
    error NoChannel(address payer, address worker, address sessionKey);
    error ChannelClosing(address worker, address sessionKey);
    error NotClosing(address worker, address sessionKey);
    error TooEarly(uint256 until);
    error EmptyBatch();
    error BatchTooLarge(uint256 size);
    /// @notice The vouchers' length is no multiple of 139 bytes.
    error MalformedBatch(uint256 length);
    /// @notice Only a worker's cold key and its current hot key may claim for it.
    error NotTheWorker(address caller);
    error NothingToClaim();
    error RingFull(uint64 claimIndex);
    error NoClaim(address worker, uint64 claimIndex);
    /// @notice All that is left of it.
    error ClaimFrozen(address worker, uint64 claimIndex);
    error NotReleasable(uint256 until);
    error NothingToWithdraw();
    error NotSlasher(address caller);
    error TokenMismatch(uint256 expected, uint256 received);
    error ParameterOutOfRange(string field, uint256 value);

    // payer

    /// @notice Opens channels, or adds to open ones, with one transfer for all of them.
    function fund(address sessionKey, Funding[] calldata channels) external;
    /// @notice `fund` for one channel, at less gas.
    function fundChannel(address sessionKey, address worker, uint256 amount) external;
    /// @notice Starts the time after which the payer gets back what is not claimed by then. Claims go on meanwhile.
    function requestClose(address sessionKey, address[] calldata workers) external;
    /// @notice Pays back deposit - claimed of each channel and ends its epoch.
    function finishClose(address sessionKey, address[] calldata workers) external returns (uint256 refund);

    // worker

    /// @notice Moves what vouchers promise from deposits to the worker's pending. msg.sender is the worker's cold or hot
    /// key: a stranger with vouchers of a unit each could otherwise fill the ring or restart the unbonding for ever.
    /// Entries that bring nothing (stale, closed, signed by a stranger) are skipped, so that one payer cannot spoil a
    /// batch; a total above the deposit counts up to the deposit.
    /// @param vouchers 1 .. 256 vouchers of the same worker, 139 bytes each with nothing in between, big-endian:
    /// payer (20) | uint96 total (12) | receiptsRoot (32) | r (32) | vs (32) | uint24 epoch (3) | uint64 count (8)
    /// where (r, vs) is the session key's compact signature (EIP-2098) of the EIP-712 voucher
    /// @return claimIndex grows with every claim, but may leave out numbers: a ring slot still in use is passed over
    /// @return amount sum of what was moved
    function claim(address worker, bytes calldata vouchers) external returns (uint64 claimIndex, uint256 amount);
    /// @notice Moves what is not frozen of a claim from pending to earnings, less the protocol fee, from `releasableAt` on.
    /// Callable by anyone, and again for the rest once that is unfrozen.
    function release(address worker, uint64 claimIndex) external returns (uint256 amount);
    /// @notice msg.sender is the worker's cold key, or whom a forfeited amount could not be sent to.
    function withdrawEarnings(address to) external returns (uint256 amount);
    /// @notice Sends the collected protocol fee to the fee recipient. Callable by anyone.
    function withdrawFees() external returns (uint256 amount);

    // slasher only

    /// @notice Stops the release of `amount` more of a pending claim, or of all of it where less is left. Never reverts.
    /// @return frozen how much was; 0 when nothing of the claim is pending
    function freeze(address worker, uint64 claimIndex, uint256 amount) external returns (uint256 frozen);
    /// @notice Allows the release of `amount` again, or of all that is frozen. Never reverts.
    function unfreeze(address worker, uint64 claimIndex, uint256 amount) external returns (uint256 unfrozen);
    /// @notice Takes up to `amount` of what is pending of a claim and not frozen, for refunds and penalties; 0 when there is
    /// nothing. Never reverts: what the token refuses to send to `to` becomes the earnings of `to`.
    function forfeit(address worker, uint64 claimIndex, uint256 amount, address to) external returns (uint256 taken);

    // views

    /// @notice All zero for a channel that was never opened.
    function channelOf(address payer, address worker, address sessionKey) external view returns (Channel memory);
    /// @notice Reverts with NoClaim if there was none, or if its slot in the ring has been reused.
    function claimOf(address worker, uint64 claimIndex) external view returns (Claim memory);
    /// @return next the lowest index that the next claim may get
    /// @return pending sum not yet released
    /// @return earnings withdrawable
    /// @return lastClaimAt time of the last claim
    function accountOf(
        address worker
    ) external view returns (uint64 next, uint256 pending, uint256 earnings, uint40 lastClaimAt);
    /// @notice Time from which `release` succeeds for this pending claim, as things stand: after the challenge window as
    /// soon as a stake of `stakeMultiple` times what is released within a window backs it, and in any case after the
    /// unbonding period, when the stake could be gone anyway; type(uint256).max while all of it is frozen. Counted are the
    /// releases of the current window and of the one before (both of fixed length), so never less than a window's.
    /// Reverts with NoClaim.
    function releasableAt(address worker, uint64 claimIndex) external view returns (uint256);
    /// @notice Protocol fee collected and not yet withdrawn.
    function fees() external view returns (uint256);
    function domainSeparator() external view returns (bytes32);

    // parameters

    function token() external view returns (IERC20);
    function stakeRegistry() external view returns (IStakeRegistry);
    function slasher() external view returns (address);
    function feeRecipient() external view returns (address);
    function feeBps() external view returns (uint16);
    function challengeWindow() external view returns (uint40);
    function withdrawalDelay() external view returns (uint40);
    function stakeMultiple() external view returns (uint16);
}
