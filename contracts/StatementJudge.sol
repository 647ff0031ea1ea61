// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Math} from "@openzeppelin/contracts/utils/math/Math.sol";

import {IDisputeGame} from "./interfaces/IDisputeGame.sol";
import {IModelRegistry} from "./interfaces/IModelRegistry.sol";
import {IStatementJudge} from "./interfaces/IStatementJudge.sol";
import {JudgeCall} from "./libraries/JudgeCall.sol";
import {MerkleTree} from "./libraries/MerkleTree.sol";
import {Papers} from "./libraries/Papers.sol";
import {ShaPath} from "./libraries/ShaPath.sol";
import {SignedObjects} from "./libraries/SignedObjects.sol";

/// @title What a worker must not sign, see IStatementJudge
/// @notice The checks of `efedllm/protocol/requests.py` and `receipts.py` that a worker makes before it works and signs.
/// Nothing else may be a fault here.
contract StatementJudge is IStatementJudge {
    using Papers for IDisputeGame.Paper;
    using Papers for SignedObjects.Receipt;
    using ShaPath for bytes32;

    uint256 private constant KIND_INFERENCE = 0;
    uint256 private constant MAX_PATH = 64;
    uint256 private constant MAX_STOP_IDS = 64;
    uint256 private constant TEMPERATURE_MIN = 656; // Q16: 0.01
    uint256 private constant TEMPERATURE_MAX = 6_553_600; // Q16: 100
    uint256 private constant TOP_P_ONE = 65_536; // Q16

    /// @inheritdoc IStatementJudge
    function proveShape(IDisputeGame.Paper calldata paper) external view returns (address worker, bytes32 requestId) {
        JudgeCall.Rules memory rules = _check(paper);
        SignedObjects.Request calldata request = paper.request;
        IModelRegistry.ModelSpec memory model = rules.modelRegistry.specOf(request.modelId);
        bool servable =
            request.kind == KIND_INFERENCE &&
                _coversAllLayers(request.path, model.layers) &&
                _canBeSampled(request.sampling) &&
                request.promptCount != 0 &&
                request.maxTokens != 0 &&
                uint256(request.promptCount) + request.maxTokens <= uint256(model.context) + 1 &&
                _areStopIds(request.stopIds, model.vocab);
        return _verdict(paper, !servable || !_follows(request, paper.receipt));
    }

    /// @inheritdoc IStatementJudge
    function proveLink(
        IDisputeGame.Paper calldata paper,
        SignedObjects.Receipt calldata upstream
    ) external view returns (address worker, bytes32 requestId) {
        JudgeCall.Rules memory rules = _check(paper);
        SignedObjects.Receipt calldata receipt = paper.receipt;
        bytes32 digest = upstream.digestOf(rules.channels.domainSeparator());
        if (receipt.upstream != digest) revert IDisputeGame.OtherReceipt(digest);
        return
            _verdict(
                paper,
                receipt.positions != upstream.positions ||
                    receipt.generated != upstream.generated ||
                    receipt.tokenRoot != upstream.tokenRoot ||
                    receipt.inputRoot != upstream.outputRoot
            );
    }

    /// @inheritdoc IStatementJudge
    function proveEquivocation(
        IDisputeGame.Paper calldata paper,
        SignedObjects.Receipt calldata other,
        bytes calldata signature
    ) external view returns (address worker, bytes32 requestId) {
        JudgeCall.Rules memory rules = _check(paper);
        SignedObjects.Receipt calldata receipt = paper.receipt;
        bytes32 digest = other.digestOf(rules.channels.domainSeparator());
        Papers.checkSigner(rules.stakeRegistry, receipt.worker, digest, signature);
        return
            _verdict(
                paper,
                receipt.requestId == other.requestId &&
                    receipt.shard == other.shard &&
                    receipt.worker == other.worker &&
                    receipt.positions == other.positions &&
                    receipt.generated == other.generated &&
                    receipt.inputRoot == other.inputRoot &&
                    receipt.outputRoot != other.outputRoot
            );
    }

    /// @inheritdoc IStatementJudge
    function proveTokens(
        IDisputeGame.Paper calldata paper,
        TokenEvidence calldata evidence
    ) external view returns (address worker, bytes32 requestId) {
        JudgeCall.Rules memory rules = _check(paper);
        return _verdict(paper, _isTokenFault(rules.modelRegistry, paper.request, paper.receipt, evidence));
    }

    function _isTokenFault(
        IModelRegistry models,
        SignedObjects.Request calldata request,
        SignedObjects.Receipt calldata receipt,
        TokenEvidence calldata evidence
    ) private view returns (bool) {
        uint256 prompt = receipt.promptCount;
        uint256 tokens = prompt + receipt.generated;
        TokenStatement statement = evidence.statement;
        bool isOfOutput = statement == TokenStatement.Output || statement == TokenStatement.StopId;
        if (statement == TokenStatement.Input && receipt.shard != 0) revert WrongShard();
        if (isOfOutput && uint256(receipt.shard) + 1 != request.path.length) revert WrongShard();

        if (statement == TokenStatement.Vocabulary) {
            bytes32 leaf = _tokenLeaf(evidence.token);
            _checkLeaf(leaf, evidence.index, tokens, evidence.siblings, receipt.tokenRoot);
            return evidence.token >= models.specOf(request.modelId).vocab;
        }
        if (statement == TokenStatement.StopId) {
            bytes32 leaf = _tokenLeaf(evidence.token);
            _checkLeaf(leaf, evidence.index, receipt.generated, evidence.siblings, receipt.outputRoot);
            if (uint256(evidence.index) + 1 >= receipt.generated) return false;
            for (uint256 i; i < request.stopIds.length; ++i) if (request.stopIds[i] == evidence.token) return true;
            return false;
        }
        uint256 index = isOfOutput ? prompt + evidence.index : evidence.index;
        _checkLeaf(evidence.leaf, index, tokens, evidence.siblings, receipt.tokenRoot);
        if (statement == TokenStatement.Prompt) {
            bytes32 root = _climb(evidence.other, evidence.index, prompt, evidence.otherSiblings);
            if (sha256(abi.encodePacked(hex"03", evidence.salt, root)) != request.promptRoot) revert NotCommitted();
        } else if (isOfOutput) {
            _checkLeaf(evidence.other, evidence.index, receipt.generated, evidence.otherSiblings, receipt.outputRoot);
        } else {
            _checkLeaf(evidence.other, evidence.index, receipt.positions, evidence.otherSiblings, receipt.inputRoot);
        }
        return evidence.leaf != evidence.other;
    }

    /// @dev In order, without gap or overlap, by distinct workers.
    function _coversAllLayers(SignedObjects.Hop[] calldata path, uint256 layers) private pure returns (bool) {
        if (path.length > MAX_PATH) return false;
        uint256 next;
        for (uint256 i; i < path.length; ++i) {
            if (path[i].start != next || path[i].end <= next) return false;
            next = path[i].end;
            for (uint256 j; j < i; ++j) if (path[j].worker == path[i].worker) return false;
        }
        return next == layers;
    }

    function _canBeSampled(SignedObjects.Sampling calldata sampling) private pure returns (bool) {
        uint256 temperature = sampling.temperature;
        if (temperature != 0 && (temperature < TEMPERATURE_MIN || temperature > TEMPERATURE_MAX)) return false;
        return sampling.topP != 0 && sampling.topP <= TOP_P_ONE;
    }

    function _areStopIds(uint32[] calldata ids, uint256 vocab) private pure returns (bool) {
        if (ids.length > MAX_STOP_IDS) return false;
        for (uint256 i; i < ids.length; ++i) {
            if (ids[i] >= vocab || (i != 0 && ids[i] <= ids[i - 1])) return false;
        }
        return true;
    }

    /// @dev Whether everything of the receipt that follows from the request does.
    function _follows(
        SignedObjects.Request calldata request,
        SignedObjects.Receipt calldata receipt
    ) private pure returns (bool) {
        if (receipt.shard >= request.path.length) return false;
        SignedObjects.Hop calldata hop = request.path[receipt.shard];
        uint256 fee = Math.min(receipt.positions, request.promptCount) * hop.promptPrice;
        fee += receipt.generated * uint256(hop.tokenPrice);
        bool isLast = receipt.shard == request.path.length - 1;
        return
            receipt.worker == hop.worker &&
            receipt.payer == request.payer &&
            receipt.promptCount == request.promptCount &&
            receipt.fee == fee &&
            receipt.generated <= request.maxTokens &&
            Papers.countsFit(receipt) &&
            (receipt.shard == 0) == (receipt.upstream == 0) &&
            (!isLast || receipt.generated != 0 || receipt.outputRoot == 0);
    }

    /// @dev Whether the worker signed this receipt for this request.
    function _check(IDisputeGame.Paper calldata paper) private view returns (JudgeCall.Rules memory rules) {
        rules = JudgeCall.rules();
        bytes32 digest = paper.check(rules.channels.domainSeparator());
        Papers.checkSigner(rules.stakeRegistry, paper.receipt.worker, digest, paper.signature);
    }

    function _verdict(
        IDisputeGame.Paper calldata paper,
        bool isFault
    ) private pure returns (address worker, bytes32 requestId) {
        if (!isFault) revert IDisputeGame.NothingWrong();
        return (paper.receipt.worker, paper.receipt.requestId);
    }

    function _tokenLeaf(uint32 token) private pure returns (bytes32) {
        bytes4 big = bytes4(token);
        return MerkleTree.shaLeaf(abi.encodePacked(big[3], big[2], big[1], big[0]));
    }

    function _checkLeaf(
        bytes32 leaf,
        uint256 index,
        uint256 count,
        bytes32[] calldata siblings,
        bytes32 root
    ) private view {
        if (_climb(leaf, index, count, siblings) != root) revert NotCommitted();
    }

    function _climb(
        bytes32 leaf,
        uint256 index,
        uint256 count,
        bytes32[] calldata siblings
    ) private view returns (bytes32) {
        if (index >= count || siblings.length != MerkleTree.depthOf(count)) revert NotCommitted();
        return leaf.climb(index, siblings);
    }
}
