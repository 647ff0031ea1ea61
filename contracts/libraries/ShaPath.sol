// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// @title Ways up a SHA-256 tree
/// @notice The nodes of `MerkleTree`. Assembly, because each round of a game hashes fifteen of them.
library ShaPath {
    /// @notice Root over a power of two of nodes.
    function fold(bytes32[] calldata nodes) internal view returns (bytes32 root) {
        assembly ("memory-safe") {
            let words := mload(0x40)
            let size := shl(5, nodes.length)
            calldatacopy(words, nodes.offset, size)
            let pair := add(words, size) // tag, left, right
            mstore8(pair, 1)
            for {} gt(size, 0x20) {} {
                size := shr(1, size)
                for {
                    let place := 0
                } lt(place, size) {
                    place := add(place, 0x20)
                } {
                    let left := add(words, shl(1, place))
                    mcopy(add(pair, 1), left, 0x40)
                    if iszero(staticcall(gas(), 2, pair, 0x41, add(words, place), 0x20)) {
                        revert(0, 0)
                    }
                }
            }
            root := mload(words)
        }
    }

    /// @notice Root of the tree in which `leaf` is number `index` of its level, as many levels up as there are siblings.
    /// @param siblings from the bottom up
    function climb(bytes32 leaf, uint256 index, bytes32[] calldata siblings) internal view returns (bytes32 root) {
        assembly ("memory-safe") {
            let pair := mload(0x40)
            mstore8(pair, 1)
            root := leaf
            let end := add(siblings.offset, shl(5, siblings.length))
            for {
                let place := siblings.offset
            } lt(place, end) {
                place := add(place, 0x20)
            } {
                let isRight := shl(5, and(index, 1))
                mstore(add(add(pair, 1), isRight), root)
                mstore(sub(add(pair, 0x21), isRight), calldataload(place))
                if iszero(staticcall(gas(), 2, pair, 0x41, 0, 0x20)) {
                    revert(0, 0)
                }
                root := mload(0)
                index := shr(1, index)
            }
        }
    }
}
