// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {LittleEndian} from "../../libraries/LittleEndian.sol";
import {Reductions} from "../../libraries/Reductions.sol";
import {StepMath} from "../../libraries/StepMath.sol";

/// @title The arithmetic of the steps on hundreds of cases at once, for tests/chain/test_steps.py
contract StepHarness {
    enum Scalar {
        Embed, // q, m, e
        Quantise, // v, limit, M
        VectorScale, // M, limit
        QueryScale, // M, headDim
        ScaleOf, // num, den
        ScaleMul, // m, e, m, e
        Linear, // acc, row scale, m, shift
        Score, // acc, m, e, M of the key
        Rotary, // a, cos, b, sin
        Exp2neg, // d, value, step
        Swiglu, // gate, up, value, step
        Mixed, // sum, A, Z
        Distance, // below, temperature
        Draw, // seed, position, total
        Weighted, // w, M
        Saturate // x
    }

    enum Vector {
        Dot, // int16 [n] | int8 [n]
        Norm, // int32 [n] | int16 [n] | epsilon uint64 | exponent uint64
        Largest, // int32 [n]
        MaxInt32, // int32 [n]
        SumInt32, // int32 [n]
        MaxUint64, // uint64 [n]
        SumUint32, // uint32 [n]
        SumUint64, // uint64 [n]
        FindUint64, // rest uint64 | uint64 [n]
        MaxWeighted // uint32 [n] | uint32 [n]
    }

    /// @param words the arguments of all cases, `width` each
    function scalars(
        Scalar op,
        uint256 width,
        int256[] calldata words
    ) external pure returns (uint256[] memory results) {
        results = new uint256[](words.length / width);
        for (uint256 i; i < results.length; ++i) {
            int256[4] memory a;
            for (uint256 j; j < width; ++j) a[j] = words[i * width + j];
            results[i] = _scalar(op, a);
        }
    }

    function vectors(Vector op, bytes[] memory cases) external pure returns (uint256[] memory results) {
        results = new uint256[](cases.length);
        for (uint256 i; i < cases.length; ++i) {
            bytes memory data = cases[i];
            uint256 place;
            assembly {
                place := add(data, 32)
            }
            results[i] = _vector(op, place, data.length);
        }
    }

    function _scalar(Scalar op, int256[4] memory a) private pure returns (uint256) {
        (uint256 b, uint256 c, uint256 d) = (uint256(a[1]), uint256(a[2]), uint256(a[3]));
        if (op == Scalar.Embed) return uint256(StepMath.embed(a[0], b, c));
        if (op == Scalar.Quantise) return uint256(StepMath.quantise(a[0], b, c));
        if (op == Scalar.VectorScale) return StepMath.pack(0, StepMath.vectorScale(uint256(a[0]), b));
        if (op == Scalar.QueryScale) return StepMath.pack(0, StepMath.queryScale(uint256(a[0]), b));
        if (op == Scalar.ScaleOf) return StepMath.pack(0, StepMath.scaleOf(uint256(a[0]), b));
        if (op == Scalar.ScaleMul) {
            StepMath.Scale memory first = StepMath.Scale(uint256(a[0]), a[1]);
            return StepMath.pack(0, StepMath.scaleMul(first, StepMath.Scale(c, a[3])));
        }
        if (op == Scalar.Linear) return uint256(StepMath.linear(a[0], b, c, d));
        if (op == Scalar.Score) return uint256(StepMath.score(a[0], b, a[2], d));
        if (op == Scalar.Rotary) return uint256(StepMath.rotary(a[0], a[1], a[2], a[3]));
        if (op == Scalar.Exp2neg) return uint256(StepMath.exp2neg(uint256(a[0]), a[1], a[2]));
        if (op == Scalar.Swiglu) {
            uint256 size = a[0] < 0 ? uint256(-a[0]) : uint256(a[0]);
            int256 s = size < StepMath.STEEP ? StepMath.sigmoidOf(size, a[2], a[3]) : int256(StepMath.ONE);
            return uint256(StepMath.swiglu(a[0], a[1], s));
        }
        if (op == Scalar.Mixed) return uint256(StepMath.mixed(a[0], StepMath.scaleOf(b, StepMath.CACHED * c)));
        if (op == Scalar.Distance) return StepMath.distance(uint256(a[0]), b);
        if (op == Scalar.Draw) return StepMath.draw(bytes32(uint256(a[0])), b, c);
        if (op == Scalar.Weighted) return Reductions.weighted(uint256(a[0]), b);
        return uint256(StepMath.sat32(a[0]));
    }

    function _vector(Vector op, uint256 place, uint256 length) private pure returns (uint256) {
        if (op == Vector.Dot) return uint256(Reductions.dot(place, place + (length / 3) * 2, length / 3));
        if (op == Vector.Norm) {
            uint256 count = (length - 16) / 6;
            (uint256 largest, uint256 square, uint256 shift) = Reductions.normOf(place, place + 4 * count, count);
            uint256 epsilon = LittleEndian.uintAt(place + 6 * count, 8);
            uint256 exponent = LittleEndian.uintAt(place + 6 * count + 8, 8);
            return StepMath.pack(largest, StepMath.normScale(square, shift, largest, count, epsilon, exponent));
        }
        if (op == Vector.Largest) return Reductions.largestOf(place, length / 4);
        if (op == Vector.MaxInt32) return uint256(Reductions.maxInt32(place, length / 4));
        if (op == Vector.SumInt32) return uint256(Reductions.sumInt32(place, length / 4));
        if (op == Vector.MaxUint64) return Reductions.maxUint(place, length / 8, 8);
        if (op == Vector.SumUint32) return Reductions.sumUint(place, length / 4, 4);
        if (op == Vector.SumUint64) return Reductions.sumUint(place, length / 8, 8);
        if (op == Vector.FindUint64) {
            uint256 rest = LittleEndian.uintAt(place, 8);
            (uint256 index, uint256 left) = Reductions.findUint(place + 8, length / 8 - 1, 8, rest);
            return index | (left << 128);
        }
        return Reductions.maxWeighted(place, place + length / 2, length / 8);
    }
}
