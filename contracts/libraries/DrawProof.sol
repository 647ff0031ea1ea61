// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Math} from "@openzeppelin/contracts/utils/math/Math.sol";

import {IDisputeGame} from "../interfaces/IDisputeGame.sol";

/// @title Which receipts of a claim are drawn, shown from its commitment
/// @notice docs/protocol.md, Claims and Draws; `efedllm/protocol/drawing.py` draws the same points.
library DrawProof {
    /// @notice What a claim moved from one channel.
    struct Entry {
        bytes20 channel;
        uint256 from;
        uint256 to;
        bytes32 receiptsRoot;
        bytes32 hash;
    }

    struct Policy {
        uint256 minimumRateBps;
        uint256 firstSlash;
        uint256 challengerShareBps;
    }

    uint256 internal constant BPS = 10_000;
    uint256 private constant ENTRY_BYTES = 76;
    uint256 private constant GROUP = 8;
    uint256 private constant MAX_POINTS_PER_LEAF = 16;

    /// @notice The entry that a part lies in; reverts unless the claim is committed to it.
    function entryOf(IDisputeGame.Part calldata part, bytes32 commitment) internal pure returns (Entry memory entry) {
        uint256 group = part.entry / GROUP;
        uint256 start = (part.entry % GROUP) * ENTRY_BYTES;
        bool found =
            group < part.groups.length &&
                start + ENTRY_BYTES <= part.entries.length &&
                keccak256(abi.encodePacked(hex"00", part.entries)) == part.groups[group] &&
                keccak256(abi.encodePacked(hex"01", part.groups)) == commitment;
        if (!found) revert IDisputeGame.NotInClaim(part.claimIndex, part.entry);

        bytes calldata packed = part.entries[start:start + ENTRY_BYTES];
        bytes32 channelAndFrom;
        bytes32 to;
        bytes32 receiptsRoot;
        assembly ("memory-safe") {
            channelAndFrom := calldataload(packed.offset)
            to := calldataload(add(packed.offset, 32))
            receiptsRoot := calldataload(add(packed.offset, 44))
        }
        entry.channel = bytes20(channelAndFrom);
        entry.from = uint96(uint256(channelAndFrom));
        entry.to = uint96(bytes12(to));
        entry.receiptsRoot = receiptsRoot;
        entry.hash = keccak256(abi.encodePacked(hex"00", packed));
    }

    /// @notice Amount that an entry holds for a leaf; reverts unless the leaf is under its root and reaches into it. Leaves
    /// and nodes are tagged, so a proof has the depth of the tree whatever its length pretends.
    function amountIn(IDisputeGame.Leaf calldata leaf, Entry memory entry) internal pure returns (uint256) {
        (uint256 before, uint256 end) = (leaf.before, leaf.end);
        bytes32[] calldata proof = leaf.proof;
        bytes32 hash = keccak256(abi.encodePacked(bytes1(0), leaf.digest, uint128(before), uint128(end)));
        bool found = end > entry.from && before < entry.to && before <= end && leaf.index >> proof.length == 0;
        if (!found || _climb(hash, leaf.index, proof) != entry.receiptsRoot) {
            revert IDisputeGame.NotInEntry(leaf.digest);
        }
        return Math.min(end, entry.to) - Math.max(before, entry.from);
    }

    /// @notice Whether the draw's point lies in its leaf. Leaves lie end to end, so those between two that reach into the
    /// entry do so too; to count too few only makes fewer points.
    function isDrawn(
        IDisputeGame.Draw calldata draw,
        Entry memory entry,
        bytes32 seed,
        Policy memory policy
    ) internal pure returns (bool) {
        uint256 leaves = 1;
        if (draw.ends.length != 0) {
            if (draw.ends.length != 2) revert IDisputeGame.WrongCount(draw.ends.length, 2);
            amountIn(draw.ends[0], entry);
            amountIn(draw.ends[1], entry);
            leaves = uint256(draw.ends[1].index) + 1 - draw.ends[0].index;
        }
        if (draw.point >= pointsOf(entry, seed, leaves, policy)) return false;
        bytes32 random = keccak256(abi.encodePacked(seed, entry.hash, draw.point));
        uint256 drawn = entry.from + 1 + (uint256(random) % (entry.to - entry.from));
        return drawn > draw.part.leaf.before && drawn <= draw.part.leaf.end;
    }

    /// @notice How many points are drawn in an entry with so many leaves.
    function pointsOf(
        Entry memory entry,
        bytes32 seed,
        uint256 leaves,
        Policy memory policy
    ) internal pure returns (uint256) {
        uint256 denominator = (BPS - policy.challengerShareBps) * policy.firstSlash;
        uint256 value = 2 * BPS * (entry.to - entry.from);
        uint256 byValue = value / denominator;
        bytes32 random = keccak256(abi.encodePacked(seed, entry.hash, "carry"));
        if (uint256(random) % denominator < value % denominator) ++byValue;
        uint256 byCount = Math.ceilDiv(leaves * policy.minimumRateBps, BPS);
        return Math.min(Math.max(byValue, byCount), MAX_POINTS_PER_LEAF * leaves);
    }

    /// @dev Root of the keccak tree of MerkleTree in which `leaf` is number `index`.
    function _climb(bytes32 leaf, uint256 index, bytes32[] calldata siblings) private pure returns (bytes32 root) {
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
                root := keccak256(pair, 0x41)
                index := shr(1, index)
            }
        }
    }
}
