// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IDisputeGame} from "../interfaces/IDisputeGame.sol";
import {IModelRegistry} from "../interfaces/IModelRegistry.sol";
import {IStatementJudge} from "../interfaces/IStatementJudge.sol";
import {SignedObjects} from "../libraries/SignedObjects.sol";
import {Board} from "./support/Board.sol";
import {Trees} from "./support/Trees.sol";

/// @notice Faults that a worker signs, and what no honest worker can run into.
contract DisputeGameStatementsTest is Board {
    using Trees for bytes32[][];

    // shape

    function test_proveShape_refusesEveryHonestReceipt() public {
        for (uint32 shard; shard < 3; ++shard) {
            for (uint32 generated; generated < 5; ++generated) {
                SignedObjects.Request memory request = requestOf(shard, shard);
                _honest(paperOf(request, receiptOf(request, shard, generated)));
                // the counts of another epoch, at the first prompt chunk, for nothing
                SignedObjects.Receipt memory receipt = receiptOf(request, shard, generated);
                receipt.epoch = 3;
                if (generated == 0) (receipt.positions, receipt.fee) = (1, PROMPT_PRICE);
                _honest(paperOf(request, receipt));
            }
        }
        // a whole path in one worker, the longest request of the context, as many stop ids as there may be
        SignedObjects.Request memory alone = requestOf(9, 0);
        alone.path = new SignedObjects.Hop[](1);
        alone.path[0] = SignedObjects.Hop(worker, 0, 6, 0, type(uint128).max);
        alone.maxTokens = 62;
        alone.stopIds = new uint32[](64);
        for (uint32 i; i < 64; ++i) alone.stopIds[i] = 936 + i;
        alone.sampling = SignedObjects.Sampling(656, type(uint32).max, 1);
        SignedObjects.Receipt memory one = receiptOf(alone, 0, 1);
        _honest(paperOf(alone, one));
        alone.sampling.temperature = 6_553_600;
        one.requestId = digestOf(desk.hashOfRequest(alone));
        _honest(paperOf(alone, one));
    }

    function test_proveShape_findsReceiptsThatDoNotFollow() public {
        for (uint256 i; i < 12; ++i) {
            uint32 shard = i == 10 ? 2 : (i == 11 ? 0 : 1);
            SignedObjects.Request memory request = requestOf(uint64(i), shard);
            SignedObjects.Receipt memory receipt = receiptOf(request, shard, i == 10 ? 0 : 2);
            if (i == 0) receipt.fee += 1;
            if (i == 1) receipt.payer = otherPayer;
            if (i == 2) (receipt.promptCount, receipt.positions) = (4, 5);
            if (i == 3) receipt.positions += 1;
            if (i == 4) receipt.shard = 3;
            if (i == 5) receipt.shard = 2;
            if (i == 6) receipt.upstream = 0;
            if (i == 7) (receipt.generated, receipt.positions, receipt.fee) = (21, 23, 3 * PROMPT_PRICE + 63e15);
            if (i == 8) (receipt.generated, receipt.positions, receipt.fee) = (0, 3, 3 * PROMPT_PRICE);
            if (i == 9) (receipt.generated, receipt.positions, receipt.fee) = (0, 0, 0);
            if (i == 10) receipt.outputRoot = keccak256("something");
            if (i == 11) receipt.upstream = keccak256("upstream");
            _guilty(paperOf(request, receipt));
        }
    }

    function test_proveShape_findsRequestsThatNobodyMayServe() public {
        for (uint256 i; i < 21; ++i) {
            SignedObjects.Request memory request = requestOf(uint64(i), 1);
            SignedObjects.Receipt memory receipt = receiptOf(request, 1, 2);
            if (i == 0) request.kind = 1;
            if (i == 1) request.path[0].start = 1;
            if (i == 2) request.path[1].start = 3;
            if (i == 3) request.path[2].end = 7;
            if (i == 4) request.path[2].end = 5;
            if (i == 5) request.path[2].end = request.path[2].start;
            if (i == 6) request.path[2].worker = request.path[0].worker;
            if (i == 7) request.sampling.temperature = 655;
            if (i == 8) request.sampling.temperature = 6_553_601;
            if (i == 9) request.sampling.topP = 0;
            if (i == 10) request.sampling.topP = 65_537;
            if (i == 11) request.maxTokens = 0;
            if (i == 12) request.maxTokens = 63;
            if (i == 13) request.stopIds[0] = 1_000;
            if (i >= 14 && i < 16) request.stopIds = new uint32[](2);
            if (i == 14) (request.stopIds[0], request.stopIds[1]) = (7, 7);
            if (i == 15) (request.stopIds[0], request.stopIds[1]) = (8, 7);
            if (i == 16) request.stopIds = new uint32[](65);
            for (uint32 j; i == 16 && j < 65; ++j) request.stopIds[j] = j;
            if (i == 17) request.promptCount = 0;
            if (i == 18) request.path = _longPath();
            if (i == 19) request.path[0].end = 3;
            if (i == 20) request.path[2].end = type(uint32).max;
            receipt.requestId = digestOf(desk.hashOfRequest(request));
            _guilty(paperOf(request, receipt));
        }
    }

    function test_proveShape_saysNothingOfAModelThatIsNotRegistered() public {
        SignedObjects.Request memory request = requestOf(1, 1);
        request.modelId = keccak256("model");
        SignedObjects.Receipt memory receipt = receiptOf(request, 1, 2);
        receipt.fee += 1;
        vm.expectRevert(abi.encodeWithSelector(IModelRegistry.UnknownModel.selector, request.modelId));
        game.proveShape(paperOf(request, receipt));
    }

    /// @dev Who proves a statement gets the pot; the bond of a game on the request is not touched.
    function test_proveShape_isAFaultLikeAnyOther() public {
        SignedObjects.Request memory request = requestOf(1, 1);
        SignedObjects.Receipt memory receipt = receiptOf(request, 1, 2);
        Shown memory shown = claimPaper(paperOf(request, receipt));
        uint256 gameId = openAs(challenger, shown);
        receipt.fee += 1;
        IDisputeGame.Paper memory wrong = paperOf(request, receipt);
        vm.expectEmit(address(game));
        emit IDisputeGame.Won(worker, receipt.requestId, friend, 0);
        vm.prank(friend);
        game.proveShape(wrong);
        vm.assertEq(stakes.slashable(worker), (STAKE / 5) * 4);
        vm.expectRevert(abi.encodeWithSelector(IDisputeGame.AlreadyProven.selector, worker, receipt.requestId));
        game.proveShape(wrong);
        vm.assertEq(game.refund(shown.paper.receipt, payer, session, shown.draw.part), receipt.fee - 1);
        expire();
        game.timeout(gameId, shown.paper.receipt);
        vm.assertEq(game.faultOf(worker, receipt.requestId).winners, 2);
        vm.warp(vm.getBlockTimestamp() + game.longestGame());
        vm.assertEq(game.collect(worker, receipt.requestId, friend), ((STAKE / 5) * 4) / 20);
    }

    function test_statements_needTheWorkersSignature() public {
        SignedObjects.Request memory request = requestOf(1, 1);
        SignedObjects.Receipt memory receipt = receiptOf(request, 1, 2);
        receipt.fee += 1;
        IDisputeGame.Paper memory paper = paperOf(request, receipt);
        paper.signature = signReceipt(receipt, sessionSecret);
        vm.expectRevert(abi.encodeWithSelector(IDisputeGame.NotSignedByWorker.selector, session));
        game.proveShape(paper);
        vm.expectRevert(abi.encodeWithSelector(IDisputeGame.NotSignedByWorker.selector, session));
        game.proveLink(paper, receipt);
        vm.expectRevert(abi.encodeWithSelector(IDisputeGame.NotSignedByWorker.selector, session));
        game.proveEquivocation(paper, receipt, paper.signature);
        IStatementJudge.TokenEvidence memory evidence;
        vm.expectRevert(abi.encodeWithSelector(IDisputeGame.NotSignedByWorker.selector, session));
        game.proveTokens(paper, evidence);
        paper = paperOf(request, receipt);
        paper.request.nonce += 1;
        vm.expectPartialRevert(IDisputeGame.OtherRequest.selector);
        game.proveShape(paper);
    }

    // links

    function test_proveLink_findsWhatDiffersFromTheReceiptThatIsNamed() public {
        for (uint256 i; i < 5; ++i) {
            SignedObjects.Request memory request = requestOf(uint64(i), 1);
            SignedObjects.Receipt memory upstream = receiptOf(request, 0, 2);
            SignedObjects.Receipt memory receipt = receiptOf(request, 1, 2);
            upstream.outputRoot = receipt.inputRoot;
            if (i == 1) upstream.outputRoot = keccak256("other rows");
            if (i == 2) upstream.positions -= 1;
            if (i == 3) upstream.generated -= 1;
            if (i == 4) upstream.tokenRoot = keccak256("other tokens");
            receipt.upstream = digestOf(desk.hashOfReceipt(upstream));
            IDisputeGame.Paper memory paper = paperOf(request, receipt);
            if (i == 0) vm.expectRevert(IDisputeGame.NothingWrong.selector);
            game.proveLink(paper, upstream);
            if (i == 0) continue;
            vm.assertEq(game.faultOf(worker, receipt.requestId).winners, 1);
        }
    }

    /// @dev What somebody else made up about the neighbour is no fault.
    function test_proveLink_refusesAReceiptThatIsNotNamed() public {
        SignedObjects.Request memory request = requestOf(1, 1);
        SignedObjects.Receipt memory upstream = receiptOf(request, 0, 2);
        upstream.outputRoot = keccak256("forged");
        IDisputeGame.Paper memory paper = paperOf(request, receiptOf(request, 1, 2));
        vm.expectRevert(
            abi.encodeWithSelector(IDisputeGame.OtherReceipt.selector, digestOf(desk.hashOfReceipt(upstream)))
        );
        game.proveLink(paper, upstream);
    }

    // equivocation

    function test_proveEquivocation_findsTwoOutputsOfOneInput() public {
        SignedObjects.Request memory request = requestOf(1, 1);
        SignedObjects.Receipt memory receipt = receiptOf(request, 1, 2);
        IDisputeGame.Paper memory paper = paperOf(request, receipt);
        SignedObjects.Receipt memory other = receiptOf(request, 1, 2);
        other.outputRoot = keccak256("other rows");
        bytes memory forged = signReceipt(other, sessionSecret);
        vm.expectRevert(abi.encodeWithSelector(IDisputeGame.NotSignedByWorker.selector, session));
        game.proveEquivocation(paper, other, forged);
        bytes memory signature = signReceipt(other, hotSecret);
        game.proveEquivocation(paper, other, signature);
        vm.assertEq(game.faultOf(worker, receipt.requestId).winners, 1);
    }

    /// @dev A worker that put back a backup can be led to all of these by neighbours that lie.
    function test_proveEquivocation_refusesEverythingElse() public {
        SignedObjects.Request memory request = requestOf(1, 1);
        IDisputeGame.Paper memory paper = paperOf(request, receiptOf(request, 1, 2));
        for (uint256 i; i < 8; ++i) {
            SignedObjects.Receipt memory other = receiptOf(request, 1, 2);
            if (i == 1) other.fee += 1;
            if (i == 2) other.epoch += 1;
            if (i == 3) other.payer = otherPayer;
            if (i == 4) other.upstream = keccak256("another receipt");
            if (i == 5) other.tokenRoot = keccak256("other tokens");
            if (i == 6) (other.inputRoot, other.outputRoot) = (keccak256("in"), keccak256("out"));
            if (i == 7) other = receiptOf(request, 1, 3);
            bytes memory signature = signReceipt(other, hotSecret);
            vm.expectRevert(IDisputeGame.NothingWrong.selector);
            game.proveEquivocation(paper, other, signature);
        }
        SignedObjects.Receipt memory ofAnother = receiptOf(requestOf(2, 1), 1, 2);
        ofAnother.outputRoot = keccak256("other rows");
        bytes memory signed = signReceipt(ofAnother, hotSecret);
        vm.expectRevert(IDisputeGame.NothingWrong.selector);
        game.proveEquivocation(paper, ofAnother, signed);
        ofAnother = receiptOf(request, 1, 2);
        (ofAnother.shard, ofAnother.outputRoot) = (2, keccak256("other rows"));
        signed = signReceipt(ofAnother, hotSecret);
        vm.expectRevert(IDisputeGame.NothingWrong.selector);
        game.proveEquivocation(paper, ofAnother, signed);
    }

    // tokens

    function test_proveTokens_findsAnotherPrompt() public {
        for (uint32 shard; shard < 3; ++shard) {
            SignedObjects.Request memory request = requestOf(shard, shard);
            SignedObjects.Receipt memory receipt = receiptOf(request, shard, 2);
            uint32[] memory tokens = tokensOf(3, 2);
            IStatementJudge.TokenEvidence memory evidence = _between(
                IStatementJudge.TokenStatement.Prompt,
                1,
                treeOf(tokens, 0, 5),
                1,
                treeOf(tokens, 0, 3)
            );
            evidence.salt = SALT;
            _refused(paperOf(request, receipt), evidence);
            tokens[1] = 666;
            receipt.tokenRoot = treeOf(tokens, 0, 5).root();
            evidence.leaf = treeOf(tokens, 0, 5)[0][1];
            evidence.siblings = treeOf(tokens, 0, 5).proof(1);
            evidence.salt = 0;
            vm.expectRevert(IStatementJudge.NotCommitted.selector);
            game.proveTokens(paperOf(request, receipt), evidence);
            evidence.salt = SALT;
            game.proveTokens(paperOf(request, receipt), evidence);
            vm.assertEq(game.faultOf(worker, receipt.requestId).winners, 1);
        }
    }

    function test_proveTokens_findsInputsThatAreNotTheTokens() public {
        SignedObjects.Request memory request = requestOf(1, 0);
        SignedObjects.Receipt memory receipt = receiptOf(request, 0, 2);
        uint32[] memory tokens = tokensOf(3, 2);
        bytes32[][] memory all = treeOf(tokens, 0, 5);
        IStatementJudge.TokenEvidence memory evidence = _between(
            IStatementJudge.TokenStatement.Input,
            3,
            all,
            3,
            treeOf(tokens, 0, 4)
        );
        _refused(paperOf(request, receipt), evidence);
        tokens[3] = 666;
        receipt.inputRoot = treeOf(tokens, 0, 4).root();
        evidence = _between(IStatementJudge.TokenStatement.Input, 3, all, 3, treeOf(tokens, 0, 4));
        evidence.index = 4; // fed, but not yet
        vm.expectRevert(IStatementJudge.NotCommitted.selector);
        game.proveTokens(paperOf(request, receipt), evidence);
        evidence.index = 3;
        game.proveTokens(paperOf(request, receipt), evidence);
        // An inner shard takes in rows.
        request = requestOf(2, 1);
        IDisputeGame.Paper memory inner = paperOf(request, receiptOf(request, 1, 2));
        vm.expectRevert(IStatementJudge.WrongShard.selector);
        game.proveTokens(inner, evidence);
    }

    function test_proveTokens_findsOutputsThatAreNotTheTokens() public {
        SignedObjects.Request memory request = requestOf(1, 2);
        SignedObjects.Receipt memory receipt = receiptOf(request, 2, 2);
        uint32[] memory tokens = tokensOf(3, 2);
        bytes32[][] memory all = treeOf(tokens, 0, 5);
        IStatementJudge.TokenStatement statement = IStatementJudge.TokenStatement.Output;
        IStatementJudge.TokenEvidence memory evidence = _between(statement, 4, all, 1, treeOf(tokens, 3, 5));
        evidence.index = 1;
        _refused(paperOf(request, receipt), evidence);
        tokens[4] = 666;
        receipt.outputRoot = treeOf(tokens, 3, 5).root();
        evidence = _between(statement, 4, all, 1, treeOf(tokens, 3, 5));
        evidence.index = 1;
        game.proveTokens(paperOf(request, receipt), evidence);
        request = requestOf(2, 1);
        IDisputeGame.Paper memory inner = paperOf(request, receiptOf(request, 1, 2));
        vm.expectRevert(IStatementJudge.WrongShard.selector);
        game.proveTokens(inner, evidence);
    }

    function test_proveTokens_findsTokensThatDoNotExist() public {
        SignedObjects.Request memory request = requestOf(1, 1);
        SignedObjects.Receipt memory receipt = receiptOf(request, 1, 2);
        uint32[] memory tokens = tokensOf(3, 2);
        for (uint256 i; i < 2; ++i) {
            tokens[4] = i == 0 ? 999 : 1_000;
            receipt.tokenRoot = treeOf(tokens, 0, 5).root();
            IStatementJudge.TokenEvidence memory evidence;
            evidence.statement = IStatementJudge.TokenStatement.Vocabulary;
            (evidence.index, evidence.token) = (4, tokens[4]);
            evidence.siblings = treeOf(tokens, 0, 5).proof(4);
            if (i == 0) _refused(paperOf(request, receipt), evidence);
            else game.proveTokens(paperOf(request, receipt), evidence);
        }
        vm.assertEq(game.faultOf(worker, receipt.requestId).winners, 1);
    }

    /// @dev A stop id is counted and paid; another token behind it is the fault.
    function test_proveTokens_findsTokensBehindAStopId() public {
        for (uint32 at_; at_ < 3; ++at_) {
            SignedObjects.Request memory request = requestOf(at_, 2);
            SignedObjects.Receipt memory receipt = receiptOf(request, 2, 3);
            uint32[] memory tokens = tokensOf(3, 3);
            tokens[3 + at_] = 7;
            receipt.outputRoot = treeOf(tokens, 3, 6).root();
            IStatementJudge.TokenEvidence memory evidence;
            evidence.statement = IStatementJudge.TokenStatement.StopId;
            (evidence.index, evidence.token) = (at_, 7);
            evidence.siblings = treeOf(tokens, 3, 6).proof(at_);
            if (at_ == 2) _refused(paperOf(request, receipt), evidence);
            else game.proveTokens(paperOf(request, receipt), evidence);
        }
        SignedObjects.Request memory last = requestOf(9, 2);
        IStatementJudge.TokenEvidence memory ordinary;
        ordinary.statement = IStatementJudge.TokenStatement.StopId;
        ordinary.token = 103;
        ordinary.siblings = treeOf(tokensOf(3, 3), 3, 6).proof(0);
        _refused(paperOf(last, receiptOf(last, 2, 3)), ordinary);
    }

    // helpers

    function _between(
        IStatementJudge.TokenStatement statement,
        uint32 index,
        bytes32[][] memory tree,
        uint32 otherIndex,
        bytes32[][] memory otherTree
    ) private pure returns (IStatementJudge.TokenEvidence memory evidence) {
        evidence.statement = statement;
        evidence.index = index;
        evidence.leaf = tree[0][index];
        evidence.siblings = tree.proof(index);
        evidence.other = otherTree[0][otherIndex];
        evidence.otherSiblings = otherTree.proof(otherIndex);
    }

    function _longPath() private view returns (SignedObjects.Hop[] memory path) {
        path = new SignedObjects.Hop[](65);
        for (uint32 i; i < 65; ++i) {
            path[i] = SignedObjects.Hop(address(uint160(1 + i)), i, i + 1, PROMPT_PRICE, TOKEN_PRICE);
        }
        path[1].worker = worker;
    }

    function _honest(IDisputeGame.Paper memory paper) private {
        vm.expectRevert(IDisputeGame.NothingWrong.selector);
        game.proveShape(paper);
    }

    function _guilty(IDisputeGame.Paper memory paper) private {
        game.proveShape(paper);
        vm.assertEq(game.faultOf(worker, paper.receipt.requestId).winners, 1);
    }

    function _refused(IDisputeGame.Paper memory paper, IStatementJudge.TokenEvidence memory evidence) private {
        vm.expectRevert(IDisputeGame.NothingWrong.selector);
        game.proveTokens(paper, evidence);
    }
}
