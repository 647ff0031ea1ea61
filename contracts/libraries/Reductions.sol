// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Math} from "@openzeppelin/contracts/utils/math/Math.sol";
import {SignedMath} from "@openzeppelin/contracts/utils/math/SignedMath.sol";

import {LittleEndian} from "./LittleEndian.sol";
import {StepMath} from "./StepMath.sol";

/// @title Sums, maxima and products over integers that lie one behind the other in memory
/// @notice Sums of at most 2^18 values of at most 64 bits: nothing overflows, and nothing is checked.
library Reductions {
    /// @dev The signs of eight int32 in a word.
    uint256 private constant SIGNS = 0x8000000080000000800000008000000080000000800000008000000080000000;

    /// @notice `sum_i q_i * w_i`, q int16, w int8.
    /// @dev Assembly: a linear of 14,336 columns would cost two million gas more. The plain twin is in
    /// `test/support/PlainReductions.sol`.
    function dot(uint256 q, uint256 w, uint256 count) internal pure returns (int256 sum) {
        assembly ("memory-safe") {
            // The product of number i of the word: integers of q stand at its top, their two bytes exchanged below.
            function term(qs, ws, i) -> product {
                product := mul(signextend(1, shr(sub(240, shl(4, i)), qs)), signextend(0, byte(i, ws)))
            }
            for {} count {} {
                let word := mload(q)
                let ws := mload(w)
                switch lt(count, 16)
                case 0 {
                    count := sub(count, 16)
                }
                default {
                    // What lies behind the last integer counts as zero.
                    word := and(word, shl(sub(256, shl(4, count)), not(0)))
                    count := 0
                }
                let qs := or(
                    and(shr(8, word), 0x00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff),
                    and(shl(8, word), 0xff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00)
                )
                sum := add(sum, add(add(term(qs, ws, 0), term(qs, ws, 1)), add(term(qs, ws, 2), term(qs, ws, 3))))
                sum := add(sum, add(add(term(qs, ws, 4), term(qs, ws, 5)), add(term(qs, ws, 6), term(qs, ws, 7))))
                sum := add(sum, add(add(term(qs, ws, 8), term(qs, ws, 9)), add(term(qs, ws, 10), term(qs, ws, 11))))
                sum := add(sum, add(add(term(qs, ws, 12), term(qs, ws, 13)), add(term(qs, ws, 14), term(qs, ws, 15))))
                q := add(q, 32)
                w := add(w, 16)
            }
        }
    }

    /// @notice `max(1, max_i |v_i|)` of int32.
    /// @dev Eight at a time: a word for the largest at each place that is not negative, and one for the largest `-1 - v`
    /// of those that are.
    function largestOf(uint256 v, uint256 count) internal pure returns (uint256 largest) {
        uint256 above;
        uint256 below;
        unchecked {
            for (uint256 left = count; left != 0; left -= _taken(left)) {
                uint256 lanes = _lanes32(v, left);
                uint256 negative = _spread(lanes);
                above = _maxOfLanes(above, lanes & ~negative);
                below = _maxOfLanes(below, ~lanes & negative);
                v += 32;
            }
            for (uint256 i; i < 256; i += 32) {
                // Without any that is negative, this 1 is what `M` is at least.
                largest = Math.max(largest, uint32(below >> i) + uint256(1));
                largest = Math.max(largest, uint32(above >> i));
            }
        }
    }

    /// @notice Of a residual row `x` (int32) with gain `g` (int16): `M`, and the sum of squares with its shift.
    function normOf(
        uint256 x,
        uint256 g,
        uint256 count
    ) internal pure returns (uint256 largest, uint256 square, uint256 tx_) {
        tx_ = StepMath.bitsAbove(largestOf(x, count), 23);
        largest = 1;
        unchecked {
            for (uint256 left = count; left != 0; left -= _taken(left)) {
                uint256 lanes = _lanes32(x, left);
                // Of sixteen int16 the first eight, less those behind the end.
                uint256 gains = LittleEndian.int16sAt(g) >> (256 - 16 * _taken(left));
                for (; lanes != 0; (lanes, gains) = (lanes >> 32, gains >> 16)) {
                    int256 value = int32(uint32(lanes));
                    uint256 product = SignedMath.abs(value * int16(uint16(gains)));
                    if (product > largest) largest = product;
                    value >>= tx_;
                    square += uint256(value * value);
                }
                x += 32;
                g += 16;
            }
        }
    }

    /// @notice Largest of int32, of which there is at least one.
    function maxInt32(uint256 v, uint256 count) internal pure returns (int256 largest) {
        largest = LittleEndian.int32At(v);
        unchecked {
            for (uint256 end = v + 4 * count; v < end; v += 4) {
                int256 value = LittleEndian.int32At(v);
                if (value > largest) largest = value;
            }
        }
    }

    function sumInt32(uint256 v, uint256 count) internal pure returns (int256 sum) {
        unchecked {
            for (uint256 end = v + 4 * count; v < end; v += 4) sum += LittleEndian.int32At(v);
        }
    }

    /// @param size bytes of each integer
    function maxUint(uint256 v, uint256 count, uint256 size) internal pure returns (uint256 largest) {
        unchecked {
            for (uint256 end = v + size * count; v < end; v += size) {
                largest = Math.max(largest, LittleEndian.uintAt(v, size));
            }
        }
    }

    /// @param size bytes of each integer
    function sumUint(uint256 v, uint256 count, uint256 size) internal pure returns (uint256 sum) {
        unchecked {
            for (uint256 end = v + size * count; v < end; v += size) sum += LittleEndian.uintAt(v, size);
        }
    }

    /// @notice The first at which the running sum exceeds `rest`, and what is left of `rest` there. `index = count` where
    /// the sum never does.
    /// @param size bytes of each integer
    function findUint(
        uint256 v,
        uint256 count,
        uint256 size,
        uint256 rest
    ) internal pure returns (uint256 index, uint256 left) {
        unchecked {
            for (; index < count; ++index) {
                uint256 value = LittleEndian.uintAt(v + index * size, size);
                if (value > rest) break;
                rest -= value;
            }
        }
        return (index, rest);
    }

    /// @notice Largest `rr(w_j * M_j, 8)` of uint32.
    function maxWeighted(uint256 w, uint256 m, uint256 count) internal pure returns (uint256 largest) {
        unchecked {
            for (uint256 i; i < 4 * count; i += 4) {
                largest = Math.max(largest, weighted(LittleEndian.uintAt(w + i, 4), LittleEndian.uintAt(m + i, 4)));
            }
        }
    }

    /// @notice `a = rr(w * M, 8)` of a weight and a value's maximum.
    function weighted(uint256 w, uint256 m) internal pure returns (uint256) {
        unchecked {
            return uint256(StepMath.rr(int256(w * m), 8));
        }
    }

    /// @dev How many of `left` int32 the next word has.
    function _taken(uint256 left) private pure returns (uint256) {
        return left < 8 ? left : 8;
    }

    /// @dev The next int32, the last of them at the bottom, and nothing above the first.
    function _lanes32(uint256 place, uint256 left) private pure returns (uint256) {
        return LittleEndian.int32sAt(place) >> (256 - 32 * _taken(left));
    }

    /// @dev For each of eight int32 in a word, 32 ones where it is negative.
    function _spread(uint256 lanes) private pure returns (uint256) {
        unchecked {
            return ((lanes & SIGNS) >> 31) * type(uint32).max;
        }
    }

    /// @dev The larger ones of eight pairs of 31 bits: a sign of `a - b` is kept from its neighbour by a bit of its own.
    function _maxOfLanes(uint256 a, uint256 b) private pure returns (uint256) {
        unchecked {
            uint256 isLarger = _spread((a | SIGNS) - b);
            return (a & isLarger) | (b & ~isLarger);
        }
    }
}
