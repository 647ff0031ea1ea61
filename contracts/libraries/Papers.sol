// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {ECDSA} from "@openzeppelin/contracts/utils/cryptography/ECDSA.sol";
import {MessageHashUtils} from "@openzeppelin/contracts/utils/cryptography/MessageHashUtils.sol";

import {IDisputeGame} from "../interfaces/IDisputeGame.sol";
import {IStakeRegistry} from "../interfaces/IStakeRegistry.sol";
import {GameTurn, GameTurns} from "./GameTurn.sol";
import {SignedObjects} from "./SignedObjects.sol";

/// @title Requests and receipts as they are shown to the game
library Papers {
    using MessageHashUtils for bytes32;

    function digestOf(SignedObjects.Receipt calldata receipt, bytes32 domain) internal pure returns (bytes32) {
        return domain.toTypedDataHash(hashOf(receipt));
    }

    /// @notice `SignedObjects.hash` of a receipt, without decoding it. Fields with bits that they have no room for give
    /// another hash than any that is signed, and are refused wherever they are read.
    function hashOf(SignedObjects.Receipt calldata receipt) internal pure returns (bytes32 hash) {
        bytes32 receiptType = SignedObjects.RECEIPT_TYPE;
        assembly ("memory-safe") {
            let words := mload(0x40)
            mstore(words, receiptType)
            calldatacopy(add(words, 0x20), receipt, 0x1a0) // 13 fields
            hash := keccak256(words, 0x1c0)
        }
    }

    /// @notice `SignedObjects.hash` of a request, without decoding it.
    function hashOf(SignedObjects.Request calldata request) internal pure returns (bytes32 hash) {
        SignedObjects.Hop[] calldata path = request.path;
        uint32[] calldata stopIds = request.stopIds;
        SignedObjects.Sampling calldata sampling = request.sampling;
        bytes32 hopType = SignedObjects.HOP_TYPE;
        bytes32 samplingType = SignedObjects.SAMPLING_TYPE;
        bytes32 requestType = SignedObjects.REQUEST_TYPE;
        assembly ("memory-safe") {
            let words := mload(0x40)
            // The hash of each hop, end to end, with the hop's own words behind them for a moment.
            let hashes := words
            for {
                let i := 0
            } lt(i, path.length) {
                i := add(i, 1)
            } {
                mstore(hashes, hopType)
                calldatacopy(add(hashes, 0x20), add(path.offset, mul(i, 0xa0)), 0xa0)
                mstore(hashes, keccak256(hashes, 0xc0))
                hashes := add(hashes, 0x20)
            }
            let pathHash := keccak256(words, shl(5, path.length))
            calldatacopy(words, stopIds.offset, shl(5, stopIds.length))
            let stopIdsHash := keccak256(words, shl(5, stopIds.length))
            mstore(words, samplingType)
            calldatacopy(add(words, 0x20), sampling, 0x60)
            let samplingHash := keccak256(words, 0x80)

            mstore(words, requestType)
            calldatacopy(add(words, 0x20), request, 0x160) // payer to seed, with offsets in place of path and stop ids
            mstore(add(words, 0xc0), pathHash)
            mstore(add(words, 0x140), stopIdsHash)
            mstore(add(words, 0x180), samplingHash)
            hash := keccak256(words, 0x1a0)
        }
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
        bytes32 requestId = domain.toTypedDataHash(hashOf(paper.request));
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
    function turnOf(IDisputeGame.Paper calldata paper) internal pure returns (GameTurn) {
        SignedObjects.Receipt calldata receipt = paper.receipt;
        SignedObjects.Hop[] calldata path = paper.request.path;
        uint256 shard = receipt.shard;
        if (shard >= path.length) revert IDisputeGame.MalformedReceipt();
        SignedObjects.Hop calldata hop = path[shard];
        (uint256 positions, uint256 promptCount, uint256 generated) = _countsOf(receipt);
        (uint256 start, uint256 end) = (hop.start, hop.end);
        bool fits =
            receipt.worker == hop.worker &&
                start < end &&
                end - start <= GameTurns.MAX_LAYERS &&
                promptCount == paper.request.promptCount &&
                positions <= GameTurns.MAX_POSITIONS &&
                _fit(positions, promptCount, generated);
        if (!fits) revert IDisputeGame.MalformedReceipt();

        uint256 segments = end - start;
        uint256 flags;
        if (start == 0) {
            flags = GameTurns.FIRST;
            ++segments;
        }
        if (shard == path.length - 1) {
            flags |= GameTurns.LAST;
            if (generated != 0) {
                flags |= GameTurns.EXIT;
                ++segments;
            }
        }
        return GameTurns.begin(positions, promptCount, segments, flags);
    }

    /// @notice Whether positions, prompt and generated tokens go together.
    function countsFit(SignedObjects.Receipt calldata receipt) internal pure returns (bool) {
        (uint256 positions, uint256 promptCount, uint256 generated) = _countsOf(receipt);
        return _fit(positions, promptCount, generated);
    }

    function _countsOf(
        SignedObjects.Receipt calldata receipt
    ) private pure returns (uint256 positions, uint256 promptCount, uint256 generated) {
        return (receipt.positions, receipt.promptCount, receipt.generated);
    }

    function _fit(uint256 positions, uint256 promptCount, uint256 generated) private pure returns (bool) {
        if (promptCount == 0) return false;
        if (generated == 0) return positions != 0 && positions < promptCount;
        return positions + 1 == promptCount + generated;
    }
}
