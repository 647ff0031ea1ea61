// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {SignedObjects} from "../libraries/SignedObjects.sol";
import {IModelRegistry} from "./IModelRegistry.sol";

/// @title Judges one element of a trace
/// @notice Positions in a trace, and where an element's operands lie, are those of docs/trace.md.
interface IStepVerifier {
    /// @notice What a computation depends on: the model, the shard, the receipt's counts and roots, and the request.
    struct Case {
        IModelRegistry.ModelSpec model;
        uint32 start; // first layer of the shard
        uint32 end; // one past its last layer
        uint32 positions;
        uint32 promptCount;
        uint32 generated;
        bytes32 inputRoot;
        bytes32 bodyRoot;
        bytes32 seed;
        SignedObjects.Sampling sampling;
    }

    /// @notice One leaf of a trace, and an element in it. The element counts from the beginning of the leaf.
    struct Step {
        uint32 segment;
        uint32 tensor;
        uint32 row;
        uint32 leaf;
        uint32 element;
    }

    /// @notice A leaf with its siblings from the bottom up to the root, or a whole row (matrix row, gain) with those of
    /// the row's root.
    struct Opening {
        bytes data;
        bytes32[] siblings;
    }

    /// @notice There is no such leaf in this trace, or no such element in the leaf.
    error NoSuchStep(Step step);
    /// @notice The leaf has another length than every leaf at this place.
    error LeafLength(uint256 length, uint256 expected);
    /// @notice `expected` is how many it takes, or where some are missing at least that many.
    error OperandCount(uint256 count, uint256 expected);
    /// @notice The data has another length than every operand of its kind.
    error OperandLength(uint256 operand, uint256 length, uint256 expected);
    /// @notice Data and siblings do not lead to the root.
    error OperandRefused(uint256 operand);
    /// @notice An operand holds what no valid model or trace can, so nothing follows from it.
    error OperandOutOfRange(uint256 operand);

    /// @notice Whether an element is not what its operands give. Reverts when the openings do not prove the operands.
    /// @param leaf bytes of the leaf that holds the element; the caller has shown that it is under the body root
    /// @param operands in the order of docs/trace.md, leaves of one operand in ascending order; empty where an element is
    /// the same whatever was computed (behind its position, or of a cut that is off)
    function isWrong(
        Case calldata case_,
        Step calldata step,
        bytes calldata leaf,
        Opening[] calldata operands
    ) external view returns (bool);
}
