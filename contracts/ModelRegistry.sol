// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IModelRegistry} from "./interfaces/IModelRegistry.sol";

/// @title Registered exact models, see IModelRegistry
contract ModelRegistry is IModelRegistry {
    // Limits of docs/numerics.md, within which no intermediate value can overflow.
    uint256 private constant MAX_HIDDEN = 1 << 14;
    uint256 private constant MAX_LINEAR_INPUT = 1 << 16; // columns of one matrix: intermediate, heads * headDim
    uint256 private constant MAX_HEAD_DIM = 256;
    uint256 private constant MAX_CONTEXT = 1 << 17;
    uint256 private constant MAX_VOCAB = 1 << 18;
    uint256 private constant MAX_EPSILON = 1 << 32;
    uint256 private constant MAX_LAYERS = 1 << 10; // deeper than any known model; bounds the trees of a dispute
    uint256 private constant MAX_NAME_BYTES = 128;

    mapping(bytes32 modelId => ModelSpec) private _specs;

    /// @inheritdoc IModelRegistry
    function register(ModelSpec calldata spec, string calldata name) external returns (bytes32 modelId) {
        _checkBounds(spec);
        if (bytes(name).length > MAX_NAME_BYTES) revert NameTooLong(bytes(name).length);
        modelId = idOf(spec);
        if (isRegistered(modelId)) revert AlreadyRegistered(modelId);

        _specs[modelId] = spec;
        emit ModelRegistered(modelId, msg.sender, spec, name);
    }

    /// @inheritdoc IModelRegistry
    function layersOf(bytes32 modelId) external view returns (uint32 layers) {
        layers = _specs[modelId].layers;
        if (layers == 0) revert UnknownModel(modelId);
    }

    /// @inheritdoc IModelRegistry
    function specOf(bytes32 modelId) external view returns (ModelSpec memory) {
        if (!isRegistered(modelId)) revert UnknownModel(modelId);
        return _specs[modelId];
    }

    /// @inheritdoc IModelRegistry
    function idOf(ModelSpec calldata spec) public pure returns (bytes32 modelId) {
        return keccak256(abi.encode(spec));
    }

    /// @inheritdoc IModelRegistry
    function isRegistered(bytes32 modelId) public view returns (bool) {
        // Every registered model has at least one layer.
        return _specs[modelId].layers != 0;
    }

    function _checkBounds(ModelSpec calldata spec) private pure {
        _checkRange("semantics", spec.semantics, 1, type(uint16).max);
        _checkRange("hidden", spec.hidden, 1, MAX_HIDDEN);
        _checkRange("intermediate", spec.intermediate, 1, MAX_LINEAR_INPUT);
        _checkRange("layers", spec.layers, 1, MAX_LAYERS);
        _checkRange("heads", spec.heads, 1, MAX_LINEAR_INPUT);
        _checkRange("kvHeads", spec.kvHeads, 1, spec.heads);
        if (spec.heads % spec.kvHeads != 0) revert DimensionOutOfRange("kvHeads", spec.kvHeads);
        _checkRange("headDim", spec.headDim, 2, MAX_HEAD_DIM);
        if (spec.headDim % 2 != 0) revert DimensionOutOfRange("headDim", spec.headDim);
        _checkRange("heads * headDim", uint256(spec.heads) * spec.headDim, 1, MAX_LINEAR_INPUT);
        _checkRange("vocab", spec.vocab, 1, MAX_VOCAB);
        _checkRange("context", spec.context, 1, MAX_CONTEXT);
        _checkRange("epsilon", spec.epsilon, 0, MAX_EPSILON);
    }

    /// @dev Both ends are allowed values.
    function _checkRange(string memory field, uint256 value, uint256 low, uint256 high) private pure {
        if (value < low || value > high) revert DimensionOutOfRange(field, value);
    }
}
