// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {FaultLedger} from "./FaultLedger.sol";
import {GameParameters} from "./GameParameters.sol";
import {IDisputeGame} from "./interfaces/IDisputeGame.sol";
import {IPaperJudge} from "./interfaces/IPaperJudge.sol";
import {IStatementJudge} from "./interfaces/IStatementJudge.sol";
import {IStepVerifier} from "./interfaces/IStepVerifier.sol";
import {ExactTransfer} from "./libraries/ExactTransfer.sol";
import {GameId} from "./libraries/GameId.sol";
import {GameTurn, GameTurns} from "./libraries/GameTurn.sol";
import {JudgeCall} from "./libraries/JudgeCall.sol";
import {ShaPath} from "./libraries/ShaPath.sol";
import {SignedObjects} from "./libraries/SignedObjects.sol";
import {TraceShape} from "./libraries/TraceShape.sol";

/// @title Fault proofs, see IDisputeGame
/// @notice Games of a worker lie in numbered places that are used again, so that a game opens hardly any storage.
contract DisputeGame is FaultLedger {
    struct GameRecord {
        bytes32 receiptDigest;
        uint256 owner; // claimIndex (64) | entry (8) | units of the bond (24) | challenger (160)
        GameTurn turn;
        bytes32 node;
        bytes32 bodyRoot;
    }

    mapping(uint256 placeId => GameRecord) private _games; // by the id of any game at the place, without its generation
    /// @inheritdoc IDisputeGame
    mapping(bytes32 receiptDigest => uint40) public forcedUntil;

    constructor(Parameters memory parameters) GameParameters(parameters) {}

    // before a game

    /// @inheritdoc IDisputeGame
    function forceDraw(Paper calldata paper) external nonReentrant {
        IPaperJudge.Admission memory found = _admit();
        uint256 until = uint256(paper.request.expiry) + forceGrace;
        if (block.timestamp > until) revert TooLate(until);
        if (forcedUntil[found.digest] != 0) revert AlreadyForced(found.digest);

        uint40 openUntil = uint40(block.timestamp) + _challengeWindow;
        forcedUntil[found.digest] = openUntil;
        emit ForceDrawn(found.worker, found.requestId, found.digest, msg.sender, forceFee, openUntil);
        ExactTransfer.pull(token, msg.sender, forceFee);
        _send(found.worker, forceFee);
    }

    /// @inheritdoc IDisputeGame
    function demand(Paper calldata, Draw calldata draw, uint32 chunk) external nonReentrant returns (uint256 gameId) {
        IPaperJudge.Admission memory found = _admit();
        uint256 frozen = _hold(found, draw.part);
        GameTurn turn = found.turn.withFlag(GameTurns.DEMAND).withPath(chunk).withPhase(Phase.Demand);
        uint256 bond;
        (gameId, bond) = _start(found, turn, draw.part);
        emit Demanded(
            gameId,
            found.worker,
            msg.sender,
            found.requestId,
            found.digest,
            chunk,
            bond,
            demandFee,
            found.amount != 0,
            draw.part.claimIndex,
            draw.part.entry,
            frozen,
            _deadline()
        );
        ExactTransfer.pull(token, msg.sender, bond + demandFee);
    }

    /// @inheritdoc IDisputeGame
    function answerDemand(
        uint256 gameId,
        SignedObjects.Receipt calldata,
        bytes calldata tokens,
        bytes32[] calldata
    ) external nonReentrant {
        (GameRecord storage game, GameTurn turn) = _workersTurn(gameId, Phase.Demand);
        _ask(address(paperJudge), game, turn);

        uint40 openUntil = uint40(block.timestamp) + demandGrace;
        game.turn = turn.withPhase(Phase.Answered).withDeadline(openUntil);
        address worker = GameId.workerOf(gameId);
        --_dockets[worker].open;
        uint256 bond = _bondOf(game);
        emit Answered(gameId, tokens, bond, demandFee, openUntil);
        _send(_challengerOf(game), bond);
        _send(worker, demandFee);
    }

    // a game

    /// @inheritdoc IDisputeGame
    function open(Paper calldata, Draw calldata draw) external nonReentrant returns (uint256 gameId) {
        IPaperJudge.Admission memory found = _admit();
        uint256 frozen = _hold(found, draw.part);
        uint256 bond;
        (gameId, bond) = _start(found, found.turn.withPhase(Phase.Trace), draw.part);
        emit Opened(
            gameId,
            found.worker,
            msg.sender,
            found.requestId,
            found.digest,
            bond,
            found.amount != 0,
            draw.part.claimIndex,
            draw.part.entry,
            frozen,
            _deadline()
        );
        ExactTransfer.pull(token, msg.sender, bond);
    }

    /// @inheritdoc IDisputeGame
    function postTrace(uint256 gameId, bytes32 receiptDigest, bytes32 bodyRoot) external {
        (GameRecord storage game, GameTurn turn) = _workersTurn(gameId, Phase.Trace);
        if (game.receiptDigest != receiptDigest) revert OtherReceipt(receiptDigest);

        game.bodyRoot = bodyRoot;
        emit TracePosted(gameId, bodyRoot, _pass(game, turn.withPhase(Phase.Side)));
    }

    /// @inheritdoc IDisputeGame
    function chooseSide(uint256 gameId, Side side, Paper calldata) external {
        (GameRecord storage game, GameTurn turn) = _challengersTurn(gameId, Phase.Side);
        bytes memory answer = _ask(address(traceJudge), game, turn);
        (bytes32 root, uint256 generated) = abi.decode(answer, (bytes32, uint256));

        game.node = root;
        turn = turn.choose(side, generated);
        emit SideChosen(gameId, side, root, uint8(turn.height()), turn.phase(), _pass(game, turn));
    }

    /// @inheritdoc IDisputeGame
    function reveal(uint256 gameId, bytes32[] calldata children) external {
        (GameRecord storage game, GameTurn turn) = _workersTurn(gameId, Phase.Reveal);
        uint256 expected = 1 << turn.roundLevels();
        if (children.length != expected) revert WrongCount(children.length, expected);
        _checkHash(ShaPath.fold(children), game.node);

        _pass(game, turn.withPhase(Phase.Pick));
        emit Revealed(gameId, children);
    }

    /// @inheritdoc IDisputeGame
    function pick(uint256 gameId, uint8 digit, bytes32 child, bytes32[] calldata siblings) external {
        (GameRecord storage game, GameTurn turn) = _picked(gameId, digit, child, siblings);
        if (turn.isIn(Phase.Pick)) revert RowReached();
        _emitPicked(game, turn, gameId, digit, child);
    }

    /// @inheritdoc IDisputeGame
    function pickRow(uint256 gameId, uint8 digit, bytes32 child, bytes32[] calldata siblings, Paper calldata) external {
        (GameRecord storage game, GameTurn turn) = _picked(gameId, digit, child, siblings);
        if (turn.isIn(Phase.Pick)) {
            turn = turn.enterRow(abi.decode(_ask(address(traceJudge), game, turn), (uint256)));
        } else if (!turn.isIn(Phase.Lost)) {
            revert RowNotReached();
        }
        _emitPicked(game, turn, gameId, digit, child);
    }

    /// @inheritdoc IDisputeGame
    function revealLeaf(uint256 gameId, Paper calldata, bytes calldata leaf) external {
        (GameRecord storage game, GameTurn turn) = _workersTurn(gameId, Phase.Leaf);
        _ask(address(traceJudge), game, turn);

        emit LeafRevealed(gameId, leaf, _pass(game, turn.withPhase(Phase.Proof)));
    }

    /// @inheritdoc IDisputeGame
    function proveStep(
        uint256 gameId,
        Paper calldata,
        bytes calldata,
        uint32,
        IStepVerifier.Opening[] calldata
    ) external {
        _winByProof(gameId);
    }

    /// @inheritdoc IDisputeGame
    function proveRow(uint256 gameId, Paper calldata, bytes32, bytes32[] calldata) external {
        _winByProof(gameId);
    }

    /// @inheritdoc IDisputeGame
    function proveToken(uint256 gameId, Paper calldata, bytes calldata, TokenProof calldata) external {
        _winByProof(gameId);
    }

    /// @inheritdoc IDisputeGame
    function timeout(uint256 gameId, SignedObjects.Receipt calldata) external nonReentrant {
        (GameRecord storage game, GameTurn turn) = _load(gameId);
        if (turn.isIn(Phase.WorkerWon) || turn.isIn(Phase.ChallengerWon)) revert WrongPhase(turn.phase());
        if (!turn.isIn(Phase.Lost) && block.timestamp <= turn.deadline()) revert TooEarly(turn.deadline());
        bytes32 requestId = abi.decode(_ask(address(traceJudge), game, turn), (bytes32));
        bool isChallengersTurn = turn.isIn(Phase.Side) || turn.isIn(Phase.Pick) || turn.isIn(Phase.Proof);
        _end(gameId, game, turn, isChallengersTurn || turn.isIn(Phase.Answered), requestId);
    }

    // faults without a game

    /// @inheritdoc IDisputeGame
    function proveShape(Paper calldata) external {
        _convictByStatement();
    }

    /// @inheritdoc IDisputeGame
    function proveLink(Paper calldata, SignedObjects.Receipt calldata) external {
        _convictByStatement();
    }

    /// @inheritdoc IDisputeGame
    function proveEquivocation(Paper calldata, SignedObjects.Receipt calldata, bytes calldata) external {
        _convictByStatement();
    }

    /// @inheritdoc IDisputeGame
    function proveTokens(Paper calldata, IStatementJudge.TokenEvidence calldata) external {
        _convictByStatement();
    }

    // views

    /// @inheritdoc IDisputeGame
    function gameOf(uint256 gameId) external view returns (Game memory) {
        (GameRecord storage game, GameTurn turn) = _load(gameId);
        bool isDemand = turn.has(GameTurns.DEMAND);
        return
            Game({
                worker: GameId.workerOf(gameId),
                challenger: _challengerOf(game),
                receiptDigest: game.receiptDigest,
                phase: turn.phase(),
                side: turn.side(),
                deadline: turn.deadline(),
                bond: _bondOf(game),
                holds: turn.has(GameTurns.HOLDS),
                claimIndex: _claimIndexOf(game),
                entry: _entryOf(game),
                bodyRoot: game.bodyRoot,
                node: game.node,
                height: uint8(turn.height()),
                inRow: turn.has(GameTurns.IN_ROW),
                path: isDemand ? 0 : turn.path(),
                chunk: isDemand ? uint32(turn.path()) : 0
            });
    }

    /// @inheritdoc IDisputeGame
    function bondFor(address worker) external view returns (uint256) {
        return (uint256(_dockets[worker].open) + 1) * baseBond;
    }

    // opening

    /// @dev A receipt that may be disputed, of whose request nothing is proven.
    function _admit() private view returns (IPaperJudge.Admission memory found) {
        found = _askPaper();
        _checkUnproven(found.worker, found.requestId);
    }

    function _checkUnproven(address worker, bytes32 requestId) private view {
        if (_isProven(worker, requestId)) revert AlreadyProven(worker, requestId);
    }

    function _convictByStatement() private nonReentrant {
        bytes memory answer = JudgeCall.ask(address(statementJudge), _rules());
        (address worker, bytes32 requestId) = abi.decode(answer, (address, bytes32));
        _checkUnproven(worker, requestId);
        _convict(worker, requestId, msg.sender, 0);
    }

    /// @dev Freezes the money for a receipt, unless another game has done so.
    /// @return frozen how much was not frozen before
    function _hold(IPaperJudge.Admission memory found, Part calldata part) private returns (uint256 frozen) {
        if (found.amount == 0) return 0;
        bytes32 partId = _partId(found.worker, part.claimIndex, part.entry, found.digest);
        PartRecord memory record = _parts[partId];
        if (record.holders == 0) {
            frozen = channels.freeze(found.worker, part.claimIndex, found.amount);
            record.frozen = uint96(frozen);
        }
        ++record.holders;
        _parts[partId] = record;
    }

    /// @dev Takes a place for a game whose bond is yet to come in.
    function _start(
        IPaperJudge.Admission memory found,
        GameTurn turn,
        Part calldata part
    ) private returns (uint256 gameId, uint256 bond) {
        Docket memory docket = _dockets[found.worker];
        uint256 place = docket.free;
        if (place == 0) {
            if (docket.places == type(uint16).max) revert TooManyGames(found.worker);
            place = ++docket.places;
        }
        GameRecord storage game = _games[GameId.nameOf(found.worker, 0, place)];
        GameTurn last = game.turn;
        docket.free = uint16(last.next());
        uint256 units = ++docket.open;
        _dockets[found.worker] = docket;

        uint256 generation = uint24(last.generation() + 1);
        if (found.amount != 0) turn = turn.withFlag(GameTurns.HOLDS);
        game.receiptDigest = found.digest;
        game.owner =
            uint256(uint160(msg.sender)) |
            (units << 160) |
            (uint256(part.entry) << 184) |
            (uint256(part.claimIndex) << 192);
        game.turn = turn.withGeneration(generation).withDeadline(_deadline());
        return (GameId.nameOf(found.worker, generation, place), units * baseBond);
    }

    // moves

    function _load(uint256 gameId) private view returns (GameRecord storage game, GameTurn turn) {
        game = _games[GameId.placeIdOf(gameId)];
        turn = game.turn;
        if (turn.isIn(Phase.None) || turn.generation() != GameId.generationOf(gameId)) revert NoSuchGame(gameId);
    }

    function _workersTurn(uint256 gameId, Phase phase) private view returns (GameRecord storage game, GameTurn turn) {
        (game, turn) = _loadIn(gameId, phase);
        address worker = GameId.workerOf(gameId);
        if (msg.sender != worker && msg.sender != stakeRegistry.hotKeyOf(worker)) revert NotTheWorker(msg.sender);
    }

    function _challengersTurn(
        uint256 gameId,
        Phase phase
    ) private view returns (GameRecord storage game, GameTurn turn) {
        (game, turn) = _loadIn(gameId, phase);
        if (msg.sender != _challengerOf(game)) revert NotTheChallenger(msg.sender);
    }

    function _loadIn(uint256 gameId, Phase phase) private view returns (GameRecord storage game, GameTurn turn) {
        (game, turn) = _load(gameId);
        if (!turn.isIn(phase)) revert WrongPhase(turn.phase());
        if (block.timestamp > turn.deadline()) revert TooLate(turn.deadline());
    }

    function _picked(
        uint256 gameId,
        uint8 digit,
        bytes32 child,
        bytes32[] calldata siblings
    ) private returns (GameRecord storage game, GameTurn turn) {
        (game, turn) = _challengersTurn(gameId, Phase.Pick);
        uint256 levels = turn.roundLevels();
        if (siblings.length != levels) revert WrongCount(siblings.length, levels);
        if (digit >> levels != 0) revert WrongCount(digit, 1 << levels);
        _checkHash(ShaPath.climb(child, digit, siblings), game.node);

        game.node = child;
        turn = turn.descend(digit);
        if (!turn.isEmpty()) return (game, turn);
        if (child == TraceShape.emptyRoot(turn.height())) revert NothingThere();
        turn = turn.withPhase(Phase.Lost);
    }

    function _emitPicked(GameRecord storage game, GameTurn turn, uint256 gameId, uint8 digit, bytes32 child) private {
        _pass(game, turn);
        bool inRow = turn.has(GameTurns.IN_ROW);
        emit Picked(gameId, digit, child, turn.path(), uint8(turn.height()), inRow, turn.phase());
    }

    /// @dev Writes the turn, and gives whoever is next its time.
    function _pass(GameRecord storage game, GameTurn turn) private returns (uint40 deadline) {
        deadline = _deadline();
        game.turn = turn.withDeadline(deadline);
    }

    function _deadline() private view returns (uint40) {
        return uint40(block.timestamp) + moveDeadline;
    }

    // ends

    function _winByProof(uint256 gameId) private nonReentrant {
        (GameRecord storage game, GameTurn turn) = _challengersTurn(gameId, Phase.Proof);
        bytes32 requestId = abi.decode(_ask(address(traceJudge), game, turn), (bytes32));
        _end(gameId, game, turn, false, requestId);
    }

    /// @dev Gives the place back, and the bond to whom it belongs. A won game keeps what it holds, for the refund.
    function _end(uint256 gameId, GameRecord storage game, GameTurn turn, bool workerWon, bytes32 requestId) private {
        address worker = GameId.workerOf(gameId);
        address challenger = _challengerOf(game);
        uint256 bond = turn.isIn(Phase.Answered) ? 0 : _bondOf(game); // it is back already
        uint256 toChallenger = workerWon ? 0 : bond + (turn.isIn(Phase.Demand) ? demandFee : 0);
        uint256 toWorker = workerWon ? bond / 2 : 0;
        uint256 burned = workerWon ? bond - toWorker : 0;

        turn = turn.withPhase(workerWon ? Phase.WorkerWon : Phase.ChallengerWon);
        _leave(game, turn, worker, GameId.placeOf(gameId), bond != 0);
        uint256 unfrozen = workerWon && turn.has(GameTurns.HOLDS) ? _letGo(game, worker) : 0;
        emit Ended(gameId, worker, challenger, turn.phase(), toChallenger, toWorker, burned, unfrozen);
        if (!workerWon) _convict(worker, requestId, challenger, gameId);
        _send(challenger, toChallenger);
        _send(worker, toWorker);
        _burn(burned);
    }

    function _leave(GameRecord storage game, GameTurn turn, address worker, uint256 place, bool wasOpen) private {
        Docket memory docket = _dockets[worker];
        game.turn = turn.withNext(docket.free);
        docket.free = uint16(place);
        if (wasOpen) --docket.open;
        _dockets[worker] = docket;
    }

    function _letGo(GameRecord storage game, address worker) private returns (uint256 unfrozen) {
        uint64 claimIndex = _claimIndexOf(game);
        PartRecord storage record = _parts[_partId(worker, claimIndex, _entryOf(game), game.receiptDigest)];
        uint32 holders = record.holders - 1;
        record.holders = holders;
        if (holders != 0) return 0;
        unfrozen = channels.unfreeze(worker, claimIndex, record.frozen);
        record.frozen = 0;
    }

    // reading

    /// @dev What a judge says to the call that came in, of this game.
    function _ask(address judge, GameRecord storage game, GameTurn turn) private view returns (bytes memory) {
        bytes32 node = game.node;
        JudgeCall.Spot memory spot = JudgeCall.Spot({
            side: turn.side(),
            inRow: turn.has(GameTurns.IN_ROW),
            path: turn.path(),
            node: node,
            bodyRoot: game.bodyRoot,
            receiptDigest: game.receiptDigest
        });
        return JudgeCall.ask(judge, spot, _rules());
    }

    function _checkHash(bytes32 hash, bytes32 expected) private pure {
        if (hash != expected) revert WrongHash(hash, expected);
    }

    function _bondOf(GameRecord storage game) private view returns (uint256) {
        return uint24(game.owner >> 160) * uint256(baseBond);
    }

    function _challengerOf(GameRecord storage game) private view returns (address) {
        return address(uint160(game.owner));
    }

    function _entryOf(GameRecord storage game) private view returns (uint8) {
        return uint8(game.owner >> 184);
    }

    function _claimIndexOf(GameRecord storage game) private view returns (uint64) {
        return uint64(game.owner >> 192);
    }
}
