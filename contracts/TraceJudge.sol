// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IDisputeGame} from "./interfaces/IDisputeGame.sol";
import {IModelRegistry} from "./interfaces/IModelRegistry.sol";
import {IStepVerifier} from "./interfaces/IStepVerifier.sol";
import {ITraceJudge} from "./interfaces/ITraceJudge.sol";
import {GameTurns} from "./libraries/GameTurn.sol";
import {JudgeCall} from "./libraries/JudgeCall.sol";
import {MerkleTree} from "./libraries/MerkleTree.sol";
import {Papers} from "./libraries/Papers.sol";
import {ShaPath} from "./libraries/ShaPath.sol";
import {SignedObjects} from "./libraries/SignedObjects.sol";
import {TraceShape} from "./libraries/TraceShape.sol";

/// @title Where a game has led to, see ITraceJudge
contract TraceJudge is ITraceJudge {
    using TraceShape for TraceShape.Shape;
    using Papers for IDisputeGame.Paper;
    using Papers for SignedObjects.Receipt;
    using ShaPath for bytes32;

    uint256 private constant TOKEN_BYTES = 4;
    uint256 private constant RESIDUAL_BYTES = 4; // of one element
    uint256 private constant LAST_LAYER_TENSOR = 27;
    uint256 private constant SAMPLE_TENSOR = 18;
    uint256 private constant SAMPLE_BYTES = 16;

    /// @inheritdoc ITraceJudge
    function chooseSide(
        uint256,
        IDisputeGame.Side side,
        IDisputeGame.Paper calldata paper
    ) external view returns (bytes32 root, uint256 generated) {
        (, JudgeCall.Spot memory spot) = _open(paper);
        generated = paper.receipt.generated;
        if (side == IDisputeGame.Side.Body) return (spot.bodyRoot, generated);
        if (side == IDisputeGame.Side.Input) return (paper.receipt.inputRoot, generated);
        if (side == IDisputeGame.Side.None || (_isLast(paper) && generated == 0)) revert IDisputeGame.NothingThere();
        return (paper.receipt.outputRoot, generated);
    }

    /// @inheritdoc ITraceJudge
    function pickRow(
        uint256,
        uint8,
        bytes32,
        bytes32[] calldata,
        IDisputeGame.Paper calldata paper
    ) external view returns (uint256) {
        (IModelRegistry models, JudgeCall.Spot memory spot) = _open(paper);
        TraceShape.Shape memory shape = _shapeOf(paper, models.specOf(paper.request.modelId));
        if (spot.side == IDisputeGame.Side.Input) return TraceShape.leavesOf(_residualRow(shape));
        (uint256 segment, uint256 tensor, ) = shape.placeOf(spot.path);
        return shape.leavesOf(shape.kindOf(segment), tensor);
    }

    /// @inheritdoc ITraceJudge
    function revealLeaf(uint256, IDisputeGame.Paper calldata paper, bytes calldata leaf) external view {
        (IModelRegistry models, JudgeCall.Spot memory spot) = _open(paper);
        _checkLength(leaf.length, spot.inRow ? _leafBytes(paper, models, spot) : TOKEN_BYTES);
        _checkLeaf(leaf, spot);
    }

    /// @inheritdoc ITraceJudge
    function proveStep(
        uint256,
        IDisputeGame.Paper calldata paper,
        bytes calldata leaf,
        uint32 element,
        IStepVerifier.Opening[] calldata operands
    ) external view returns (bytes32) {
        (IModelRegistry models, JudgeCall.Spot memory spot) = _open(paper);
        if (spot.side != IDisputeGame.Side.Body) revert IDisputeGame.WrongProof();
        _checkLeaf(leaf, spot);
        IStepVerifier.Case memory case_ = _caseOf(paper, models, spot.bodyRoot);
        IStepVerifier.Step memory step = _stepOf(_shapeOf(paper, case_.model), spot.path, element);
        return _verdict(paper, IStepVerifier(case_.model.stepVerifier).isWrong(case_, step, leaf, operands));
    }

    /// @inheritdoc ITraceJudge
    function proveRow(
        uint256,
        IDisputeGame.Paper calldata paper,
        bytes32 row,
        bytes32[] calldata siblings
    ) external view returns (bytes32) {
        (IModelRegistry models, JudgeCall.Spot memory spot) = _open(paper);
        if (spot.side != IDisputeGame.Side.Output || _isLast(paper)) revert IDisputeGame.WrongProof();
        TraceShape.Shape memory shape = _shapeOf(paper, models.specOf(paper.request.modelId));
        uint256 slot = shape.slotOf(shape.segmentsOf() - 1, LAST_LAYER_TENSOR, spot.path);
        _check(row, slot, shape.upperDepth(), siblings, spot.bodyRoot);
        return _verdict(paper, row != spot.node);
    }

    /// @inheritdoc ITraceJudge
    function proveToken(
        uint256,
        IDisputeGame.Paper calldata paper,
        bytes calldata leaf,
        IDisputeGame.TokenProof calldata proof
    ) external view returns (bytes32) {
        (IModelRegistry models, JudgeCall.Spot memory spot) = _open(paper);
        bool isInput = spot.side == IDisputeGame.Side.Input && paper.receipt.shard == 0;
        bool isOutput = spot.side == IDisputeGame.Side.Output && _isLast(paper);
        if (!isInput && !isOutput) revert IDisputeGame.WrongProof();
        _checkLeaf(leaf, spot);
        return _verdict(paper, _isWrongToken(paper, models, spot, leaf, proof, isInput));
    }

    /// @inheritdoc ITraceJudge
    function timeout(uint256, SignedObjects.Receipt calldata receipt) external view returns (bytes32) {
        bytes32 digest = receipt.digestOf(JudgeCall.rules().channels.domainSeparator());
        if (digest != JudgeCall.spot().receiptDigest) revert IDisputeGame.OtherReceipt(digest);
        return receipt.requestId;
    }

    /// @dev Shows that the paper is the game's.
    function _open(
        IDisputeGame.Paper calldata paper
    ) private view returns (IModelRegistry models, JudgeCall.Spot memory spot) {
        spot = JudgeCall.spot();
        JudgeCall.Rules memory rules = JudgeCall.rules();
        paper.check(rules.channels.domainSeparator(), spot.receiptDigest);
        return (rules.modelRegistry, spot);
    }

    function _verdict(IDisputeGame.Paper calldata paper, bool isWrong) private pure returns (bytes32 requestId) {
        if (!isWrong) revert IDisputeGame.NothingWrong();
        return paper.receipt.requestId;
    }

    function _leafBytes(
        IDisputeGame.Paper calldata paper,
        IModelRegistry models,
        JudgeCall.Spot memory spot
    ) private view returns (uint256) {
        TraceShape.Shape memory shape = _shapeOf(paper, models.specOf(paper.request.modelId));
        (uint256 slot, uint256 leaf) = GameTurns.split(spot.path);
        if (spot.side == IDisputeGame.Side.Input) {
            TraceShape.Part memory row = _residualRow(shape);
            uint256 left = row.size * row.count - leaf * TraceShape.LEAF_BYTES;
            return left < TraceShape.LEAF_BYTES ? left : TraceShape.LEAF_BYTES;
        }
        (uint256 segment, uint256 tensor, ) = shape.placeOf(slot);
        (, , TraceShape.Part memory held) = shape.leafAt(shape.kindOf(segment), tensor, leaf);
        return held.size * held.count;
    }

    function _isWrongToken(
        IDisputeGame.Paper calldata paper,
        IModelRegistry models,
        JudgeCall.Spot memory spot,
        bytes calldata leaf,
        IDisputeGame.TokenProof calldata proof,
        bool isInput
    ) private view returns (bool) {
        SignedObjects.Receipt calldata receipt = paper.receipt;
        if (proof.fault == IDisputeGame.TokenFault.TokenRoot) {
            uint256 count = uint256(receipt.promptCount) + receipt.generated;
            uint256 index = isInput ? spot.path : receipt.promptCount + spot.path;
            _check(proof.other, index, MerkleTree.depthOf(count), proof.siblings, receipt.tokenRoot);
            return proof.other != spot.node;
        }
        if (proof.fault == IDisputeGame.TokenFault.Prompt) {
            if (!isInput || spot.path >= receipt.promptCount) revert IDisputeGame.WrongProof();
            _checkLength(proof.siblings.length, MerkleTree.depthOf(receipt.promptCount));
            bytes32 root = proof.other.climb(spot.path, proof.siblings);
            bytes32 promptRoot = sha256(abi.encodePacked(hex"03", proof.salt, root));
            if (promptRoot != paper.request.promptRoot) {
                revert IDisputeGame.WrongHash(promptRoot, paper.request.promptRoot);
            }
            return proof.other != spot.node;
        }
        IModelRegistry.ModelSpec memory model = models.specOf(paper.request.modelId);
        if (proof.fault == IDisputeGame.TokenFault.Vocabulary) return _tokenOf(leaf) >= model.vocab;
        if (isInput) revert IDisputeGame.WrongProof();
        _checkLength(proof.sample.length, SAMPLE_BYTES);
        TraceShape.Shape memory shape = _shapeOf(paper, model);
        uint256 row = uint256(receipt.promptCount) - 1 + spot.path;
        uint256 slot = shape.slotOf(shape.segmentsOf() - 1, SAMPLE_TENSOR, row);
        _check(MerkleTree.shaLeaf(proof.sample), slot, shape.upperDepth(), proof.siblings, spot.bodyRoot);
        return MerkleTree.shaLeaf(proof.sample[:TOKEN_BYTES]) != spot.node;
    }

    function _stepOf(
        TraceShape.Shape memory shape,
        uint256 path,
        uint32 element
    ) private pure returns (IStepVerifier.Step memory) {
        (uint256 slot, uint256 leaf) = GameTurns.split(path);
        (uint256 segment, uint256 tensor, uint256 row) = shape.placeOf(slot);
        return IStepVerifier.Step(uint32(segment), uint32(tensor), uint32(row), uint32(leaf), element);
    }

    function _caseOf(
        IDisputeGame.Paper calldata paper,
        IModelRegistry models,
        bytes32 bodyRoot
    ) private view returns (IStepVerifier.Case memory case_) {
        SignedObjects.Receipt calldata receipt = paper.receipt;
        SignedObjects.Hop calldata hop = paper.request.path[receipt.shard];
        case_.model = models.specOf(paper.request.modelId);
        case_.start = hop.start;
        case_.end = hop.end;
        case_.positions = receipt.positions;
        case_.promptCount = receipt.promptCount;
        case_.generated = receipt.generated;
        case_.inputRoot = receipt.inputRoot;
        case_.bodyRoot = bodyRoot;
        case_.seed = paper.request.seed;
        case_.sampling = paper.request.sampling;
    }

    function _shapeOf(
        IDisputeGame.Paper calldata paper,
        IModelRegistry.ModelSpec memory model
    ) private pure returns (TraceShape.Shape memory) {
        SignedObjects.Receipt calldata receipt = paper.receipt;
        SignedObjects.Hop calldata hop = paper.request.path[receipt.shard];
        return TraceShape.shapeOf(model, hop.start, hop.end, receipt.positions, receipt.promptCount, receipt.generated);
    }

    function _isLast(IDisputeGame.Paper calldata paper) private pure returns (bool) {
        return paper.receipt.shard == paper.request.path.length - 1;
    }

    function _residualRow(TraceShape.Shape memory shape) private pure returns (TraceShape.Part memory) {
        return TraceShape.Part({size: RESIDUAL_BYTES, count: shape.hidden});
    }

    function _tokenOf(bytes calldata leaf) private pure returns (uint256 token) {
        _checkLength(leaf.length, TOKEN_BYTES);
        for (uint256 i = TOKEN_BYTES; i > 0; --i) token = (token << 8) | uint8(leaf[i - 1]);
    }

    function _checkLeaf(bytes calldata leaf, JudgeCall.Spot memory spot) private pure {
        bytes32 hash = MerkleTree.shaLeaf(leaf);
        if (hash != spot.node) revert IDisputeGame.WrongHash(hash, spot.node);
    }

    function _checkLength(uint256 length, uint256 expected) private pure {
        if (length != expected) revert IDisputeGame.WrongLength(length, expected);
    }

    function _check(
        bytes32 leaf,
        uint256 index,
        uint256 depth,
        bytes32[] calldata siblings,
        bytes32 expected
    ) private view {
        _checkLength(siblings.length, depth);
        bytes32 root = leaf.climb(index, siblings);
        if (root != expected) revert IDisputeGame.WrongHash(root, expected);
    }
}
