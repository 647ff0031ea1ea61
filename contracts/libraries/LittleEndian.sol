// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// @title Little-endian integers at places of the memory
/// @dev A place is the address of the integer's first byte; what lies behind it does not matter.
library LittleEndian {
    function int8At(uint256 place) internal pure returns (int256 value) {
        assembly ("memory-safe") {
            value := signextend(0, byte(0, mload(place)))
        }
    }

    function int16At(uint256 place) internal pure returns (int256 value) {
        assembly ("memory-safe") {
            let word := mload(place)
            value := or(byte(0, word), shl(8, signextend(0, byte(1, word))))
        }
    }

    function int32At(uint256 place) internal pure returns (int256 value) {
        assembly ("memory-safe") {
            let word := mload(place)
            let low := or(byte(0, word), shl(8, byte(1, word)))
            value := or(low, or(shl(16, byte(2, word)), shl(24, signextend(0, byte(3, word)))))
        }
    }

    /// @param size bytes of the integer, below 32
    function uintAt(uint256 place, uint256 size) internal pure returns (uint256 value) {
        // Neighbouring bytes exchange their places, then pairs of them, and so on: the whole word is reversed.
        value = int32sAt(place);
        value = _swap(value, 32, 0x00000000ffffffff00000000ffffffff00000000ffffffff00000000ffffffff);
        value = _swap(value, 64, 0x0000000000000000ffffffffffffffff0000000000000000ffffffffffffffff);
        value = (value << 128) | (value >> 128);
        value &= (1 << (8 * size)) - 1;
    }

    /// @notice Sixteen int16 in one word, the first at its top.
    function int16sAt(uint256 place) internal pure returns (uint256 lanes) {
        assembly ("memory-safe") {
            lanes := mload(place)
        }
        return _swap(lanes, 8, 0x00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff);
    }

    /// @notice Eight int32 in one word, the first at its top.
    function int32sAt(uint256 place) internal pure returns (uint256 lanes) {
        lanes = int16sAt(place);
        return _swap(lanes, 16, 0x0000ffff0000ffff0000ffff0000ffff0000ffff0000ffff0000ffff0000ffff);
    }

    /// @dev `mask` has the lower `width` bits of every pair of neighbours.
    function _swap(uint256 word, uint256 width, uint256 mask) private pure returns (uint256) {
        return ((word & mask) << width) | ((word >> width) & mask);
    }
}
