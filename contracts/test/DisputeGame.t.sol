// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IDisputeGame} from "../interfaces/IDisputeGame.sol";
import {SignedObjects} from "../libraries/SignedObjects.sol";
import {GameFixture} from "./support/GameFixture.sol";

/// @notice What may be opened, when, and what that holds.
contract DisputeGameTest is GameFixture {
    function test_open_freezesThePartOfTheReceiptAndTakesABond() public {
        IDisputeGame.Paper[] memory papers = new IDisputeGame.Paper[](3);
        for (uint64 i; i < 3; ++i) {
            SignedObjects.Request memory request = requestOf(i, 1);
            papers[i] = paperOf(request, receiptOf(request, 1, uint32(i)));
        }
        Shown[] memory shown = claimed(papers);
        uint256 before = token.balanceOf(challenger);
        uint256 fee = papers[1].receipt.fee;
        uint256 expected = (uint256(uint160(worker)) << 96) | (1 << 16) | 1;
        vm.expectEmit(address(game));
        emit IDisputeGame.Opened(
            expected,
            worker,
            challenger,
            papers[1].receipt.requestId,
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
        (uint32 holders, uint96 frozen, bool refunded) = game.partOf(worker, 0, 0, shown[1].digest);
        vm.assertEq(holders, 1);
        vm.assertEq(frozen, fee);
        vm.assertFalse(refunded);
    }
}
