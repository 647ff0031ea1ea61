// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";

import {IChannels} from "./IChannels.sol";
import {IModelRegistry} from "./IModelRegistry.sol";

/// @title Who takes part, with which keys and what at stake
/// @notice A participant is its cold address, once and for ever. The hot key signs receipts and links; it can never move
/// money or stake. Nobody can be kept out: a cold address may well be somebody else's hot key (who would that harm but its
/// owner), while a hot key is never its own cold address nor that of another participant.
interface IStakeRegistry {
    enum Role {
        None,
        Worker,
        Verifier
    }

    struct Participant {
        uint96 stake; // locked and counting
        uint96 unbonding; // asked back, still slashable
        uint40 unbondingSince;
        bool jailed;
        Role role;
        address hotKey; // signs now
        address nextHotKey; // signs from nextHotKeyAt on; zero: no rotation under way
        uint40 nextHotKeyAt;
    }

    /// @notice What a worker offers; prices are base units of the token per LLM token for the whole range.
    struct Service {
        bytes32 modelId;
        uint32 start; // first layer
        uint32 end; // one past the last layer
        uint128 promptPrice;
        uint128 tokenPrice;
        string endpoint; // URL with scheme
    }

    /// @notice Constructor arguments.
    struct Parameters {
        IERC20 token;
        IModelRegistry modelRegistry;
        IChannels channels; // deployed later, at an address known before; it checks that both name each other
        address slasher; // zero: nobody can slash
        uint40 unbondingPeriod; // seconds, at most 365 days; more than twice the challenge window, which Channels checks
        uint40 hotKeyDelay; // seconds, 1 .. unbondingPeriod
    }

    event Registered(address indexed participant, Role role, address hotKey);
    event Staked(address indexed participant, uint256 amount, uint256 stake);
    event UnbondRequested(address indexed participant, uint256 amount, uint256 unbonding, uint40 since);
    event UnbondCancelled(address indexed participant, uint256 amount, uint256 stake);
    event StakeWithdrawn(address indexed participant, address indexed to, uint256 amount);
    event HotKeyRotation(address indexed participant, address indexed hotKey, uint40 effectiveAt);
    event ServiceUpdated(address indexed worker, Service service);
    event ServiceEnded(address indexed worker);
    event Slashed(address indexed participant, uint256 requested, uint256 taken, address indexed to);
    event Jailed(address indexed participant);

    error ZeroAmount();
    error ZeroAddress();
    /// @notice A participant is a worker or a verifier.
    error NoRole();
    error AmountTooLarge(uint256 amount);
    error AlreadyRegistered(address participant);
    error NotRegistered(address participant);
    error NotAWorker(address participant);
    error IsJailed(address participant);
    /// @notice The key is or was somebody's hot key, perhaps the caller's own.
    error HotKeyTaken(address hotKey);
    /// @notice The key is a participant's address, perhaps the caller's own: it can move money.
    error HotKeyIsCold(address hotKey);
    error InsufficientStake(uint256 stake, uint256 needed);
    error NothingUnbonding(address participant);
    error StillReachable(uint256 until);
    error RangeOutOfModel(uint32 start, uint32 end, uint32 layers);
    error UnknownModel(bytes32 modelId);
    /// @notice Not 1 .. 256 bytes.
    error EndpointLength(uint256 length);
    error NotSlasher(address caller);
    error TokenMismatch(uint256 expected, uint256 received);
    error ParameterOutOfRange(string field, uint256 value);

    // participants (msg.sender is the cold key)

    /// @notice The first hot key signs at once.
    function register(Role role, address hotKey) external;
    /// @notice Locks `amount`, for which this contract needs an allowance.
    function stake(uint256 amount) external;
    /// @notice Asks part of the stake back. All that is unbonding waits from the latest request on.
    function requestUnbond(uint256 amount) external;
    function cancelUnbond() external;
    /// @notice Pays out what was unbonding once nothing can reach it any more: `unbondingPeriod` after the later of the
    /// request and the worker's last claim.
    function withdrawStake(address to) external returns (uint256 amount);
    /// @notice The new key signs after `hotKeyDelay`. A rotation that has not taken effect is replaced, and its key is free again.
    function rotateHotKey(address hotKey) external;
    function updateService(Service calldata service) external;
    function endService() external;

    // slasher only; never revert for a slasher whatever the participant's state

    /// @notice Takes up to `amount` from stake, then from what is unbonding, and sends it to `to`; what the token refuses to
    /// send there stays in this contract out of everybody's reach.
    function slash(address participant, uint256 amount, address to) external returns (uint256 taken);
    function jail(address participant) external;

    // views

    function participantOf(address participant) external view returns (Participant memory);
    function serviceOf(address worker) external view returns (Service memory);
    /// @notice The key that signs for `participant` now; zero if not registered.
    function hotKeyOf(address participant) external view returns (address);
    /// @notice Whether `key` is or was a hot key of `participant` (an old receipt stays provable after a rotation).
    function everHotKeyOf(address participant, address key) external view returns (bool);
    /// @notice Whether any stake backs the worker's releases, see `backingOf`.
    function isActiveWorker(address worker) external view returns (bool);
    /// @notice The stake of a worker that is neither jailed nor unbonding; zero for anybody else.
    function backingOf(address worker) external view returns (uint256);
    /// @notice stake + unbonding: everything a slash can take.
    function slashable(address participant) external view returns (uint256);
    /// @notice Time from which nothing can reach what is unbonding; type(uint256).max while nothing is.
    function withdrawableAt(address participant) external view returns (uint256);
    function participantCount() external view returns (uint256);
    /// @notice Participants `[from, to)` in order of registration, `to` cut to the count.
    function participants(uint256 from, uint256 to) external view returns (address[] memory);

    // parameters

    function token() external view returns (IERC20);
    function modelRegistry() external view returns (IModelRegistry);
    function channels() external view returns (IChannels);
    function slasher() external view returns (address);
    function unbondingPeriod() external view returns (uint40);
    function hotKeyDelay() external view returns (uint40);
}
