// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Math} from "@openzeppelin/contracts/utils/math/Math.sol";

import {IStepVerifier} from "../../interfaces/IStepVerifier.sol";
import {SignedObjects} from "../SignedObjects.sol";
import {LittleEndian} from "../LittleEndian.sol";
import {ModelOperands} from "../ModelOperands.sol";
import {Reductions} from "../Reductions.sol";
import {StepMath} from "../StepMath.sol";
import {TraceShape} from "../TraceShape.sol";
import {Trials} from "../Trials.sol";

/// @title Elements of sampling: tensors 2 to 18 of the exit
/// @notice The table of docs/trace.md, row by row. Results have the element's bytes at the bottom.
library SamplingSteps {
    using ModelOperands for Trials.Trial;
    using TraceShape for TraceShape.Shape;
    using Trials for Trials.Trial;

    /// @notice The largest distances that top-k and top-p keep.
    struct Kept {
        uint256 lastByCount;
        uint256 lastByMass;
    }

    uint256 private constant LOGITS = 1;
    uint256 private constant MAXIMA = 2;
    uint256 private constant DISTANCES = 3;
    uint256 private constant WEIGHTS = 4;
    uint256 private constant FIRST_COUNTS = 5;
    uint256 private constant LAST_COUNT_CUT = 10;
    uint256 private constant FIRST_MASSES = 11;
    uint256 private constant LAST_MASS_CUT = 16;
    uint256 private constant SUMS = 17;

    uint256 private constant TILE = TraceShape.BLOCK;
    uint256 private constant DIGITS = TraceShape.DIGITS;
    uint256 private constant DIGIT_BITS = 7;
    uint256 private constant ALL = 1 << 16; // a top-p that keeps everything, and its unit

    function expected(
        Trials.Trial memory trial,
        IStepVerifier.Opening[] calldata operands,
        SignedObjects.Sampling calldata sampling,
        bytes32 seed
    ) internal view returns (uint256) {
        uint256 tensor = trial.tensor;
        if (tensor == MAXIMA) return uint256(_maximum(trial, operands));
        if (sampling.temperature == 0) return tensor > SUMS ? _greedy(trial, operands) : 0;
        if (tensor == DISTANCES) return _distance(trial, operands, sampling.temperature);
        if (tensor == WEIGHTS) return _weight(trial, operands);
        if (tensor <= LAST_COUNT_CUT) {
            if (!_hasCountCut(trial, sampling)) return 0;
            if (tensor % 2 == 1) return _count(trial, operands);
            if (trial.part == 0) return _digitSum(trial, operands, 2);
            return _cut(trial, operands, 4, sampling.topK);
        }
        if (tensor <= LAST_MASS_CUT) {
            if (!_hasMassCut(sampling)) return 0;
            if (tensor % 2 == 1) return _mass(trial, operands, sampling);
            if (trial.part == 0) return _digitSum(trial, operands, 8);
            return _cut(trial, operands, 8, sampling.topP);
        }
        if (tensor == SUMS) return _sum(trial, operands, sampling);
        return _sample(trial, operands, sampling, seed);
    }

    function _maximum(
        Trials.Trial memory trial,
        IStepVerifier.Opening[] calldata operands
    ) private view returns (int256) {
        if (trial.part == 0) {
            uint256 logits = trial.openElement(operands, trial.rowOf(LOGITS), 0, trial.index * TILE);
            return Reductions.maxInt32(logits, _tileCount(trial, trial.index));
        }
        return Reductions.maxInt32(_openTiles(trial, operands, MAXIMA), trial.shape.tilesOf());
    }

    function _distance(
        Trials.Trial memory trial,
        IStepVerifier.Opening[] calldata operands,
        uint256 temperature
    ) private view returns (uint256) {
        int256 below = -LittleEndian.int32At(trial.openElement(operands, trial.rowOf(LOGITS), 0, trial.index));
        below += LittleEndian.int32At(trial.openElement(operands, trial.rowOf(MAXIMA), 1, 0));
        trial.demand(below >= 0);
        return StepMath.distance(uint256(below), temperature);
    }

    function _weight(
        Trials.Trial memory trial,
        IStepVerifier.Opening[] calldata operands
    ) private view returns (uint256) {
        uint256 place = trial.openElement(operands, trial.rowOf(DISTANCES), 0, trial.index);
        return trial.exp2neg(operands, LittleEndian.uintAt(place, 4));
    }

    /// @dev How many distances of a tile have a digit.
    function _count(
        Trials.Trial memory trial,
        IStepVerifier.Opening[] calldata operands
    ) private view returns (uint256 count) {
        uint256 tiles = trial.shape.tilesOf();
        (uint256 digit, uint256 tile) = (trial.index / tiles, trial.index % tiles);
        uint256 z = trial.openElement(operands, trial.rowOf(DISTANCES), 0, tile * TILE);
        (uint256 shift, uint256 prefix) = _levelOf(trial, operands, FIRST_COUNTS);
        uint256 wanted = (prefix << DIGIT_BITS) | digit;
        uint256 end = z + 4 * _tileCount(trial, tile);
        for (; z < end; z += 4) {
            if (LittleEndian.uintAt(z, 4) >> shift == wanted) ++count;
        }
    }

    /// @dev The weight of those of a tile's distances that have a digit and that top-k keeps.
    function _mass(
        Trials.Trial memory trial,
        IStepVerifier.Opening[] calldata operands,
        SignedObjects.Sampling calldata sampling
    ) private view returns (uint256) {
        uint256 tiles = trial.shape.tilesOf();
        (uint256 digit, uint256 tile) = (trial.index / tiles, trial.index % tiles);
        (uint256 z, uint256 w) = _openTile(trial, operands, tile);
        Kept memory kept = Kept(type(uint256).max, type(uint256).max);
        if (_hasCountCut(trial, sampling)) kept.lastByCount = _openCut(trial, operands, LAST_COUNT_CUT);
        (uint256 shift, uint256 prefix) = _levelOf(trial, operands, FIRST_MASSES);
        uint256 wanted = (prefix << DIGIT_BITS) | digit;
        uint256 mass;
        uint256 end = z + 4 * _tileCount(trial, tile);
        for (; z < end; (z, w) = (z + 4, w + 4)) {
            uint256 distance = LittleEndian.uintAt(z, 4);
            if (distance >> shift == wanted) mass += _keptWeight(kept, distance, w);
        }
        return mass;
    }

    /// @dev Sum over all tiles of what the tensor before has for a digit.
    /// @param size bytes of each
    function _digitSum(
        Trials.Trial memory trial,
        IStepVerifier.Opening[] calldata operands,
        uint256 size
    ) private view returns (uint256) {
        uint256 tiles = trial.shape.tilesOf();
        Trials.Row memory row = trial.rowOf(trial.tensor - 1);
        return Reductions.sumUint(trial.openElements(operands, row, 0, trial.index * tiles, tiles), tiles, size);
    }

    /// @param size bytes of each sum: 4 for top-k, 8 for top-p
    /// @param amount top_k or top_p
    function _cut(
        Trials.Trial memory trial,
        IStepVerifier.Opening[] calldata operands,
        uint256 size,
        uint256 amount
    ) private view returns (uint256) {
        uint256 sums = trial.openElement(operands, trial.rowOf(trial.tensor), 0, 0);
        uint256 prefix;
        uint256 before;
        uint256 target = amount;
        if (trial.tensor != FIRST_COUNTS + 1 && trial.tensor != FIRST_MASSES + 1) {
            uint256 place = trial.openElement(operands, trial.rowOf(trial.tensor - 2), 1, 0);
            prefix = LittleEndian.uintAt(place, 4);
            before = LittleEndian.uintAt(place + 8, 8);
            target = LittleEndian.uintAt(place + 16, 8);
        } else if (size == 8) {
            target = Math.ceilDiv(amount * Reductions.sumUint(sums, DIGITS, size), ALL);
        }
        trial.demand(target > before);
        // The first digit at which the running sum exceeds what is one less than the target.
        uint256 wanted = target - before - 1;
        (uint256 digit, uint256 rest) = Reductions.findUint(sums, DIGITS, size, wanted);
        trial.demand(digit < DIGITS);
        before += wanted - rest;
        return uint256(uint32((prefix << DIGIT_BITS) | digit)) | (before << 64) | (target << 128);
    }

    function _sum(
        Trials.Trial memory trial,
        IStepVerifier.Opening[] calldata operands,
        SignedObjects.Sampling calldata sampling
    ) private view returns (uint256 sum) {
        if (trial.part != 0) {
            return Reductions.sumUint(_openTiles(trial, operands, SUMS), trial.shape.tilesOf(), 8);
        }
        (uint256 z, uint256 w) = _openTile(trial, operands, trial.index);
        Kept memory kept = _openCuts(trial, operands, sampling);
        uint256 end = z + 4 * _tileCount(trial, trial.index);
        for (; z < end; (z, w) = (z + 4, w + 4)) sum += _keptWeight(kept, LittleEndian.uintAt(z, 4), w);
    }

    function _greedy(
        Trials.Trial memory trial,
        IStepVerifier.Opening[] calldata operands
    ) private view returns (uint256) {
        uint256 maxima = _openTiles(trial, operands, MAXIMA);
        int256 largest = LittleEndian.int32At(trial.openElement(operands, trial.rowOf(MAXIMA), 1, 0));
        uint256 tile = _find(trial, maxima, trial.shape.tilesOf(), largest);
        uint256 logits = trial.openElement(operands, trial.rowOf(LOGITS), 0, tile * TILE);
        return (tile * TILE + _find(trial, logits, _tileCount(trial, tile), largest)) | (tile << 32);
    }

    function _sample(
        Trials.Trial memory trial,
        IStepVerifier.Opening[] calldata operands,
        SignedObjects.Sampling calldata sampling,
        bytes32 seed
    ) private view returns (uint256) {
        uint256 sums = _openTiles(trial, operands, SUMS);
        uint256 total = LittleEndian.uintAt(trial.openElement(operands, trial.rowOf(SUMS), 1, 0), 8);
        uint256 draw = StepMath.draw(seed, trial.row + 1, total);
        (uint256 tile, uint256 rest) = Reductions.findUint(sums, trial.shape.tilesOf(), 8, draw);
        trial.demand(tile < trial.shape.tilesOf());
        (uint256 z, uint256 w) = _openTile(trial, operands, tile);
        Kept memory kept = _openCuts(trial, operands, sampling);
        uint256 left = rest;
        uint256 token = tile * TILE;
        for (uint256 end = token + _tileCount(trial, tile); ; ++token) {
            trial.demand(token < end);
            uint256 weight = _keptWeight(kept, LittleEndian.uintAt(z, 4), w);
            if (weight > left) return token | (tile << 32) | (rest << 64);
            left -= weight;
            (z, w) = (z + 4, w + 4);
        }
    }

    /// @dev The first int32 that is the largest.
    function _find(
        Trials.Trial memory trial,
        uint256 place,
        uint256 count,
        int256 largest
    ) private pure returns (uint256 index) {
        while (index < count && LittleEndian.int32At(place + 4 * index) != largest) ++index;
        trial.demand(index < count);
    }

    /// @dev How far a distance is shifted at the trial's level, and what the digits above have to be.
    /// @param first tensor of level 0
    function _levelOf(
        Trials.Trial memory trial,
        IStepVerifier.Opening[] calldata operands,
        uint256 first
    ) private view returns (uint256 shift, uint256 prefix) {
        uint256 level = (trial.tensor - first) / 2;
        shift = DIGIT_BITS * (2 - level);
        if (level != 0) prefix = _openCut(trial, operands, trial.tensor - 1);
    }

    /// @dev Those of the two cuts that are on, by the largest distance that they keep.
    function _openCuts(
        Trials.Trial memory trial,
        IStepVerifier.Opening[] calldata operands,
        SignedObjects.Sampling calldata sampling
    ) private view returns (Kept memory kept) {
        kept = Kept(type(uint256).max, type(uint256).max);
        if (_hasCountCut(trial, sampling)) kept.lastByCount = _openCut(trial, operands, LAST_COUNT_CUT);
        if (_hasMassCut(sampling)) kept.lastByMass = _openCut(trial, operands, LAST_MASS_CUT);
    }

    function _openCut(
        Trials.Trial memory trial,
        IStepVerifier.Opening[] calldata operands,
        uint256 tensor
    ) private view returns (uint256 prefix) {
        return LittleEndian.uintAt(trial.openElement(operands, trial.rowOf(tensor), 1, 0), 4);
    }

    /// @dev Distances and weights of a tile.
    function _openTile(
        Trials.Trial memory trial,
        IStepVerifier.Opening[] calldata operands,
        uint256 tile
    ) private view returns (uint256 z, uint256 w) {
        z = trial.openElement(operands, trial.rowOf(DISTANCES), 0, tile * TILE);
        w = trial.openElement(operands, trial.rowOf(WEIGHTS), 0, tile * TILE);
    }

    /// @dev The first part of a tensor that has an element for each tile.
    function _openTiles(
        Trials.Trial memory trial,
        IStepVerifier.Opening[] calldata operands,
        uint256 tensor
    ) private view returns (uint256 place) {
        return trial.openElements(operands, trial.rowOf(tensor), 0, 0, trial.shape.tilesOf());
    }

    function _keptWeight(Kept memory kept, uint256 distance, uint256 w) private pure returns (uint256) {
        if (distance > kept.lastByCount || distance > kept.lastByMass) return 0;
        return LittleEndian.uintAt(w, 4);
    }

    function _tileCount(Trials.Trial memory trial, uint256 tile) private pure returns (uint256) {
        return Math.min(TILE, trial.shape.vocab - tile * TILE);
    }

    function _hasCountCut(
        Trials.Trial memory trial,
        SignedObjects.Sampling calldata sampling
    ) private pure returns (bool) {
        return sampling.topK != 0 && sampling.topK < trial.shape.vocab;
    }

    function _hasMassCut(SignedObjects.Sampling calldata sampling) private pure returns (bool) {
        return sampling.topP < ALL;
    }
}
