// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IStepVerifier} from "../interfaces/IStepVerifier.sol";
import {LittleEndian} from "./LittleEndian.sol";
import {Openings} from "./Openings.sol";
import {StepMath} from "./StepMath.sol";
import {TraceShape} from "./TraceShape.sol";
import {Trials} from "./Trials.sol";

/// @title Operands out of a model's weights
/// @notice Places, leaves and headers of docs/numerics.md (Commitment to a model). A header that no valid model has is
/// refused: whoever serves such a model has nothing that it could be held to.
library ModelOperands {
    using Trials for Trials.Trial;
    using Trials for Trials.Node;

    /// @notice What a tensor's leaves begin with.
    enum Leaves {
        None,
        Matrix,
        Gain,
        Rotary,
        Exp2,
        Sigmoid
    }

    uint256 private constant EMBEDDING = 1;

    // Tensors of a layer. The final part has a norm and the head.
    uint256 internal constant FIRST_NORM = 0;
    uint256 internal constant QUERY = 1; // key and value follow
    uint256 internal constant OUTPUT = 4;
    uint256 internal constant MLP_NORM = 5;
    uint256 internal constant GATE = 6; // up follows
    uint256 internal constant DOWN = 8;
    uint256 internal constant HEAD = 1;

    uint256 private constant TABLES = 0;
    uint256 private constant TABLES_TENSORS = 3;
    uint256 private constant FINAL_TENSORS = 2;
    uint256 private constant LAYER_TENSORS = 9;

    uint256 private constant LEAF = TraceShape.LEAF_BYTES;
    uint256 private constant HEADER = 8;
    uint256 private constant ENTRY = 8;
    uint256 private constant EXP2_LEAVES = 2;
    uint256 private constant SIGMOID_LEAVES = 4;

    /// @notice Opens a row of a matrix of the trial's segment as a whole. `columns` is the place of the first.
    function openMatrixRow(
        Trials.Trial memory trial,
        IStepVerifier.Opening[] calldata operands,
        uint256 tensor,
        uint256 rows,
        uint256 width,
        uint256 row
    ) internal view returns (uint256 scale, uint256 exponent, uint256 columns) {
        Trials.Node memory node = _tensor(trial, tensor).child(rows, row);
        uint256 header = _open(trial, operands, node, Leaves.Matrix, width);
        (scale, exponent) = _scaleOf(header);
        columns = header + HEADER;
    }

    /// @notice Opens column `column` of the embedding's row of a token by its leaf. `place` is the column's.
    function openEmbedding(
        Trials.Trial memory trial,
        IStepVerifier.Opening[] calldata operands,
        uint256 token,
        uint256 column
    ) internal view returns (uint256 scale, uint256 exponent, uint256 place) {
        uint256 width = trial.shape.hidden;
        Trials.Node memory node = _root(trial).child(trial.groups, EMBEDDING).child(trial.shape.vocab, token);
        uint256 header = _openLeaf(trial, operands, node, Leaves.Matrix, width, column);
        (scale, exponent) = _scaleOf(header);
        place = header + HEADER + (column % LEAF);
    }

    /// @notice Opens a gain of the trial's segment as a whole. `values` is the place of the first.
    function openGain(
        Trials.Trial memory trial,
        IStepVerifier.Opening[] calldata operands,
        uint256 tensor
    ) internal view returns (uint256 exponent, uint256 values) {
        uint256 header = _open(trial, operands, _tensor(trial, tensor), Leaves.Gain, 2 * trial.shape.hidden);
        (, exponent) = _scaleOf(header);
        values = header + HEADER;
    }

    /// @notice Opens one value of a gain of the trial's segment by its leaf.
    function openGainValue(
        Trials.Trial memory trial,
        IStepVerifier.Opening[] calldata operands,
        uint256 tensor,
        uint256 index
    ) internal view returns (int256) {
        Trials.Node memory node = _tensor(trial, tensor);
        uint256 start = 2 * index;
        uint256 header = _openLeaf(trial, operands, node, Leaves.Gain, 2 * trial.shape.hidden, start);
        return LittleEndian.int16At(header + HEADER + (start % LEAF));
    }

    /// @notice Opens the rotary row of the trial's position: cosine and sine of pair number `pair`.
    function openRotary(
        Trials.Trial memory trial,
        IStepVerifier.Opening[] calldata operands,
        uint256 pair
    ) internal view returns (int256 cos, int256 sin) {
        Trials.Node memory node = _table(trial, Leaves.Rotary).child(trial.context, trial.row);
        uint256 width = trial.shape.headDim;
        uint256 header = _open(trial, operands, node, Leaves.Rotary, 2 * width);
        uint256 place = header + HEADER + 2 * pair;
        return (LittleEndian.int16At(place), LittleEndian.int16At(place + width));
    }

    /// @notice Opens an entry of the exp2 or the sigmoid table by its leaf.
    function openEntry(
        Trials.Trial memory trial,
        IStepVerifier.Opening[] calldata operands,
        Leaves table,
        uint256 entry
    ) internal view returns (int256 value, int256 step) {
        uint256 length = LEAF * (table == Leaves.Exp2 ? EXP2_LEAVES : SIGMOID_LEAVES);
        uint256 header = _openLeaf(trial, operands, _table(trial, table), table, length, ENTRY * entry);
        uint256 place = header + HEADER + ((ENTRY * entry) % LEAF);
        return (LittleEndian.int32At(place), LittleEndian.int32At(place + 4));
    }

    /// @notice The weight of a distance; opens the table's leaf where it is read.
    function exp2neg(
        Trials.Trial memory trial,
        IStepVerifier.Opening[] calldata operands,
        uint256 d
    ) internal view returns (uint256) {
        if (d >= StepMath.FAR) return 0;
        (int256 value, int256 step) = openEntry(trial, operands, Leaves.Exp2, StepMath.exp2Entry(d));
        return uint256(StepMath.exp2neg(d, value, step));
    }

    function _root(Trials.Trial memory trial) private pure returns (Trials.Node memory) {
        return Trials.Node(trial.weightsRoot, 0, 0);
    }

    /// @dev A tensor of the trial's layer, or of the final part.
    function _tensor(Trials.Trial memory trial, uint256 tensor) private pure returns (Trials.Node memory) {
        uint256 tensors = trial.kind == TraceShape.Kind.Exit ? FINAL_TENSORS : LAYER_TENSORS;
        return _root(trial).child(trial.groups, trial.group).child(tensors, tensor);
    }

    function _table(Trials.Trial memory trial, Leaves table) private pure returns (Trials.Node memory) {
        uint256 number = uint256(table) - uint256(Leaves.Rotary);
        return _root(trial).child(trial.groups, TABLES).child(TABLES_TENSORS, number);
    }

    /// @dev The leaf, of those that `length` bytes below a node are cut into, that holds number `start` of them.
    function _openLeaf(
        Trials.Trial memory trial,
        IStepVerifier.Opening[] calldata operands,
        Trials.Node memory node,
        Leaves kind,
        uint256 length,
        uint256 start
    ) private view returns (uint256 header) {
        uint256 number = start / LEAF;
        uint256 left = length - number * LEAF;
        return _open(trial, operands, node.child(_leaves(length), number), kind, left < LEAF ? left : LEAF);
    }

    /// @dev All `length` bytes below a node, with one header in front that every leaf has.
    function _open(
        Trials.Trial memory trial,
        IStepVerifier.Opening[] calldata operands,
        Trials.Node memory node,
        Leaves kind,
        uint256 length
    ) private view returns (uint256 header) {
        header = Trials.allocate(HEADER + length);
        uint256 hashes = Trials.allocate(32 * (_leaves(length) + 1));
        IStepVerifier.Opening calldata opening = trial.take(operands, HEADER + length, header);
        uint256 prefix = uint64(bytes8(opening.data[:HEADER]));
        uint256 end = Openings.hashLeaves(header + HEADER, length, prefix, true, hashes);
        trial.prove(opening, Openings.fold(hashes, end), node);

        bool isPossible = LittleEndian.uintAt(header + 6, 2) == uint256(kind);
        if (kind == Leaves.Matrix) {
            (uint256 scale, uint256 exponent) = _scaleOf(header);
            isPossible = isPossible && scale != 0 && scale <= 1 << 20 && exponent >= 16 && exponent <= 60;
        }
        trial.demand(isPossible);
    }

    function _scaleOf(uint256 header) private pure returns (uint256 scale, uint256 exponent) {
        return (LittleEndian.uintAt(header, 4), LittleEndian.uintAt(header + 4, 2));
    }

    function _leaves(uint256 length) private pure returns (uint256) {
        return (length + LEAF - 1) / LEAF;
    }
}
