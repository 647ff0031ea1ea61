// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IDisputeGame} from "../../interfaces/IDisputeGame.sol";
import {IStepVerifier} from "../../interfaces/IStepVerifier.sol";
import {SignedObjects} from "../../libraries/SignedObjects.sol";
import {GameFixture} from "./GameFixture.sol";
import {Trees} from "./Trees.sol";

/// @title A worker and a challenger that make their moves
/// @notice Three prompt tokens and three generated ones: five positions. Rows have made-up roots but for one.
abstract contract Board is GameFixture {
    using Trees for bytes32[][];

    uint256 internal constant POSITIONS = 5;
    uint256 internal constant ROW_BITS = 3; // of the positions
    uint32 internal constant GENERATED = 3;

    /// @notice Slot of a row, by the plain formula.
    function slotOf(uint256 segment, uint256 tensor, uint256 row) internal pure returns (uint256) {
        return (segment << (5 + ROW_BITS)) | (tensor << ROW_BITS) | row;
    }

    /// @notice Whether a row lies in a slot: layers behind an entry (shard 0) or before an exit (shard 2).
    function isRow(uint32 shard, uint256 slot) internal pure returns (bool) {
        uint256 segment = slot >> (5 + ROW_BITS);
        uint256 tensor = (slot >> ROW_BITS) & 31;
        uint256 row = slot & 7;
        if (segment >= (shard == 1 ? 2 : 3)) return false;
        if (shard == 0 && segment == 0) return tensor == 0 && row < POSITIONS;
        if (shard == 2 && segment == 2) return tensor < 19 && row >= 2 && row < POSITIONS;
        return tensor < 28 && row < (tensor == 9 ? 1 : POSITIONS);
    }

    /// @notice A body whose row in `slot` has this root.
    function bodyOf(uint32 shard, uint256 slot, bytes32 row) internal pure returns (bytes32[][] memory) {
        uint256 depth = (shard == 1 ? 1 : 2) + 5 + ROW_BITS;
        bytes32[] memory leaves = new bytes32[](1 << depth);
        for (uint256 i; i < leaves.length; ++i) if (isRow(shard, i)) leaves[i] = keccak256(abi.encode("row", i));
        leaves[slot] = row;
        return Trees.sha(leaves);
    }

    function post(uint256 gameId, Shown memory shown, bytes32 bodyRoot) internal {
        vm.prank(hot);
        game.postTrace(gameId, shown.digest, bodyRoot);
    }

    function choose(uint256 gameId, Shown memory shown, IDisputeGame.Side side) internal {
        vm.prank(game.gameOf(gameId).challenger);
        game.chooseSide(gameId, side, shown.paper);
    }

    /// @notice Opens, posts the body and chooses a side.
    function begin(Shown memory shown, bytes32 bodyRoot, IDisputeGame.Side side) internal returns (uint256 gameId) {
        gameId = openAs(challenger, shown);
        post(gameId, shown, bodyRoot);
        choose(gameId, shown, side);
    }

    /// @notice One round of both players towards a leaf of the tree.
    function round(uint256 gameId, Shown memory shown, bytes32[][] memory tree, uint256 target) internal {
        IDisputeGame.Game memory now_ = game.gameOf(gameId);
        uint256 levels = now_.height < 4 ? now_.height : 4;
        if (now_.phase == IDisputeGame.Phase.Reveal) {
            vm.prank(worker);
            game.reveal(gameId, tree.children(now_.height, target >> now_.height, levels));
        }
        uint256 below = now_.height - levels;
        uint256 index = target >> below;
        bytes32[] memory siblings = tree.siblings(below, index, levels);
        uint8 digit = uint8(index & ((1 << levels) - 1));
        bool inBody = now_.side == IDisputeGame.Side.Body;
        bool rowNext =
            below == 0 && !now_.inRow && (inBody || (now_.side == IDisputeGame.Side.Input && !isFirst(shown)));
        vm.prank(now_.challenger);
        if (rowNext) game.pickRow(gameId, digit, tree[0][target], siblings, shown.paper);
        else game.pick(gameId, digit, tree[below][index], siblings);
    }

    /// @notice Rounds down to a leaf, or to the root of a row.
    function descend(uint256 gameId, Shown memory shown, bytes32[][] memory tree, uint256 target) internal {
        bool inRow = game.gameOf(gameId).inRow;
        for (;;) {
            IDisputeGame.Game memory now_ = game.gameOf(gameId);
            bool moving = now_.phase == IDisputeGame.Phase.Reveal || now_.phase == IDisputeGame.Phase.Pick;
            if (!moving || now_.inRow != inRow) return;
            round(gameId, shown, tree, target);
        }
    }

    function show(uint256 gameId, Shown memory shown, bytes memory leaf) internal {
        vm.prank(hot);
        game.revealLeaf(gameId, shown.paper, leaf);
    }

    /// @notice What the step verifier is told of a receipt.
    function caseOf(Shown memory shown, bytes32 bodyRoot) internal view returns (IStepVerifier.Case memory case_) {
        SignedObjects.Receipt memory receipt = shown.paper.receipt;
        case_.model = gameModel();
        (case_.start, case_.end) = (2 * receipt.shard, 2 * receipt.shard + 2);
        case_.positions = receipt.positions;
        case_.promptCount = receipt.promptCount;
        case_.generated = receipt.generated;
        case_.inputRoot = receipt.inputRoot;
        case_.bodyRoot = bodyRoot;
        case_.seed = shown.paper.request.seed;
        case_.sampling = shown.paper.request.sampling;
    }

    function phaseOf(uint256 gameId) internal view returns (IDisputeGame.Phase) {
        return game.gameOf(gameId).phase;
    }

    function assertPhase(uint256 gameId, IDisputeGame.Phase phase) internal view {
        vm.assertEq(uint256(phaseOf(gameId)), uint256(phase));
    }

    function isFirst(Shown memory shown) internal pure returns (bool) {
        return shown.paper.receipt.shard == 0;
    }

    function expire() internal {
        vm.warp(vm.getBlockTimestamp() + MOVE + 1);
    }

    /// @notice A game that the worker loses by silence.
    function winBySilence(Shown memory shown, address who) internal returns (uint256 gameId) {
        gameId = openAs(who, shown);
        expire();
        game.timeout(gameId, shown.paper.receipt);
    }
}
