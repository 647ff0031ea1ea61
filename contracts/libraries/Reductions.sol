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
    /// @dev The lower 16 bits of eight places in a word.
    uint256 private constant PLACES = 0x0000ffff0000ffff0000ffff0000ffff0000ffff0000ffff0000ffff0000ffff;

    /// @notice `sum_i q_i * w_i`, q int16, w int8.
    /// @dev A linear has up to 65,536 columns, so sixteen at a time. With numbers in places of 32 bits, eight of them in one
    /// word and eight in the other order in a second, the top place of the words' product is the sum of eight products.
    /// Numbers below zero have no place there: `u = q + 2^15`, `v = w + 2^7`, and what that adds is taken off at the end.
    function dot(uint256 q, uint256 w, uint256 count) internal pure returns (int256 sum) {
        unchecked {
            uint256 us; // sums of each place
            uint256 vs;
            uint256 words = (count + 15) / 16;
            for (uint256 left = count; left != 0; left = left < 16 ? 0 : left - 16) {
                uint256 u = LittleEndian.int16sAt(q);
                if (left < 16) u &= ~(type(uint256).max >> (16 * left)); // what lies behind the last counts as zero
                u ^= SIGNS | (SIGNS >> 16);
                uint256 v = _spreadBytes(w);
                (uint256 even, uint256 odd) = ((u >> 16) & PLACES, u & PLACES);
                us += even + odd;
                (uint256 evenWeights, uint256 oddWeights) = (v & PLACES, (v >> 16) & PLACES);
                vs += evenWeights + oddWeights;
                sum += int256(((even * evenWeights) >> 224) + ((odd * oddWeights) >> 224));
                q += 32;
                w += 16;
            }
            for (uint256 i; i < 256; i += 32) {
                sum -= int256(uint256(uint32(us >> i)) << 7) + int256(uint256(uint32(vs >> i)) << 15);
            }
            sum += int256(words << 26);
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

    /// @dev Sixteen int8, each plus 2^7 and 16 bits wide, the first at the bottom: halves change places and move apart, then
    /// their halves, and so on.
    function _spreadBytes(uint256 place) private pure returns (uint256 lanes) {
        assembly ("memory-safe") {
            lanes := mload(place)
        }
        lanes = (lanes >> 128) ^ 0x80808080808080808080808080808080;
        lanes = (lanes >> 64) | ((lanes & type(uint64).max) << 128);
        lanes = _moveApart(lanes, 32, 0x000000000000000000000000ffffffff000000000000000000000000ffffffff);
        lanes = _moveApart(lanes, 16, 0x000000000000ffff000000000000ffff000000000000ffff000000000000ffff);
        return _moveApart(lanes, 8, 0x000000ff000000ff000000ff000000ff000000ff000000ff000000ff000000ff);
    }

    /// @dev Of halves with `width` bits each, the upper one stays at the bottom and the lower one goes above a gap.
    function _moveApart(uint256 lanes, uint256 width, uint256 mask) private pure returns (uint256) {
        return ((lanes >> width) & mask) | ((lanes & mask) << (2 * width));
    }
}
