// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";

import {IChannels} from "../interfaces/IChannels.sol";
import {IDisputeGame} from "../interfaces/IDisputeGame.sol";
import {IStakeRegistry} from "../interfaces/IStakeRegistry.sol";
import {GameHandler} from "./support/GameHandler.sol";
import {Test} from "./support/Test.sol";
import {RefusingToken} from "./support/Tokens.sol";

/// @dev Of this file, because the runner knows the contracts of test files only.
contract GameActors is GameHandler {
    /// @dev A token that can refuse to pay.
    function deploy(IERC20 token_) internal override {
        if (address(token_).code.length != 0 && address(token) == address(0)) {
            RefusingToken refusing = new RefusingToken();
            refusing.mint(address(this), SUPPLY);
            token_ = refusing;
        }
        super.deploy(token_);
    }
}

/// @notice What holds of bonds, games and freezes after any sequence of calls.
contract GameInvariantsTest is Test {
    address private constant BURNED = 0x000000000000000000000000000000000000dEaD;

    GameActors private handler;
    IDisputeGame private game;
    IERC20 private token;
    IChannels private channels;
    IStakeRegistry private stakes;
    address private worker;
    address private pool;

    function setUp() public {
        handler = new GameActors();
        handler.setUp();
        (game, worker, , , pool) = handler.parties();
        (token, channels, stakes) = (game.token(), game.channels(), game.stakeRegistry());
    }

    function targetContracts() public view returns (address[] memory targets) {
        targets = new address[](1);
        targets[0] = address(handler);
    }

    /// @dev The handler is no empty shell: a long run does everything there is to do.
    function test_handler_playsEverything() external {
        for (uint256 i; i < 3_000; ++i) _step(uint256(keccak256(abi.encode(i))));
        string[17] memory everything = [
            "claim",
            "release",
            "open",
            "demand",
            "move",
            "answer",
            "close a demand",
            "won by silence",
            "won by proof",
            "lost",
            "statement",
            "refund",
            "collect",
            "refuse",
            "payOwed",
            "unbond",
            "pass"
        ];
        for (uint256 i; i < everything.length; ++i) vm.assertGt(handler.done(everything[i]), 0, everything[i]);
        _all();
    }

    /// @dev Bonds, fees, pots and what could not be sent: the game owns exactly what it owes.
    function invariant_theGameOwnsWhatItOwes() public view {
        uint256 owed = handler.bonds() + handler.fees() + handler.pots() + handler.owedToFriend();
        vm.assertEq(token.balanceOf(address(game)), owed);
    }

    /// @dev What was slashed is in a pot, in the pool or burned; nothing else was.
    function invariant_slashesAreDivided() public view {
        vm.assertEq(token.balanceOf(pool), handler.pooled());
        vm.assertEq(token.balanceOf(BURNED), handler.burned());
    }

    /// @dev Refunds + payments + what is pending: what was claimed, and nobody was refunded by anybody else.
    function invariant_claimsArePendingReleasedOrRefunded() public view {
        (, uint256 pending, , ) = channels.accountOf(worker);
        vm.assertEq(handler.claimedInAll(), pending + handler.released() + handler.refunded());
    }

    /// @dev Frozen is what games hold, once for each receipt, and never more than is pending.
    function invariant_frozenIsWhatGamesHold() public view {
        uint256 count = handler.shownCount();
        for (uint256 i; i < count; ++i) {
            uint64 index = handler.claimIndexOf(i);
            (uint32 holders, uint96 frozen, bool refunded) = game.partOf(worker, index, 0, handler.digestAt(i));
            if (holders == 0 || refunded) vm.assertEq(frozen, 0);
            if (!handler.isPending(index)) {
                vm.assertEq(frozen, 0);
                continue;
            }
            IChannels.Claim memory found = channels.claimOf(worker, index);
            vm.assertLe(found.frozen, found.amount);
            vm.assertEq(found.frozen, frozen); // one receipt in each claim
        }
    }

    /// @dev The bond of the next game counts those that are open, which the books know by themselves.
    function invariant_openGamesAreCounted() public view {
        (uint32 open, uint32 faults) = game.recordOf(worker);
        vm.assertEq(open, handler.openGames());
        vm.assertEq(faults, handler.faults());
        vm.assertEq(game.bondFor(worker), (uint256(open) + 1) * game.baseBond());
    }

    /// @dev Each dispute pays out once: the first fault of a request makes its pot, later ones share it.
    function invariant_potsBelongToTheirShares() public view {
        uint256 count = handler.shownCount();
        for (uint256 i; i < count; ++i) {
            bytes32 requestId = handler.requestAt(i);
            IDisputeGame.Fault memory fault = game.faultOf(worker, requestId);
            vm.assertEq(fault.provenAt != 0, handler.isProven(requestId));
            vm.assertEq(fault.pot, handler.potOf(requestId));
            vm.assertEq(fault.winners, handler.sharesInAll(requestId));
        }
    }

    /// @dev While a game can be played, the stake behind it cannot leave.
    function invariant_stakeStaysForOpenGames() public view {
        GameHandler.GameGhost[] memory games = handler.games();
        for (uint256 i; i < games.length; ++i) {
            if (games[i].isOver || games[i].isDemand) continue;
            uint256 deadline = game.gameOf(games[i].gameId).deadline;
            if (vm.getBlockTimestamp() <= deadline + game.margin() / 2) {
                vm.assertGt(stakes.withdrawableAt(worker), deadline);
            }
        }
    }

    /// @dev Nobody is slashed for more than the worker ever had.
    function invariant_slashedNeverExceedsTheStake() public view {
        vm.assertLe(handler.slashed(), 1_000e18);
    }

    function _all() private view {
        invariant_theGameOwnsWhatItOwes();
        invariant_slashesAreDivided();
        invariant_claimsArePendingReleasedOrRefunded();
        invariant_frozenIsWhatGamesHold();
        invariant_openGamesAreCounted();
        invariant_potsBelongToTheirShares();
        invariant_stakeStaysForOpenGames();
        invariant_slashedNeverExceedsTheStake();
    }

    function _step(uint256 seed) private {
        uint256 kind = seed % 32;
        seed >>= 8;
        if (kind < 4) handler.pass(seed % 3 hours);
        else if (kind < 8) handler.claim(seed);
        else if (kind < 10) handler.release(seed);
        else if (kind < 13) handler.open(seed);
        else if (kind < 14) handler.demand(seed);
        else if (kind < 24) handler.move(seed);
        else if (kind < 26) handler.timeout(seed);
        else if (kind < 27) handler.statement(seed);
        else if (kind < 28) handler.refund(seed);
        else if (kind < 29) handler.collect(seed);
        else if (kind < 30) handler.refuse(seed % 2 == 0);
        else if (kind < 31) handler.payOwed();
        else handler.unbond(seed);
    }
}
