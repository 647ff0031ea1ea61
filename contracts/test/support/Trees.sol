// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {MerkleTree} from "../../libraries/MerkleTree.sol";

/// @title Trees to play with, built the plain way
library Trees {
    /// @notice All levels over `leaves`, padded with zero words, from the bottom up.
    function build(
        bytes32[] memory leaves,
        uint256 depth,
        function(bytes32, bytes32) pure returns (bytes32) node
    ) internal pure returns (bytes32[][] memory levels) {
        levels = new bytes32[][](depth + 1);
        levels[0] = new bytes32[](1 << depth);
        for (uint256 i; i < leaves.length; ++i) levels[0][i] = leaves[i];
        for (uint256 level = 1; level <= depth; ++level) {
            levels[level] = new bytes32[](1 << (depth - level));
            for (uint256 i; i < levels[level].length; ++i) {
                levels[level][i] = node(levels[level - 1][2 * i], levels[level - 1][2 * i + 1]);
            }
        }
    }

    function sha(bytes32[] memory leaves) internal pure returns (bytes32[][] memory) {
        return build(leaves, MerkleTree.depthOf(leaves.length), MerkleTree.shaNode);
    }

    function keccak(bytes32[] memory leaves) internal pure returns (bytes32[][] memory) {
        return build(leaves, MerkleTree.depthOf(leaves.length), MerkleTree.keccakNode);
    }

    function root(bytes32[][] memory levels) internal pure returns (bytes32) {
        return levels[levels.length - 1][0];
    }

    /// @notice Siblings of node `index` of a level, up to the top or for `count` levels.
    function siblings(
        bytes32[][] memory levels,
        uint256 level,
        uint256 index,
        uint256 count
    ) internal pure returns (bytes32[] memory way) {
        way = new bytes32[](count);
        for (uint256 i; i < count; ++i) way[i] = levels[level + i][(index >> i) ^ 1];
    }

    function proof(bytes32[][] memory levels, uint256 index) internal pure returns (bytes32[] memory) {
        return siblings(levels, 0, index, levels.length - 1);
    }

    /// @notice The nodes `count` levels below node `index` of a level.
    function children(
        bytes32[][] memory levels,
        uint256 level,
        uint256 index,
        uint256 count
    ) internal pure returns (bytes32[] memory nodes) {
        nodes = new bytes32[](1 << count);
        for (uint256 i; i < nodes.length; ++i) nodes[i] = levels[level - count][(index << count) + i];
    }
}
