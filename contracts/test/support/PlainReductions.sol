// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// @title What the assembly of `Reductions` and `LittleEndian` does, in plain Solidity
library PlainReductions {
    function dot(int16[] memory q, int8[] memory w) internal pure returns (int256 sum) {
        for (uint256 i; i < q.length; ++i) sum += int256(q[i]) * w[i];
    }

    /// @notice Little-endian integer of the first `size` bytes from `from` on.
    function uintAt(bytes memory data, uint256 from, uint256 size) internal pure returns (uint256 value) {
        for (uint256 i; i < size; ++i) value |= uint256(uint8(data[from + i])) << (8 * i);
    }
}
