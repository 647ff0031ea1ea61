// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// @title Registered exact models
/// @notice Permissionless: anybody may register any model within the bounds that every step check can handle.
interface IModelRegistry {
    /// @notice Everything a computation and its judgement depend on. The model id is `keccak256(abi.encode(spec))`.
    struct ModelSpec {
        uint16 semantics; // version of docs/numerics.md
        uint32 hidden;
        uint32 intermediate;
        uint32 layers;
        uint32 heads;
        uint32 kvHeads;
        uint32 headDim;
        uint32 vocab;
        uint32 context;
        uint64 epsilon; // RMSNorm epsilon times 2^32
        bytes32 opTable; // sha256 of the op table
        bytes32 weightsRoot;
        bytes32 tokenizerHash; // tokenizer, chat template and stop ids
        address stepVerifier; // the contract that can judge this model; zero: none yet
    }

    /// @param name what people call it; not part of the id
    event ModelRegistered(bytes32 indexed modelId, address indexed publisher, ModelSpec spec, string name);

    error DimensionOutOfRange(string field, uint256 value);
    error AlreadyRegistered(bytes32 modelId);
    error UnknownModel(bytes32 modelId);
    /// @notice More than 128 bytes.
    error NameTooLong(uint256 length);

    function register(ModelSpec calldata spec, string calldata name) external returns (bytes32 modelId);
    function idOf(ModelSpec calldata spec) external pure returns (bytes32 modelId);
    function isRegistered(bytes32 modelId) external view returns (bool);
    /// @notice Number of layers of a registered model; reverts with UnknownModel.
    function layersOf(bytes32 modelId) external view returns (uint32);
    /// @notice Reverts with UnknownModel.
    function specOf(bytes32 modelId) external view returns (ModelSpec memory);
}
