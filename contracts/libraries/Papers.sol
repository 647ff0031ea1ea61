// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {ECDSA} from "@openzeppelin/contracts/utils/cryptography/ECDSA.sol";
import {MessageHashUtils} from "@openzeppelin/contracts/utils/cryptography/MessageHashUtils.sol";

import {IDisputeGame} from "../interfaces/IDisputeGame.sol";
import {IStakeRegistry} from "../interfaces/IStakeRegistry.sol";
import {GameState} from "./GameState.sol";
import {SignedObjects} from "./SignedObjects.sol";

/// @title Requests and receipts as they are shown to the game
library Papers {
    using MessageHashUtils for bytes32;

    function digestOf(SignedObjects.Receipt calldata receipt, bytes32 domain) internal pure returns (bytes32) {
        return domain.toTypedDataHash(SignedObjects.hash(receipt));
    }

    /// @notice The receipt's digest; reverts unless the request is the one that it names, and it is the game's.
    function check(
        IDisputeGame.Paper calldata paper,
        bytes32 domain,
        bytes32 expected
    ) internal pure returns (bytes32 digest) {
        digest = check(paper, domain);
        if (digest != expected) revert IDisputeGame.OtherReceipt(digest);
    }

    /// @notice The receipt's digest; reverts unless the request is the one that it names.
    function check(IDisputeGame.Paper calldata paper, bytes32 domain) internal pure returns (bytes32 digest) {
        bytes32 requestId = domain.toTypedDataHash(SignedObjects.hash(paper.request));
        if (requestId != paper.receipt.requestId) revert IDisputeGame.OtherRequest(requestId);
        return digestOf(paper.receipt, domain);
    }

    /// @notice Reverts unless a key that is or was the worker's hot key signed.
    function checkSigner(
        IStakeRegistry stakes,
        address worker,
        bytes32 digest,
        bytes calldata signature
    ) internal view {
        (address signer, ECDSA.RecoverError problem, ) = ECDSA.tryRecoverCalldata(digest, signature);
        bool known = problem == ECDSA.RecoverError.NoError && stakes.everHotKeyOf(worker, signer);
        if (!known) revert IDisputeGame.NotSignedByWorker(signer);
    }

    /// @notice Counts of the receipt's trace. Reverts where the receipt does not fit its request so far as they depend on
    /// it, or exceeds what any model allows: that is a fault of its own, see `IStatementJudge.isMisshapen`.
    function turnOf(IDisputeGame.Paper calldata paper) internal pure returns (GameState.Turn memory turn) {
        SignedObjects.Receipt calldata receipt = paper.receipt;
        uint256 length = paper.request.path.length;
        if (receipt.shard >= length) revert IDisputeGame.MalformedReceipt();
        SignedObjects.Hop calldata hop = paper.request.path[receipt.shard];
        uint256 layers = uint256(hop.end) - (hop.start < hop.end ? hop.start : hop.end);
        bool fits = receipt.worker == hop.worker && layers != 0 && layers <= GameState.MAX_LAYERS;
        fits = fits && receipt.promptCount == paper.request.promptCount && receipt.positions <= GameState.MAX_POSITIONS;
        if (!fits || !countsFit(receipt)) revert IDisputeGame.MalformedReceipt();

        if (hop.start == 0) turn.flags = GameState.FIRST;
        if (receipt.shard == length - 1) turn.flags |= GameState.LAST;
        if (turn.flags & GameState.LAST != 0 && receipt.generated != 0) turn.flags |= GameState.EXIT;
        turn.count = receipt.positions;
        turn.promptCount = receipt.promptCount;
        turn.segments = layers + (hop.start == 0 ? 1 : 0) + (turn.flags & GameState.EXIT != 0 ? 1 : 0);
    }

    /// @notice Whether positions, prompt and generated tokens go together.
    function countsFit(SignedObjects.Receipt calldata receipt) internal pure returns (bool) {
        if (receipt.promptCount == 0) return false;
        if (receipt.generated == 0) return receipt.positions != 0 && receipt.positions < receipt.promptCount;
        return uint256(receipt.positions) + 1 == uint256(receipt.promptCount) + receipt.generated;
    }
}
