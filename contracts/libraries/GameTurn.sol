// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Math} from "@openzeppelin/contracts/utils/math/Math.sol";

import {IDisputeGame} from "../interfaces/IDisputeGame.sol";
import {TraceShape} from "./TraceShape.sol";

/// @notice Where a game is, in one word, from the lowest bit up:
/// uint24 generation | uint16 next | uint40 deadline | uint8 phase | uint8 side | uint8 height | uint64 path | uint32 count |
/// uint24 promptCount | uint16 segments | uint8 flags
///
/// generation: games that the place has had; next: after the end, the next free place; height: levels below the node; path:
/// as in IDisputeGame.Game, or a demand's chunk; count: positions of the receipt, or its generated tokens (output of a last
/// shard), or leaves of the row that the descent is in.
type GameTurn is uint256;

using GameTurns for GameTurn global;

/// @title States of a game and the steps between them
library GameTurns {
    uint256 internal constant FIRST = 1; // the shard begins with layer 0
    uint256 internal constant LAST = 2; // the last of its path
    uint256 internal constant EXIT = 4; // and something was generated
    uint256 internal constant IN_ROW = 8;
    uint256 internal constant HOLDS = 16; // part of a claim is frozen for the game
    uint256 internal constant DEMAND = 32;

    /// @notice Levels that a round descends at most.
    uint256 internal constant ROUND_LEVELS = 4;
    /// @notice A row has at most 2^24 leaves: scores of 2^15 heads over 2^17 positions.
    uint256 internal constant ROW_DEPTH = 24;
    uint256 internal constant MAX_POSITIONS = 1 << 17;
    uint256 internal constant MAX_LAYERS = 1 << 10;

    uint256 private constant NEXT_SHIFT = 24;
    uint256 private constant DEADLINE_SHIFT = 40;
    uint256 private constant PHASE_SHIFT = 80;
    uint256 private constant SIDE_SHIFT = 88;
    uint256 private constant HEIGHT_SHIFT = 96;
    uint256 private constant PATH_SHIFT = 104;
    uint256 private constant COUNT_SHIFT = 168;
    uint256 private constant PROMPT_SHIFT = 200;
    uint256 private constant SEGMENTS_SHIFT = 224;
    uint256 private constant FLAGS_SHIFT = 240;
    uint256 private constant ROW_MASK = (1 << ROW_DEPTH) - 1;

    /// @notice The counts of a receipt, before its game begins.
    function begin(
        uint256 positions,
        uint256 prompt,
        uint256 segments_,
        uint256 flags
    ) internal pure returns (GameTurn) {
        return
            GameTurn.wrap(
                (positions << COUNT_SHIFT) |
                    (prompt << PROMPT_SHIFT) |
                    (segments_ << SEGMENTS_SHIFT) |
                    (flags << FLAGS_SHIFT)
            );
    }

    // fields

    function generation(GameTurn turn) internal pure returns (uint256) {
        return uint24(GameTurn.unwrap(turn));
    }

    function next(GameTurn turn) internal pure returns (uint256) {
        return uint16(GameTurn.unwrap(turn) >> NEXT_SHIFT);
    }

    function deadline(GameTurn turn) internal pure returns (uint40) {
        return uint40(GameTurn.unwrap(turn) >> DEADLINE_SHIFT);
    }

    function phase(GameTurn turn) internal pure returns (IDisputeGame.Phase) {
        return IDisputeGame.Phase(uint8(GameTurn.unwrap(turn) >> PHASE_SHIFT));
    }

    function side(GameTurn turn) internal pure returns (IDisputeGame.Side) {
        return IDisputeGame.Side(uint8(GameTurn.unwrap(turn) >> SIDE_SHIFT));
    }

    function height(GameTurn turn) internal pure returns (uint256) {
        return uint8(GameTurn.unwrap(turn) >> HEIGHT_SHIFT);
    }

    function path(GameTurn turn) internal pure returns (uint256) {
        return uint64(GameTurn.unwrap(turn) >> PATH_SHIFT);
    }

    function count(GameTurn turn) internal pure returns (uint256) {
        return uint32(GameTurn.unwrap(turn) >> COUNT_SHIFT);
    }

    function promptCount(GameTurn turn) internal pure returns (uint256) {
        return uint24(GameTurn.unwrap(turn) >> PROMPT_SHIFT);
    }

    function segments(GameTurn turn) internal pure returns (uint256) {
        return uint16(GameTurn.unwrap(turn) >> SEGMENTS_SHIFT);
    }

    /// @dev Without the check of an enumeration's bounds that `phase` makes.
    function isIn(GameTurn turn, IDisputeGame.Phase phase_) internal pure returns (bool same) {
        assembly ("memory-safe") {
            same := eq(and(shr(PHASE_SHIFT, turn), 0xff), phase_)
        }
    }

    /// @notice As `isIn`, of the side.
    function isOn(GameTurn turn, IDisputeGame.Side side_) internal pure returns (bool same) {
        assembly ("memory-safe") {
            same := eq(and(shr(SIDE_SHIFT, turn), 0xff), side_)
        }
    }

    function has(GameTurn turn, uint256 flag) internal pure returns (bool) {
        return GameTurn.unwrap(turn) & (flag << FLAGS_SHIFT) != 0;
    }

    // the same with another value, which has to fit

    function withGeneration(GameTurn turn, uint256 value) internal pure returns (GameTurn) {
        return _with(turn, 0, type(uint24).max, value);
    }

    function withNext(GameTurn turn, uint256 value) internal pure returns (GameTurn) {
        return _with(turn, NEXT_SHIFT, type(uint16).max, value);
    }

    function withDeadline(GameTurn turn, uint256 value) internal pure returns (GameTurn) {
        return _with(turn, DEADLINE_SHIFT, type(uint40).max, value);
    }

    function withPhase(GameTurn turn, IDisputeGame.Phase value) internal pure returns (GameTurn) {
        return _with(turn, PHASE_SHIFT, type(uint8).max, uint256(value));
    }

    function withPath(GameTurn turn, uint256 value) internal pure returns (GameTurn) {
        return _with(turn, PATH_SHIFT, type(uint64).max, value);
    }

    function withFlag(GameTurn turn, uint256 flag) internal pure returns (GameTurn) {
        return GameTurn.wrap(GameTurn.unwrap(turn) | (flag << FLAGS_SHIFT));
    }

    // descent

    /// @notice Moves of the longest game: down the largest body and the largest row, and the four around it.
    function longestMoves() internal pure returns (uint256) {
        uint256 upper = _depthOf(MAX_LAYERS + 2) + TraceShape.TENSOR_DEPTH + _depthOf(MAX_POSITIONS);
        uint256 rounds = (upper + ROUND_LEVELS - 1) / ROUND_LEVELS + (ROW_DEPTH + ROUND_LEVELS - 1) / ROUND_LEVELS;
        return 4 + 2 * rounds;
    }

    /// @notice Levels that the next round descends.
    function roundLevels(GameTurn turn) internal pure returns (uint256) {
        uint256 left = turn.height();
        return left < ROUND_LEVELS ? left : ROUND_LEVELS;
    }

    /// @notice Whether the side is a tree of tokens.
    function endsInToken(GameTurn turn) internal pure returns (bool) {
        if (turn.isOn(IDisputeGame.Side.Input)) return turn.has(FIRST);
        return turn.isOn(IDisputeGame.Side.Output) && turn.has(LAST);
    }

    /// @notice Whether the nodes at the bottom of the tree are roots of rows that the descent goes on in.
    function endsInRow(GameTurn turn) internal pure returns (bool) {
        if (turn.has(IN_ROW)) return false;
        return turn.isOn(IDisputeGame.Side.Body) || (turn.isOn(IDisputeGame.Side.Input) && !turn.has(FIRST));
    }

    /// @notice Begins the descent at the root of a side.
    /// @param generated tokens of the receipt
    function choose(GameTurn turn, IDisputeGame.Side side_, uint256 generated) internal pure returns (GameTurn) {
        turn = _with(turn, SIDE_SHIFT, type(uint8).max, uint256(side_));
        bool ofTokens = turn.isOn(IDisputeGame.Side.Output) && turn.has(LAST);
        if (ofTokens) turn = _with(turn, COUNT_SHIFT, type(uint32).max, generated);
        uint256 levels = _depthOf(turn.count());
        if (turn.isOn(IDisputeGame.Side.Body)) {
            levels += _depthOf(turn.segments()) + TraceShape.TENSOR_DEPTH;
        }
        return turn._at(levels);
    }

    /// @notice Descends to child `digit` of the round's.
    function descend(GameTurn turn, uint256 digit) internal pure returns (GameTurn) {
        uint256 levels = turn.roundLevels();
        uint256 from = turn.path();
        // The number of the row above the leaf stays where it is.
        uint256 above = turn.has(IN_ROW) ? from & ~ROW_MASK : 0;
        return turn.withPath(above | ((from - above) << levels) | digit)._at(turn.height() - levels);
    }

    /// @notice Goes on in a row with so many leaves.
    function enterRow(GameTurn turn, uint256 leaves) internal pure returns (GameTurn) {
        turn = turn.withFlag(IN_ROW).withPath(turn.path() << ROW_DEPTH);
        return _with(turn, COUNT_SHIFT, type(uint32).max, leaves)._at(_depthOf(leaves));
    }

    /// @notice Whether no row, position or leaf lies under the node.
    function isEmpty(GameTurn turn) internal pure returns (bool) {
        uint256 below = turn.height();
        if (turn.has(IN_ROW)) return ((turn.path() & ROW_MASK) << below) >= turn.count();
        uint256 slot = turn.path() << below;
        if (!turn.isOn(IDisputeGame.Side.Body)) return slot >= turn.count();

        // As TraceShape.isEmpty, which needs the model too.
        uint256 depth = _depthOf(turn.count());
        uint256 segment = slot >> (TraceShape.TENSOR_DEPTH + depth);
        uint256 last = turn.segments() - 1;
        if (segment > last) return true;
        bool isEntry = segment == 0 && turn.has(FIRST);
        bool isExit = segment == last && turn.has(EXIT);
        uint256 tensor = (slot >> depth) & ((1 << TraceShape.TENSOR_DEPTH) - 1);
        uint256 tensors = isEntry ? 1 : (isExit ? TraceShape.EXIT_TENSORS : TraceShape.LAYER_TENSORS);
        if (tensor >= tensors) return true;
        if (below >= depth) return false;
        uint256 row = slot & ((1 << depth) - 1);
        if (isExit) return row >= turn.count() || row + (1 << below) < turn.promptCount();
        bool isOfBlocks = tensor == TraceShape.BLOCKS_TENSOR && !isEntry;
        return (isOfBlocks ? row * TraceShape.BLOCK : row) >= turn.count();
    }

    /// @notice Slot and leaf of a path in a row.
    function split(uint256 path_) internal pure returns (uint256 slot, uint256 leaf) {
        return (path_ >> ROW_DEPTH, path_ & ROW_MASK);
    }

    /// @dev At a node with so many levels below it; what comes at the bottom depends on the tree.
    function _at(GameTurn turn, uint256 levels) internal pure returns (GameTurn) {
        turn = _with(turn, HEIGHT_SHIFT, type(uint8).max, levels);
        if (levels != 0) return turn.withPhase(IDisputeGame.Phase.Reveal);
        if (turn.endsInRow()) return turn.withPhase(IDisputeGame.Phase.Pick);
        bool inLeaf = turn.has(IN_ROW) || turn.endsInToken();
        return turn.withPhase(inLeaf ? IDisputeGame.Phase.Leaf : IDisputeGame.Phase.Proof);
    }

    /// @dev MerkleTree.depthOf without a loop: every move asks for some.
    function _depthOf(uint256 leaves) private pure returns (uint256) {
        return leaves < 2 ? 0 : Math.log2(leaves - 1) + 1;
    }

    function _with(GameTurn turn, uint256 shift, uint256 mask, uint256 value) private pure returns (GameTurn) {
        return GameTurn.wrap((GameTurn.unwrap(turn) & ~(mask << shift)) | (value << shift));
    }
}
