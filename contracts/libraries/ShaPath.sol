// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// @title Ways up a SHA-256 tree
/// @notice The nodes of `MerkleTree`. Assembly, because each round of a game hashes fifteen of them.
library ShaPath {
    /// @notice Root over a power of two of nodes.
    function fold(bytes32[] calldata nodes) internal view returns (bytes32 root) {
        assembly ("memory-safe") {
            let words := add(mload(0x40), 0x20)
            let size := shl(5, nodes.length)
            calldatacopy(words, nodes.offset, size)
            let done := 1
            for {} gt(size, 0x20) {} {
                let end := add(words, size)
                let to := words
                for {
                    let from := words
                } lt(from, end) {
                    from := add(from, 0x40)
                } {
                    // The tag takes the place of a byte of the pair before, which is hashed already.
                    mstore8(sub(from, 1), 1)
                    done := and(done, staticcall(gas(), 2, sub(from, 1), 0x41, to, 0x20))
                    to := add(to, 0x20)
                }
                size := shr(1, size)
            }
            if iszero(done) {
                revert(0, 0)
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
            let done := 1
            let end := add(siblings.offset, shl(5, siblings.length))
            for {
                let place := siblings.offset
            } lt(place, end) {
                place := add(place, 0x20)
            } {
                let isRight := shl(5, and(index, 1))
                mstore(add(add(pair, 1), isRight), root)
                mstore(sub(add(pair, 0x21), isRight), calldataload(place))
                done := and(done, staticcall(gas(), 2, pair, 0x41, 0, 0x20))
                root := mload(0)
                index := shr(1, index)
            }
            if iszero(done) {
                revert(0, 0)
            }
        }
    }
}
