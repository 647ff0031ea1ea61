// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IDisputeGame} from "../interfaces/IDisputeGame.sol";
import {MerkleTree} from "./MerkleTree.sol";
import {TraceShape} from "./TraceShape.sol";

/// @title Where a game is, in one word, and the steps from there
library GameState {
    using GameState for Turn;
    using TraceShape for TraceShape.Shape;

    /// @notice A game's turn. The counts are those of the tree that the descent is in: of the receipt's positions, of its
    /// generated tokens (output of a last shard), or of the leaves of a row.
    struct Turn {
        uint256 generation; // 24 bits: games that the place has had
        uint256 next; // 16 bits: after the end, the next free place
        uint256 deadline; // 40 bits
        IDisputeGame.Phase phase; // 8 bits
        IDisputeGame.Side side; // 8 bits
        uint256 height; // 8 bits: levels below the node
        uint256 path; // 64 bits: as in IDisputeGame.Game; a demand's chunk
        uint256 count; // 32 bits
        uint256 promptCount; // 24 bits
        uint256 segments; // 16 bits
        uint256 flags; // 8 bits
    }

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

    uint256 private constant ROW_MASK = (1 << ROW_DEPTH) - 1;

    function pack(Turn memory turn) internal pure returns (uint256 word) {
        word = turn.generation | (turn.next << 24) | (turn.deadline << 40);
        word |= (uint256(turn.phase) << 80) | (uint256(turn.side) << 88) | (turn.height << 96);
        word |= (turn.path << 104) | (turn.count << 168) | (turn.promptCount << 200);
        word |= (turn.segments << 224) | (turn.flags << 240);
    }

    function unpack(uint256 word) internal pure returns (Turn memory turn) {
        turn.generation = uint24(word);
        turn.next = uint16(word >> 24);
        turn.deadline = uint40(word >> 40);
        turn.phase = IDisputeGame.Phase(uint8(word >> 80));
        turn.side = IDisputeGame.Side(uint8(word >> 88));
        turn.height = uint8(word >> 96);
        turn.path = uint64(word >> 104);
        turn.count = uint32(word >> 168);
        turn.promptCount = uint24(word >> 200);
        turn.segments = uint16(word >> 224);
        turn.flags = uint8(word >> 240);
    }

    /// @dev A comparison in Solidity checks each time that memory holds a value of the enumeration, at eighty bytes of code.
    function isIn(Turn memory turn, IDisputeGame.Phase phase) internal pure returns (bool same) {
        assembly ("memory-safe") {
            same := eq(mload(add(turn, 0x60)), phase)
        }
    }

    /// @notice As `isIn`, of the side.
    function isOn(Turn memory turn, IDisputeGame.Side side) internal pure returns (bool same) {
        assembly ("memory-safe") {
            same := eq(mload(add(turn, 0x80)), side)
        }
    }

    function has(Turn memory turn, uint256 flag) internal pure returns (bool) {
        return turn.flags & flag != 0;
    }

    /// @notice Moves of the longest game: down the largest body and the largest row, and the four around it.
    function longestMoves() internal pure returns (uint256) {
        uint256 upper =
            MerkleTree.depthOf(MAX_LAYERS + 2) + TraceShape.TENSOR_DEPTH + MerkleTree.depthOf(MAX_POSITIONS);
        uint256 rounds = (upper + ROUND_LEVELS - 1) / ROUND_LEVELS + (ROW_DEPTH + ROUND_LEVELS - 1) / ROUND_LEVELS;
        return 4 + 2 * rounds;
    }

    /// @notice Levels that the next round descends.
    function roundLevels(Turn memory turn) internal pure returns (uint256) {
        return turn.height < ROUND_LEVELS ? turn.height : ROUND_LEVELS;
    }

    /// @notice Whether the side is a tree of tokens.
    function endsInToken(Turn memory turn) internal pure returns (bool) {
        if (turn.isOn(IDisputeGame.Side.Input)) return turn.has(FIRST);
        return turn.isOn(IDisputeGame.Side.Output) && turn.has(LAST);
    }

    /// @notice Whether the nodes at the bottom of the tree are roots of rows that the descent goes on in.
    function endsInRow(Turn memory turn) internal pure returns (bool) {
        if (turn.has(IN_ROW)) return false;
        return turn.isOn(IDisputeGame.Side.Body) || (turn.isOn(IDisputeGame.Side.Input) && !turn.has(FIRST));
    }

    /// @notice Begins the descent at the root of a side.
    /// @param generated tokens of the receipt
    function choose(Turn memory turn, IDisputeGame.Side side, uint256 generated) internal pure {
        turn.side = side;
        turn.path = 0;
        if (turn.endsInToken() && turn.isOn(IDisputeGame.Side.Output)) turn.count = generated;
        turn.height = turn.isOn(IDisputeGame.Side.Body) ? shapeOf(turn).upperDepth() : MerkleTree.depthOf(turn.count);
        turn.phase = turn.height == 0 ? turn.bottom() : IDisputeGame.Phase.Reveal;
    }

    /// @notice Descends to child `digit` of the round's.
    function descend(Turn memory turn, uint256 digit) internal pure {
        uint256 levels = turn.roundLevels();
        turn.height -= levels;
        // The number of the row above the leaf stays where it is.
        uint256 above = turn.has(IN_ROW) ? turn.path & ~ROW_MASK : 0;
        turn.path = above | ((turn.path - above) << levels) | digit;
        turn.phase = turn.height == 0 ? turn.bottom() : IDisputeGame.Phase.Reveal;
    }

    /// @notice Goes on in a row with so many leaves.
    function enterRow(Turn memory turn, uint256 leaves) internal pure {
        turn.flags |= IN_ROW;
        turn.path <<= ROW_DEPTH;
        turn.count = leaves;
        turn.height = MerkleTree.depthOf(leaves);
        turn.phase = turn.height == 0 ? IDisputeGame.Phase.Leaf : IDisputeGame.Phase.Reveal;
    }

    /// @notice What comes at the bottom of a tree.
    function bottom(Turn memory turn) internal pure returns (IDisputeGame.Phase) {
        if (turn.endsInRow()) return IDisputeGame.Phase.Pick;
        bool inLeaf = turn.has(IN_ROW) || turn.endsInToken();
        return inLeaf ? IDisputeGame.Phase.Leaf : IDisputeGame.Phase.Proof;
    }

    /// @notice Whether no row, position or leaf lies under the node.
    function isEmpty(Turn memory turn) internal pure returns (bool) {
        if (turn.has(IN_ROW)) return ((turn.path & ROW_MASK) << turn.height) >= turn.count;
        if (turn.isOn(IDisputeGame.Side.Body)) return shapeOf(turn).isEmpty(turn.height, turn.path);
        return (turn.path << turn.height) >= turn.count;
    }

    /// @notice Slot and leaf of a path in a row.
    function split(uint256 path) internal pure returns (uint256 slot, uint256 leaf) {
        return (path >> ROW_DEPTH, path & ROW_MASK);
    }

    /// @dev As far as the rows go: what they hold depends on the model.
    function shapeOf(Turn memory turn) internal pure returns (TraceShape.Shape memory shape) {
        shape.entries = turn.has(FIRST) ? 1 : 0;
        shape.exits = turn.has(EXIT) ? 1 : 0;
        shape.layers = turn.segments - shape.entries - shape.exits;
        shape.positions = turn.count;
        shape.promptCount = turn.promptCount;
        shape.depth = MerkleTree.depthOf(turn.count);
    }
}
