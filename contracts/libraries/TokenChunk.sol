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

        return ShaPath.climb(_subtree(tokens, height), chunk, siblings);
    }

    /// @dev Root of the tree over these tokens, padded with zero words to `1 << height` leaves. Assembly, because the worker
    /// is paid a fixed fee for it.
    function _subtree(bytes calldata tokens, uint256 height) private view returns (bytes32 root) {
        assembly ("memory-safe") {
            let words := mload(0x40)
            let size := shl(add(height, 5), 1)
            let pair := add(words, size) // tag, then a token or left and right
            calldatacopy(words, calldatasize(), size) // zeros
            mstore8(pair, 0)
            let to := words
            for {
                let from := tokens.offset
            } lt(from, add(tokens.offset, tokens.length)) {
                from := add(from, 4)
            } {
                calldatacopy(add(pair, 1), from, 4)
                if iszero(staticcall(gas(), 2, pair, 5, to, 0x20)) {
                    revert(0, 0)
                }
                to := add(to, 0x20)
            }
            mstore8(pair, 1)
            for {} gt(size, 0x20) {} {
                size := shr(1, size)
                for {
                    let place := 0
                } lt(place, size) {
                    place := add(place, 0x20)
                } {
                    mcopy(add(pair, 1), add(words, shl(1, place)), 0x40)
                    if iszero(staticcall(gas(), 2, pair, 0x41, add(words, place), 0x20)) {
                        revert(0, 0)
                    }
                }
            }
            root := mload(words)
        }
    }
}
