// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {GameTurn} from "../libraries/GameTurn.sol";
import {SignedObjects} from "../libraries/SignedObjects.sol";
import {IDisputeGame} from "./IDisputeGame.sol";

/// @title Judges what is shown of a receipt: who signed it, whether it is drawn, where the money for it lies
/// @notice Its functions are those of `IDisputeGame` by the same names, see `JudgeCall`. It asks its caller, the game, for
/// what was force-drawn and demanded.
interface IPaperJudge {
    struct Admission {
        address worker;
        bytes32 requestId;
        bytes32 digest; // of the receipt
        GameTurn turn; // with the counts of the receipt
        uint256 amount; // what the receipt's part of a claim is; 0 where no claim is shown
    }

    /// @notice A receipt of the worker, signed by it, that fits its request.
    function forceDraw(IDisputeGame.Paper calldata paper) external view returns (Admission memory);
    /// @notice The same, that can be disputed now.
    function open(
        IDisputeGame.Paper calldata paper,
        IDisputeGame.Draw calldata draw
    ) external view returns (Admission memory);
    /// @notice The same, that has such a chunk of tokens.
    function demand(
        IDisputeGame.Paper calldata paper,
        IDisputeGame.Draw calldata draw,
        uint32 chunk
    ) external view returns (Admission memory);
    /// @notice Behind the arguments stand the game's receipt and chunk. Reverts unless the tokens are those.
    function answerDemand(
        uint256 gameId,
        SignedObjects.Receipt calldata receipt,
        bytes calldata tokens,
        bytes32[] calldata siblings
    ) external view;
    /// @notice A receipt in a claim, paid by this payer.
    function refund(
        SignedObjects.Receipt calldata receipt,
        address payer,
        address sessionKey,
        IDisputeGame.Part calldata part
    ) external view returns (Admission memory);
}
