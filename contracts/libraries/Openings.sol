// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// @title Hashes of leaves in memory, and roots from them
/// @notice Assembly, because a check hashes up to 56 KiB and dozens of nodes where plain Solidity copies everything once
/// more for each hash. `test/support/PlainOpenings.sol` says the same in plain Solidity, and tests compare the two.
/// @dev Precompile 2 takes whatever it is given and fails for lack of gas only; the 64th of the gas that is left then
/// does not pay for the next instruction that reads the result, so its success needs no look.
library Openings {
    uint256 private constant LEAF_BYTES = 1024;

    /// @notice Cuts bytes in memory into leaves of 1,024, the last of which may be shorter, and hashes each.
    /// @dev The word before `place` must be allocated: prefixes stand there for a moment.
    /// @param header eight bytes that every leaf begins with, as a number; 0 without a header
    /// @param hashes where the hashes go
    /// @return end where they end
    function hashLeaves(
        uint256 place,
        uint256 length,
        uint256 header,
        bool withHeader,
        uint256 hashes
    ) internal view returns (uint256 end) {
        assembly ("memory-safe") {
            let prefix := add(1, shl(3, withHeader)) // the tag 0x00, and the header
            end := hashes
            for {
                let limit := add(place, length)
            } lt(place, limit) {
                place := add(place, LEAF_BYTES)
            } {
                let size := sub(limit, place)
                if gt(size, LEAF_BYTES) {
                    size := LEAF_BYTES
                }
                let before := sub(place, 32)
                let covered := mload(before)
                mstore(before, header)
                pop(staticcall(gas(), 2, sub(place, prefix), add(prefix, size), end, 32))
                mstore(before, covered)
                end := add(end, 32)
            }
        }
    }

    /// @notice Root of the padded tree over hashes in memory, of which there is at least one. Overwrites them, and a word
    /// behind them.
    function fold(uint256 hashes, uint256 end) internal view returns (bytes32 root) {
        assembly ("memory-safe") {
            let node := mload(0x40)
            mstore(node, 1) // its last byte is the tag
            let count := shr(5, sub(end, hashes))
            let padding := 0
            for {} gt(count, 1) {
                count := shr(1, add(count, 1))
            } {
                mstore(add(hashes, shl(5, count)), padding)
                let to := hashes
                for {
                    let from := hashes
                    let limit := add(hashes, shl(5, count))
                } lt(from, limit) {
                    from := add(from, 64)
                } {
                    mcopy(add(node, 32), from, 64)
                    pop(staticcall(gas(), 2, add(node, 31), 65, to, 32))
                    to := add(to, 32)
                }
                mstore(add(node, 32), padding)
                mstore(add(node, 64), padding)
                pop(staticcall(gas(), 2, add(node, 31), 65, add(node, 96), 32))
                padding := mload(add(node, 96))
            }
            root := mload(hashes)
        }
    }

    /// @notice Root of a tree from one of its hashes.
    /// @param index number of the hash among all at its height
    /// @param siblings from the bottom up
    function climb(bytes32 hash, uint256 index, bytes32[] calldata siblings) internal view returns (bytes32 root) {
        assembly ("memory-safe") {
            let node := mload(0x40)
            mstore(node, 1) // its last byte is the tag
            let left := add(node, 32)
            mstore(left, hash)
            root := hash
            for {
                let sibling := siblings.offset
                let limit := add(sibling, shl(5, siblings.length))
            } lt(sibling, limit) {
                sibling := add(sibling, 32)
            } {
                let place := add(left, shl(5, and(index, 1)))
                mstore(place, root)
                // The other child: left and left + 32 differ in more than one bit, their sum does not.
                mstore(sub(add(shl(1, left), 32), place), calldataload(sibling))
                pop(staticcall(gas(), 2, add(node, 31), 65, add(node, 96), 32))
                root := mload(add(node, 96))
                index := shr(1, index)
            }
        }
    }
}
