// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IDisputeGame} from "../interfaces/IDisputeGame.sol";
import {DrawProof} from "../libraries/DrawProof.sol";
import {GameId} from "../libraries/GameId.sol";
import {GameState} from "../libraries/GameState.sol";
import {MerkleTree} from "../libraries/MerkleTree.sol";
import {ShaPath} from "../libraries/ShaPath.sol";
import {TokenChunk} from "../libraries/TokenChunk.sol";
import {Test} from "./support/Test.sol";
import {Trees} from "./support/Trees.sol";

/// @notice What the game is made of, piece by piece.
contract GameLibrariesTest is Test {
    using GameState for GameState.Turn;
    using Trees for bytes32[][];

    /// @dev 11 levels of segments, 5 of tensors and 17 of rows make nine rounds, 24 levels of leaves six.
    function test_longestMoves_areThoseOfTheLargestModel() public pure {
        vm.assertEq(GameState.longestMoves(), 4 + 2 * (9 + 6));
    }

    function testFuzz_pack_losesNothing(uint256 word, uint8 phase, uint8 side) public pure {
        word &= ~(uint256(0xffff) << 80) & (type(uint256).max >> 8);
        word |= (uint256(phase % 12) << 80) | (uint256(side % 4) << 88);
        GameState.Turn memory turn = GameState.unpack(word);
        vm.assertEq(turn.pack(), word);
        vm.assertEq(uint256(turn.phase), phase % 12);
        for (uint8 i; i < 12; ++i) vm.assertEq(turn.isIn(IDisputeGame.Phase(i)), i == phase % 12);
        for (uint8 i; i < 4; ++i) vm.assertEq(turn.isOn(IDisputeGame.Side(i)), i == side % 4);
    }

    function testFuzz_gameId_holdsItsParts(address worker, uint24 generation, uint16 place) public pure {
        uint256 gameId = GameId.nameOf(worker, generation, place);
        vm.assertEq(GameId.workerOf(gameId), worker);
        vm.assertEq(GameId.generationOf(gameId), generation);
        vm.assertEq(GameId.placeOf(gameId), place);
    }

    function testFuzz_fold_isTheRootOfThePlainTree(bytes32 seed, uint8 depth) public view {
        bytes32[] memory nodes = _nodes(seed, 1 << (depth % 6));
        vm.assertEq(this.fold(nodes), Trees.sha(nodes).root());
    }

    function testFuzz_climb_leadsUpThePlainTree(bytes32 seed, uint8 depth, uint256 index) public view {
        bytes32[] memory nodes = _nodes(seed, 1 << (depth % 6));
        bytes32[][] memory tree = Trees.sha(nodes);
        index %= nodes.length;
        vm.assertEq(this.climb(nodes[index], index, tree.proof(index)), tree.root());
    }

    function test_rootOf_opensChunksOfLongTexts() public view {
        uint256[4] memory counts = [uint256(1), 1_024, 1_025, 2_500];
        for (uint256 i; i < 4; ++i) {
            bytes32[] memory leaves = new bytes32[](counts[i]);
            for (uint256 j; j < leaves.length; ++j) leaves[j] = MerkleTree.shaLeaf(abi.encodePacked(uint32(j)));
            bytes32[][] memory tree = Trees.sha(leaves);
            uint256 depth = tree.length - 1;
            uint256 height = depth < 10 ? depth : 10;
            for (uint256 chunk; chunk * 1_024 < counts[i]; ++chunk) {
                uint256 end = (chunk + 1) * 1_024 < counts[i] ? (chunk + 1) * 1_024 : counts[i];
                bytes memory tokens = new bytes(4 * (end - chunk * 1_024));
                for (uint256 j; j < tokens.length; ++j) {
                    tokens[j] = bytes4(uint32(chunk * 1_024 + j / 4))[j % 4];
                }
                bytes32[] memory siblings = tree.siblings(height, chunk, depth - height);
                vm.assertEq(this.rootOf(tokens, chunk, counts[i], siblings), tree.root());
            }
        }
    }

    /// @dev The points that `efedllm/protocol/drawing.py` draws.
    function test_check_drawsWhatPythonDraws() public {
        string memory json = vm.readFile("tests/vectors/drawing.json");
        uint256 checked;
        for (uint256 i; vm.keyExistsJson(json, _key(i, "")); ++i) {
            DrawProof.Policy memory policy = DrawProof.Policy(
                vm.parseJsonUint(json, _key(i, ".policy.minimum_rate_bps")),
                vm.parseJsonUint(json, _key(i, ".policy.first_slash")),
                vm.parseJsonUint(json, _key(i, ".policy.challenger_share_bps"))
            );
            if (policy.firstSlash == 0) continue; // no game is played for nothing
            checked += _checkVector(json, i, policy);
        }
        vm.assertGt(checked, 10);
    }

    function _checkVector(
        string memory json,
        uint256 i,
        DrawProof.Policy memory policy
    ) private returns (uint256 checked) {
        bytes32 seed = vm.parseJsonBytes32(json, _key(i, ".seed"));
        DrawProof.Entry memory entry;
        entry.from = vm.parseJsonUint(json, _key(i, ".entry.start"));
        entry.to = vm.parseJsonUint(json, _key(i, ".entry.end"));
        entry.receiptsRoot = vm.parseJsonBytes32(json, _key(i, ".entry.receipts_root"));
        bytes20 channel = bytes20(vm.parseJsonAddress(json, _key(i, ".entry.channel")));
        entry.hash = keccak256(
            abi.encodePacked(hex"00", channel, uint96(entry.from), uint96(entry.to), entry.receiptsRoot)
        );
        uint256[] memory bounds = vm.parseJsonUintArray(json, _key(i, ".bounds"));
        uint256 reaching;
        for (uint256 j; j + 1 < bounds.length; ++j) {
            if (bounds[j + 1] > entry.from && bounds[j] < entry.to) ++reaching;
        }
        if (entry.to <= entry.from || reaching == 0) return 0;
        uint256[] memory points = vm.parseJsonUintArray(json, _key(i, ".points"));
        vm.assertEq(DrawProof.pointsOf(entry, seed, reaching, policy), points.length);
        IDisputeGame.Draw memory draw;
        for (uint32 j; j < points.length && DrawProof.pointsOf(entry, seed, 1, policy) > j; ++j) {
            draw.point = j;
            (draw.part.leaf.before, draw.part.leaf.end) = (uint128(points[j]) - 1, uint128(points[j]));
            this.check(draw, entry, seed, policy);
            (draw.part.leaf.before, draw.part.leaf.end) = (uint128(points[j]), uint128(points[j]) + 1);
            vm.expectPartialRevert(IDisputeGame.NotDrawn.selector);
            this.check(draw, entry, seed, policy);
            ++checked;
        }
    }

    function fold(bytes32[] calldata nodes) external view returns (bytes32) {
        return ShaPath.fold(nodes);
    }

    function climb(bytes32 leaf, uint256 index, bytes32[] calldata siblings) external view returns (bytes32) {
        return ShaPath.climb(leaf, index, siblings);
    }

    function rootOf(
        bytes calldata tokens,
        uint256 chunk,
        uint256 count,
        bytes32[] calldata siblings
    ) external view returns (bytes32) {
        return TokenChunk.rootOf(tokens, chunk, count, siblings);
    }

    function check(
        IDisputeGame.Draw calldata draw,
        DrawProof.Entry memory entry,
        bytes32 seed,
        DrawProof.Policy memory policy
    ) external pure {
        DrawProof.check(draw, entry, seed, policy);
    }

    function _nodes(bytes32 seed, uint256 count) private pure returns (bytes32[] memory nodes) {
        nodes = new bytes32[](count);
        for (uint256 i; i < count; ++i) nodes[i] = keccak256(abi.encode(seed, i));
    }

    function _key(uint256 i, string memory rest) private pure returns (string memory) {
        return string.concat(".cases[", vm.toString(i), "]", rest);
    }
}
