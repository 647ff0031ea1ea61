// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {SignedMath} from "@openzeppelin/contracts/utils/math/SignedMath.sol";

import {IStepVerifier} from "../../interfaces/IStepVerifier.sol";
import {LittleEndian} from "../LittleEndian.sol";
import {ModelOperands} from "../ModelOperands.sol";
import {Reductions} from "../Reductions.sol";
import {StepMath} from "../StepMath.sol";
import {TraceShape} from "../TraceShape.sol";
import {Trials} from "../Trials.sol";

/// @title Elements around attention and sampling: embedding, norms, linears, additions, SwiGLU
/// @notice The tables of docs/trace.md, op by op. Results have the element's bytes at the bottom.
library ResidualSteps {
    using ModelOperands for Trials.Trial;
    using Trials for Trials.Trial;

    /// @dev Least exponent of an activation's scale: below it the shift of a linear could be negative.
    int256 private constant LEAST_EXPONENT = 14;

    function expected(
        Trials.Trial memory trial,
        IStepVerifier.Opening[] calldata operands
    ) internal view returns (uint256) {
        if (trial.kind == TraceShape.Kind.Entry) return _embed(trial, operands);
        uint256 tensor = trial.tensor;
        if (tensor == 0 || tensor == 21) return _norm(trial, operands);
        if (tensor == 20 || tensor == 27) return _add(trial, operands);
        if (tensor == 18 || tensor == 25) return _quantise(trial, operands);
        if (tensor == 24) return _swiglu(trial, operands);
        return _linear(trial, operands);
    }

    function _embed(
        Trials.Trial memory trial,
        IStepVerifier.Opening[] calldata operands
    ) private view returns (uint256) {
        uint256 token = trial.openToken(operands);
        trial.demand(token < trial.shape.vocab);
        (uint256 scale, uint256 exponent, uint256 place) = trial.openEmbedding(operands, token, trial.index);
        return uint256(StepMath.embed(LittleEndian.int8At(place), scale, exponent));
    }

    /// @dev Scale or value of a normalised row.
    function _norm(
        Trials.Trial memory trial,
        IStepVerifier.Opening[] calldata operands
    ) private view returns (uint256) {
        // A norm is the first tensor of a layer and of the exit, whose first weights its gain is.
        (Trials.Row memory x, uint256 gain) = trial.tensor == 0
            ? (trial.residualOf(), ModelOperands.FIRST_NORM)
            : (trial.rowOf(20), ModelOperands.MLP_NORM);
        if (trial.part == 0) {
            uint256 hidden = trial.shape.hidden;
            uint256 place = trial.openRow(operands, x);
            (uint256 exponent, uint256 gains) = trial.openGain(operands, gain);
            (uint256 largest, uint256 square, uint256 shift) = Reductions.normOf(place, gains, hidden);
            return StepMath.pack(largest, StepMath.normScale(square, shift, largest, hidden, trial.epsilon, exponent));
        }
        int256 value = LittleEndian.int32At(trial.openElement(operands, x, 0, trial.index));
        value *= trial.openGainValue(operands, gain, trial.index);
        return _quantised(trial, operands, value);
    }

    /// @dev Scale or value of a quantised row, which is the tensor before.
    function _quantise(
        Trials.Trial memory trial,
        IStepVerifier.Opening[] calldata operands
    ) private view returns (uint256) {
        Trials.Row memory v = trial.rowOf(trial.tensor - 1);
        if (trial.part == 0) {
            uint256 largest = Reductions.largestOf(trial.openRow(operands, v), v.first.count);
            return StepMath.pack(largest, StepMath.vectorScale(largest, StepMath.ACTIVATION));
        }
        int256 value = LittleEndian.int32At(trial.openElement(operands, v, 0, trial.index));
        return _quantised(trial, operands, value);
    }

    function _linear(
        Trials.Trial memory trial,
        IStepVerifier.Opening[] calldata operands
    ) private view returns (uint256) {
        (uint256 source, uint256 matrix) = _factorsOf(trial);
        Trials.Row memory row = trial.rowOf(source);
        uint256 width = row.second.count;
        uint256 scale = trial.openRow(operands, row);
        int256 e = LittleEndian.int32At(scale + 12);
        trial.demand(e >= LEAST_EXPONENT);
        (uint256 rowScale, uint256 exponent, uint256 columns) = trial.openMatrixRow(
            operands,
            matrix,
            trial.rowOf(trial.tensor).first.count,
            width,
            trial.index
        );
        int256 acc = Reductions.dot(scale + row.first.size, columns, width);
        uint256 m = LittleEndian.uintAt(scale + 8, 4);
        return uint256(StepMath.linear(acc, rowScale, m, exponent + uint256(e) - 29));
    }

    /// @dev A residual and the tensor before.
    function _add(Trials.Trial memory trial, IStepVerifier.Opening[] calldata operands) private view returns (uint256) {
        Trials.Row memory x = trial.tensor == 20 ? trial.residualOf() : trial.rowOf(20);
        Trials.Row memory y = trial.rowOf(trial.tensor - 1);
        int256 sum = LittleEndian.int32At(trial.openElement(operands, x, 0, trial.index));
        sum += LittleEndian.int32At(trial.openElement(operands, y, 0, trial.index));
        return uint256(StepMath.sat32(sum));
    }

    function _swiglu(
        Trials.Trial memory trial,
        IStepVerifier.Opening[] calldata operands
    ) private view returns (uint256) {
        int256 gate = LittleEndian.int32At(trial.openElement(operands, trial.rowOf(22), 0, trial.index));
        int256 up = LittleEndian.int32At(trial.openElement(operands, trial.rowOf(23), 0, trial.index));
        uint256 a = SignedMath.abs(gate);
        int256 s = int256(StepMath.ONE);
        if (a < StepMath.STEEP) {
            uint256 entry = StepMath.sigmoidEntry(a);
            (int256 value, int256 step) = trial.openEntry(operands, ModelOperands.Leaves.Sigmoid, entry);
            s = StepMath.sigmoidOf(a, value, step);
        }
        return uint256(StepMath.swiglu(gate, up, s));
    }

    /// @dev The quantised tensor that a linear multiplies, and its matrix among the segment's weights.
    function _factorsOf(Trials.Trial memory trial) private pure returns (uint256 source, uint256 matrix) {
        uint256 tensor = trial.tensor;
        if (trial.kind == TraceShape.Kind.Exit) return (0, ModelOperands.HEAD);
        if (tensor == 19) return (18, ModelOperands.OUTPUT);
        if (tensor == 26) return (25, ModelOperands.DOWN);
        // Query, key, value, and gate, up have the order of their matrices.
        return tensor <= 3 ? (0, ModelOperands.QUERY + tensor - 1) : (21, ModelOperands.GATE + tensor - 22);
    }

    /// @dev `q` of a value of the trial's own row, whose scale is the first part.
    function _quantised(
        Trials.Trial memory trial,
        IStepVerifier.Opening[] calldata operands,
        int256 value
    ) private view returns (uint256) {
        uint256 place = trial.openElement(operands, trial.rowOf(trial.tensor), 0, 0);
        uint256 largest = LittleEndian.uintAt(place, 8);
        trial.demand(largest != 0);
        return uint256(StepMath.quantise(value, StepMath.ACTIVATION, largest));
    }
}
