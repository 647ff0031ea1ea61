// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IChannels} from "../interfaces/IChannels.sol";
import {IDisputeGame} from "../interfaces/IDisputeGame.sol";
import {SignedObjects} from "../libraries/SignedObjects.sol";
import {WorkToken} from "../WorkToken.sol";
import {Board} from "./support/Board.sol";

/// @notice What may be opened, when, and what that holds.
contract DisputeGameTest is Board {
    function test_open_freezesThePartOfTheReceiptAndTakesABond() public {
        Shown[] memory shown = _three();
        uint256 before = token.balanceOf(challenger);
        uint256 fee = shown[1].paper.receipt.fee;
        uint256 expected = (uint256(uint160(worker)) << 96) | (1 << 16) | 1;
        vm.expectEmit(address(game));
        emit IDisputeGame.Opened(
            expected,
            worker,
            challenger,
            shown[1].paper.receipt.requestId,
            shown[1].digest,
            BOND,
            true,
            0,
            0,
            fee,
            START + MOVE
        );
        uint256 gameId = openAs(challenger, shown[1]);
        vm.assertEq(gameId, expected);
        vm.assertEq(before - token.balanceOf(challenger), BOND);
        vm.assertEq(token.balanceOf(address(game)), BOND);
        vm.assertEq(channels.claimOf(worker, 0).frozen, fee);
        IDisputeGame.Game memory found = game.gameOf(gameId);
        vm.assertEq(found.worker, worker);
        vm.assertEq(found.challenger, challenger);
        vm.assertEq(found.receiptDigest, shown[1].digest);
        vm.assertEq(uint256(found.phase), uint256(IDisputeGame.Phase.Trace));
        vm.assertEq(found.deadline, START + MOVE);
        vm.assertEq(found.bond, BOND);
        vm.assertTrue(found.holds);
        _assertPart(shown[1].digest, 1, fee);
    }

    function test_open_freezesAPartOnce() public {
        Shown memory shown = _three()[2];
        uint256 fee = shown.paper.receipt.fee;
        uint256 first = openAs(challenger, shown);
        uint256 second = openAs(friend, shown);
        vm.assertEq(channels.claimOf(worker, 0).frozen, fee);
        _assertPart(shown.digest, 2, fee);
        post(first, shown, keccak256("body"));
        expire();
        game.timeout(first, shown.paper.receipt);
        _assertPart(shown.digest, 1, fee);
        vm.assertEq(channels.claimOf(worker, 0).frozen, fee);
        game.timeout(second, shown.paper.receipt); // silence: what a won game holds waits for the refund
        vm.assertEq(channels.claimOf(worker, 0).frozen, fee);
        game.refund(shown.paper.receipt, payer, session, shown.draw.part);
        vm.assertEq(channels.claimOf(worker, 0).frozen, 0);
    }

    function test_open_bondsGrowWithOpenGames() public {
        Shown[] memory shown = _three();
        vm.assertEq(game.bondFor(worker), BOND);
        uint256[3] memory games;
        for (uint256 i; i < 3; ++i) {
            games[i] = openAs(challenger, shown[i]);
            vm.assertEq(game.gameOf(games[i]).bond, (i + 1) * BOND);
            vm.assertEq(game.bondFor(worker), (i + 2) * BOND);
        }
        vm.assertEq(token.balanceOf(address(game)), 6 * BOND);
        post(games[1], shown[1], keccak256("body"));
        expire();
        game.timeout(games[1], shown[1].paper.receipt);
        vm.assertEq(game.bondFor(worker), 3 * BOND);
        (uint32 open, uint32 faults) = game.recordOf(worker);
        vm.assertEq(open, 2);
        vm.assertEq(faults, 0);
    }

    function test_open_usesPlacesAgain() public {
        Shown[] memory shown = _three();
        uint256[2] memory games = [openAs(challenger, shown[0]), openAs(challenger, shown[1])];
        for (uint256 i; i < 2; ++i) post(games[i], shown[i], keccak256("body"));
        expire();
        for (uint256 i; i < 2; ++i) game.timeout(games[i], shown[i].paper.receipt);
        assertPhase(games[1], IDisputeGame.Phase.WorkerWon);
        vm.assertEq(openAs(friend, shown[2]), games[1] + (1 << 16)); // the latest that was left
        vm.expectRevert(abi.encodeWithSelector(IDisputeGame.NoSuchGame.selector, games[1]));
        game.gameOf(games[1]);
        vm.expectRevert(abi.encodeWithSelector(IDisputeGame.NoSuchGame.selector, games[1]));
        game.timeout(games[1], shown[1].paper.receipt);
        assertPhase(games[0], IDisputeGame.Phase.WorkerWon);
        vm.assertEq(openAs(friend, shown[2]), games[0] + (1 << 16));
        vm.assertEq(openAs(friend, shown[2]) & 0xffff, 3);
    }

    function test_open_refusesMoreGamesThanThereArePlaces() public {
        Shown memory shown = _three()[0];
        openAs(challenger, shown);
        // Docket: open (32) | faults (32) | places (16) | free (16), of the first mapping
        bytes32 slot = keccak256(abi.encode(worker, uint256(0)));
        vm.store(address(game), slot, bytes32(uint256(1) | (uint256(type(uint16).max) << 64)));
        vm.expectRevert(abi.encodeWithSelector(IDisputeGame.TooManyGames.selector, worker));
        openAs(challenger, shown);
    }

    function test_open_isAllowedUntilTheWindowIsOver() public {
        Shown memory shown = _three()[0];
        vm.warp(START + WINDOW - 1);
        openAs(challenger, shown);
        vm.warp(START + WINDOW);
        _refuses(shown, abi.encodeWithSelector(IDisputeGame.TooLate.selector, START + WINDOW));
    }

    function test_open_takesOldKeysAndNoOthers() public {
        vm.prank(worker);
        stakes.rotateHotKey(stranger);
        Shown memory shown = claimOne(1, 1, 1);
        bytes memory old = shown.paper.signature;
        bytes memory announced = signReceipt(shown.paper.receipt, uint256(keccak256("stranger")));
        shown.paper.signature = announced;
        _refuses(shown, abi.encodeWithSelector(IDisputeGame.NotSignedByWorker.selector, stranger));
        vm.warp(START + HOT_KEY_DELAY);
        shown = claimOne(2, 1, 1);
        openAs(challenger, shown);
        shown.paper.signature = signReceipt(shown.paper.receipt, uint256(keccak256("stranger")));
        openAs(challenger, shown);
        shown.paper.signature = old;
        _refusesPartly(shown, IDisputeGame.NotSignedByWorker.selector);
        shown.paper.signature = signReceipt(shown.paper.receipt, sessionSecret);
        _refuses(shown, abi.encodeWithSelector(IDisputeGame.NotSignedByWorker.selector, session));
        shown.paper.signature = new bytes(65);
        _refuses(shown, abi.encodeWithSelector(IDisputeGame.NotSignedByWorker.selector, address(0)));
        shown.paper.signature = "";
        _refuses(shown, abi.encodeWithSelector(IDisputeGame.NotSignedByWorker.selector, address(0)));
    }

    function test_open_refusesAnotherRequest() public {
        Shown memory shown = _three()[1];
        shown.paper.request.maxTokens += 1;
        _refusesPartly(shown, IDisputeGame.OtherRequest.selector);
    }

    function test_open_refusesAReceiptThatDoesNotFit() public {
        for (uint256 i; i < 8; ++i) {
            SignedObjects.Request memory request = requestOf(uint64(i), 1);
            SignedObjects.Receipt memory receipt = receiptOf(request, 1, 2);
            if (i == 0) receipt.shard = 3;
            if (i == 1) receipt.positions += 1;
            if (i == 2) receipt.promptCount += 1;
            if (i == 3) receipt.generated = 0;
            if (i == 4) (receipt.generated, receipt.positions) = (0, 0);
            if (i == 5) request.path[1].end = request.path[1].start;
            if (i == 6) request.path[1].end = request.path[1].start + 1_025;
            if (i == 7) (request.promptCount, receipt.promptCount, receipt.positions) = (131_072, 131_072, 131_073);
            if (i >= 5) receipt.requestId = digestOf(desk.hashOfRequest(request));
            Shown memory shown = claimPaper(paperOf(request, receipt));
            _refuses(shown, abi.encodeWithSelector(IDisputeGame.MalformedReceipt.selector));
        }
        SignedObjects.Request memory of2 = requestOf(9, 2);
        SignedObjects.Receipt memory wrong = receiptOf(of2, 2, 2);
        wrong.shard = 1; // another worker's place
        _refuses(claimPaper(paperOf(of2, wrong)), abi.encodeWithSelector(IDisputeGame.MalformedReceipt.selector));
    }

    function test_open_refusesWhatIsNotInTheClaim() public {
        Shown[] memory shown = _three();
        Shown memory one = shown[1];
        bytes memory notInClaim = abi.encodeWithSelector(IDisputeGame.NotInClaim.selector, 0, 0);
        one.draw.part.entries[30] ^= 0x01;
        _refuses(one, notInClaim);
        one.draw.part.groups[0] = keccak256(abi.encodePacked(hex"00", one.draw.part.entries));
        _refuses(one, notInClaim);
        one = _three()[1];
        one.draw.part.entry = 1;
        _refuses(one, abi.encodeWithSelector(IDisputeGame.NotInClaim.selector, 1, 1));
        one.draw.part.entry = 8;
        _refuses(one, abi.encodeWithSelector(IDisputeGame.NotInClaim.selector, 1, 8));
        one.draw.part.entry = 0;
        one.draw.part.claimIndex = 0;
        _refuses(one, notInClaim);
        one.draw.part.claimIndex = 2;
        _refuses(one, abi.encodeWithSelector(IChannels.NoClaim.selector, worker, 2));
    }

    function test_open_refusesWhatIsNotInTheEntry() public {
        Shown[] memory shown = _three();
        for (uint256 i; i < 5; ++i) {
            Shown memory one = shown[1];
            IDisputeGame.Leaf memory leaf = one.draw.part.leaf;
            one.draw.part.leaf = IDisputeGame.Leaf(leaf.digest, leaf.before, leaf.end, leaf.index, leaf.proof);
            if (i == 0) one.draw.part.leaf = shown[0].draw.part.leaf;
            if (i == 1) one.draw.part.leaf.end += 1;
            if (i == 2) one.draw.part.leaf.index = 2;
            if (i == 3) one.draw.part.leaf.index = 5;
            if (i == 4) one.draw.part.leaf.proof = new bytes32[](1);
            _refuses(one, abi.encodeWithSelector(IDisputeGame.NotInEntry.selector, one.draw.part.leaf.digest));
            one.draw.part.leaf = leaf;
        }
    }

    /// @dev The second claim begins where the first one ended, in the middle of a receipt's interval.
    function test_open_freezesOnlyWhatTheClaimHoldsOfTheReceipt() public {
        fund(otherPayer, worker, session, 1e15); // the deposit is smaller than the voucher
        SignedObjects.Request memory request = requestOf(1, 1);
        SignedObjects.Receipt memory receipt = receiptOf(request, 1, 2);
        IDisputeGame.Paper memory paper = paperOf(request, receipt);
        Shown memory shown;
        (shown.paper, shown.digest) = (paper, digestOf(desk.hashOfReceipt(receipt)));
        IDisputeGame.Leaf memory leaf = IDisputeGame.Leaf(shown.digest, 0, receipt.fee, 0, new bytes32[](0));
        bytes32 root = keccak256(abi.encodePacked(hex"00", leaf.digest, leaf.before, leaf.end));
        bytes32 channel = keccak256(abi.encode(otherPayer, worker, session));
        uint96[3] memory steps_ = [uint96(0), 1e15, uint96(receipt.fee)];
        for (uint64 i; i < 2; ++i) {
            bytes memory packed = pack(sign(sessionSecret, otherPayer, worker, 0, uint96(receipt.fee), 1, root));
            vm.prank(worker);
            channels.claim(worker, packed);
            bytes memory entry = abi.encodePacked(bytes20(channel), steps_[i], steps_[i + 1], root);
            shown.draw.part = IDisputeGame.Part(i, 0, entry, new bytes32[](1), leaf);
            shown.draw.part.groups[0] = keccak256(abi.encodePacked(hex"00", entry));
            openAs(challenger, shown);
            vm.assertEq(channels.claimOf(worker, i).frozen, steps_[i + 1] - steps_[i]);
            fund(otherPayer, worker, session, 1e18);
        }
        // It lies before what the second claim moved.
        leaf.end = 1e15;
        shown.draw.part.leaf = leaf;
        _refusesPartly(shown, IDisputeGame.NotInEntry.selector);
    }

    function test_open_refusesWhatIsProven() public {
        Shown memory shown = claimOne(1, 1, 2);
        winBySilence(shown, challenger);
        bytes32 requestId = shown.paper.receipt.requestId;
        _refuses(shown, abi.encodeWithSelector(IDisputeGame.AlreadyProven.selector, worker, requestId));
        vm.prank(challenger);
        vm.expectRevert(abi.encodeWithSelector(IDisputeGame.AlreadyProven.selector, worker, requestId));
        game.demand(shown.paper, shown.draw, 0);
        vm.prank(challenger);
        vm.expectRevert(abi.encodeWithSelector(IDisputeGame.AlreadyProven.selector, worker, requestId));
        game.forceDraw(shown.paper);
    }

    function test_open_refusesWhoCannotPay() public {
        Shown memory shown = claimOne(1, 1, 2);
        vm.prank(stranger);
        vm.expectRevert();
        game.open(shown.paper, shown.draw);
    }

    // draws by value

    function test_open_needsADrawWhereNotAllAreDrawn() public {
        _drawByValue(1);
        Shown[] memory shown = _three();
        IDisputeGame.Draw memory draw = shown[2].draw;
        vm.roll(vm.getBlockNumber() + 2);
        _refuses(shown[2], abi.encodeWithSelector(IDisputeGame.NotDrawn.selector, 0));
        uint64 block_ = uint64(vm.getBlockNumber() - 1);
        vm.setBlockhash(block_, keccak256("hash"));
        beacon.recordBeacon(block_);
        // One point of the whole claim: it lies in one of the three.
        uint256 opened;
        for (uint256 i; i < 3; ++i) {
            vm.prank(challenger);
            try game.open(shown[i].paper, shown[i].draw) {
                ++opened;
            } catch (bytes memory reason) {
                vm.assertEq(reason, abi.encodeWithSelector(IDisputeGame.NotDrawn.selector, 0));
            }
        }
        vm.assertEq(opened, 1);
        draw.point = 1;
        _refuses(shown[2], abi.encodeWithSelector(IDisputeGame.NotDrawn.selector, 1));
    }

    /// @dev At a third of all, three leaves have a point each only where three are shown.
    function test_open_countsTheLeavesThatAreShown() public {
        _drawByValue(10_000 - 1);
        Shown[] memory shown = _three();
        vm.roll(vm.getBlockNumber() + 2);
        uint64 block_ = uint64(vm.getBlockNumber() - 1);
        vm.setBlockhash(block_, keccak256("hash"));
        beacon.recordBeacon(block_);
        shown[2].draw.point = 2;
        _refuses(shown[2], abi.encodeWithSelector(IDisputeGame.NotDrawn.selector, 2));
        shown[2].draw.ends = new IDisputeGame.Leaf[](1);
        _refuses(shown[2], abi.encodeWithSelector(IDisputeGame.WrongCount.selector, 1, 2));
        IDisputeGame.Leaf[] memory ends = new IDisputeGame.Leaf[](2);
        (ends[0], ends[1]) = (shown[0].draw.part.leaf, shown[2].draw.part.leaf);
        uint256 opened;
        for (uint256 i; i < 3; ++i) {
            shown[i].draw.ends = ends;
            for (uint32 point; point < 4; ++point) {
                shown[i].draw.point = point;
                vm.prank(challenger);
                try game.open(shown[i].paper, shown[i].draw) {
                    ++opened;
                } catch (bytes memory reason) {
                    vm.assertEq(reason, abi.encodeWithSelector(IDisputeGame.NotDrawn.selector, point));
                }
            }
        }
        vm.assertEq(opened, 3);
        shown[0].draw.ends[1].index = 1;
        _refusesPartly(shown[0], IDisputeGame.NotInEntry.selector);
    }

    // force-drawn receipts

    function test_forceDraw_opensAReceiptThatWasNeverClaimed() public {
        SignedObjects.Request memory request = requestOf(1, 1);
        Shown memory shown;
        shown.paper = paperOf(request, receiptOf(request, 1, 2));
        shown.digest = digestOf(desk.hashOfReceipt(shown.paper.receipt));
        _refuses(shown, abi.encodeWithSelector(IDisputeGame.NotForced.selector, shown.digest));
        uint256 before = token.balanceOf(worker);
        vm.expectEmit(address(game));
        emit IDisputeGame.ForceDrawn(
            worker,
            shown.paper.receipt.requestId,
            shown.digest,
            friend,
            FORCE_FEE,
            START + WINDOW
        );
        vm.prank(friend);
        game.forceDraw(shown.paper);
        vm.assertEq(token.balanceOf(worker) - before, FORCE_FEE);
        vm.assertEq(game.forcedUntil(shown.digest), START + WINDOW);
        uint256 gameId = openAs(challenger, shown);
        vm.assertFalse(game.gameOf(gameId).holds);
        vm.warp(START + WINDOW - 1);
        openAs(challenger, shown);
        vm.warp(START + WINDOW);
        _refuses(shown, abi.encodeWithSelector(IDisputeGame.NotForced.selector, shown.digest));
        game.timeout(gameId, shown.paper.receipt);
        assertPhase(gameId, IDisputeGame.Phase.ChallengerWon);
    }

    /// @dev Also past the window of its claim, which then is frozen for it.
    function test_forceDraw_opensAnOldClaim() public {
        SignedObjects.Request memory request = requestOf(1, 1);
        request.expiry = START + WINDOW + 1 hours;
        SignedObjects.Receipt memory receipt = receiptOf(request, 1, 2);
        Shown memory shown = claimPaper(paperOf(request, receipt));
        vm.warp(START + WINDOW);
        _refusesPartly(shown, IDisputeGame.TooLate.selector);
        vm.prank(friend);
        game.forceDraw(shown.paper);
        openAs(challenger, shown);
        vm.assertEq(channels.claimOf(worker, 0).frozen, receipt.fee);
    }

    function test_forceDraw_isAllowedForAWhile() public {
        SignedObjects.Request memory request = requestOf(1, 1);
        IDisputeGame.Paper memory paper = paperOf(request, receiptOf(request, 1, 2));
        uint256 until = request.expiry + FORCE_GRACE;
        vm.warp(until + 1);
        vm.startPrank(friend);
        vm.expectRevert(abi.encodeWithSelector(IDisputeGame.TooLate.selector, until));
        game.forceDraw(paper);
        vm.warp(until);
        game.forceDraw(paper);
        bytes32 digest = digestOf(desk.hashOfReceipt(paper.receipt));
        vm.expectRevert(abi.encodeWithSelector(IDisputeGame.AlreadyForced.selector, digest));
        game.forceDraw(paper);
    }

    // helpers

    function _three() private returns (Shown[] memory) {
        IDisputeGame.Paper[] memory papers = new IDisputeGame.Paper[](3);
        for (uint64 i; i < 3; ++i) {
            SignedObjects.Request memory request = requestOf(10 + i, 1);
            papers[i] = paperOf(request, receiptOf(request, 1, uint32(i)));
        }
        return claimed(papers);
    }

    function _drawByValue(uint16 rate) private {
        rateBps = rate;
        setUpAgain(new WorkToken(address(this), SUPPLY));
    }

    function _assertPart(bytes32 digest, uint256 holders, uint256 frozen) private view {
        (uint32 holders_, uint96 frozen_, bool refunded) = game.partOf(worker, 0, 0, digest);
        vm.assertEq(holders_, holders);
        vm.assertEq(frozen_, frozen);
        vm.assertFalse(refunded);
    }

    function _refuses(Shown memory shown, bytes memory reason) private {
        vm.prank(challenger);
        vm.expectRevert(reason);
        game.open(shown.paper, shown.draw);
    }

    function _refusesPartly(Shown memory shown, bytes4 selector) private {
        vm.prank(challenger);
        vm.expectPartialRevert(selector);
        game.open(shown.paper, shown.draw);
    }
}
