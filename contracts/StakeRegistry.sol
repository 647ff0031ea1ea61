// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";
import {Math} from "@openzeppelin/contracts/utils/math/Math.sol";

import {IChannels} from "./interfaces/IChannels.sol";
import {IModelRegistry} from "./interfaces/IModelRegistry.sol";
import {IStakeRegistry} from "./interfaces/IStakeRegistry.sol";
import {ExactTransfer} from "./libraries/ExactTransfer.sol";

/// @title Who takes part and what is at stake, see IStakeRegistry
/// @dev No reentrancy guard: every function has written its state before it calls the token, and money that comes in must
/// change the balance by exactly its amount, so a call from inside a transfer finds nothing half done.
contract StakeRegistry is IStakeRegistry {
    using SafeERC20 for IERC20;

    uint256 private constant MAX_UNBONDING_PERIOD = 365 days;
    uint256 private constant MAX_ENDPOINT_BYTES = 256;

    /// @inheritdoc IStakeRegistry
    IERC20 public immutable token;
    /// @inheritdoc IStakeRegistry
    IModelRegistry public immutable modelRegistry;
    /// @inheritdoc IStakeRegistry
    IChannels public immutable channels;
    /// @inheritdoc IStakeRegistry
    address public immutable slasher;
    /// @inheritdoc IStakeRegistry
    uint40 public immutable unbondingPeriod;
    /// @inheritdoc IStakeRegistry
    uint40 public immutable hotKeyDelay;

    /// @dev A Participant, in an order that lets `hotKeyOf` read one slot most of the time.
    struct Record {
        uint96 stake;
        uint96 unbonding;
        uint40 unbondingSince;
        bool jailed;
        Role role;
        address hotKey;
        uint40 nextHotKeyAt;
        address nextHotKey;
    }

    mapping(address participant => Record) private _participants;
    mapping(address worker => Service) private _services;
    mapping(address key => address participant) private _hotKeyOwners;
    address[] private _registered;

    modifier onlyParticipant() {
        if (_participants[msg.sender].role == Role.None) revert NotRegistered(msg.sender);
        _;
    }

    modifier onlySlasher() {
        if (msg.sender != slasher) revert NotSlasher(msg.sender);
        _;
    }

    constructor(Parameters memory parameters) {
        if (address(parameters.token) == address(0)) revert ZeroAddress();
        if (address(parameters.modelRegistry) == address(0)) revert ZeroAddress();
        if (address(parameters.channels) == address(0)) revert ZeroAddress();
        if (parameters.unbondingPeriod > MAX_UNBONDING_PERIOD) {
            revert ParameterOutOfRange("unbondingPeriod", parameters.unbondingPeriod);
        }
        if (parameters.hotKeyDelay == 0 || parameters.hotKeyDelay > parameters.unbondingPeriod) {
            revert ParameterOutOfRange("hotKeyDelay", parameters.hotKeyDelay);
        }
        token = parameters.token;
        modelRegistry = parameters.modelRegistry;
        channels = parameters.channels;
        slasher = parameters.slasher;
        unbondingPeriod = parameters.unbondingPeriod;
        hotKeyDelay = parameters.hotKeyDelay;
    }

    /// @inheritdoc IStakeRegistry
    function register(Role role, address hotKey) external {
        Record storage self = _participants[msg.sender];
        if (role == Role.None) revert NoRole();
        if (self.jailed) revert IsJailed(msg.sender);
        if (self.role != Role.None) revert AlreadyRegistered(msg.sender);

        self.role = role;
        self.hotKey = hotKey;
        _takeHotKey(hotKey);
        _registered.push(msg.sender);
        emit Registered(msg.sender, role, hotKey);
    }

    /// @inheritdoc IStakeRegistry
    function stake(uint256 amount) external onlyParticipant {
        Record storage self = _participants[msg.sender];
        if (amount == 0) revert ZeroAmount();
        if (self.jailed) revert IsJailed(msg.sender);
        // What is unbonding may come back, so both together have to fit.
        if (amount > type(uint96).max - slashable(msg.sender)) revert AmountTooLarge(amount);

        self.stake += uint96(amount);
        emit Staked(msg.sender, amount, self.stake);
        ExactTransfer.pull(token, msg.sender, amount);
    }

    /// @inheritdoc IStakeRegistry
    function requestUnbond(uint256 amount) external onlyParticipant {
        Record storage self = _participants[msg.sender];
        if (amount == 0) revert ZeroAmount();
        if (amount > self.stake) revert InsufficientStake(self.stake, amount);

        self.stake -= uint96(amount);
        self.unbonding += uint96(amount);
        self.unbondingSince = uint40(block.timestamp);
        emit UnbondRequested(msg.sender, amount, self.unbonding, self.unbondingSince);
    }

    /// @inheritdoc IStakeRegistry
    function cancelUnbond() external {
        Record storage self = _participants[msg.sender];
        uint96 amount = self.unbonding;
        if (amount == 0) revert NothingUnbonding(msg.sender);

        self.unbonding = 0;
        self.unbondingSince = 0;
        self.stake += amount;
        emit UnbondCancelled(msg.sender, amount, self.stake);
    }

    /// @inheritdoc IStakeRegistry
    function withdrawStake(address to) external returns (uint256 amount) {
        Record storage self = _participants[msg.sender];
        if (to == address(0)) revert ZeroAddress();
        amount = self.unbonding;
        if (amount == 0) revert NothingUnbonding(msg.sender);
        uint256 until = withdrawableAt(msg.sender);
        if (block.timestamp < until) revert StillReachable(until);

        self.unbonding = 0;
        self.unbondingSince = 0;
        emit StakeWithdrawn(msg.sender, to, amount);
        token.safeTransfer(to, amount);
    }

    /// @inheritdoc IStakeRegistry
    function rotateHotKey(address hotKey) external onlyParticipant {
        Record storage self = _participants[msg.sender];
        if (self.nextHotKeyAt != 0) {
            if (block.timestamp < self.nextHotKeyAt) delete _hotKeyOwners[self.nextHotKey];
            else self.hotKey = self.nextHotKey;
        }
        self.nextHotKey = hotKey;
        self.nextHotKeyAt = uint40(block.timestamp) + hotKeyDelay;
        _takeHotKey(hotKey);
        emit HotKeyRotation(msg.sender, hotKey, self.nextHotKeyAt);
    }

    /// @inheritdoc IStakeRegistry
    function updateService(Service calldata service) external {
        Record storage self = _participants[msg.sender];
        if (self.role != Role.Worker) revert NotAWorker(msg.sender);
        if (self.jailed) revert IsJailed(msg.sender);
        uint256 length = bytes(service.endpoint).length;
        if (length == 0 || length > MAX_ENDPOINT_BYTES) revert EndpointLength(length);
        uint32 layers = modelRegistry.layersOf(service.modelId);
        if (service.start >= service.end || service.end > layers) {
            revert RangeOutOfModel(service.start, service.end, layers);
        }

        _services[msg.sender] = service;
        emit ServiceUpdated(msg.sender, service);
    }

    /// @inheritdoc IStakeRegistry
    function endService() external {
        if (_participants[msg.sender].role != Role.Worker) revert NotAWorker(msg.sender);

        delete _services[msg.sender];
        emit ServiceEnded(msg.sender);
    }

    /// @inheritdoc IStakeRegistry
    function slash(address participant, uint256 amount, address to) external onlySlasher returns (uint256 taken) {
        Record storage target = _participants[participant];
        uint256 fromStake = Math.min(amount, target.stake);
        uint256 fromUnbonding = Math.min(amount - fromStake, target.unbonding);
        taken = fromStake + fromUnbonding;

        target.stake -= uint96(fromStake);
        target.unbonding -= uint96(fromUnbonding);
        emit Slashed(participant, amount, taken, to);
        // A refusal must not undo the slash, so the result does not matter.
        token.trySafeTransfer(to, taken);
    }

    /// @inheritdoc IStakeRegistry
    function jail(address participant) external onlySlasher {
        _participants[participant].jailed = true;
        emit Jailed(participant);
    }

    /// @inheritdoc IStakeRegistry
    function participantOf(address participant) external view returns (Participant memory) {
        Record storage found = _participants[participant];
        bool rotating = block.timestamp < found.nextHotKeyAt;
        return
            Participant({
                stake: found.stake,
                unbonding: found.unbonding,
                unbondingSince: found.unbondingSince,
                jailed: found.jailed,
                role: found.role,
                hotKey: hotKeyOf(participant),
                nextHotKey: rotating ? found.nextHotKey : address(0),
                nextHotKeyAt: rotating ? found.nextHotKeyAt : 0
            });
    }

    /// @inheritdoc IStakeRegistry
    function serviceOf(address worker) external view returns (Service memory) {
        return _services[worker];
    }

    /// @inheritdoc IStakeRegistry
    function everHotKeyOf(address participant, address key) external view returns (bool) {
        Record storage found = _participants[participant];
        bool announcedOnly = key == found.nextHotKey && block.timestamp < found.nextHotKeyAt;
        return participant != address(0) && _hotKeyOwners[key] == participant && !announcedOnly;
    }

    /// @inheritdoc IStakeRegistry
    function isActiveWorker(address worker) external view returns (bool) {
        return backingOf(worker) != 0;
    }

    /// @inheritdoc IStakeRegistry
    function participantCount() external view returns (uint256) {
        return _registered.length;
    }

    /// @inheritdoc IStakeRegistry
    function participants(uint256 from, uint256 to) external view returns (address[] memory page) {
        to = Math.min(to, _registered.length);
        if (from >= to) return page;
        page = new address[](to - from);
        for (uint256 i = from; i < to; ++i) page[i - from] = _registered[i];
    }

    /// @inheritdoc IStakeRegistry
    function hotKeyOf(address participant) public view returns (address) {
        Record storage found = _participants[participant];
        bool rotated = found.nextHotKeyAt != 0 && block.timestamp >= found.nextHotKeyAt;
        return rotated ? found.nextHotKey : found.hotKey;
    }

    /// @inheritdoc IStakeRegistry
    function backingOf(address worker) public view returns (uint256) {
        Record storage found = _participants[worker];
        if (found.role != Role.Worker || found.jailed || found.unbonding != 0) return 0;
        return found.stake;
    }

    /// @inheritdoc IStakeRegistry
    function slashable(address participant) public view returns (uint256) {
        return uint256(_participants[participant].stake) + _participants[participant].unbonding;
    }

    /// @inheritdoc IStakeRegistry
    function withdrawableAt(address participant) public view returns (uint256) {
        Record storage found = _participants[participant];
        if (found.unbonding == 0) return type(uint256).max;
        (, , , uint40 lastClaimAt) = channels.accountOf(participant);
        return Math.max(found.unbondingSince, lastClaimAt) + unbondingPeriod;
    }

    /// @dev Hot keys are unique and never used twice, so that one signature names one participant.
    function _takeHotKey(address hotKey) private {
        if (hotKey == address(0)) revert ZeroAddress();
        if (_participants[hotKey].role != Role.None) revert HotKeyIsCold(hotKey);
        if (_hotKeyOwners[hotKey] != address(0)) revert HotKeyTaken(hotKey);
        _hotKeyOwners[hotKey] = msg.sender;
    }
}
