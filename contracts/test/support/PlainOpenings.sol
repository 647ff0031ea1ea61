// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {MerkleTree} from "../../libraries/MerkleTree.sol";

/// @title What `Openings` does, in plain Solidity
library PlainOpenings {
    function hashLeaves(bytes memory data, bytes memory header) internal pure returns (bytes32[] memory hashes) {
        hashes = new bytes32[]((data.length + 1023) / 1024);
        for (uint256 i; i < hashes.length; ++i) {
            uint256 left = data.length - 1024 * i;
            bytes memory leaf = new bytes(left < 1024 ? left : 1024);
            for (uint256 j; j < leaf.length; ++j) leaf[j] = data[1024 * i + j];
            hashes[i] = MerkleTree.shaLeaf(bytes.concat(header, leaf));
        }
    }

    function fold(bytes32[] memory hashes) internal pure returns (bytes32) {
        uint256 width = 1 << MerkleTree.depthOf(hashes.length);
        bytes32[] memory level = new bytes32[](width);
        for (uint256 i; i < hashes.length; ++i) level[i] = hashes[i];
        for (; width > 1; width /= 2) {
            for (uint256 i; i < width; i += 2) level[i / 2] = MerkleTree.shaNode(level[i], level[i + 1]);
        }
        return level[0];
    }

    function climb(bytes32 hash, uint256 index, bytes32[] memory siblings) internal pure returns (bytes32) {
        for (uint256 i; i < siblings.length; ++i) {
            hash =
                (index >> i) % 2 == 0 ? MerkleTree.shaNode(hash, siblings[i]) : MerkleTree.shaNode(siblings[i], hash);
        }
        return hash;
    }
}
