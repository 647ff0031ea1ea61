// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IChannels} from "./interfaces/IChannels.sol";
import {IDisputeGame} from "./interfaces/IDisputeGame.sol";
import {IPaperJudge} from "./interfaces/IPaperJudge.sol";
import {DrawProof} from "./libraries/DrawProof.sol";
import {JudgeCall} from "./libraries/JudgeCall.sol";
import {Papers} from "./libraries/Papers.sol";
import {SignedObjects} from "./libraries/SignedObjects.sol";
import {TokenChunk} from "./libraries/TokenChunk.sol";

/// @title What is shown of a receipt, see IPaperJudge
contract PaperJudge is IPaperJudge {
    using DrawProof for IDisputeGame.Draw;
    using DrawProof for IDisputeGame.Part;
    using DrawProof for IDisputeGame.Leaf;
    using Papers for IDisputeGame.Paper;
    using Papers for SignedObjects.Receipt;

    /// @inheritdoc IPaperJudge
    function forceDraw(IDisputeGame.Paper calldata paper) external view returns (Admission memory) {
        return _admit(paper, JudgeCall.rules());
    }

    /// @inheritdoc IPaperJudge
    function open(
        IDisputeGame.Paper calldata paper,
        IDisputeGame.Draw calldata draw
    ) external view returns (Admission memory admission) {
        JudgeCall.Rules memory rules = JudgeCall.rules();
        admission = _admit(paper, rules);
        admission.amount = _amountDrawn(draw, admission, rules);
    }

    /// @inheritdoc IPaperJudge
    function demand(
        IDisputeGame.Paper calldata paper,
        IDisputeGame.Draw calldata draw,
        uint32 chunk
    ) external view returns (Admission memory admission) {
        if (draw.demandId != 0) revert IDisputeGame.NotTheDemand(draw.demandId); // one does not prolong another
        TokenChunk.check(chunk, uint256(paper.receipt.promptCount) + paper.receipt.generated);
        JudgeCall.Rules memory rules = JudgeCall.rules();
        admission = _admit(paper, rules);
        admission.amount = _amountDrawn(draw, admission, rules);
    }

    /// @inheritdoc IPaperJudge
    function answerDemand(
        uint256,
        SignedObjects.Receipt calldata receipt,
        bytes calldata tokens,
        bytes32[] calldata siblings
    ) external view {
        JudgeCall.Spot memory spot = JudgeCall.spot();
        bytes32 digest = receipt.digestOf(JudgeCall.rules().channels.domainSeparator());
        if (digest != spot.receiptDigest) revert IDisputeGame.OtherReceipt(digest);
        uint256 count = uint256(receipt.promptCount) + receipt.generated;
        bytes32 root = TokenChunk.rootOf(tokens, spot.path, count, siblings);
        if (root != receipt.tokenRoot) revert IDisputeGame.WrongHash(root, receipt.tokenRoot);
    }

    /// @inheritdoc IPaperJudge
    function refund(
        SignedObjects.Receipt calldata receipt,
        address payer,
        address sessionKey,
        IDisputeGame.Part calldata part
    ) external view returns (Admission memory admission) {
        IChannels channels = JudgeCall.rules().channels;
        admission.worker = receipt.worker;
        admission.requestId = receipt.requestId;
        admission.digest = receipt.digestOf(channels.domainSeparator());
        IChannels.Claim memory claim = channels.claimOf(receipt.worker, part.claimIndex);
        DrawProof.Entry memory entry = part.entryOf(claim.commitment);
        if (entry.channel != bytes20(keccak256(abi.encode(payer, receipt.worker, sessionKey)))) {
            revert IDisputeGame.NotInClaim(part.claimIndex, part.entry);
        }
        admission.amount = _amountIn(part, entry, admission.digest);
    }

    function _admit(
        IDisputeGame.Paper calldata paper,
        JudgeCall.Rules memory rules
    ) private view returns (Admission memory admission) {
        admission.worker = paper.receipt.worker;
        admission.requestId = paper.receipt.requestId;
        admission.digest = paper.check(rules.channels.domainSeparator());
        admission.turn = paper.turnOf();
        Papers.checkSigner(rules.stakeRegistry, admission.worker, admission.digest, paper.signature);
    }

    /// @dev Reverts unless the receipt may be disputed now: it is drawn and its claim new, or it was force-drawn, or a
    /// demand keeps it open.
    function _amountDrawn(
        IDisputeGame.Draw calldata draw,
        Admission memory admission,
        JudgeCall.Rules memory rules
    ) private view returns (uint256 amount) {
        IDisputeGame.Part calldata part = draw.part;
        if (part.entries.length == 0) {
            if (!_isDue(draw.demandId, admission.digest)) revert IDisputeGame.NotForced(admission.digest);
            return 0;
        }
        IChannels.Claim memory claim = rules.channels.claimOf(admission.worker, part.claimIndex);
        DrawProof.Entry memory entry = part.entryOf(claim.commitment);
        amount = _amountIn(part, entry, admission.digest);
        uint256 until = claim.claimedAt + rules.challengeWindow;
        bool isNew = block.timestamp < until;
        bool isDrawn =
            isNew && (rules.minimumRateBps >= DrawProof.BPS || _isDrawn(draw, entry, claim.blockNumber, rules));
        // Last, because few receipts need it.
        if (isDrawn || _isDue(draw.demandId, admission.digest)) return amount;
        if (!isNew) revert IDisputeGame.TooLate(until);
        revert IDisputeGame.NotDrawn(draw.point);
    }

    /// @dev Whether the receipt was force-drawn, or the demand keeps it open.
    function _isDue(uint256 demandId, bytes32 digest) private view returns (bool) {
        if (demandId == 0) return block.timestamp < IDisputeGame(msg.sender).forcedUntil(digest);
        _checkDemand(demandId, digest);
        return true;
    }

    function _checkDemand(uint256 demandId, bytes32 digest) private view {
        IDisputeGame.Game memory game = IDisputeGame(msg.sender).gameOf(demandId);
        bool isOpen = game.phase == IDisputeGame.Phase.Demand || game.phase == IDisputeGame.Phase.Answered;
        if (!isOpen || game.receiptDigest != digest) revert IDisputeGame.NotTheDemand(demandId);
        if (block.timestamp > game.deadline) revert IDisputeGame.TooLate(game.deadline);
    }

    function _isDrawn(
        IDisputeGame.Draw calldata draw,
        DrawProof.Entry memory entry,
        uint64 claimBlock,
        JudgeCall.Rules memory rules
    ) private view returns (bool) {
        (bool ready, bytes32 seed) = rules.beacon.seedFor(claimBlock);
        DrawProof.Policy memory policy = DrawProof.Policy(
            rules.minimumRateBps,
            rules.firstSlash,
            rules.challengerShareBps
        );
        return ready && draw.isDrawn(entry, seed, policy);
    }

    function _amountIn(
        IDisputeGame.Part calldata part,
        DrawProof.Entry memory entry,
        bytes32 digest
    ) private pure returns (uint256) {
        if (part.leaf.digest != digest) revert IDisputeGame.NotInEntry(part.leaf.digest);
        return part.leaf.amountIn(entry);
    }
}
