// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// @title Binary Merkle trees over keccak256: the receipts under a voucher, the entries of a claim
/// @notice `leaf = keccak256(0x00 || bytes)`, `node = keccak256(0x01 || left || right)`. A list is padded with zero words to
/// the next power of two; one hash is its own root, and the root of none is zero.
library KeccakTree {
    function leaf(bytes memory data) internal pure returns (bytes32) {
        return keccak256(bytes.concat(hex"00", data));
    }

    function node(bytes32 left, bytes32 right) internal pure returns (bytes32) {
        return keccak256(abi.encodePacked(hex"01", left, right));
    }

    /// @notice Root over hashes of leaves; uses the array up.
    function root(bytes32[] memory hashes) internal pure returns (bytes32) {
        uint256 count = hashes.length;
        if (count == 0) return 0;
        bytes32 padding;
        while (count > 1) {
            for (uint256 i; i < count; i += 2) {
                hashes[i / 2] = node(hashes[i], i + 1 < count ? hashes[i + 1] : padding);
            }
            padding = node(padding, padding);
            count = (count + 1) / 2;
        }
        return hashes[0];
    }
}
