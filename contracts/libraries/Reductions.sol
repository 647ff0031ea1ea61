// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Math} from "@openzeppelin/contracts/utils/math/Math.sol";
import {SignedMath} from "@openzeppelin/contracts/utils/math/SignedMath.sol";

import {LittleEndian} from "./LittleEndian.sol";
import {StepMath} from "./StepMath.sol";

/// @title Sums, maxima and products over integers that lie one behind the other in memory
/// @notice Sums of at most 2^18 values of at most 64 bits: nothing overflows, and nothing is checked.
library Reductions {
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
    function largestOf(uint256 v, uint256 count) internal pure returns (uint256 largest) {
        largest = 1;
        unchecked {
            for (uint256 end = v + 4 * count; v < end; v += 4) {
                uint256 value = SignedMath.abs(LittleEndian.int32At(v));
                if (value > largest) largest = value;
            }
        }
    }

    /// @notice Of a residual row `x` (int32) with gain `g` (int16): `M`, and the sum of squares with its shift.
    function normOf(
        uint256 x,
        uint256 g,
        uint256 count
    ) internal pure returns (uint256 largest, uint256 square, uint256 tx_) {
        largest = 1;
        unchecked {
            uint256 end = x + 4 * count;
            uint256 widest = 1; // a row of zeros has no bits above 23 either
            for (uint256 place = x; place < end; place += 4) {
                uint256 value = SignedMath.abs(LittleEndian.int32At(place));
                if (value > widest) widest = value;
                value *= SignedMath.abs(LittleEndian.int16At(g));
                if (value > largest) largest = value;
                g += 2;
            }
            tx_ = StepMath.bitsAbove(widest, 23);
            for (; x < end; x += 4) {
                int256 value = LittleEndian.int32At(x) >> tx_;
                square += uint256(value * value);
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
}
