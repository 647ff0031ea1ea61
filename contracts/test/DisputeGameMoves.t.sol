// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IDisputeGame} from "../interfaces/IDisputeGame.sol";
import {IStepVerifier} from "../interfaces/IStepVerifier.sol";
import {MerkleTree} from "../libraries/MerkleTree.sol";
import {SignedObjects} from "../libraries/SignedObjects.sol";
import {TraceShape} from "../libraries/TraceShape.sol";
import {Board} from "./support/Board.sol";
import {Trees} from "./support/Trees.sol";

/// @notice Whole games, move by move, down each side of each kind of shard.
contract DisputeGameMovesTest is Board {
    using Trees for bytes32[][];

    IDisputeGame.Phase private constant LEAF = IDisputeGame.Phase.Leaf;
    IDisputeGame.Phase private constant PROOF = IDisputeGame.Phase.Proof;
    IDisputeGame.Phase private constant WON = IDisputeGame.Phase.ChallengerWon;

    // the body

    function test_proveStep_endsAGameInTheBody() public {
        for (uint32 shard; shard < 3; ++shard) _proveAStep(shard, 1, 20, 3);
    }

    function test_proveStep_endsAGameInTheFirstAndTheLastRow() public {
        _proveAStep(0, 0, 0, 4);
        _proveAStep(2, 2, 0, 2);
        _proveAStep(1, 0, 9, 0);
    }

    /// @dev Tensor 20 of a layer has rows of two leaves; tensor 0 of the exit, and of a layer, has a scale of its own leaf.
    function _proveAStep(uint32 shard, uint32 segment, uint32 tensor, uint32 row) private {
        Shown memory shown = claimOne(100 + shard * 10 + tensor, shard, GENERATED);
        bytes[] memory data = _rowData(shard, segment, tensor);
        bytes32[][] memory leaves = _treeOf(data);
        bytes32[][] memory body = bodyOf(shard, slotOf(segment, tensor, row), leaves.root());
        uint256 gameId = begin(shown, body.root(), IDisputeGame.Side.Body);
        descend(gameId, shown, body, slotOf(segment, tensor, row));
        uint32 leaf = uint32(data.length - 1);
        vm.assertTrue(game.gameOf(gameId).inRow);
        descend(gameId, shown, leaves, leaf);
        assertPhase(gameId, LEAF);
        vm.assertEq(game.gameOf(gameId).path, (slotOf(segment, tensor, row) << 24) | leaf);
        show(gameId, shown, data[leaf]);

        _expectStep(shown, body.root(), IStepVerifier.Step(segment, tensor, row, leaf, 1), data[leaf], false);
        vm.startPrank(challenger);
        vm.expectRevert(IDisputeGame.NothingWrong.selector);
        game.proveStep(gameId, shown.paper, data[leaf], 1, _operands());
        vm.stopPrank();
        _expectStep(shown, body.root(), IStepVerifier.Step(segment, tensor, row, leaf, 1), data[leaf], true);
        vm.prank(challenger);
        game.proveStep(gameId, shown.paper, data[leaf], 1, _operands());
        assertPhase(gameId, WON);
        vm.assertTrue(stakes.participantOf(worker).jailed);
    }

    function test_pick_winsWhereSomethingLiesWhereNothingIs() public {
        Shown memory shown = claimOne(1, 1, GENERATED);
        uint256[4] memory slots = [slotOf(0, 28, 0), slotOf(0, 9, 1), slotOf(1, 27, 5), slotOf(1, 31, 7)];
        for (uint256 i; i < 4; ++i) {
            uint256 state = vm.snapshotState();
            bytes32[][] memory body = bodyOf(1, slots[i], keccak256("rubbish"));
            uint256 gameId = begin(shown, body.root(), IDisputeGame.Side.Body);
            while (phaseOf(gameId) != IDisputeGame.Phase.Lost) round(gameId, shown, body, slots[i]);
            game.timeout(gameId, shown.paper.receipt);
            assertPhase(gameId, WON);
            vm.revertToState(state);
        }
    }

    function test_pick_refusesWhatIsEmptyAsItShouldBe() public {
        Shown memory shown = claimOne(1, 1, GENERATED);
        bytes32[][] memory body = bodyOf(1, 0, keccak256("row"));
        uint256 gameId = begin(shown, body.root(), IDisputeGame.Side.Body);
        round(gameId, shown, body, slotOf(0, 27, 0)); // tensors 24 to 27 of the first segment, where there are rows
        vm.prank(worker);
        game.reveal(gameId, body.children(5, slotOf(0, 27, 0) >> 5, 4));
        uint256 index = (slotOf(0, 27, 0) + 6) >> 1; // positions 6 and 7
        bytes32[] memory siblings = body.siblings(1, index, 4);
        vm.prank(challenger);
        vm.expectRevert(IDisputeGame.NothingThere.selector);
        game.pick(gameId, uint8(index & 15), body[1][index], siblings);
    }

    // the input

    function test_proveToken_ofAFirstShardsInput() public {
        Shown memory shown = _claimWithInput(3, 666);
        uint256 gameId = _toToken(shown, IDisputeGame.Side.Input, shown.paper.receipt.inputRoot, 3, 666);
        bytes32[][] memory tokens = treeOf(tokensOf(3, GENERATED), 0, 6);
        IDisputeGame.TokenProof memory proof;
        proof.fault = IDisputeGame.TokenFault.TokenRoot;
        (proof.other, proof.siblings) = (tokens[0][3], tokens.proof(3));
        _winWithToken(gameId, shown, tokenBytes(666), proof);
    }

    function test_proveToken_ofThePrompt() public {
        Shown memory shown = _claimWithInput(1, 666);
        uint256 gameId = _toToken(shown, IDisputeGame.Side.Input, shown.paper.receipt.inputRoot, 1, 666);
        bytes32[][] memory prompt = treeOf(tokensOf(3, 0), 0, 3);
        IDisputeGame.TokenProof memory proof;
        proof.fault = IDisputeGame.TokenFault.Prompt;
        (proof.other, proof.siblings) = (prompt[0][1], prompt.proof(1));
        vm.prank(challenger);
        vm.expectPartialRevert(IDisputeGame.WrongHash.selector); // without the salt
        game.proveToken(gameId, shown.paper, tokenBytes(666), proof);
        proof.salt = SALT;
        _winWithToken(gameId, shown, tokenBytes(666), proof);
    }

    function test_proveToken_ofATokenThatDoesNotExist() public {
        Shown memory shown = _claimWithInput(4, 1_000);
        uint256 gameId = _toToken(shown, IDisputeGame.Side.Input, shown.paper.receipt.inputRoot, 4, 1_000);
        IDisputeGame.TokenProof memory proof;
        _winWithToken(gameId, shown, tokenBytes(1_000), proof);
    }

    function test_proveToken_refusesWhatIsRight() public {
        Shown memory shown = claimOne(1, 0, GENERATED);
        uint256 gameId = _toToken(shown, IDisputeGame.Side.Input, shown.paper.receipt.inputRoot, 1, 101);
        bytes32[][] memory tokens = treeOf(tokensOf(3, GENERATED), 0, 6);
        bytes32[][] memory prompt = treeOf(tokensOf(3, 0), 0, 3);
        IDisputeGame.TokenProof memory proof;
        vm.startPrank(challenger);
        vm.expectRevert(IDisputeGame.NothingWrong.selector);
        game.proveToken(gameId, shown.paper, tokenBytes(101), proof);
        proof = IDisputeGame.TokenProof(IDisputeGame.TokenFault.TokenRoot, tokens[0][1], 0, "", tokens.proof(1));
        vm.expectRevert(IDisputeGame.NothingWrong.selector);
        game.proveToken(gameId, shown.paper, tokenBytes(101), proof);
        proof.other = tokens[0][2];
        vm.expectPartialRevert(IDisputeGame.WrongHash.selector);
        game.proveToken(gameId, shown.paper, tokenBytes(101), proof);
        proof.siblings = new bytes32[](2);
        vm.expectRevert(abi.encodeWithSelector(IDisputeGame.WrongLength.selector, 2, 3));
        game.proveToken(gameId, shown.paper, tokenBytes(101), proof);
        proof = IDisputeGame.TokenProof(IDisputeGame.TokenFault.Prompt, prompt[0][1], SALT, "", prompt.proof(1));
        vm.expectRevert(IDisputeGame.NothingWrong.selector);
        game.proveToken(gameId, shown.paper, tokenBytes(101), proof);
        proof.fault = IDisputeGame.TokenFault.Sample;
        vm.expectRevert(IDisputeGame.WrongProof.selector);
        game.proveToken(gameId, shown.paper, tokenBytes(101), proof);
        vm.expectPartialRevert(IDisputeGame.WrongHash.selector);
        game.proveToken(gameId, shown.paper, tokenBytes(102), proof);
        vm.expectRevert(IDisputeGame.WrongProof.selector);
        game.proveStep(gameId, shown.paper, tokenBytes(101), 0, _operands());
        vm.expectRevert(IDisputeGame.WrongProof.selector);
        game.proveRow(gameId, shown.paper, 0, new bytes32[](0));
    }

    /// @dev It only shows that the root opens: there is no proof against a row that was received.
    function test_revealLeaf_opensAnInnerShardsInput() public {
        Shown memory shown = claimOne(1, 1, GENERATED);
        uint256 gameId = begin(shown, keccak256("body"), IDisputeGame.Side.Input);
        descend(gameId, shown, rowsOf("in", POSITIONS), 3);
        vm.assertTrue(game.gameOf(gameId).inRow);
        descend(gameId, shown, rowOf("in", 3), 1);
        vm.prank(hot);
        vm.expectRevert(abi.encodeWithSelector(IDisputeGame.WrongLength.selector, 175, 176));
        game.revealLeaf(gameId, shown.paper, new bytes(175));
        vm.prank(hot);
        vm.expectPartialRevert(IDisputeGame.WrongHash.selector);
        game.revealLeaf(gameId, shown.paper, new bytes(176));
        show(gameId, shown, leafOf("in", 3, 1));
        IDisputeGame.TokenProof memory proof;
        vm.startPrank(challenger);
        vm.expectRevert(IDisputeGame.WrongProof.selector);
        game.proveToken(gameId, shown.paper, leafOf("in", 3, 1), proof);
        vm.expectRevert(IDisputeGame.WrongProof.selector);
        game.proveStep(gameId, shown.paper, leafOf("in", 3, 1), 0, _operands());
        vm.stopPrank();
        expire();
        game.timeout(gameId, shown.paper.receipt);
        assertPhase(gameId, IDisputeGame.Phase.WorkerWon);
    }

    /// @dev Prompt of three, nothing generated yet, one position: the input root is a row's own.
    function test_pickRow_goesOnWhereThereIsOneRow() public {
        bytes32 root = rowOf("in", 0).root();
        Shown memory shown = _claimWithOneRow(root);
        uint256 gameId = begin(shown, keccak256("body"), IDisputeGame.Side.Input);
        assertPhase(gameId, IDisputeGame.Phase.Pick);
        vm.prank(challenger);
        vm.expectRevert(IDisputeGame.RowReached.selector);
        game.pick(gameId, 0, root, new bytes32[](0));
        vm.prank(challenger);
        game.pickRow(gameId, 0, root, new bytes32[](0), shown.paper);
        descend(gameId, shown, rowOf("in", 0), 0);
        show(gameId, shown, leafOf("in", 0, 0));
        assertPhase(gameId, PROOF);
    }

    function _claimWithOneRow(bytes32 root) private returns (Shown memory) {
        SignedObjects.Request memory request = requestOf(1, 1);
        SignedObjects.Receipt memory receipt = receiptOf(request, 1, 0);
        (receipt.positions, receipt.fee, receipt.inputRoot) = (1, PROMPT_PRICE, root);
        return _claim(request, receipt);
    }

    // the output

    function test_proveRow_endsAGameInAnInnerShardsOutput() public {
        for (uint32 shard; shard < 2; ++shard) {
            Shown memory shown = claimOne(10 + shard, shard, GENERATED);
            uint256 slot = slotOf(shard == 0 ? 2 : 1, 27, 3);
            bytes32 row = keccak256("another row");
            bytes32[][] memory body = bodyOf(shard, slot, row);
            uint256 gameId = begin(shown, body.root(), IDisputeGame.Side.Output);
            descend(gameId, shown, rowsOf("out", POSITIONS), 3);
            assertPhase(gameId, PROOF);
            vm.startPrank(challenger);
            vm.expectPartialRevert(IDisputeGame.WrongHash.selector);
            game.proveRow(gameId, shown.paper, keccak256("no row"), body.proof(slot));
            vm.expectPartialRevert(IDisputeGame.WrongLength.selector);
            game.proveRow(gameId, shown.paper, row, new bytes32[](3));
            game.proveRow(gameId, shown.paper, row, body.proof(slot));
            vm.stopPrank();
            assertPhase(gameId, WON);
        }
    }

    function test_proveRow_refusesTheSameRow() public {
        Shown memory shown = claimOne(1, 1, GENERATED);
        uint256 slot = slotOf(1, 27, 3);
        bytes32[][] memory body = bodyOf(1, slot, rowOf("out", 3).root());
        uint256 gameId = begin(shown, body.root(), IDisputeGame.Side.Output);
        descend(gameId, shown, rowsOf("out", POSITIONS), 3);
        bytes32[] memory proof = body.proof(slot);
        bytes32 row = rowOf("out", 3).root();
        vm.prank(challenger);
        vm.expectRevert(IDisputeGame.NothingWrong.selector);
        game.proveRow(gameId, shown.paper, row, proof);
    }

    /// @dev Against the tokens that it signed.
    function test_proveToken_ofALastShardsOutput() public {
        (uint256 gameId, Shown memory shown, ) = _toOutput();
        bytes32[][] memory signed = treeOf(tokensOf(3, GENERATED), 0, 6);
        IDisputeGame.TokenProof memory proof;
        proof.fault = IDisputeGame.TokenFault.TokenRoot;
        (proof.other, proof.siblings) = (signed[0][4], signed.proof(4));
        _winWithToken(gameId, shown, tokenBytes(666), proof);
    }

    /// @dev Against what its own trace sampled.
    function test_proveToken_ofASample() public {
        (uint256 gameId, Shown memory shown, bytes32[][] memory body) = _toOutput();
        IDisputeGame.TokenProof memory proof;
        proof.fault = IDisputeGame.TokenFault.Prompt;
        vm.prank(challenger);
        vm.expectRevert(IDisputeGame.WrongProof.selector);
        game.proveToken(gameId, shown.paper, tokenBytes(666), proof);
        proof.fault = IDisputeGame.TokenFault.Sample;
        (proof.sample, proof.siblings) = (_sample(), body.proof(slotOf(2, 18, 3)));
        _winWithToken(gameId, shown, tokenBytes(666), proof);
    }

    /// @dev A last shard that gave out another token than it sampled and signed; it is revealed.
    function _toOutput() private returns (uint256 gameId, Shown memory shown, bytes32[][] memory body) {
        uint32[] memory tokens = tokensOf(3, GENERATED);
        tokens[4] = 666;
        bytes32[][] memory tree = treeOf(tokens, 3, 6);
        shown = _claimWithOutput(tree.root());
        body = bodyOf(2, slotOf(2, 18, 3), MerkleTree.shaLeaf(_sample()));
        gameId = begin(shown, body.root(), IDisputeGame.Side.Output);
        descend(gameId, shown, tree, 1);
        show(gameId, shown, tokenBytes(666));
    }

    function _claimWithOutput(bytes32 outputRoot) private returns (Shown memory) {
        SignedObjects.Request memory request = requestOf(1, 2);
        SignedObjects.Receipt memory receipt = receiptOf(request, 2, GENERATED);
        receipt.outputRoot = outputRoot;
        return _claim(request, receipt);
    }

    function _sample() private pure returns (bytes memory) {
        return abi.encodePacked(tokenBytes(104), tokenBytes(0), bytes8(0));
    }

    function test_chooseSide_refusesAnOutputThatIsNone() public {
        Shown memory shown = claimOne(1, 2, 0);
        uint256 gameId = openAs(challenger, shown);
        post(gameId, shown, keccak256("body"));
        vm.startPrank(challenger);
        vm.expectRevert(IDisputeGame.NothingThere.selector);
        game.chooseSide(gameId, IDisputeGame.Side.Output, shown.paper);
        vm.expectRevert(IDisputeGame.NothingThere.selector);
        game.chooseSide(gameId, IDisputeGame.Side.None, shown.paper);
        Shown memory other = shown;
        other.paper.receipt.epoch = 1;
        vm.expectPartialRevert(IDisputeGame.OtherReceipt.selector);
        game.chooseSide(gameId, IDisputeGame.Side.Body, other.paper);
    }

    // deadlines and turns

    /// @dev Whoever is to move when time is over loses: the worker with its fault, the challenger with its bond.
    function test_timeout_endsEveryPhaseAgainstWhoIsToMove() public {
        Shown memory shown = claimOne(1, 1, GENERATED);
        bytes[] memory data = _rowData(1, 1, 20);
        bytes32[][] memory leaves = _treeOf(data);
        bytes32[][] memory body = bodyOf(1, slotOf(1, 20, 3), leaves.root());
        uint256 gameId = openAs(challenger, shown);
        _loses(gameId, shown, IDisputeGame.Phase.Trace, true);
        post(gameId, shown, body.root());
        _loses(gameId, shown, IDisputeGame.Phase.Side, false);
        choose(gameId, shown, IDisputeGame.Side.Body);
        for (uint256 i; i < 3; ++i) {
            _loses(gameId, shown, IDisputeGame.Phase.Reveal, true);
            IDisputeGame.Game memory found = game.gameOf(gameId);
            uint256 levels = found.height < 4 ? found.height : 4;
            vm.prank(hot);
            game.reveal(gameId, body.children(found.height, slotOf(1, 20, 3) >> found.height, levels));
            _loses(gameId, shown, IDisputeGame.Phase.Pick, false);
            round(gameId, shown, body, slotOf(1, 20, 3));
        }
        _loses(gameId, shown, IDisputeGame.Phase.Reveal, true);
        descend(gameId, shown, leaves, 1);
        _loses(gameId, shown, LEAF, true);
        show(gameId, shown, data[1]);
        _loses(gameId, shown, PROOF, false);
    }

    function test_moves_areRefusedOutOfTurn() public {
        Shown memory shown = claimOne(1, 1, GENERATED);
        uint256 gameId = openAs(challenger, shown);
        vm.startPrank(stranger);
        vm.expectRevert(abi.encodeWithSelector(IDisputeGame.NotTheWorker.selector, stranger));
        game.postTrace(gameId, shown.digest, 0);
        vm.expectRevert(abi.encodeWithSelector(IDisputeGame.WrongPhase.selector, IDisputeGame.Phase.Trace));
        game.chooseSide(gameId, IDisputeGame.Side.Body, shown.paper);
        vm.expectRevert(abi.encodeWithSelector(IDisputeGame.WrongPhase.selector, IDisputeGame.Phase.Trace));
        game.reveal(gameId, new bytes32[](16));
        vm.expectRevert(abi.encodeWithSelector(IDisputeGame.WrongPhase.selector, IDisputeGame.Phase.Trace));
        game.pick(gameId, 0, 0, new bytes32[](4));
        vm.expectRevert(abi.encodeWithSelector(IDisputeGame.WrongPhase.selector, IDisputeGame.Phase.Trace));
        game.revealLeaf(gameId, shown.paper, "");
        vm.expectRevert(abi.encodeWithSelector(IDisputeGame.WrongPhase.selector, IDisputeGame.Phase.Trace));
        game.proveStep(gameId, shown.paper, "", 0, _operands());
        vm.expectRevert(abi.encodeWithSelector(IDisputeGame.WrongPhase.selector, IDisputeGame.Phase.Trace));
        game.answerDemand(gameId, shown.paper.receipt, "", new bytes32[](0));
        vm.stopPrank();
        vm.prank(hot);
        vm.expectRevert(abi.encodeWithSelector(IDisputeGame.OtherReceipt.selector, bytes32(0)));
        game.postTrace(gameId, 0, 0);
        post(gameId, shown, keccak256("body"));
        vm.prank(stranger);
        vm.expectRevert(abi.encodeWithSelector(IDisputeGame.NotTheChallenger.selector, stranger));
        game.chooseSide(gameId, IDisputeGame.Side.Body, shown.paper);
        vm.expectRevert(abi.encodeWithSelector(IDisputeGame.NoSuchGame.selector, gameId + 1));
        game.gameOf(gameId + 1);
        vm.expectRevert(abi.encodeWithSelector(IDisputeGame.NoSuchGame.selector, gameId + (1 << 16)));
        game.gameOf(gameId + (1 << 16));
        vm.expectRevert(abi.encodeWithSelector(IDisputeGame.NoSuchGame.selector, gameId + (1 << 40)));
        game.gameOf(gameId + (1 << 40));
    }

    function test_reveal_refusesWhatDoesNotLeadToTheNode() public {
        Shown memory shown = claimOne(1, 1, GENERATED);
        bytes32[][] memory body = bodyOf(1, 0, keccak256("row"));
        uint256 gameId = begin(shown, body.root(), IDisputeGame.Side.Body);
        bytes32[] memory children = body.children(9, 0, 4);
        vm.startPrank(hot);
        vm.expectRevert(abi.encodeWithSelector(IDisputeGame.WrongCount.selector, 8, 16));
        game.reveal(gameId, body.children(9, 0, 3));
        children[15] = 0;
        vm.expectPartialRevert(IDisputeGame.WrongHash.selector);
        game.reveal(gameId, children);
        game.reveal(gameId, body.children(9, 0, 4));
        vm.stopPrank();
        bytes32[] memory siblings = body.siblings(5, 0, 4);
        vm.startPrank(challenger);
        vm.expectPartialRevert(IDisputeGame.WrongHash.selector);
        game.pick(gameId, 1, body[5][0], siblings);
        vm.expectRevert(abi.encodeWithSelector(IDisputeGame.WrongCount.selector, 16, 16));
        game.pick(gameId, 16, body[5][0], siblings);
        vm.expectRevert(abi.encodeWithSelector(IDisputeGame.WrongCount.selector, 3, 4));
        game.pick(gameId, 0, body[5][0], new bytes32[](3));
        vm.expectRevert(IDisputeGame.RowNotReached.selector);
        game.pickRow(gameId, 0, body[5][0], siblings, shown.paper);
        game.pick(gameId, 0, body[5][0], siblings);
    }

    // helpers

    function _loses(uint256 gameId, Shown memory shown, IDisputeGame.Phase phase, bool worker_) private {
        assertPhase(gameId, phase);
        uint256 deadline = game.gameOf(gameId).deadline;
        vm.assertEq(deadline, vm.getBlockTimestamp() + MOVE);
        vm.expectRevert(abi.encodeWithSelector(IDisputeGame.TooEarly.selector, deadline));
        game.timeout(gameId, shown.paper.receipt);
        uint256 state = vm.snapshotState();
        vm.warp(deadline + 1);
        game.timeout(gameId, shown.paper.receipt);
        assertPhase(gameId, worker_ ? WON : IDisputeGame.Phase.WorkerWon);
        vm.expectPartialRevert(IDisputeGame.WrongPhase.selector);
        game.timeout(gameId, shown.paper.receipt);
        vm.revertToState(state);
        vm.warp(deadline - MOVE / 2);
    }

    function _claim(
        SignedObjects.Request memory request,
        SignedObjects.Receipt memory receipt
    ) private returns (Shown memory) {
        return claimPaper(paperOf(request, receipt));
    }

    /// @dev A first shard that took in another token at a position.
    function _claimWithInput(uint256 position, uint32 wrong) private returns (Shown memory) {
        SignedObjects.Request memory request = requestOf(1, 0);
        SignedObjects.Receipt memory receipt = receiptOf(request, 0, GENERATED);
        uint32[] memory tokens = tokensOf(3, GENERATED);
        tokens[position] = wrong;
        receipt.inputRoot = treeOf(tokens, 0, POSITIONS).root();
        return _claim(request, receipt);
    }

    function _toToken(
        Shown memory shown,
        IDisputeGame.Side side,
        bytes32 root,
        uint256 position,
        uint32 one
    ) private returns (uint256 gameId) {
        uint32[] memory tokens = tokensOf(3, GENERATED);
        tokens[position] = one;
        bytes32[][] memory tree = treeOf(tokens, 0, POSITIONS);
        vm.assertEq(tree.root(), root);
        gameId = begin(shown, keccak256("body"), side);
        descend(gameId, shown, tree, position);
        vm.prank(hot);
        vm.expectRevert(abi.encodeWithSelector(IDisputeGame.WrongLength.selector, 5, 4));
        game.revealLeaf(gameId, shown.paper, new bytes(5));
        show(gameId, shown, tokenBytes(one));
    }

    function _winWithToken(
        uint256 gameId,
        Shown memory shown,
        bytes memory leaf,
        IDisputeGame.TokenProof memory proof
    ) private {
        vm.prank(challenger);
        game.proveToken(gameId, shown.paper, leaf, proof);
        assertPhase(gameId, WON);
    }

    function _rowData(uint32 shard, uint32 segment, uint32 tensor) private view returns (bytes[] memory data) {
        TraceShape.Shape memory shape = TraceShape.shapeOf(
            gameModel(),
            2 * shard,
            2 * shard + 2,
            POSITIONS,
            3,
            GENERATED
        );
        TraceShape.Kind kind = TraceShape.kindOf(shape, segment);
        data = new bytes[](TraceShape.leavesOf(shape, kind, tensor));
        for (uint256 i; i < data.length; ++i) {
            (, , TraceShape.Part memory held) = TraceShape.leafAt(shape, kind, tensor, i);
            data[i] = new bytes(held.size * held.count);
            data[i][0] = bytes1(uint8(i + 1));
        }
    }

    function _treeOf(bytes[] memory data) private pure returns (bytes32[][] memory) {
        bytes32[] memory leaves = new bytes32[](data.length);
        for (uint256 i; i < data.length; ++i) leaves[i] = MerkleTree.shaLeaf(data[i]);
        return Trees.sha(leaves);
    }

    function _expectStep(
        Shown memory shown,
        bytes32 bodyRoot,
        IStepVerifier.Step memory step,
        bytes memory leaf,
        bool wrong
    ) private {
        steps.expect(caseOf(shown, bodyRoot), step, leaf, wrong);
    }

    function _operands() private pure returns (IStepVerifier.Opening[] memory) {
        return new IStepVerifier.Opening[](1);
    }
}
