// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Math} from "@openzeppelin/contracts/utils/math/Math.sol";

/// @title Arithmetic of docs/numerics.md on single values
/// @notice Mathematical integers: operands come from fields of at most 64 bits, and nothing here comes near 256, so no
/// operation is checked. A shift is an exponent that the caller has found to be at least 0.
library StepMath {
    /// @notice A scale `m * 2^-e`.
    struct Scale {
        uint256 m;
        int256 e;
    }

    /// @dev Largest |q| of activations and queries, keys and values, probabilities.
    uint256 internal constant ACTIVATION = 32512;
    uint256 internal constant CACHED = 127;
    uint256 internal constant PROBABILITY = 16384;
    /// @dev log2(e) in units of 2^-32.
    uint256 internal constant LOG2_E = 6196328019;
    /// @dev Distances (Q16) from which on a weight is 0, and the largest of a logit.
    uint256 internal constant FAR = 25 << 16;
    uint256 internal constant MAX_DISTANCE = (1 << 21) - 1;
    /// @dev |x| (Q16) from which on the logistic function is 0 or 1.
    uint256 internal constant STEEP = 1 << 20;
    uint256 internal constant ONE = 1 << 24;

    int256 private constant MAX_INT32 = (1 << 31) - 1;
    int256 private constant MIN_INT32 = -(1 << 31);

    /// @notice Rounded shift, half up.
    function rr(int256 x, uint256 s) internal pure returns (int256) {
        if (s == 0) return x;
        if (s >= 63) return 0;
        unchecked {
            return (x + int256(1 << (s - 1))) >> s;
        }
    }

    function sat32(int256 x) internal pure returns (int256) {
        if (x > MAX_INT32) return MAX_INT32;
        return x < MIN_INT32 ? MIN_INT32 : x;
    }

    function bitlen(uint256 x) internal pure returns (uint256) {
        unchecked {
            return 256 - Math.clz(x);
        }
    }

    /// @notice Bits of `x` above the lowest `kept`.
    function bitsAbove(uint256 x, uint256 kept) internal pure returns (uint256) {
        return Math.saturatingSub(bitlen(x), kept);
    }

    function floorDiv(int256 x, int256 y) internal pure returns (int256 quotient) {
        unchecked {
            quotient = x / y;
            if (x % y < 0) --quotient; // y is positive
        }
    }

    /// @notice `q` of one value of a vector.
    /// @param largest `M` of the vector, at least 1
    function quantise(int256 v, uint256 limit, uint256 largest) internal pure returns (int256) {
        uint256 t = bitsAbove(largest, 32);
        int256 den = int256(largest >> t);
        unchecked {
            return floorDiv(2 * int256(limit) * (v >> t) + den, 2 * den);
        }
    }

    /// @notice The scale of `num / den`, both at least 1.
    function scaleOf(uint256 num, uint256 den) internal pure returns (Scale memory scale) {
        unchecked {
            scale.e = 15 + int256(bitlen(den)) - int256(bitlen(num));
            scale.m = (scale.e >= 0 ? num << uint256(scale.e) : num >> uint256(-scale.e)) / den;
        }
    }

    function scaleMul(Scale memory a, Scale memory b) internal pure returns (Scale memory scale) {
        unchecked {
            uint256 p = a.m * b.m;
            uint256 shift = p < 1 << 30 ? 14 : 16;
            scale.m = p >> shift;
            scale.e = a.e + b.e - int256(shift);
        }
    }

    /// @notice The scale of a quantised Q16 vector with maximum `largest`, at least 1.
    function vectorScale(uint256 largest, uint256 limit) internal pure returns (Scale memory scale) {
        scale = scaleOf(largest, limit);
        scale.e += 16;
    }

    /// @notice The scale of a query head with maximum `largest`: times log2(e) / sqrt(headDim).
    function queryScale(uint256 largest, uint256 headDim) internal pure returns (Scale memory) {
        Scale memory constant_ = vectorScale(LOG2_E, Math.sqrt(headDim << 32));
        return scaleMul(vectorScale(largest, ACTIVATION), constant_);
    }

    /// @notice The scale of a normalised row.
    /// @param square `sum_i (x_i >> tx)^2`
    /// @param largest `M` of the row
    function normScale(
        uint256 square,
        uint256 tx_,
        uint256 largest,
        uint256 hidden,
        uint256 epsilon,
        uint256 gainExponent
    ) internal pure returns (Scale memory scale) {
        unchecked {
            square = Math.max(1, square + ((epsilon * hidden) >> (2 * tx_)));
            uint256 u = (62 - bitlen(square)) / 2;
            uint256 root = Math.sqrt(square << (2 * u));
            uint256 tq = bitsAbove(largest, 32);
            scale = scaleOf((largest >> tq) * Math.sqrt(hidden << 32), ACTIVATION * root);
            scale.e += int256(tx_ + gainExponent + 16) - int256(tq + u);
        }
    }

    /// @notice The element of a trace that stands for a maximum and a scale.
    function pack(uint256 largest, Scale memory scale) internal pure returns (uint256) {
        return largest | (scale.m << 64) | (uint256(uint32(int32(scale.e))) << 96);
    }

    /// @param scale of the embedding's row, `scale * 2^-exponent`
    function embed(int256 q, uint256 scale, uint256 exponent) internal pure returns (int256) {
        unchecked {
            return sat32(rr(q * int256(scale), exponent - 16));
        }
    }

    /// @param m scale of the row, `m * 2^-e`
    /// @param rowScale of the matrix row
    /// @param shift `ew + e - 29`
    function linear(int256 acc, uint256 rowScale, uint256 m, uint256 shift) internal pure returns (int256) {
        unchecked {
            return sat32(rr(rr(acc * int256(rowScale), 13) * int256(m), shift));
        }
    }

    /// @param keyLargest `M` of the key, at least 1
    /// @param e exponent of the query's scale; at least 10, since a key's is at least 6
    function score(int256 acc, uint256 m, int256 e, uint256 keyLargest) internal pure returns (int256) {
        Scale memory key = vectorScale(keyLargest, CACHED);
        unchecked {
            return sat32(rr(acc * int256(m * key.m), uint256(e + key.e - 16)));
        }
    }

    /// @notice One half of a turned pair: `a * cos + b * sin`, or with `b` negative the other one.
    function rotary(int256 a, int256 cos, int256 b, int256 sin) internal pure returns (int256) {
        unchecked {
            return sat32(rr(a * cos + b * sin, 14));
        }
    }

    /// @param sum of all partial sums
    /// @param scale with `e` at least -6
    function mixed(int256 sum, Scale memory scale) internal pure returns (int256) {
        unchecked {
            return sat32(rr(sum * int256(scale.m), uint256(scale.e + 6)));
        }
    }

    /// @notice Entry of the exp2 table that `exp2neg(d)` reads.
    function exp2Entry(uint256 d) internal pure returns (uint256) {
        return (d & 0xffff) >> 8;
    }

    /// @param d below FAR
    function exp2neg(uint256 d, int256 value, int256 step) internal pure returns (int256) {
        unchecked {
            return (value + rr(step * int256(d & 255), 8)) >> (d >> 16);
        }
    }

    /// @notice Entry of the sigmoid table that `sigmoid(x)` reads.
    /// @param a |x|, below STEEP
    function sigmoidEntry(uint256 a) internal pure returns (uint256) {
        return a >> 11;
    }

    /// @notice The logistic function of |x| below STEEP, in units of 2^-24.
    function sigmoidOf(uint256 a, int256 value, int256 step) internal pure returns (int256) {
        unchecked {
            return value + rr(step * int256(a & 2047), 11);
        }
    }

    /// @param s the logistic function of |gate|
    function swiglu(int256 gate, int256 up, int256 s) internal pure returns (int256) {
        unchecked {
            if (gate < 0) s = int256(ONE) - s;
            return sat32(rr(rr(gate * s, 24) * up, 16));
        }
    }

    /// @notice Distance of a logit from the largest one, in bits, Q16.
    function distance(uint256 below, uint256 temperature) internal pure returns (uint256) {
        unchecked {
            return Math.min(uint256(rr(int256(below * (LOG2_E / temperature)), 16)), MAX_DISTANCE);
        }
    }

    /// @notice A number below `total`, drawn for the token at a position.
    function draw(bytes32 seed, uint256 position, uint256 total) internal pure returns (uint256 high) {
        (high, ) = Math.mul512(uint256(sha256(abi.encodePacked(seed, uint64(position)))), total);
    }
}
