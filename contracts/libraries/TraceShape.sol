// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IModelRegistry} from "../interfaces/IModelRegistry.sol";
import {MerkleTree} from "./MerkleTree.sol";

/// @title Where everything lies in a trace
/// @notice Coordinates of docs/trace.md from counts alone. `efedllm/protocol/trace.py` computes the same.
library TraceShape {
    enum Kind {
        None, // no such segment
        Entry,
        Layer,
        Exit
    }

    /// @notice What the coordinates of one receipt's trace follow from.
    struct Shape {
        uint256 hidden;
        uint256 intermediate;
        uint256 heads;
        uint256 kvHeads;
        uint256 headDim;
        uint256 vocab;
        uint256 entries; // 1: the first segment is the entry
        uint256 layers; // of the shard
        uint256 exits; // 1: the last segment is the exit
        uint256 positions;
        uint256 promptCount;
        uint256 depth; // levels of a tree over positions
    }

    /// @notice `count` elements of `size` bytes: a part of a row, or the part of it that lies in one leaf.
    struct Part {
        uint256 size;
        uint256 count;
    }

    /// @dev Positions in a block, and logits in a tile.
    uint256 internal constant BLOCK = 256;
    uint256 internal constant LEAF_BYTES = 1024;
    /// @dev A segment has places for 32 tensors.
    uint256 internal constant TENSOR_DEPTH = 5;
    uint256 internal constant LAYER_TENSORS = 28;
    uint256 internal constant EXIT_TENSORS = 19;
    /// @dev Of a layer: its rows are blocks.
    uint256 internal constant BLOCKS_TENSOR = 9;
    uint256 internal constant DIGITS = 128;

    uint256 private constant SCALE_BYTES = 16;
    uint256 private constant CUT_BYTES = 24;
    uint256 private constant SAMPLE_BYTES = 16;

    /// @notice For a model within the registry's bounds and a receipt that fits its request: at least one position and
    /// one prompt token, and `generated = positions - promptCount + 1` where anything was generated.
    /// @param start first layer of the shard
    /// @param end one past its last layer
    function shapeOf(
        IModelRegistry.ModelSpec memory model,
        uint256 start,
        uint256 end,
        uint256 positions,
        uint256 promptCount,
        uint256 generated
    ) internal pure returns (Shape memory shape) {
        shape.hidden = model.hidden;
        shape.intermediate = model.intermediate;
        shape.heads = model.heads;
        shape.kvHeads = model.kvHeads;
        shape.headDim = model.headDim;
        shape.vocab = model.vocab;
        if (start == 0) shape.entries = 1;
        shape.layers = end - start;
        if (end == model.layers && generated != 0) shape.exits = 1;
        shape.positions = positions;
        shape.promptCount = promptCount;
        shape.depth = MerkleTree.depthOf(positions);
    }

    function segmentsOf(Shape memory shape) internal pure returns (uint256) {
        return shape.entries + shape.layers + shape.exits;
    }

    function kindOf(Shape memory shape, uint256 segment) internal pure returns (Kind) {
        if (segment < shape.entries) return Kind.Entry;
        uint256 layersEnd = shape.entries + shape.layers;
        if (segment < layersEnd) return Kind.Layer;
        return segment < layersEnd + shape.exits ? Kind.Exit : Kind.None;
    }

    function tensorsOf(Kind kind) internal pure returns (uint256) {
        if (kind == Kind.Layer) return LAYER_TENSORS;
        if (kind == Kind.Exit) return EXIT_TENSORS;
        return kind == Kind.Entry ? 1 : 0;
    }

    /// @notice Blocks of positions.
    function blocksOf(Shape memory shape) internal pure returns (uint256) {
        return _ceilDiv(shape.positions, BLOCK);
    }

    /// @notice Tiles of the vocabulary.
    function tilesOf(Shape memory shape) internal pure returns (uint256) {
        return _ceilDiv(shape.vocab, BLOCK);
    }

    /// @notice Rows `[first, end)` of a tensor. There are none, `(0, 0)`, of a tensor that does not exist.
    function rowsOf(Shape memory shape, Kind kind, uint256 tensor) internal pure returns (uint256 first, uint256 end) {
        if (tensor >= tensorsOf(kind)) return (0, 0);
        if (kind == Kind.Exit) return (shape.promptCount - 1, shape.positions);
        return (0, kind == Kind.Layer && tensor == BLOCKS_TENSOR ? blocksOf(shape) : shape.positions);
    }

    /// @notice The one or two parts of a tensor's rows; the second has no elements where there is one. A tensor that does
    /// not exist has none.
    function partsOf(
        Shape memory shape,
        Kind kind,
        uint256 tensor
    ) internal pure returns (Part memory first, Part memory second) {
        if (kind == Kind.Layer) _layerParts(shape, tensor, first, second);
        else if (kind == Kind.Exit) _exitParts(shape, tensor, first, second);
        else if (kind == Kind.Entry && tensor == 0) _set(first, 4, shape.hidden);
    }

    /// @notice Leaves in a row of a tensor.
    function leavesOf(Shape memory shape, Kind kind, uint256 tensor) internal pure returns (uint256) {
        (Part memory first, Part memory second) = partsOf(shape, kind, tensor);
        return leavesOf(first) + leavesOf(second);
    }

    /// @notice Leaves of a part.
    function leavesOf(Part memory part) internal pure returns (uint256) {
        return _ceilDiv(part.size * part.count, LEAF_BYTES);
    }

    /// @notice What a leaf of a tensor's row holds.
    /// @return part 0 or 1
    /// @return first number in its part of the leaf's first element
    /// @return held elements of the leaf: it has `held.size * held.count` bytes; none: there is no such leaf
    function leafAt(
        Shape memory shape,
        Kind kind,
        uint256 tensor,
        uint256 leaf
    ) internal pure returns (uint256 part, uint256 first, Part memory held) {
        Part memory other;
        (held, other) = partsOf(shape, kind, tensor);
        uint256 before = leavesOf(held);
        if (leaf >= before) {
            leaf -= before;
            part = 1;
            held = other;
        }
        // A part without elements has size 0. A cut's 24 bytes do not divide a leaf, but there is only one.
        uint256 whole = held.size == 0 ? 0 : LEAF_BYTES / held.size;
        first = leaf * whole;
        uint256 left = first < held.count ? held.count - first : 0;
        held.count = left < whole ? left : whole;
    }

    /// @notice Levels of the body's tree above the roots of rows.
    function upperDepth(Shape memory shape) internal pure returns (uint256) {
        return MerkleTree.depthOf(segmentsOf(shape)) + TENSOR_DEPTH + shape.depth;
    }

    /// @notice Number of a row among all places for rows.
    function slotOf(
        Shape memory shape,
        uint256 segment,
        uint256 tensor,
        uint256 row
    ) internal pure returns (uint256 slot) {
        return (((segment << TENSOR_DEPTH) | tensor) << shape.depth) | row;
    }

    function placeOf(
        Shape memory shape,
        uint256 slot
    ) internal pure returns (uint256 segment, uint256 tensor, uint256 row) {
        row = slot & ((1 << shape.depth) - 1);
        slot >>= shape.depth;
        return (slot >> TENSOR_DEPTH, slot & ((1 << TENSOR_DEPTH) - 1), row);
    }

    /// @notice Whether no row lies in subtree number `index` of those with `1 << height` places for rows.
    function isEmpty(Shape memory shape, uint256 height, uint256 index) internal pure returns (bool) {
        (uint256 segment, uint256 tensor, uint256 row) = placeOf(shape, index << height);
        Kind kind = kindOf(shape, segment);
        if (kind == Kind.None) return true;
        if (height >= shape.depth) return tensor >= tensorsOf(kind);
        (uint256 first, uint256 end) = rowsOf(shape, kind, tensor);
        return row >= end || row + (1 << height) <= first;
    }

    /// @notice Root of a tree of `1 << height` zero words.
    function emptyRoot(uint256 height) internal pure returns (bytes32 root) {
        for (; height != 0; --height) root = MerkleTree.shaNode(root, root);
    }

    function _layerParts(Shape memory shape, uint256 tensor, Part memory first, Part memory second) private pure {
        if (tensor == 0 || tensor == 21) {
            _set(first, SCALE_BYTES, 1);
            return _set(second, 2, shape.hidden);
        }
        if (tensor >= 22) {
            if (tensor >= LAYER_TENSORS) return;
            if (tensor != 25) return _set(first, 4, tensor >= 26 ? shape.hidden : shape.intermediate);
            _set(first, SCALE_BYTES, 1);
            return _set(second, 2, shape.intermediate);
        }
        if (tensor >= 19) return _set(first, 4, shape.hidden);
        if (tensor >= 10 && tensor <= 16) return _attentionParts(shape, tensor, first, second);

        bool ofQueries = tensor == 1 || tensor == 4 || tensor == 6 || tensor >= 17;
        uint256 heads = ofQueries ? shape.heads : shape.kvHeads;
        uint256 width = heads * shape.headDim;
        if (tensor < 6 || tensor == 17) return _set(first, 4, width);
        if (tensor == 6) {
            _set(first, SCALE_BYTES, heads);
            _set(second, 2, width);
        } else if (tensor == 18) {
            _set(first, SCALE_BYTES, 1);
            _set(second, 2, width);
        } else {
            uint256 positions = tensor == 9 ? BLOCK : 1;
            _set(first, 4, heads * positions);
            _set(second, 1, width * positions);
        }
    }

    function _attentionParts(Shape memory shape, uint256 tensor, Part memory first, Part memory second) private pure {
        uint256 blocks = shape.heads * blocksOf(shape);
        if (tensor == 10 || tensor == 12) {
            _set(first, 4, blocks * BLOCK);
        } else if (tensor == 11) {
            _set(first, 4, blocks);
            _set(second, 4, shape.heads);
        } else if (tensor <= 14) {
            _set(first, 8, blocks);
            _set(second, 8, shape.heads);
        } else if (tensor == 15) {
            _set(first, 2, blocks * BLOCK);
        } else {
            _set(first, 4, blocks * shape.headDim);
        }
    }

    function _exitParts(Shape memory shape, uint256 tensor, Part memory first, Part memory second) private pure {
        if (tensor == 0) {
            _set(first, SCALE_BYTES, 1);
            _set(second, 2, shape.hidden);
        } else if (tensor == 2 || tensor == 17) {
            uint256 size = tensor == 2 ? 4 : 8;
            _set(first, size, tilesOf(shape));
            _set(second, size, 1);
        } else if (tensor <= 4) {
            _set(first, 4, shape.vocab);
        } else if (tensor <= 16) {
            bool ofCounts = tensor <= 10;
            if (tensor % 2 == 1) return _set(first, ofCounts ? 2 : 8, DIGITS * tilesOf(shape));
            _set(first, ofCounts ? 4 : 8, DIGITS);
            _set(second, CUT_BYTES, 1);
        } else if (tensor == 18) {
            _set(first, SAMPLE_BYTES, 1);
        }
    }

    function _set(Part memory part, uint256 size, uint256 count) private pure {
        part.size = size;
        part.count = count;
    }

    function _ceilDiv(uint256 value, uint256 unit) private pure returns (uint256) {
        return (value + unit - 1) / unit;
    }
}
