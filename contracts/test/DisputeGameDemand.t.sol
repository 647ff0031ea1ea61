// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IChannels} from "../interfaces/IChannels.sol";
import {IDisputeGame} from "../interfaces/IDisputeGame.sol";
import {SignedObjects} from "../libraries/SignedObjects.sol";
import {Board} from "./support/Board.sol";

/// @notice Token ids that a worker has to publish.
contract DisputeGameDemandTest is Board {
    bytes private answer;

    function setUp() public override {
        super.setUp();
        uint32[] memory tokens = tokensOf(3, 2);
        for (uint256 i; i < tokens.length; ++i) answer = bytes.concat(answer, tokenBytes(tokens[i]));
    }

    function test_demand_costsABondAndTheFeeOfTheAnswer() public {
        Shown memory shown = claimOne(1, 1, 2);
        uint256 before = token.balanceOf(challenger);
        vm.expectEmit(address(game));
        emit IDisputeGame.Demanded(
            (uint256(uint160(worker)) << 96) | (1 << 16) | 1,
            worker,
            challenger,
            shown.paper.receipt.requestId,
            shown.digest,
            0,
            BOND,
            DEMAND_FEE,
            true,
            0,
            0,
            shown.paper.receipt.fee,
            START + MOVE
        );
        uint256 gameId = _demand(shown);
        vm.assertEq(before - token.balanceOf(challenger), BOND + DEMAND_FEE);
        vm.assertEq(game.bondFor(worker), 2 * BOND);
        vm.assertEq(channels.claimOf(worker, 0).frozen, shown.paper.receipt.fee);
        assertPhase(gameId, IDisputeGame.Phase.Demand);
    }

    function test_answerDemand_bringsTheBondBackAndTheFeeToTheWorker() public {
        Shown memory shown = claimOne(1, 1, 2);
        uint256 gameId = _demand(shown);
        uint256[2] memory before = [token.balanceOf(challenger), token.balanceOf(worker)];
        vm.expectEmit(address(game));
        emit IDisputeGame.Answered(gameId, answer, BOND, DEMAND_FEE, START + DEMAND_GRACE);
        _answer(gameId, shown);
        vm.assertEq(token.balanceOf(challenger) - before[0], BOND);
        vm.assertEq(token.balanceOf(worker) - before[1], DEMAND_FEE);
        vm.assertEq(token.balanceOf(address(game)), 0);
        vm.assertEq(game.bondFor(worker), BOND);
        // The part stays where it is while the receipt can still be opened.
        vm.assertEq(channels.claimOf(worker, 0).frozen, shown.paper.receipt.fee);
        vm.warp(START + DEMAND_GRACE);
        vm.expectRevert(abi.encodeWithSelector(IDisputeGame.TooEarly.selector, START + DEMAND_GRACE));
        game.timeout(gameId, shown.paper.receipt);
        vm.warp(START + DEMAND_GRACE + 1);
        vm.expectEmit(address(game));
        emit IDisputeGame.Ended(
            gameId,
            worker,
            challenger,
            IDisputeGame.Phase.WorkerWon,
            0,
            0,
            0,
            shown.paper.receipt.fee
        );
        game.timeout(gameId, shown.paper.receipt);
        vm.assertEq(channels.claimOf(worker, 0).frozen, 0);
        (uint32 open, uint32 faults) = game.recordOf(worker);
        vm.assertEq(open, 0);
        vm.assertEq(faults, 0);
        vm.assertEq(token.balanceOf(address(game)), 0);
    }

    function test_answerDemand_refusesOtherTokens() public {
        Shown memory shown = claimOne(1, 1, 2);
        uint256 gameId = _demand(shown);
        vm.startPrank(hot);
        bytes memory wrong = bytes.concat(answer);
        wrong[3] = 0x01;
        vm.expectPartialRevert(IDisputeGame.WrongHash.selector);
        game.answerDemand(gameId, shown.paper.receipt, wrong, new bytes32[](0));
        vm.expectRevert(abi.encodeWithSelector(IDisputeGame.WrongLength.selector, 19, 20));
        game.answerDemand(gameId, shown.paper.receipt, new bytes(19), new bytes32[](0));
        vm.expectRevert(abi.encodeWithSelector(IDisputeGame.WrongCount.selector, 1, 0));
        game.answerDemand(gameId, shown.paper.receipt, answer, new bytes32[](1));
        SignedObjects.Receipt memory other = receiptOf(requestOf(2, 1), 1, 2);
        vm.expectPartialRevert(IDisputeGame.OtherReceipt.selector);
        game.answerDemand(gameId, other, answer, new bytes32[](0));
        vm.stopPrank();
        vm.prank(stranger);
        vm.expectRevert(abi.encodeWithSelector(IDisputeGame.NotTheWorker.selector, stranger));
        game.answerDemand(gameId, shown.paper.receipt, answer, new bytes32[](0));
    }

    function test_demand_silenceIsAFault() public {
        Shown memory shown = claimOne(1, 1, 2);
        uint256 before = token.balanceOf(challenger);
        uint256 gameId = _demand(shown);
        vm.warp(START + MOVE + 1);
        vm.prank(hot);
        vm.expectRevert(abi.encodeWithSelector(IDisputeGame.TooLate.selector, START + MOVE));
        game.answerDemand(gameId, shown.paper.receipt, answer, new bytes32[](0));
        game.timeout(gameId, shown.paper.receipt);
        vm.assertEq(token.balanceOf(challenger), before); // bond and fee
        vm.assertTrue(stakes.participantOf(worker).jailed);
        vm.assertEq(game.sharesOf(worker, shown.paper.receipt.requestId, challenger), 1);
        vm.assertEq(game.refund(shown.paper.receipt, payer, session, shown.draw.part), shown.paper.receipt.fee);
    }

    function test_demand_refusesAChunkThatIsNotThere() public {
        Shown memory shown = claimOne(1, 1, 2);
        vm.prank(challenger);
        vm.expectRevert(abi.encodeWithSelector(IDisputeGame.WrongCount.selector, 1, 1));
        game.demand(shown.paper, shown.draw, 1);
    }

    /// @dev A demand of the last second, answered in the last second: the game comes after the window.
    function test_open_isAllowedWhileADemandKeepsTheReceiptOpen() public {
        Shown memory shown = claimOne(1, 1, 2);
        vm.warp(START + WINDOW - 1);
        uint256 demandId = _demand(shown);
        vm.warp(START + WINDOW - 1 + MOVE);
        shown.draw.demandId = demandId;
        uint256 first = openAs(friend, shown); // not answered yet
        _answer(demandId, shown);
        uint256 until = START + WINDOW - 1 + MOVE + DEMAND_GRACE;
        vm.warp(until);
        vm.expectRevert(abi.encodeWithSelector(IChannels.ClaimFrozen.selector, worker, 0));
        channels.release(worker, 0);
        shown.draw.demandId = 0;
        vm.prank(challenger);
        vm.expectRevert(abi.encodeWithSelector(IDisputeGame.TooLate.selector, START + WINDOW));
        game.open(shown.paper, shown.draw);
        shown.draw.demandId = demandId;
        openAs(challenger, shown);
        vm.warp(until + 1);
        vm.prank(challenger);
        vm.expectRevert(abi.encodeWithSelector(IDisputeGame.TooLate.selector, until));
        game.open(shown.paper, shown.draw);
        shown.draw.demandId = first;
        vm.prank(challenger);
        vm.expectRevert(abi.encodeWithSelector(IDisputeGame.NotTheDemand.selector, first));
        game.open(shown.paper, shown.draw);
    }

    function test_open_refusesTheDemandOfAnotherReceipt() public {
        Shown memory shown = claimOne(1, 1, 2);
        Shown memory other = claimOne(2, 1, 2);
        other.draw.demandId = _demand(shown);
        vm.prank(challenger);
        vm.expectRevert(abi.encodeWithSelector(IDisputeGame.NotTheDemand.selector, other.draw.demandId));
        game.open(other.paper, other.draw);
    }

    /// @dev Else a row of demands could keep money frozen for ever.
    function test_demand_isNotProlongedByAnother() public {
        Shown memory shown = claimOne(1, 1, 2);
        uint256 demandId = _demand(shown);
        shown.draw.demandId = demandId;
        vm.prank(challenger);
        vm.expectRevert(abi.encodeWithSelector(IDisputeGame.NotTheDemand.selector, demandId));
        game.demand(shown.paper, shown.draw, 0);
        shown.draw.demandId = 0;
        vm.warp(START + WINDOW);
        vm.prank(challenger);
        vm.expectRevert(abi.encodeWithSelector(IDisputeGame.TooLate.selector, START + WINDOW));
        game.demand(shown.paper, shown.draw, 0);
    }

    function test_demand_ofAForcedReceipt() public {
        SignedObjects.Request memory request = requestOf(1, 1);
        Shown memory shown;
        shown.paper = paperOf(request, receiptOf(request, 1, 2));
        vm.prank(friend);
        game.forceDraw(shown.paper);
        uint256 demandId = _demand(shown);
        vm.assertFalse(game.gameOf(demandId).holds);
        _answer(demandId, shown);
        vm.warp(START + DEMAND_GRACE);
        shown.draw.demandId = demandId;
        openAs(challenger, shown);
    }

    function _demand(Shown memory shown) private returns (uint256) {
        vm.prank(challenger);
        return game.demand(shown.paper, shown.draw, 0);
    }

    function _answer(uint256 gameId, Shown memory shown) private {
        vm.prank(hot);
        game.answerDemand(gameId, shown.paper.receipt, answer, new bytes32[](0));
    }
}
