// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {SignedObjects} from "../libraries/SignedObjects.sol";
import {IDisputeGame} from "./IDisputeGame.sol";

/// @title Judges what a worker signed by itself, without any computation
/// @notice Faults that no worker can run into that checks what docs/protocol.md tells it to check before it signs. They
/// need no draw and no game: the signed receipt is enough. Its functions are those of `IDisputeGame` by the same names,
/// see `JudgeCall`. Each reverts with NothingWrong where there is no fault.
interface IStatementJudge {
    /// @notice Two signed statements about the same token that differ, or a token that must not be.
    enum TokenStatement {
        Prompt, // token root and prompt
        Input, // token root and input root; first shard
        Output, // token root and output root; last shard
        Vocabulary, // a token under the token root that is not below vocab
        StopId // a stop id under the output root with another token behind it; last shard
    }

    struct TokenEvidence {
        TokenStatement statement;
        uint32 index; // of the token under the token root; Output, StopId: under the output root
        uint32 token; // Vocabulary, StopId
        bytes32 leaf; // Prompt, Input, Output: hash of the token's leaf under the token root
        bytes32[] siblings; // of the leaf from the bottom up; StopId: under the output root
        bytes32 other; // Prompt, Input, Output: hash of the leaf that should be the same
        bytes32[] otherSiblings;
        bytes32 salt; // Prompt
    }

    /// @notice Data and siblings do not lead to what was signed.
    error NotCommitted();
    /// @notice Such a statement is not made in this shard.
    error WrongShard();

    /// @notice Request and receipt alone show that no worker may sign the receipt: the request is none that may be served
    /// (path, sampling, counts, stop ids), or shard, worker, payer, counts, fee or roots do not follow from it. Reverts for
    /// a model that is not registered.
    function proveShape(IDisputeGame.Paper calldata paper) external view returns (address worker, bytes32 requestId);
    /// @notice The receipt names one that speaks of other counts, tokens or rows than itself.
    function proveLink(
        IDisputeGame.Paper calldata paper,
        SignedObjects.Receipt calldata upstream
    ) external view returns (address worker, bytes32 requestId);
    /// @notice Two receipts say that the same input gave different outputs.
    function proveEquivocation(
        IDisputeGame.Paper calldata paper,
        SignedObjects.Receipt calldata other,
        bytes calldata signature
    ) external view returns (address worker, bytes32 requestId);
    /// @notice A contradiction about a token, or one that must not be.
    function proveTokens(
        IDisputeGame.Paper calldata paper,
        TokenEvidence calldata evidence
    ) external view returns (address worker, bytes32 requestId);
}
