// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IStepVerifier} from "../interfaces/IStepVerifier.sol";
import {LittleEndian} from "./LittleEndian.sol";
import {MerkleTree} from "./MerkleTree.sol";
import {Openings} from "./Openings.sol";
import {TraceShape} from "./TraceShape.sol";

/// @title One element on trial, and its operands as they are opened one after the other
/// @notice Every function that opens something takes the next operand, shows that it lies where it has to, and returns
/// the place in memory of what was asked for. Operands out of the weights are opened by ModelOperands.
library Trials {
    using TraceShape for TraceShape.Shape;

    struct Trial {
        TraceShape.Shape shape;
        TraceShape.Kind kind;
        uint256 segment;
        uint256 tensor;
        uint256 row;
        uint256 part;
        uint256 index; // of the element in its part
        uint256 element; // its bytes as a number
        uint256 size; // how many they are
        uint256 group; // which child of the weights root has the segment's weights
        uint256 groups; // how many it has
        bytes32 bodyRoot;
        bytes32 inputRoot;
        bytes32 weightsRoot;
        uint256 context;
        uint256 epsilon;
        uint256 opened; // operands so far
    }

    /// @notice A node of a tree: which of those at its depth.
    struct Node {
        bytes32 root;
        uint256 number;
        uint256 depth;
    }

    /// @notice A row of the trace, or a residual row of the input.
    struct Row {
        Node node;
        TraceShape.Part first;
        TraceShape.Part second;
    }

    uint256 private constant LEAF = TraceShape.LEAF_BYTES;
    /// @dev Children 0 to 2 of the weights root are the tables, the embedding and the final part.
    uint256 private constant FINAL = 2;
    uint256 private constant FIRST_LAYER = 3;

    /// @notice Raises NoSuchStep and LeafLength.
    function begin(
        IStepVerifier.Case calldata case_,
        IStepVerifier.Step calldata step,
        bytes calldata leaf
    ) internal pure returns (Trial memory trial) {
        TraceShape.Shape memory shape = TraceShape.shapeOf(
            case_.model,
            case_.start,
            case_.end,
            case_.positions,
            case_.promptCount,
            case_.generated
        );
        trial.shape = shape;
        trial.kind = shape.kindOf(step.segment);
        trial.segment = step.segment;
        trial.tensor = step.tensor;
        trial.row = step.row;
        (uint256 first, uint256 end) = shape.rowsOf(trial.kind, step.tensor);
        if (step.row < first || step.row >= end) revert IStepVerifier.NoSuchStep(step);
        TraceShape.Part memory held;
        (trial.part, trial.index, held) = shape.leafAt(trial.kind, step.tensor, step.leaf);
        if (step.element >= held.count) revert IStepVerifier.NoSuchStep(step);
        trial.index += step.element;
        trial.size = held.size;

        uint256 length = held.size * held.count;
        if (leaf.length != length) revert IStepVerifier.LeafLength(leaf.length, length);
        uint256 place = allocate(held.size);
        _load(leaf[step.element * held.size:(step.element + 1) * held.size], place);
        trial.element = LittleEndian.uintAt(place, held.size);

        uint256 layerGroup = FIRST_LAYER + uint256(case_.start) + trial.segment - shape.entries;
        trial.group = trial.kind == TraceShape.Kind.Exit ? FINAL : layerGroup;
        trial.groups = FIRST_LAYER + uint256(case_.model.layers);
        trial.bodyRoot = case_.bodyRoot;
        trial.inputRoot = case_.inputRoot;
        trial.weightsRoot = case_.model.weightsRoot;
        trial.context = case_.model.context;
        trial.epsilon = case_.model.epsilon;
    }

    /// @notice Whether the element is not what it has to be. Operands that nothing depends on are refused, so that nobody
    /// takes them for part of the proof.
    /// @param expected the lowest bytes are the element's
    function isWrong(
        Trial memory trial,
        IStepVerifier.Opening[] calldata operands,
        uint256 expected
    ) internal pure returns (bool) {
        if (trial.opened != operands.length) revert IStepVerifier.OperandCount(operands.length, trial.opened);
        return expected & ((1 << (8 * trial.size)) - 1) != trial.element;
    }

    /// @notice Refuses the operand that was opened last, unless it holds what a valid one can.
    function demand(Trial memory trial, bool isPossible) internal pure {
        if (!isPossible) revert IStepVerifier.OperandOutOfRange(trial.opened - 1);
    }

    /// @notice A row of the trial's own segment and row number.
    function rowOf(Trial memory trial, uint256 tensor) internal pure returns (Row memory) {
        return rowAt(trial, trial.segment, tensor, trial.row);
    }

    function rowAt(
        Trial memory trial,
        uint256 segment,
        uint256 tensor,
        uint256 number
    ) internal pure returns (Row memory row) {
        TraceShape.Shape memory shape = trial.shape;
        row.node = Node(trial.bodyRoot, shape.slotOf(segment, tensor, number), shape.upperDepth());
        (row.first, row.second) = shape.partsOf(shape.kindOf(segment), tensor);
    }

    /// @notice The residual row that enters the segment at the trial's position.
    function residualOf(Trial memory trial) internal pure returns (Row memory row) {
        if (trial.segment != 0) {
            uint256 before = trial.segment - 1;
            uint256 last = TraceShape.tensorsOf(trial.shape.kindOf(before)) - 1;
            return rowAt(trial, before, last, trial.row);
        }
        row.node = Node(trial.inputRoot, trial.row, trial.shape.depth);
        row.first = TraceShape.Part(4, trial.shape.hidden);
    }

    /// @notice Opens one element by its leaf.
    function openElement(
        Trial memory trial,
        IStepVerifier.Opening[] calldata operands,
        Row memory row,
        uint256 part,
        uint256 index
    ) internal view returns (uint256 place) {
        return openElements(trial, operands, row, part, index, 1);
    }

    /// @notice Opens neighbours, at least one, by all leaves that hold them.
    function openElements(
        Trial memory trial,
        IStepVerifier.Opening[] calldata operands,
        Row memory row,
        uint256 part,
        uint256 index,
        uint256 count
    ) internal view returns (uint256 place) {
        TraceShape.Part memory held = part == 0 ? row.first : row.second;
        uint256 leaf = (index * held.size) / LEAF;
        uint256 end = ((index + count) * held.size + LEAF - 1) / LEAF;
        uint256 to = allocate((end - leaf) * LEAF);
        place = to + ((index * held.size) % LEAF);

        uint256 before = TraceShape.leavesOf(row.first);
        uint256 leaves = before + TraceShape.leavesOf(row.second);
        if (part == 0) before = 0;
        uint256 left = held.size * held.count - leaf * LEAF;
        for (; leaf < end; ++leaf) {
            uint256 length = left < LEAF ? left : LEAF;
            openLeaf(trial, operands, child(row.node, leaves, before + leaf), length, to);
            to += LEAF;
            left -= length;
        }
    }

    /// @notice Opens a row as a whole: its parts follow each other in memory.
    function openRow(
        Trial memory trial,
        IStepVerifier.Opening[] calldata operands,
        Row memory row
    ) internal view returns (uint256 place) {
        uint256 first = row.first.size * row.first.count;
        uint256 second = row.second.size * row.second.count;
        place = allocate(first + second);
        uint256 hashes = allocate(32 * (TraceShape.leavesOf(row.first) + TraceShape.leavesOf(row.second) + 1));
        IStepVerifier.Opening calldata opening = take(trial, operands, first + second, place);
        uint256 end = Openings.hashLeaves(place, first, 0, false, hashes);
        end = Openings.hashLeaves(place + first, second, 0, false, end);
        prove(trial, opening, Openings.fold(hashes, end), row.node);
    }

    /// @notice Opens the token that enters at the trial's position.
    function openToken(
        Trial memory trial,
        IStepVerifier.Opening[] calldata operands
    ) internal view returns (uint256 token) {
        uint256 place = allocate(4);
        openLeaf(trial, operands, Node(trial.inputRoot, trial.row, trial.shape.depth), 4, place);
        return LittleEndian.uintAt(place, 4);
    }

    /// @notice Opens a leaf and puts its bytes at a place in memory.
    function openLeaf(
        Trial memory trial,
        IStepVerifier.Opening[] calldata operands,
        Node memory node,
        uint256 length,
        uint256 place
    ) internal view {
        IStepVerifier.Opening calldata opening = take(trial, operands, length, place);
        uint256 hashes = allocate(64);
        uint256 end = Openings.hashLeaves(place, length, 0, false, hashes);
        prove(trial, opening, Openings.fold(hashes, end), node);
    }

    /// @notice Takes the next operand and puts its bytes at a place in memory.
    function take(
        Trial memory trial,
        IStepVerifier.Opening[] calldata operands,
        uint256 length,
        uint256 place
    ) internal pure returns (IStepVerifier.Opening calldata opening) {
        uint256 number = trial.opened++;
        if (number >= operands.length) revert IStepVerifier.OperandCount(operands.length, trial.opened);
        opening = operands[number];
        if (opening.data.length != length) {
            revert IStepVerifier.OperandLength(number, opening.data.length, length);
        }
        _load(opening.data, place);
    }

    /// @notice Refuses the operand that was taken last unless its hash is that of a node.
    function prove(
        Trial memory trial,
        IStepVerifier.Opening calldata opening,
        bytes32 hash,
        Node memory node
    ) internal view {
        bool isThere =
            opening.siblings.length == node.depth && Openings.climb(hash, node.number, opening.siblings) == node.root;
        if (!isThere) revert IStepVerifier.OperandRefused(trial.opened - 1);
    }

    /// @notice Leaf or child number `index` of the `count` below a node.
    function child(Node memory node, uint256 count, uint256 index) internal pure returns (Node memory) {
        uint256 depth = MerkleTree.depthOf(count);
        return Node(node.root, (node.number << depth) | index, node.depth + depth);
    }

    /// @notice Memory of at least that length, whatever is in it.
    function allocate(uint256 length) internal pure returns (uint256 place) {
        assembly ("memory-safe") {
            place := mload(0x40)
            mstore(0x40, add(place, and(add(length, 31), not(31))))
        }
    }

    /// @dev Copies bytes to a place in memory.
    function _load(bytes calldata data, uint256 place) private pure {
        assembly ("memory-safe") {
            calldatacopy(place, data.offset, data.length)
        }
    }
}
