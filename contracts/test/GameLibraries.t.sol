// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IDisputeGame} from "../interfaces/IDisputeGame.sol";
import {DrawProof} from "../libraries/DrawProof.sol";
import {GameId} from "../libraries/GameId.sol";
import {GameTurn, GameTurns} from "../libraries/GameTurn.sol";
import {MerkleTree} from "../libraries/MerkleTree.sol";
import {Papers} from "../libraries/Papers.sol";
import {ShaPath} from "../libraries/ShaPath.sol";
import {SignedObjects} from "../libraries/SignedObjects.sol";
import {TokenChunk} from "../libraries/TokenChunk.sol";
import {TraceShape} from "../libraries/TraceShape.sol";
import {Test} from "./support/Test.sol";
import {Trees} from "./support/Trees.sol";

/// @notice What the game is made of, piece by piece.
contract GameLibrariesTest is Test {
    using Trees for bytes32[][];

    /// @dev 11 levels of segments, 5 of tensors and 17 of rows make nine rounds, 24 levels of leaves six.
    function test_longestMoves_areThoseOfTheLargestModel() public pure {
        vm.assertEq(GameTurns.longestMoves(), 4 + 2 * (9 + 6));
    }

    function testFuzz_turn_keepsEachFieldApart(uint256 word, uint256 value) public pure {
        word &= ~(uint256(0xffff) << 80);
        word |= ((value % 12) << 80) | ((value % 4) << 88);
        GameTurn turn = GameTurn.wrap(word);
        for (uint256 i; i < 12; ++i) vm.assertEq(turn.isIn(IDisputeGame.Phase(i)), i == value % 12);
        for (uint256 i; i < 4; ++i) vm.assertEq(turn.isOn(IDisputeGame.Side(i)), i == value % 4);
        vm.assertEq(uint256(turn.phase()), value % 12);
        vm.assertEq(uint256(turn.side()), value % 4);
        GameTurn other = turn
            .withGeneration(uint24(value))
            .withNext(uint16(value >> 8))
            .withDeadline(uint40(value >> 16))
            .withPath(uint64(value >> 32))
            .withPhase(IDisputeGame.Phase.Lost);
        vm.assertEq(other.generation(), uint24(value));
        vm.assertEq(other.next(), uint16(value >> 8));
        vm.assertEq(other.deadline(), uint40(value >> 16));
        vm.assertEq(other.path(), uint64(value >> 32));
        vm.assertTrue(other.isIn(IDisputeGame.Phase.Lost));
        vm.assertTrue(other.isOn(IDisputeGame.Side(value % 4)));
        vm.assertEq(other.height(), turn.height());
        vm.assertEq(other.count(), turn.count());
        vm.assertEq(other.promptCount(), turn.promptCount());
        vm.assertEq(other.segments(), turn.segments());
        for (uint256 i; i < 8; ++i) vm.assertEq(other.has(1 << i), turn.has(1 << i));
    }

    /// @dev Which subtrees of the body are empty, against TraceShape, which says the same of whole models.
    function testFuzz_isEmpty_agreesWithTraceShape(
        uint256 layers,
        uint256 flags,
        uint256 positions,
        uint256 prompt,
        uint256 slot
    ) public pure {
        TraceShape.Shape memory shape;
        shape.layers = bound(layers, 1, 6);
        shape.positions = bound(positions, 1, 600);
        shape.promptCount = bound(prompt, 1, shape.positions);
        (shape.entries, shape.exits) = (flags & 1, (flags >> 1) & 1);
        shape.depth = MerkleTree.depthOf(shape.positions);
        uint256 segments = shape.layers + shape.entries + shape.exits;
        flags = (shape.entries * GameTurns.FIRST) | (shape.exits * (GameTurns.EXIT | GameTurns.LAST));
        GameTurn turn = GameTurns.begin(shape.positions, shape.promptCount, segments, flags);
        turn = turn.choose(IDisputeGame.Side.Body, 0);
        vm.assertEq(turn.height(), TraceShape.upperDepth(shape));
        slot %= 1 << turn.height();
        while (turn.height() != 0) {
            uint256 below = turn.height() - turn.roundLevels();
            turn = turn.descend((slot >> below) & ((1 << turn.roundLevels()) - 1));
            vm.assertEq(turn.height(), below);
            vm.assertEq(turn.path(), slot >> below);
            vm.assertEq(turn.isEmpty(), TraceShape.isEmpty(shape, below, slot >> below));
        }
        vm.assertTrue(turn.isIn(IDisputeGame.Phase.Pick));
    }

    function testFuzz_hashOf_isThatOfTheSignedObjects(
        SignedObjects.Request memory request,
        SignedObjects.Receipt memory receipt
    ) public view {
        vm.assertEq(this.hashOfRequest(request), SignedObjects.hash(request));
        vm.assertEq(this.hashOfReceipt(receipt), SignedObjects.hash(receipt));
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
    function test_isDrawn_drawsWhatPythonDraws() public view {
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
    ) private view returns (uint256 checked) {
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
            vm.assertTrue(this.isDrawn(draw, entry, seed, policy));
            (draw.part.leaf.before, draw.part.leaf.end) = (uint128(points[j]), uint128(points[j]) + 1);
            vm.assertFalse(this.isDrawn(draw, entry, seed, policy));
            ++checked;
        }
    }

    function hashOfRequest(SignedObjects.Request calldata request) external pure returns (bytes32) {
        return Papers.hashOf(request);
    }

    function hashOfReceipt(SignedObjects.Receipt calldata receipt) external pure returns (bytes32) {
        return Papers.hashOf(receipt);
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

    function isDrawn(
        IDisputeGame.Draw calldata draw,
        DrawProof.Entry memory entry,
        bytes32 seed,
        DrawProof.Policy memory policy
    ) external pure returns (bool) {
        return DrawProof.isDrawn(draw, entry, seed, policy);
    }

    function _nodes(bytes32 seed, uint256 count) private pure returns (bytes32[] memory nodes) {
        nodes = new bytes32[](count);
        for (uint256 i; i < count; ++i) nodes[i] = keccak256(abi.encode(seed, i));
    }

    function _key(uint256 i, string memory rest) private pure returns (string memory) {
        return string.concat(".cases[", vm.toString(i), "]", rest);
    }
}
