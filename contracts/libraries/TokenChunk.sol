// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IDisputeGame} from "../interfaces/IDisputeGame.sol";
import {MerkleTree} from "./MerkleTree.sol";
import {ShaPath} from "./ShaPath.sol";

/// @title Token ids that a demand asks for: an aligned subtree under a token root
library TokenChunk {
    uint256 private constant CHUNK_DEPTH = 10;
    uint256 private constant TOKEN_BYTES = 4;

    /// @notice Reverts unless `count` tokens have such a chunk.
    function check(uint256 chunk, uint256 count) internal pure {
        if (chunk << CHUNK_DEPTH >= count) revert IDisputeGame.WrongCount(chunk, (count >> CHUNK_DEPTH) + 1);
    }

    /// @notice Root over all `count` tokens, from those of one chunk and the siblings of its subtree.
    /// @param tokens four bytes each, little-endian; exactly those of the chunk
    function rootOf(
        bytes calldata tokens,
        uint256 chunk,
        uint256 count,
        bytes32[] calldata siblings
    ) internal view returns (bytes32) {
        uint256 first = chunk << CHUNK_DEPTH;
        uint256 held = count - first;
        if (held > 1 << CHUNK_DEPTH) held = 1 << CHUNK_DEPTH;
        if (tokens.length != held * TOKEN_BYTES) revert IDisputeGame.WrongLength(tokens.length, held * TOKEN_BYTES);
        uint256 depth = MerkleTree.depthOf(count);
        uint256 height = depth < CHUNK_DEPTH ? depth : CHUNK_DEPTH;
        if (siblings.length != depth - height) revert IDisputeGame.WrongCount(siblings.length, depth - height);

        bytes32[] memory nodes = new bytes32[](1 << height);
        for (uint256 i; i < held; ++i) {
            nodes[i] = MerkleTree.shaLeaf(tokens[i * TOKEN_BYTES:(i + 1) * TOKEN_BYTES]);
        }
        for (uint256 size = nodes.length; size > 1; size /= 2) {
            for (uint256 i; i < size; i += 2) nodes[i / 2] = MerkleTree.shaNode(nodes[i], nodes[i + 1]);
        }
        return ShaPath.climb(nodes[0], chunk, siblings);
    }
}
