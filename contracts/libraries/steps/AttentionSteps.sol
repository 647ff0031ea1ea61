// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IStepVerifier} from "../../interfaces/IStepVerifier.sol";
import {LittleEndian} from "../LittleEndian.sol";
import {ModelOperands} from "../ModelOperands.sol";
import {Reductions} from "../Reductions.sol";
import {StepMath} from "../StepMath.sol";
import {TraceShape} from "../TraceShape.sol";
import {Trials} from "../Trials.sol";

/// @title Elements of attention: tensors 4 to 17 of a layer
/// @notice The table of docs/trace.md, row by row, with its names: `h` a query head, `g` its kv head, `j` a position, `t`
/// a block, `r = j - 256 t`. Results have the element's bytes at the bottom.
library AttentionSteps {
    using ModelOperands for Trials.Trial;
    using TraceShape for TraceShape.Shape;
    using Trials for Trials.Trial;

    uint256 private constant BLOCK = TraceShape.BLOCK;
    /// @dev Least exponent of a query's scale: below it the shift of a score could be negative.
    int256 private constant LEAST_EXPONENT = 12;
    int256 private constant BEHIND = -(1 << 31);

    function expected(
        Trials.Trial memory trial,
        IStepVerifier.Opening[] calldata operands
    ) internal view returns (uint256) {
        uint256 tensor = trial.tensor;
        if (tensor <= 5) return uint256(_rotary(trial, operands));
        if (tensor == 6) return _query(trial, operands);
        if (tensor == 7) return _cached(trial, operands, 5);
        if (tensor == 8) return _cached(trial, operands, 3);
        if (tensor == 9) return _valueBlock(trial, operands);
        if (tensor == 10) return uint256(_score(trial, operands));
        if (tensor == 11) return uint256(_maximum(trial, operands));
        if (tensor == 12) return _weight(trial, operands);
        if (tensor == 13) return _sum(trial, operands);
        if (tensor == 14) return _largest(trial, operands);
        if (tensor == 15) return _probability(trial, operands);
        if (tensor == 16) return _partialSum(trial, operands);
        return uint256(_mixed(trial, operands));
    }

    function _rotary(
        Trials.Trial memory trial,
        IStepVerifier.Opening[] calldata operands
    ) private view returns (int256) {
        uint256 half = trial.shape.headDim / 2;
        uint256 i = trial.index % trial.shape.headDim;
        uint256 pair = i % half;
        Trials.Row memory row = trial.rowOf(trial.tensor == 4 ? 1 : 2);
        uint256 place = trial.openElements(operands, row, 0, trial.index - i + pair, half + 1);
        int256 a = LittleEndian.int32At(place);
        int256 b = LittleEndian.int32At(place + 4 * half);
        (int256 cos, int256 sin) = trial.openRotary(operands, pair);
        return i < half ? StepMath.rotary(a, cos, b, -sin) : StepMath.rotary(b, cos, a, sin);
    }

    function _query(
        Trials.Trial memory trial,
        IStepVerifier.Opening[] calldata operands
    ) private view returns (uint256) {
        if (trial.part == 0) {
            uint256 largest = _headMaximum(trial, operands, 4);
            return StepMath.pack(largest, StepMath.queryScale(largest, trial.shape.headDim));
        }
        int256 value = LittleEndian.int32At(trial.openElement(operands, trial.rowOf(4), 0, trial.index));
        return _quantised(trial, operands, value, StepMath.ACTIVATION, 8);
    }

    /// @dev A key or a value.
    function _cached(
        Trials.Trial memory trial,
        IStepVerifier.Opening[] calldata operands,
        uint256 source
    ) private view returns (uint256) {
        if (trial.part == 0) return _headMaximum(trial, operands, source);
        int256 value = LittleEndian.int32At(trial.openElement(operands, trial.rowOf(source), 0, trial.index));
        return _quantised(trial, operands, value, StepMath.CACHED, 4);
    }

    function _valueBlock(
        Trials.Trial memory trial,
        IStepVerifier.Opening[] calldata operands
    ) private view returns (uint256) {
        uint256 j = trial.row * BLOCK + (trial.index % BLOCK);
        if (j >= trial.shape.positions) return 0;
        Trials.Row memory value = trial.rowAt(trial.segment, 8, j);
        uint256 place = trial.openElement(operands, value, trial.part, trial.index / BLOCK);
        return LittleEndian.uintAt(place, trial.size);
    }

    function _score(
        Trials.Trial memory trial,
        IStepVerifier.Opening[] calldata operands
    ) private view returns (int256) {
        (uint256 h, uint256 j) = _headAndPosition(trial);
        if (j > trial.row) return BEHIND;
        uint256 headDim = trial.shape.headDim;
        Trials.Row memory row = trial.rowOf(6);
        uint256 scale = trial.openElement(operands, row, 0, h);
        int256 e = LittleEndian.int32At(scale + 12);
        trial.demand(e >= LEAST_EXPONENT);
        uint256 query = trial.openElements(operands, row, 1, h * headDim, headDim);
        row = trial.rowAt(trial.segment, 7, j);
        uint256 g = _kvHead(trial, h);
        uint256 largest = LittleEndian.uintAt(trial.openElement(operands, row, 0, g), 4);
        trial.demand(largest != 0);
        uint256 key = trial.openElements(operands, row, 1, g * headDim, headDim);
        uint256 m = LittleEndian.uintAt(scale + 8, 4);
        return StepMath.score(Reductions.dot(query, key, headDim), m, e, largest);
    }

    function _maximum(
        Trials.Trial memory trial,
        IStepVerifier.Opening[] calldata operands
    ) private view returns (int256) {
        (uint256 place, uint256 count) = trial.part == 0
            ? (_openBlock(trial, operands, 10, trial.index), BLOCK)
            : _openBlocks(trial, operands);
        return Reductions.maxInt32(place, count);
    }

    function _weight(
        Trials.Trial memory trial,
        IStepVerifier.Opening[] calldata operands
    ) private view returns (uint256) {
        (uint256 h, uint256 j) = _headAndPosition(trial);
        if (j > trial.row) return 0;
        int256 d = -LittleEndian.int32At(trial.openElement(operands, trial.rowOf(10), 0, trial.index));
        d += LittleEndian.int32At(trial.openElement(operands, trial.rowOf(11), 1, h));
        trial.demand(d >= 0);
        return trial.exp2neg(operands, uint256(d));
    }

    function _sum(Trials.Trial memory trial, IStepVerifier.Opening[] calldata operands) private view returns (uint256) {
        if (trial.part == 0) return Reductions.sumUint(_openBlock(trial, operands, 12, trial.index), BLOCK, 4);
        (uint256 place, uint256 count) = _openBlocks(trial, operands);
        return Reductions.sumUint(place, count, 8);
    }

    function _largest(
        Trials.Trial memory trial,
        IStepVerifier.Opening[] calldata operands
    ) private view returns (uint256) {
        if (trial.part == 0) {
            uint256 blocks = trial.shape.blocksOf();
            uint256 weights = _openBlock(trial, operands, 12, trial.index);
            uint256 g = _kvHead(trial, trial.index / blocks);
            Trials.Row memory values = trial.rowAt(trial.segment, 9, trial.index % blocks);
            return Reductions.maxWeighted(weights, trial.openElement(operands, values, 0, g * BLOCK), BLOCK);
        }
        (uint256 place, uint256 count) = _openBlocks(trial, operands);
        uint256 largest = Reductions.maxUint(place, count, 8);
        return largest == 0 ? 1 : largest;
    }

    function _probability(
        Trials.Trial memory trial,
        IStepVerifier.Opening[] calldata operands
    ) private view returns (uint256) {
        (uint256 h, uint256 j) = _headAndPosition(trial);
        uint256 w = LittleEndian.uintAt(trial.openElement(operands, trial.rowOf(12), 0, trial.index), 4);
        Trials.Row memory values = trial.rowAt(trial.segment, 9, j / BLOCK);
        uint256 place = trial.openElement(operands, values, 0, _kvHead(trial, h) * BLOCK + (j % BLOCK));
        uint256 a = Reductions.weighted(w, LittleEndian.uintAt(place, 4));
        uint256 largest = _openTotal(trial, operands, 14, h);
        return uint256(StepMath.quantise(int256(a), StepMath.PROBABILITY, largest));
    }

    function _partialSum(
        Trials.Trial memory trial,
        IStepVerifier.Opening[] calldata operands
    ) private view returns (uint256) {
        uint256 blocks = trial.shape.blocksOf();
        (uint256 above, uint256 t) = (trial.index / blocks, trial.index % blocks);
        uint256 headDim = trial.shape.headDim;
        (uint256 h, uint256 i) = (above / headDim, above % headDim);
        uint256 probabilities = _openBlock(trial, operands, 15, h * blocks + t);
        Trials.Row memory values = trial.rowAt(trial.segment, 9, t);
        uint256 place = trial.openElement(operands, values, 1, (_kvHead(trial, h) * headDim + i) * BLOCK);
        return uint256(Reductions.dot(probabilities, place, BLOCK));
    }

    function _mixed(
        Trials.Trial memory trial,
        IStepVerifier.Opening[] calldata operands
    ) private view returns (int256) {
        uint256 blocks = trial.shape.blocksOf();
        uint256 place = trial.openElements(operands, trial.rowOf(16), 0, trial.index * blocks, blocks);
        uint256 h = trial.index / trial.shape.headDim;
        uint256 total = _openTotal(trial, operands, 13, h);
        StepMath.Scale memory scale = StepMath.scaleOf(_openTotal(trial, operands, 14, h), StepMath.CACHED * total);
        trial.demand(scale.e >= -6);
        return StepMath.mixed(Reductions.sumInt32(place, blocks), scale);
    }

    /// @dev `q` of a value of the trial's own row, whose maxima, one for each head, are the first part.
    /// @param size bytes of a maximum
    function _quantised(
        Trials.Trial memory trial,
        IStepVerifier.Opening[] calldata operands,
        int256 value,
        uint256 limit,
        uint256 size
    ) private view returns (uint256) {
        uint256 h = trial.index / trial.shape.headDim;
        uint256 place = trial.openElement(operands, trial.rowOf(trial.tensor), 0, h);
        uint256 largest = LittleEndian.uintAt(place, size);
        trial.demand(largest != 0);
        return uint256(StepMath.quantise(value, limit, largest));
    }

    /// @dev `M` of the head whose number is the trial's index.
    function _headMaximum(
        Trials.Trial memory trial,
        IStepVerifier.Opening[] calldata operands,
        uint256 source
    ) private view returns (uint256) {
        uint256 headDim = trial.shape.headDim;
        uint256 place = trial.openElements(operands, trial.rowOf(source), 0, trial.index * headDim, headDim);
        return Reductions.largestOf(place, headDim);
    }

    /// @dev Block number `index` of a tensor over `(h, j)`, all of whose elements lie in one leaf.
    function _openBlock(
        Trials.Trial memory trial,
        IStepVerifier.Opening[] calldata operands,
        uint256 tensor,
        uint256 index
    ) private view returns (uint256 place) {
        return trial.openElement(operands, trial.rowOf(tensor), 0, index * BLOCK);
    }

    /// @dev What the first part has of the head whose number is the trial's index, one element for each block.
    function _openBlocks(
        Trials.Trial memory trial,
        IStepVerifier.Opening[] calldata operands
    ) private view returns (uint256 place, uint256 count) {
        count = trial.shape.blocksOf();
        place = trial.openElements(operands, trial.rowOf(trial.tensor), 0, trial.index * count, count);
    }

    /// @dev The second part's uint64 of a head, that is never 0.
    function _openTotal(
        Trials.Trial memory trial,
        IStepVerifier.Opening[] calldata operands,
        uint256 tensor,
        uint256 h
    ) private view returns (uint256 total) {
        total = LittleEndian.uintAt(trial.openElement(operands, trial.rowOf(tensor), 1, h), 8);
        trial.demand(total != 0);
    }

    function _headAndPosition(Trials.Trial memory trial) private pure returns (uint256 h, uint256 j) {
        uint256 padded = trial.shape.blocksOf() * BLOCK;
        return (trial.index / padded, trial.index % padded);
    }

    function _kvHead(Trials.Trial memory trial, uint256 h) private pure returns (uint256 g) {
        return h / (trial.shape.heads / trial.shape.kvHeads);
    }
}
