// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {SignedObjects} from "../libraries/SignedObjects.sol";
import {IDisputeGame} from "./IDisputeGame.sol";
import {IStepVerifier} from "./IStepVerifier.sol";

/// @title Judges where a game has led to, by its receipt and what the receipt's model says
/// @notice Its functions are those of `IDisputeGame` by the same names, see `JudgeCall`: behind the arguments stands where
/// the game is. All revert with OtherReceipt unless the receipt is the game's.
interface ITraceJudge {
    /// @return root of the chosen side
    /// @return generated tokens of the receipt
    function chooseSide(
        uint256 gameId,
        IDisputeGame.Side side,
        IDisputeGame.Paper calldata paper
    ) external view returns (bytes32 root, uint256 generated);
    /// @return leaves of the row whose root was picked
    function pickRow(
        uint256 gameId,
        uint8 digit,
        bytes32 child,
        bytes32[] calldata siblings,
        IDisputeGame.Paper calldata paper
    ) external view returns (uint256 leaves);
    /// @notice Reverts unless the leaf is the one that was committed to, and as long as every one at its place.
    function revealLeaf(uint256 gameId, IDisputeGame.Paper calldata paper, bytes calldata leaf) external view;
    /// @notice As the following, reverts with NothingWrong where there is no fault.
    function proveStep(
        uint256 gameId,
        IDisputeGame.Paper calldata paper,
        bytes calldata leaf,
        uint32 element,
        IStepVerifier.Opening[] calldata operands
    ) external view returns (bytes32 requestId);
    function proveRow(
        uint256 gameId,
        IDisputeGame.Paper calldata paper,
        bytes32 row,
        bytes32[] calldata siblings
    ) external view returns (bytes32 requestId);
    function proveToken(
        uint256 gameId,
        IDisputeGame.Paper calldata paper,
        bytes calldata leaf,
        IDisputeGame.TokenProof calldata proof
    ) external view returns (bytes32 requestId);
    function timeout(uint256 gameId, SignedObjects.Receipt calldata receipt) external view returns (bytes32 requestId);
}
