// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";

import {IBeacon} from "./interfaces/IBeacon.sol";
import {IChannels} from "./interfaces/IChannels.sol";
import {IDisputeGame} from "./interfaces/IDisputeGame.sol";
import {IModelRegistry} from "./interfaces/IModelRegistry.sol";
import {IPaperJudge} from "./interfaces/IPaperJudge.sol";
import {IStakeRegistry} from "./interfaces/IStakeRegistry.sol";
import {IStatementJudge} from "./interfaces/IStatementJudge.sol";
import {ITraceJudge} from "./interfaces/ITraceJudge.sol";
import {GameTurns} from "./libraries/GameTurn.sol";
import {JudgeCall} from "./libraries/JudgeCall.sol";

/// @title What a game is played by: contracts, times and amounts, and their bounds
abstract contract GameParameters is IDisputeGame {
    uint256 internal constant BPS = 10_000;
    uint256 private constant MAX_MOVE_DEADLINE = 1 days;
    uint256 private constant MAX_GRACE = 30 days;
    uint256 private constant MARGIN_MOVES = 12; // of time for somebody to call `timeout` and `refund`
    uint256 private constant MAX_SHARES_BPS = 5_000; // a challenger may be the worker itself

    /// @inheritdoc IDisputeGame
    IERC20 public immutable token;
    /// @inheritdoc IDisputeGame
    IStakeRegistry public immutable stakeRegistry;
    /// @inheritdoc IDisputeGame
    IChannels public immutable channels;
    /// @inheritdoc IDisputeGame
    IModelRegistry public immutable modelRegistry;
    /// @inheritdoc IDisputeGame
    IBeacon public immutable beacon;
    /// @inheritdoc IDisputeGame
    IPaperJudge public immutable paperJudge;
    /// @inheritdoc IDisputeGame
    IStatementJudge public immutable statementJudge;
    /// @inheritdoc IDisputeGame
    ITraceJudge public immutable traceJudge;
    /// @inheritdoc IDisputeGame
    address public immutable rewardPool;
    /// @inheritdoc IDisputeGame
    uint40 public immutable moveDeadline;
    /// @inheritdoc IDisputeGame
    uint40 public immutable demandGrace;
    /// @inheritdoc IDisputeGame
    uint40 public immutable forceGrace;
    /// @inheritdoc IDisputeGame
    uint40 public immutable margin;
    /// @inheritdoc IDisputeGame
    uint96 public immutable firstSlash;
    /// @inheritdoc IDisputeGame
    uint16 public immutable firstSlashBps;
    /// @inheritdoc IDisputeGame
    uint16 public immutable challengerShareBps;
    /// @inheritdoc IDisputeGame
    uint16 public immutable poolShareBps;
    /// @inheritdoc IDisputeGame
    uint16 public immutable minimumRateBps;
    /// @inheritdoc IDisputeGame
    uint96 public immutable baseBond;
    /// @inheritdoc IDisputeGame
    uint96 public immutable forceFee;
    /// @inheritdoc IDisputeGame
    uint96 public immutable demandFee;
    uint40 internal immutable _challengeWindow;

    constructor(Parameters memory parameters) {
        IStakeRegistry stakes = parameters.stakeRegistry;
        IChannels channels_ = stakes.channels();
        if (stakes.slasher() != address(this)) revert ParameterOutOfRange("stakeRegistry", 0);
        _checkRange("moveDeadline", parameters.moveDeadline, 1, MAX_MOVE_DEADLINE);
        _checkRange("demandGrace", parameters.demandGrace, 1, MAX_GRACE);
        _checkRange("forceGrace", parameters.forceGrace, 1, MAX_GRACE);
        uint256 least = MARGIN_MOVES * parameters.moveDeadline;
        _checkRange("margin", parameters.margin, least, type(uint40).max);
        _checkRange("firstSlash", parameters.firstSlash, 1, type(uint96).max);
        _checkRange("firstSlashBps", parameters.firstSlashBps, 1, BPS);
        _checkRange("challengerShareBps", parameters.challengerShareBps, 0, MAX_SHARES_BPS);
        _checkRange("poolShareBps", parameters.poolShareBps, 0, MAX_SHARES_BPS - parameters.challengerShareBps);
        _checkRange("minimumRateBps", parameters.minimumRateBps, 1, BPS);
        _checkRange("baseBond", parameters.baseBond, 1, type(uint64).max * uint256(1 << 16));

        token = stakes.token();
        stakeRegistry = stakes;
        channels = channels_;
        modelRegistry = stakes.modelRegistry();
        beacon = parameters.beacon;
        paperJudge = parameters.paperJudge;
        statementJudge = parameters.statementJudge;
        traceJudge = parameters.traceJudge;
        rewardPool = parameters.rewardPool;
        moveDeadline = parameters.moveDeadline;
        demandGrace = parameters.demandGrace;
        forceGrace = parameters.forceGrace;
        margin = parameters.margin;
        firstSlash = parameters.firstSlash;
        firstSlashBps = parameters.firstSlashBps;
        challengerShareBps = parameters.challengerShareBps;
        poolShareBps = parameters.poolShareBps;
        minimumRateBps = parameters.minimumRateBps;
        baseBond = parameters.baseBond;
        forceFee = parameters.forceFee;
        demandFee = parameters.demandFee;
        _challengeWindow = channels_.challengeWindow();
        _checkUnbonding(parameters, channels_.challengeWindow(), stakes.unbondingPeriod());
    }

    /// @inheritdoc IDisputeGame
    function longestGame() public view returns (uint256) {
        return GameTurns.longestMoves() * moveDeadline;
    }

    function _rules() internal view returns (JudgeCall.Rules memory) {
        return
            JudgeCall.Rules({
                stakeRegistry: stakeRegistry,
                channels: channels,
                modelRegistry: modelRegistry,
                beacon: beacon,
                challengeWindow: _challengeWindow,
                minimumRateBps: minimumRateBps,
                firstSlash: firstSlash,
                challengerShareBps: challengerShareBps
            });
    }

    /// @dev The stake behind a claim, or behind a receipt that is force-drawn, stays longer than everything that can begin
    /// with it: a demand at the end of the window, its answer, a game at the end of the grace after it. So stake needs no
    /// lock of its own.
    function _checkUnbonding(Parameters memory parameters, uint256 window, uint256 unbonding) private pure {
        uint256 needed = uint256(parameters.forceGrace) + window + parameters.moveDeadline + parameters.demandGrace;
        needed += GameTurns.longestMoves() * parameters.moveDeadline + parameters.margin;
        if (unbonding <= needed) revert ParameterOutOfRange("unbondingPeriod", unbonding);
    }

    /// @dev Both ends are allowed values.
    function _checkRange(string memory field, uint256 value, uint256 low, uint256 high) private pure {
        if (value < low || value > high) revert ParameterOutOfRange(field, value);
    }
}
