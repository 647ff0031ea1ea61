// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// @title Membership in the binary Merkle trees that everything is committed with
/// @notice SHA-256 over tensors, rows and tokens; keccak over the receipts under a voucher. In both, a leaf is
/// `hash(0x00 || bytes)` and a node `hash(0x01 || left || right)`, so that neither can pose as the other; a list is padded
/// with zero words to the next power of two; one hash is its own root; the depth follows from the number of leaves.
library MerkleTree {
    function shaLeaf(bytes memory data) internal pure returns (bytes32) {
        return sha256(abi.encodePacked(hex"00", data));
    }

    function shaNode(bytes32 left, bytes32 right) internal pure returns (bytes32) {
        return sha256(abi.encodePacked(hex"01", left, right));
    }

    function keccakLeaf(bytes memory data) internal pure returns (bytes32) {
        return keccak256(abi.encodePacked(hex"00", data));
    }

    function keccakNode(bytes32 left, bytes32 right) internal pure returns (bytes32) {
        return keccak256(abi.encodePacked(hex"01", left, right));
    }

    /// @notice Levels above the leaves of a tree with `count` leaves.
    function depthOf(uint256 count) internal pure returns (uint256 depth) {
        while (depth < 256 && (uint256(1) << depth) < count) ++depth;
    }

    /// @notice Whether `leaf` is number `index` of the `count` leaves under `root`.
    /// @param proof siblings from the bottom up, exactly as many as the tree is deep
    /// @param node `shaNode` or `keccakNode`
    function contains(
        bytes32 root,
        bytes32 leaf,
        uint256 index,
        uint256 count,
        bytes32[] memory proof,
        function(bytes32, bytes32) pure returns (bytes32) node
    ) internal pure returns (bool) {
        if (index >= count || proof.length != depthOf(count)) return false;
        bytes32 hash = leaf;
        for (uint256 level; level < proof.length; ++level) {
            hash = (index >> level) & 1 == 0 ? node(hash, proof[level]) : node(proof[level], hash);
        }
        return hash == root;
    }
}
