// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {DisputeGame} from "../DisputeGame.sol";
import {IChannels} from "../interfaces/IChannels.sol";
import {IDisputeGame} from "../interfaces/IDisputeGame.sol";
import {SignedObjects} from "../libraries/SignedObjects.sol";
import {Board} from "./support/Board.sol";
import {Reenterer} from "./support/Reenterer.sol";
import {FeeToken, HookToken, RefusingToken} from "./support/Tokens.sol";

/// @notice What a fault costs, who gets it, and what becomes of bonds and pending money.
contract DisputeGameFaultsTest is Board {
    uint256 private constant FIRST = STAKE / 5; // 2,000 bps

    function test_fault_takesAShareJailsAndSplits() public {
        Shown memory shown = claimOne(1, 1, 2);
        bytes32 requestId = shown.paper.receipt.requestId;
        uint256 before = token.balanceOf(challenger);
        uint256 gameId = openAs(challenger, shown);
        expire();
        uint40 now_ = uint40(vm.getBlockTimestamp());
        vm.expectEmit(address(game));
        emit IDisputeGame.Ended(gameId, worker, challenger, IDisputeGame.Phase.ChallengerWon, BOND, 0, 0, 0);
        vm.expectEmit(address(game));
        emit IDisputeGame.Proven(worker, requestId, 1, now_ + 34 * MOVE);
        vm.expectEmit(address(game));
        emit IDisputeGame.Divided(worker, requestId, FIRST, (FIRST * 4) / 10, FIRST / 10, FIRST / 2);
        vm.expectEmit(address(game));
        emit IDisputeGame.Won(worker, requestId, challenger, gameId);
        game.timeout(gameId, shown.paper.receipt);
        vm.assertEq(token.balanceOf(challenger), before);
        vm.assertEq(token.balanceOf(pool), FIRST / 10);
        vm.assertEq(token.balanceOf(BURNED), FIRST / 2);
        vm.assertEq(token.balanceOf(address(game)), (FIRST * 4) / 10);
        vm.assertEq(stakes.slashable(worker), STAKE - FIRST);
        vm.assertTrue(stakes.participantOf(worker).jailed);
        IDisputeGame.Fault memory fault = game.faultOf(worker, requestId);
        vm.assertEq(fault.provenAt, now_);
        vm.assertEq(fault.collectableAt, now_ + game.longestGame());
        vm.assertEq(fault.winners, 1);
        vm.assertEq(fault.pot, (FIRST * 4) / 10);
        (uint32 open, uint32 faults) = game.recordOf(worker);
        vm.assertEq(open, 0);
        vm.assertEq(faults, 1);
    }

    /// @dev A fifth of 300 is less than the floor; of 60 there is less than the floor.
    function test_fault_takesAtLeastTheFloorIfThereIsAsMuch() public {
        vm.startPrank(worker);
        stakes.requestUnbond(STAKE - 300e18);
        vm.warp(START + UNBONDING);
        stakes.withdrawStake(worker);
        vm.stopPrank();
        uint256 state = vm.snapshotState();
        winBySilence(claimOne(1, 1, 2), challenger);
        vm.assertEq(stakes.slashable(worker), 200e18);
        vm.revertToState(state);
        vm.startPrank(worker);
        stakes.requestUnbond(240e18);
        vm.warp(START + 2 * UNBONDING);
        stakes.withdrawStake(worker);
        vm.stopPrank();
        winBySilence(claimOne(1, 1, 2), challenger);
        vm.assertEq(stakes.slashable(worker), 0);
    }

    function test_fault_aSecondRequestTakesAll() public {
        winBySilence(claimOne(1, 1, 2), challenger);
        Shown memory shown = claimOne(2, 1, 2);
        vm.prank(worker);
        stakes.requestUnbond(STAKE - FIRST); // what is on its way out is reached too
        winBySilence(shown, challenger);
        vm.assertEq(stakes.slashable(worker), 0);
        vm.assertEq(game.faultOf(worker, shown.paper.receipt.requestId).pot, ((STAKE - FIRST) * 4) / 10);
        // A third one finds nothing, and is proven all the same.
        shown = claimOne(3, 1, 2);
        winBySilence(shown, challenger);
        vm.assertEq(game.faultOf(worker, shown.paper.receipt.requestId).pot, 0);
        (, uint32 faults) = game.recordOf(worker);
        vm.assertEq(faults, 3);
    }

    /// @dev Receipts and games of one request are one fault; each won game is a share in its pot.
    function test_fault_ofOneRequestIsOne() public {
        SignedObjects.Request memory request = requestOf(1, 1);
        IDisputeGame.Paper[] memory papers = new IDisputeGame.Paper[](2);
        for (uint32 i; i < 2; ++i) papers[i] = paperOf(request, receiptOf(request, 1, 1 + i));
        Shown[] memory shown = claimed(papers);
        uint256[3] memory games = [openAs(challenger, shown[0]), openAs(friend, shown[1]), openAs(friend, shown[0])];
        expire();
        for (uint256 i; i < 3; ++i) game.timeout(games[i], shown[i % 2].paper.receipt);
        vm.assertEq(stakes.slashable(worker), STAKE - FIRST);
        bytes32 requestId = papers[0].receipt.requestId;
        vm.assertEq(game.sharesOf(worker, requestId, challenger), 1);
        vm.assertEq(game.sharesOf(worker, requestId, friend), 2);

        uint256 pot = (FIRST * 4) / 10;
        uint256 until = vm.getBlockTimestamp() + game.longestGame();
        vm.expectRevert(abi.encodeWithSelector(IDisputeGame.TooEarly.selector, until));
        game.collect(worker, requestId, challenger);
        vm.warp(until);
        uint256 before = token.balanceOf(challenger);
        vm.assertEq(game.collect(worker, requestId, challenger), pot / 3);
        vm.assertEq(token.balanceOf(challenger) - before, pot / 3);
        vm.expectRevert(IDisputeGame.NothingToCollect.selector);
        game.collect(worker, requestId, challenger);
        vm.assertEq(game.collect(worker, requestId, friend), pot - pot / 3);
        vm.expectRevert(IDisputeGame.NothingToCollect.selector);
        game.collect(worker, requestId, stranger);
        vm.assertEq(token.balanceOf(address(game)), 0);
    }

    /// @dev A friend that loses for the worker clears nothing; one that wins for it gets no more than its share.
    function test_fault_friendsNeitherShieldNorCapture() public {
        Shown memory shown = claimOne(1, 1, 2);
        uint256 lost = openAs(friend, shown);
        post(lost, shown, keccak256("body"));
        expire();
        game.timeout(lost, shown.paper.receipt);
        uint256[2] memory games = [openAs(friend, shown), openAs(challenger, shown)];
        expire();
        for (uint256 i; i < 2; ++i) game.timeout(games[i], shown.paper.receipt);
        vm.warp(vm.getBlockTimestamp() + game.longestGame());
        uint256 pot = (FIRST * 4) / 10;
        vm.assertEq(game.collect(worker, shown.paper.receipt.requestId, challenger), pot / 2);
    }

    /// @dev Half of what a wrong challenge cost is the worker's, and the rest is nobody's.
    function test_loss_costsTheBond() public {
        Shown memory shown = claimOne(1, 1, 2);
        uint256 gameId = openAs(challenger, shown);
        post(gameId, shown, keccak256("body"));
        expire();
        uint256 before = token.balanceOf(worker);
        vm.expectEmit(address(game));
        emit IDisputeGame.Ended(
            gameId,
            worker,
            challenger,
            IDisputeGame.Phase.WorkerWon,
            0,
            BOND / 2,
            BOND / 2,
            shown.paper.receipt.fee
        );
        game.timeout(gameId, shown.paper.receipt);
        vm.assertEq(token.balanceOf(worker) - before, BOND / 2);
        vm.assertEq(token.balanceOf(BURNED), BOND / 2);
        vm.assertEq(token.balanceOf(address(game)), 0);
        vm.assertEq(channels.claimOf(worker, 0).frozen, 0);
        vm.assertFalse(stakes.participantOf(worker).jailed);
    }

    function test_timeout_needsTheReceiptOfTheGame() public {
        Shown memory shown = claimOne(1, 1, 2);
        Shown memory other = claimOne(2, 1, 2);
        uint256 gameId = openAs(challenger, shown);
        expire();
        vm.expectRevert(abi.encodeWithSelector(IDisputeGame.OtherReceipt.selector, other.digest));
        game.timeout(gameId, other.paper.receipt);
    }

    // refunds

    function test_refund_bringsBackWhatIsPendingOfTheRequest() public {
        SignedObjects.Request memory request = requestOf(1, 1);
        SignedObjects.Request memory honest = requestOf(2, 1);
        IDisputeGame.Paper[] memory papers = new IDisputeGame.Paper[](3);
        papers[0] = paperOf(request, receiptOf(request, 1, 1));
        papers[1] = paperOf(honest, receiptOf(honest, 1, 3));
        papers[2] = paperOf(request, receiptOf(request, 1, 2));
        Shown[] memory shown = claimed(papers);
        uint256 other = openAs(friend, shown[1]); // holds its own part
        vm.expectRevert(abi.encodeWithSelector(IDisputeGame.NotProven.selector, worker, papers[0].receipt.requestId));
        game.refund(papers[0].receipt, payer, session, shown[0].draw.part);
        winBySilence(shown[0], challenger);
        uint256 before = token.balanceOf(payer);
        vm.expectEmit(address(game));
        emit IDisputeGame.Refunded(
            worker,
            papers[0].receipt.requestId,
            payer,
            shown[0].digest,
            0,
            0,
            papers[0].receipt.fee,
            papers[0].receipt.fee
        );
        game.refund(papers[0].receipt, payer, session, shown[0].draw.part);
        vm.assertEq(game.refund(papers[2].receipt, payer, session, shown[2].draw.part), papers[2].receipt.fee);
        vm.assertEq(token.balanceOf(payer) - before, papers[0].receipt.fee + papers[2].receipt.fee);
        IChannels.Claim memory claim_ = channels.claimOf(worker, 0);
        vm.assertEq(claim_.amount, papers[1].receipt.fee);
        vm.assertEq(claim_.frozen, papers[1].receipt.fee);
        vm.expectRevert(IDisputeGame.NothingToCollect.selector);
        game.refund(papers[0].receipt, payer, session, shown[0].draw.part);
        vm.expectPartialRevert(IDisputeGame.NotProven.selector);
        game.refund(papers[1].receipt, payer, session, shown[1].draw.part);
        vm.expectPartialRevert(IDisputeGame.NotInEntry.selector);
        game.refund(papers[2].receipt, payer, session, shown[1].draw.part);
        (, , bool refunded) = game.partOf(worker, 0, 0, shown[2].digest);
        vm.assertTrue(refunded);
        game.timeout(other, papers[1].receipt);
        game.refund(papers[1].receipt, payer, session, shown[1].draw.part);
        vm.assertEq(channels.claimOf(worker, 0).amount, 0);
    }

    function test_refund_goesToWhoPaid() public {
        Shown memory shown = claimOne(1, 1, 2);
        winBySilence(shown, challenger);
        vm.expectRevert(abi.encodeWithSelector(IDisputeGame.NotInClaim.selector, 0, 0));
        game.refund(shown.paper.receipt, otherPayer, session, shown.draw.part);
        vm.expectRevert(abi.encodeWithSelector(IDisputeGame.NotInClaim.selector, 0, 0));
        game.refund(shown.paper.receipt, payer, stranger, shown.draw.part);
    }

    /// @dev A game that is still open when its part goes back finds nothing to let go.
    function test_refund_leavesNothingToOtherGamesOnTheReceipt() public {
        Shown memory shown = claimOne(1, 1, 2);
        uint256[2] memory games = [openAs(challenger, shown), openAs(friend, shown)];
        post(games[1], shown, keccak256("body"));
        expire();
        game.timeout(games[0], shown.paper.receipt);
        vm.assertEq(game.refund(shown.paper.receipt, payer, session, shown.draw.part), shown.paper.receipt.fee);
        game.timeout(games[1], shown.paper.receipt);
        assertPhase(games[1], IDisputeGame.Phase.WorkerWon);
        vm.assertEq(channels.claimOf(worker, 0).amount, 0);
    }

    // tokens that are not plain

    function test_refusal_undoesNoVerdict() public {
        RefusingToken refusing = _refusing();
        Shown memory shown = claimOne(1, 1, 2);
        uint256 gameId = openAs(challenger, shown);
        refusing.refuse(challenger, false);
        refusing.refuse(pool, false);
        refusing.refuse(BURNED, false);
        expire();
        vm.expectEmit(address(game));
        emit IDisputeGame.Owed(pool, FIRST / 10);
        vm.expectEmit(address(game));
        emit IDisputeGame.Owed(BURNED, FIRST / 2);
        vm.expectEmit(address(game));
        emit IDisputeGame.Owed(challenger, BOND);
        game.timeout(gameId, shown.paper.receipt);
        vm.assertEq(game.owed(challenger), BOND);
        vm.assertEq(token.balanceOf(address(game)), BOND + FIRST);
        vm.expectRevert();
        game.payOwed(challenger);
        refusing.accept(challenger);
        vm.expectEmit(address(game));
        emit IDisputeGame.OwedPaid(challenger, BOND);
        game.payOwed(challenger);
        vm.expectRevert(IDisputeGame.NothingToCollect.selector);
        game.payOwed(challenger);
    }

    function test_refusal_ofTheSlashItselfLeavesAnEmptyPot() public {
        RefusingToken refusing = _refusing();
        Shown memory shown = claimOne(1, 1, 2);
        uint256 gameId = openAs(challenger, shown);
        expire();
        refusing.refuse(address(game), true);
        game.timeout(gameId, shown.paper.receipt);
        vm.assertEq(game.faultOf(worker, shown.paper.receipt.requestId).pot, 0);
        vm.assertEq(stakes.slashable(worker), STAKE - FIRST);
        vm.assertTrue(stakes.participantOf(worker).jailed);
        vm.assertEq(token.balanceOf(address(game)), 0);
    }

    function test_open_refusesATokenThatTakesAFee() public {
        FeeToken fees = new FeeToken();
        fees.mint(address(this), SUPPLY);
        setUpAgain(fees);
        Shown memory shown = claimOne(1, 1, 2);
        fees.charge(true);
        vm.prank(challenger);
        vm.expectRevert(abi.encodeWithSelector(IDisputeGame.TokenMismatch.selector, BOND, BOND - BOND / 100));
        game.open(shown.paper, shown.draw);
    }

    /// @dev Who is called in the middle of a payout cannot come in again.
    function test_reentrancy_isRefused() public {
        HookToken hooked = new HookToken();
        hooked.mint(address(this), SUPPLY);
        setUpAgain(hooked);
        Reenterer caller = new Reenterer();
        hooked.transfer(address(caller), 100e18);
        caller.run(address(hooked), abi.encodeCall(hooked.approve, (address(game), type(uint256).max)));
        Shown[2] memory shown = [claimOne(1, 1, 2), claimOne(2, 1, 2)];
        for (uint256 i; i < 2; ++i) {
            caller.run(address(game), abi.encodeCall(game.open, (shown[i].paper, shown[i].draw)));
        }
        uint256 first = (uint256(uint160(worker)) << 96) | (1 << 16) | 1;
        expire();
        caller.run(address(hooked), abi.encodeCall(hooked.listen, (true)));
        caller.arm(address(game), abi.encodeCall(game.timeout, (first + 1, shown[1].paper.receipt)));
        game.timeout(first, shown[0].paper.receipt);
        vm.assertEq(game.owed(address(caller)), BOND); // the token could not be sent
        assertPhase(first + 1, IDisputeGame.Phase.Trace);
    }

    // escapes

    /// @dev Through the longest game there is, whatever the worker does: its stake stays where it can be reached, what it
    /// earned stays where it is, and in the end it is slashed.
    function test_escape_noMoveTakesAnythingOutOfReach() public {
        vm.startPrank(worker);
        stakes.requestUnbond(STAKE);
        vm.warp(START + 1);
        vm.stopPrank();
        Shown memory shown = claimOne(1, 1, 2);
        uint256 claimedAt = vm.getBlockTimestamp();
        vm.warp(claimedAt + WINDOW - 1);
        uint256 gameId = openAs(challenger, shown);
        vm.startPrank(worker);
        stakes.rotateHotKey(stranger);
        stakes.endService();
        vm.stopPrank();
        uint256 end = vm.getBlockTimestamp() + game.longestGame() + game.margin() / 2;
        for (uint256 i; vm.getBlockTimestamp() < end; ++i) {
            vm.prank(worker);
            vm.expectRevert(
                abi.encodeWithSelector(bytes4(keccak256("StillReachable(uint256)")), claimedAt + UNBONDING)
            );
            stakes.withdrawStake(worker);
            vm.expectRevert(abi.encodeWithSelector(IChannels.ClaimFrozen.selector, worker, 0));
            channels.release(worker, 0);
            vm.warp(vm.getBlockTimestamp() + MOVE);
        }
        game.timeout(gameId, shown.paper.receipt);
        vm.assertEq(stakes.slashable(worker), STAKE - FIRST);
        vm.assertEq(game.refund(shown.paper.receipt, payer, session, shown.draw.part), shown.paper.receipt.fee);
    }

    /// @dev Claims, releases and withdrawals of other money go on beside a game, in any of its phases.
    function test_escape_honestMoneyGoesOn() public {
        Shown memory honest = claimOne(1, 1, 2);
        Shown memory shown = claimOne(2, 1, 2);
        uint256 gameId = openAs(challenger, shown);
        vm.warp(START + WINDOW);
        vm.assertEq(channels.release(worker, 0), honest.paper.receipt.fee);
        claimOne(3, 1, 2);
        vm.prank(worker);
        channels.withdrawEarnings(worker);
        vm.expectRevert(abi.encodeWithSelector(IChannels.ClaimFrozen.selector, worker, 1));
        channels.release(worker, 1);
        game.timeout(gameId, shown.paper.receipt);
        // Jailed: the rest waits for the unbonding period, and is paid then.
        uint256 until = channels.releasableAt(worker, 2);
        vm.assertEq(until, START + WINDOW + UNBONDING);
        vm.warp(until);
        channels.release(worker, 2);
    }

    // construction

    function test_constructor_refusesWhatIsOutOfRange() public {
        string[11] memory fields = [
            "moveDeadline",
            "demandGrace",
            "forceGrace",
            "margin",
            "firstSlash",
            "firstSlashBps",
            "challengerShareBps",
            "poolShareBps",
            "minimumRateBps",
            "baseBond",
            "unbondingPeriod"
        ];
        for (uint256 i; i < fields.length; ++i) {
            IDisputeGame.Parameters memory parameters = gameParameters();
            if (i == 0) parameters.moveDeadline = 0;
            if (i == 1) parameters.demandGrace = 30 days + 1;
            if (i == 2) parameters.forceGrace = 0;
            if (i == 3) parameters.margin = 12 * MOVE - 1;
            if (i == 4) parameters.firstSlash = 0;
            if (i == 5) parameters.firstSlashBps = 10_001;
            if (i == 6) parameters.challengerShareBps = 5_001;
            if (i == 7) parameters.poolShareBps = 1_001;
            if (i == 8) parameters.minimumRateBps = 0;
            if (i == 9) parameters.baseBond = 0;
            if (i == 10) parameters.demandGrace = 30 days;
            address predicted = vm.computeCreateAddress(address(this), vm.getNonce(address(this)));
            vm.mockCall(address(stakes), abi.encodeCall(stakes.slasher, ()), abi.encode(predicted));
            vm.expectRevert(abi.encodeWithSelector(IDisputeGame.ParameterOutOfRange.selector, fields[i], _value(i)));
            this.create(parameters);
            vm.clearMockedCalls();
        }
        IDisputeGame.Parameters memory strange = gameParameters();
        vm.expectRevert(abi.encodeWithSelector(IDisputeGame.ParameterOutOfRange.selector, "stakeRegistry", 0));
        this.create(strange);
    }

    function _value(uint256 i) private pure returns (uint256) {
        uint256[11] memory values = [
            uint256(0),
            30 days + 1,
            0,
            12 * MOVE - 1,
            0,
            10_001,
            5_001,
            1_001,
            0,
            0,
            UNBONDING
        ];
        return values[i];
    }

    /// @dev Through a call, so that what it reverts with can be expected.
    function create(IDisputeGame.Parameters calldata parameters) external {
        bytes memory code = abi.encodePacked(type(DisputeGame).creationCode, abi.encode(parameters));
        assembly ("memory-safe") {
            if iszero(create(0, add(code, 0x20), mload(code))) {
                returndatacopy(0, 0, returndatasize())
                revert(0, returndatasize())
            }
        }
    }

    function test_parameters_areReadable() public view {
        vm.assertEq(address(game.token()), address(token));
        vm.assertEq(address(game.channels()), address(channels));
        vm.assertEq(address(game.stakeRegistry()), address(stakes));
        vm.assertEq(address(game.modelRegistry()), address(models));
        vm.assertEq(address(game.beacon()), address(beacon));
        vm.assertEq(game.rewardPool(), pool);
        vm.assertEq(game.moveDeadline(), MOVE);
        vm.assertEq(game.demandGrace(), DEMAND_GRACE);
        vm.assertEq(game.forceGrace(), FORCE_GRACE);
        vm.assertEq(game.margin(), 48 hours);
        vm.assertEq(game.firstSlash(), FIRST_SLASH);
        vm.assertEq(game.firstSlashBps(), 2_000);
        vm.assertEq(game.challengerShareBps(), 4_000);
        vm.assertEq(game.poolShareBps(), 1_000);
        vm.assertEq(game.minimumRateBps(), 10_000);
        vm.assertEq(game.baseBond(), BOND);
        vm.assertEq(game.forceFee(), FORCE_FEE);
        vm.assertEq(game.demandFee(), DEMAND_FEE);
        vm.assertEq(game.longestGame(), 34 * MOVE);
        vm.assertTrue(address(game.paperJudge()) != address(0));
        vm.assertTrue(address(game.statementJudge()) != address(0));
        vm.assertTrue(address(game.traceJudge()) != address(0));
    }

    function _refusing() private returns (RefusingToken refusing) {
        refusing = new RefusingToken();
        refusing.mint(address(this), SUPPLY);
        setUpAgain(refusing);
    }
}
