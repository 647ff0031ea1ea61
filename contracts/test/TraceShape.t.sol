// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IModelRegistry} from "../interfaces/IModelRegistry.sol";
import {MerkleTree} from "../libraries/MerkleTree.sol";
import {TraceShape} from "../libraries/TraceShape.sol";
import {Test} from "./support/Test.sol";

/// @notice 6 heads of 10 over 2 kv heads, so that nothing is a power of two; 300 positions of which 290 are the prompt.
contract TraceShapeTest is Test {
    uint256 private constant HIDDEN = 600;
    uint256 private constant INTERMEDIATE = 1_100;
    uint256 private constant HEADS = 6;
    uint256 private constant KV_HEADS = 2;
    uint256 private constant HEAD_DIM = 10;
    uint256 private constant VOCAB = 1_000;
    uint256 private constant LAYERS = 5;
    uint256 private constant POSITIONS = 300;
    uint256 private constant PROMPT = 290;
    uint256 private constant GENERATED = 11;
    uint256 private constant BLOCKS = 2;
    uint256 private constant TILES = 4;

    TraceShape.Kind private constant ENTRY = TraceShape.Kind.Entry;
    TraceShape.Kind private constant LAYER = TraceShape.Kind.Layer;
    TraceShape.Kind private constant EXIT = TraceShape.Kind.Exit;

    struct Row {
        uint256 size;
        uint256 count;
        uint256 secondSize;
        uint256 secondCount;
    }

    Row[28] private layer;
    Row[19] private end;

    function setUp() public {
        uint256 queries = HEADS * HEAD_DIM;
        uint256 keys = KV_HEADS * HEAD_DIM;
        Row memory residual = Row(4, HIDDEN, 0, 0);
        Row memory wide = Row(4, INTERMEDIATE, 0, 0);
        layer[0] = layer[21] = end[0] = Row(16, 1, 2, HIDDEN);
        layer[1] = layer[4] = layer[17] = Row(4, queries, 0, 0);
        layer[2] = layer[3] = layer[5] = Row(4, keys, 0, 0);
        layer[6] = Row(16, HEADS, 2, queries);
        layer[7] = layer[8] = Row(4, KV_HEADS, 1, keys);
        layer[9] = Row(4, KV_HEADS * 256, 1, keys * 256);
        layer[10] = layer[12] = Row(4, HEADS * 256 * BLOCKS, 0, 0);
        layer[11] = Row(4, HEADS * BLOCKS, 4, HEADS);
        layer[13] = layer[14] = Row(8, HEADS * BLOCKS, 8, HEADS);
        layer[15] = Row(2, HEADS * 256 * BLOCKS, 0, 0);
        layer[16] = Row(4, queries * BLOCKS, 0, 0);
        layer[18] = Row(16, 1, 2, queries);
        layer[19] = layer[20] = layer[26] = layer[27] = residual;
        layer[22] = layer[23] = layer[24] = wide;
        layer[25] = Row(16, 1, 2, INTERMEDIATE);
        end[1] = end[3] = end[4] = Row(4, VOCAB, 0, 0);
        end[2] = Row(4, TILES, 4, 1);
        end[5] = end[7] = end[9] = Row(2, 128 * TILES, 0, 0);
        end[6] = end[8] = end[10] = Row(4, 128, 24, 1);
        end[11] = end[13] = end[15] = Row(8, 128 * TILES, 0, 0);
        end[12] = end[14] = end[16] = Row(8, 128, 24, 1);
        end[17] = Row(8, TILES, 8, 1);
        end[18] = Row(16, 1, 0, 0);
    }

    function test_segmentsOf_countsEntryLayersAndExit() public pure {
        uint256[5][5] memory cases = [
            // start, end, generated, segments, segment of the first layer
            [uint256(0), LAYERS, GENERATED, LAYERS + 2, 1],
            [uint256(0), LAYERS, 0, LAYERS + 1, 1],
            [uint256(0), 2, GENERATED, 3, 1],
            [uint256(2), 4, GENERATED, 2, 0],
            [uint256(4), LAYERS, GENERATED, 2, 0]
        ];
        for (uint256 i; i < cases.length; ++i) {
            (uint256 start, uint256 stop, uint256 generated) = (cases[i][0], cases[i][1], cases[i][2]);
            TraceShape.Shape memory shape = _shape(start, stop, generated);
            uint256 segments = cases[i][3];
            vm.assertEq(TraceShape.segmentsOf(shape), segments);
            for (uint256 segment; segment < segments; ++segment) {
                TraceShape.Kind kind = LAYER;
                if (segment < cases[i][4]) kind = ENTRY;
                if (segment >= cases[i][4] + stop - start) kind = EXIT;
                _assertKind(TraceShape.kindOf(shape, segment), kind);
            }
            _assertKind(TraceShape.kindOf(shape, segments), TraceShape.Kind.None);
        }
    }

    function test_partsOf_areThoseOfTheTables() public view {
        TraceShape.Shape memory shape = _shape(0, LAYERS, GENERATED);
        for (uint256 i; i < layer.length; ++i) _assertParts(shape, LAYER, i, layer[i]);
        for (uint256 i; i < end.length; ++i) _assertParts(shape, EXIT, i, end[i]);
        _assertParts(shape, ENTRY, 0, Row(4, HIDDEN, 0, 0));
        vm.assertEq(TraceShape.tensorsOf(LAYER), layer.length);
        vm.assertEq(TraceShape.tensorsOf(EXIT), end.length);
        vm.assertEq(TraceShape.tensorsOf(ENTRY), 1);
        vm.assertEq(TraceShape.tensorsOf(TraceShape.Kind.None), 0);
    }

    function test_partsOf_aTensorThatDoesNotExistIsEmpty() public pure {
        TraceShape.Shape memory shape = _shape(0, LAYERS, GENERATED);
        _assertNoLeaves(shape, TraceShape.Kind.None, 0);
        _assertNoLeaves(shape, ENTRY, 1);
        _assertNoLeaves(shape, LAYER, 28);
        _assertNoLeaves(shape, LAYER, 31);
        _assertNoLeaves(shape, EXIT, 19);
        _assertNoLeaves(shape, EXIT, 31);
    }

    function test_rowsOf_arePositionsBlocksOrThoseThatGenerate() public pure {
        TraceShape.Shape memory shape = _shape(0, LAYERS, GENERATED);
        _assertRows(shape, ENTRY, 0, 0, POSITIONS);
        _assertRows(shape, LAYER, 8, 0, POSITIONS);
        _assertRows(shape, LAYER, 9, 0, BLOCKS);
        _assertRows(shape, LAYER, 27, 0, POSITIONS);
        _assertRows(shape, EXIT, 0, PROMPT - 1, POSITIONS);
        _assertRows(shape, EXIT, 9, PROMPT - 1, POSITIONS);
        _assertRows(shape, EXIT, 18, PROMPT - 1, POSITIONS);
        _assertRows(shape, ENTRY, 1, 0, 0);
        _assertRows(shape, LAYER, 28, 0, 0);
        _assertRows(shape, EXIT, 19, 0, 0);
        _assertRows(shape, TraceShape.Kind.None, 0, 0, 0);
    }

    function test_depths_followFromCounts() public pure {
        TraceShape.Shape memory shape = _shape(0, LAYERS, GENERATED);
        vm.assertEq(shape.depth, 9);
        vm.assertEq(TraceShape.upperDepth(shape), 3 + 5 + 9);
        vm.assertEq(TraceShape.slotOf(shape, 6, 18, 299), (((6 << 5) | 18) << 9) | 299);
        (uint256 segment, uint256 tensor, uint256 row) = TraceShape.placeOf(shape, (((6 << 5) | 18) << 9) | 299);
        vm.assertEq(segment, 6);
        vm.assertEq(tensor, 18);
        vm.assertEq(row, 299);

        shape = TraceShape.shapeOf(_model(), 1, 2, 1, 1, 1);
        vm.assertEq(shape.depth, 0);
        vm.assertEq(TraceShape.upperDepth(shape), 5);
        vm.assertEq(TraceShape.slotOf(shape, 0, 27, 0), 27);
    }

    /// @notice Against the plain way: no row at any of the places.
    function test_isEmpty_isThatNoRowLiesBelow() public pure {
        IModelRegistry.ModelSpec memory model = _model();
        TraceShape.Shape memory shape = TraceShape.shapeOf(model, 3, LAYERS, 11, 7, 5);
        uint256 depth = TraceShape.upperDepth(shape);
        vm.assertEq(depth, 2 + 5 + 4);
        bool[] memory empty = new bool[](1 << depth);
        for (uint256 slot; slot < empty.length; ++slot) {
            (uint256 segment, uint256 tensor, uint256 row) = TraceShape.placeOf(shape, slot);
            (uint256 first, uint256 stop) = TraceShape.rowsOf(shape, TraceShape.kindOf(shape, segment), tensor);
            empty[slot] = row < first || row >= stop;
        }
        for (uint256 height; height <= depth; ++height) {
            for (uint256 index; index < empty.length >> height; ++index) {
                vm.assertEq(TraceShape.isEmpty(shape, height, index), empty[index]);
                if (index % 2 == 1) empty[index / 2] = empty[index - 1] && empty[index];
            }
        }
    }

    function test_emptyRoot_isATreeOfZeroWords() public pure {
        vm.assertEq(TraceShape.emptyRoot(0), bytes32(0));
        bytes32 two = sha256(abi.encodePacked(hex"01", bytes32(0), bytes32(0)));
        vm.assertEq(TraceShape.emptyRoot(1), two);
        vm.assertEq(TraceShape.emptyRoot(2), sha256(abi.encodePacked(hex"01", two, two)));
        bytes32 nine = two;
        for (uint256 i = 1; i < 9; ++i) nine = MerkleTree.shaNode(nine, nine);
        vm.assertEq(TraceShape.emptyRoot(9), nine);
    }

    function test_coordinates_agreeWithTheVectors() public view {
        string memory json = vm.readFile("tests/vectors/trace.json");
        uint256 i;
        for (; vm.keyExistsJson(json, string.concat(".shapes[", vm.toString(i), "]")); ++i) {
            _assertVector(json, string.concat(".shapes[", vm.toString(i), "]"));
        }
        vm.assertGt(i, 7);
    }

    function _assertVector(string memory json, string memory place_) private pure {
        uint256[] memory dimensions = vm.parseJsonUintArray(json, string.concat(place_, ".model"));
        uint256[] memory counts = vm.parseJsonUintArray(json, string.concat(place_, ".counts"));
        IModelRegistry.ModelSpec memory model;
        model.hidden = uint32(dimensions[0]);
        model.intermediate = uint32(dimensions[1]);
        model.layers = uint32(dimensions[2]);
        model.heads = uint32(dimensions[3]);
        model.kvHeads = uint32(dimensions[4]);
        model.headDim = uint32(dimensions[5]);
        model.vocab = uint32(dimensions[6]);
        TraceShape.Shape memory shape = TraceShape.shapeOf(
            model,
            counts[0],
            counts[1],
            counts[2],
            counts[3],
            counts[4]
        );
        vm.assertEq(TraceShape.segmentsOf(shape), vm.parseJsonUint(json, string.concat(place_, ".segments")));
        uint256 upperDepth = TraceShape.upperDepth(shape);
        vm.assertEq(upperDepth, vm.parseJsonUint(json, string.concat(place_, ".upperDepth")));

        uint256[] memory places = vm.parseJsonUintArray(json, string.concat(place_, ".places"));
        bytes32[] memory paths = vm.parseJsonBytes32Array(json, string.concat(place_, ".paths"));
        vm.assertEq(places.length, 7 * paths.length);
        for (uint256 i; i < paths.length; ++i) _assertPlace(shape, places, 7 * i, uint256(paths[i]));

        uint256[] memory nodes = vm.parseJsonUintArray(json, string.concat(place_, ".nodes"));
        paths = vm.parseJsonBytes32Array(json, string.concat(place_, ".nodePaths"));
        for (uint256 i; i < paths.length; ++i) {
            if (nodes[2 * i] > upperDepth || uint256(paths[i]) >> nodes[2 * i] != 0) continue; // below a row, beside all
            bool isPadding = TraceShape.isEmpty(shape, upperDepth - nodes[2 * i], uint256(paths[i]));
            vm.assertEq(isPadding, nodes[2 * i + 1] == 1);
        }
    }

    /// @dev A place is segment, tensor, row, leaf, depth, bytes, part.
    function _assertPlace(
        TraceShape.Shape memory shape,
        uint256[] memory places,
        uint256 i,
        uint256 path
    ) private pure {
        TraceShape.Kind kind = TraceShape.kindOf(shape, places[i]);
        uint256 rowDepth = MerkleTree.depthOf(TraceShape.leavesOf(shape, kind, places[i + 1]));
        vm.assertEq(TraceShape.upperDepth(shape) + rowDepth, places[i + 4]);
        uint256 slot = TraceShape.slotOf(shape, places[i], places[i + 1], places[i + 2]);
        vm.assertEq((slot << rowDepth) | places[i + 3], path);
        (uint256 first, uint256 stop) = TraceShape.rowsOf(shape, kind, places[i + 1]);
        vm.assertGe(places[i + 2], first);
        vm.assertLt(places[i + 2], stop);
        (uint256 part, , TraceShape.Part memory held) = TraceShape.leafAt(shape, kind, places[i + 1], places[i + 3]);
        vm.assertEq(part, places[i + 6]);
        vm.assertEq(held.size * held.count, places[i + 5]);
    }

    function _shape(uint256 start, uint256 stop, uint256 generated) private pure returns (TraceShape.Shape memory) {
        return TraceShape.shapeOf(_model(), start, stop, POSITIONS, PROMPT, generated);
    }

    function _model() private pure returns (IModelRegistry.ModelSpec memory model) {
        model.hidden = uint32(HIDDEN);
        model.intermediate = uint32(INTERMEDIATE);
        model.layers = uint32(LAYERS);
        model.heads = uint32(HEADS);
        model.kvHeads = uint32(KV_HEADS);
        model.headDim = uint32(HEAD_DIM);
        model.vocab = uint32(VOCAB);
    }

    /// @dev Leaf by leaf: parts of 1,024 bytes, of which the last is shorter.
    function _assertParts(
        TraceShape.Shape memory shape,
        TraceShape.Kind kind,
        uint256 tensor,
        Row memory row
    ) private pure {
        (TraceShape.Part memory first, TraceShape.Part memory second) = TraceShape.partsOf(shape, kind, tensor);
        vm.assertEq(first.size, row.size);
        vm.assertEq(first.count, row.count);
        vm.assertEq(second.size, row.secondSize);
        vm.assertEq(second.count, row.secondCount);
        uint256 leaves;
        for (uint256 number; number < 2; ++number) {
            (uint256 size, uint256 count) = number == 0 ? (row.size, row.count) : (row.secondSize, row.secondCount);
            uint256 each = size == 0 ? 0 : 1024 / size;
            for (uint256 from; from < count; from += each) {
                (uint256 part, uint256 element, TraceShape.Part memory held) = TraceShape.leafAt(
                    shape,
                    kind,
                    tensor,
                    leaves++
                );
                vm.assertEq(part, number);
                vm.assertEq(element, from);
                vm.assertEq(held.size, size);
                vm.assertEq(held.count, count - from < each ? count - from : each);
            }
        }
        vm.assertEq(TraceShape.leavesOf(shape, kind, tensor), leaves);
        (, , TraceShape.Part memory none) = TraceShape.leafAt(shape, kind, tensor, leaves);
        vm.assertEq(none.count, 0);
    }

    function _assertNoLeaves(TraceShape.Shape memory shape, TraceShape.Kind kind, uint256 tensor) private pure {
        vm.assertEq(TraceShape.leavesOf(shape, kind, tensor), 0);
        (, , TraceShape.Part memory held) = TraceShape.leafAt(shape, kind, tensor, 0);
        vm.assertEq(held.count, 0);
    }

    function _assertRows(
        TraceShape.Shape memory shape,
        TraceShape.Kind kind,
        uint256 tensor,
        uint256 first,
        uint256 stop
    ) private pure {
        (uint256 from, uint256 to) = TraceShape.rowsOf(shape, kind, tensor);
        vm.assertEq(from, first);
        vm.assertEq(to, stop);
    }

    function _assertKind(TraceShape.Kind found, TraceShape.Kind expected) private pure {
        vm.assertEq(uint256(found), uint256(expected));
    }
}
