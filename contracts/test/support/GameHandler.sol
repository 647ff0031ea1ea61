// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IDisputeGame} from "../../interfaces/IDisputeGame.sol";
import {IStepVerifier} from "../../interfaces/IStepVerifier.sol";
import {MerkleTree} from "../../libraries/MerkleTree.sol";
import {SignedObjects} from "../../libraries/SignedObjects.sol";
import {Board} from "./Board.sol";
import {RefusingToken} from "./Tokens.sol";
import {Trees} from "./Trees.sol";

/// @title A worker, two challengers and time, doing whatever the invariant runner draws
/// @notice Every function does something allowed or nothing at all, so that any revert is a finding. The books here are
/// kept from what was asked for, never from what the game says.
abstract contract GameHandler is Board {
    using Trees for bytes32[][];

    uint256 private constant MOST_CLAIMS = 40; // of 64 places in the ring
    uint256 private constant MOST_GAMES = 12;
    uint256 private constant SEGMENT = 1;
    uint256 private constant TENSOR = 20;
    uint256 private constant ROW = 3;

    struct GameGhost {
        uint256 gameId;
        uint256 shown; // number of the receipt
        uint256 bond;
        bool isDemand;
        bool isOver;
    }

    mapping(string what => uint256) public done;
    uint256 public bonds;
    uint256 public fees; // of demands
    uint256 public pots;
    uint256 public owedToFriend;
    uint256 public slashed;
    uint256 public burned;
    uint256 public pooled;
    uint256 public refunded;
    uint256 public released;
    uint256 public claimedInAll;
    uint256 public openGames;
    uint256 public faults;
    mapping(bytes32 requestId => uint256) public potOf;
    mapping(bytes32 requestId => bool) public isProven;
    mapping(bytes32 requestId => mapping(address who => uint256)) public shares;
    mapping(bytes32 requestId => uint256) public sharesInAll;

    Shown[] private _shown;
    mapping(uint256 shown => bool) private _refunded;
    GameGhost[] private _games;
    bool private _started;

    function setUp() public override {
        if (_started) return; // the runner may call it
        _started = true;
        super.setUp();
    }

    function pass(uint256 time) external {
        vm.warp(vm.getBlockTimestamp() + bound(time, 1, 8 hours));
        vm.roll(vm.getBlockNumber() + 1);
        ++done["pass"];
    }

    /// @notice A receipt of a new request, or one more of the latest.
    function claim(uint256 seed) external {
        (, uint256 pending, , ) = channels.accountOf(worker);
        if (_pendingClaims() >= MOST_CLAIMS || pending > 1e24) return;
        uint64 nonce = uint64(done["claim"]);
        if (seed % 3 == 0 && nonce != 0) nonce = _shown[_shown.length - 1].paper.request.nonce;
        SignedObjects.Request memory request = requestOf(nonce, 1);
        SignedObjects.Receipt memory receipt = receiptOf(request, 1, GENERATED);
        receipt.epoch = uint64(seed >> 8); // so that each has its digest
        if (channels.channelOf(payer, worker, session).deposit < 1e20) fund(payer, worker, session, 1e20);
        fund(payer, worker, session, uint96(receipt.fee));
        _shown.push();
        _copy(_shown[_shown.length - 1], claimPaper(paperOf(request, receipt)));
        claimedInAll += receipt.fee;
        ++done["claim"];
    }

    function release(uint256 seed) external {
        if (_shown.length == 0) return;
        uint64 index = _shown[seed % _shown.length].draw.part.claimIndex;
        if (!_isPending(index) || vm.getBlockTimestamp() < channels.releasableAt(worker, index)) return;
        released += channels.release(worker, index);
        ++done["release"];
    }

    function open(uint256 seed) external {
        (bool can, uint256 number) = _drawn(seed);
        if (!can) return;
        address who = seed % 2 == 0 ? challenger : friend;
        uint256 bond = game.bondFor(worker);
        vm.assertEq(bond, BOND * (openGames + 1), "bond");
        _begin(openAs(who, _shown[number]), number, bond, false);
        ++done["open"];
    }

    function demand(uint256 seed) external {
        (bool can, uint256 number) = _drawn(seed);
        if (!can) return;
        uint256 bond = BOND * (openGames + 1);
        vm.prank(seed % 2 == 0 ? challenger : friend);
        _begin(game.demand(_shown[number].paper, _shown[number].draw, 0), number, bond, true);
        fees += DEMAND_FEE;
        ++done["demand"];
    }

    /// @notice The next move of one game, by whoever is to make it.
    function move(uint256 seed) external {
        (bool can, uint256 place) = _running(seed);
        if (!can) return;
        GameGhost storage one = _games[place];
        IDisputeGame.Game memory now_ = game.gameOf(one.gameId);
        if (vm.getBlockTimestamp() > now_.deadline) return;
        Shown memory shown = _shown[one.shown];
        if (now_.phase == IDisputeGame.Phase.Demand) return _answer(one, now_, shown);
        if (now_.phase == IDisputeGame.Phase.Trace) post(one.gameId, shown, _body().root());
        else if (now_.phase == IDisputeGame.Phase.Side) choose(one.gameId, shown, IDisputeGame.Side.Body);
        else if (now_.phase == IDisputeGame.Phase.Leaf) show(one.gameId, shown, _leaf());
        else if (now_.phase == IDisputeGame.Phase.Proof) return _prove(seed, place, shown);
        else if (now_.phase != IDisputeGame.Phase.Answered) round(one.gameId, shown, _body(), _slot());
        ++done["move"];
    }

    function timeout(uint256 seed) external {
        (bool can, uint256 place) = _running(seed);
        if (!can) return;
        GameGhost storage one = _games[place];
        IDisputeGame.Game memory now_ = game.gameOf(one.gameId);
        if (vm.getBlockTimestamp() <= now_.deadline) return;
        IDisputeGame.Phase phase = now_.phase;
        uint256 left = stakes.slashable(worker);
        game.timeout(one.gameId, _shown[one.shown].paper.receipt);
        if (phase == IDisputeGame.Phase.Answered) {
            one.isOver = true;
            ++done["close a demand"];
            return;
        }
        bool wins =
            phase != IDisputeGame.Phase.Side && phase != IDisputeGame.Phase.Pick && phase != IDisputeGame.Phase.Proof;
        _over(one);
        if (wins) {
            _win(one, now_.challenger, left);
            ++done["won by silence"];
        } else {
            burned += one.bond - one.bond / 2;
            ++done["lost"];
        }
    }

    function statement(uint256 seed) external {
        if (_shown.length == 0 || seed % 8 != 0) return;
        IDisputeGame.Paper memory paper = _shown[(seed >> 8) % _shown.length].paper;
        if (isProven[paper.receipt.requestId]) return;
        paper.receipt.fee += 1;
        paper = paperOf(paper.request, paper.receipt);
        _expectFault(paper.receipt.requestId, friend, stakes.slashable(worker));
        vm.prank(friend);
        game.proveShape(paper);
        ++done["statement"];
    }

    function refund(uint256 seed) external {
        if (_shown.length == 0) return;
        uint256 number = seed % _shown.length;
        Shown memory shown = _shown[number];
        uint64 index = shown.draw.part.claimIndex;
        if (!isProven[shown.paper.receipt.requestId] || _refunded[number] || !_isPending(index)) return;
        uint256 before = token.balanceOf(payer);
        uint256 amount = game.refund(shown.paper.receipt, payer, session, shown.draw.part);
        vm.assertLe(amount, shown.paper.receipt.fee, "refund");
        vm.assertEq(token.balanceOf(payer) - before, amount, "refund");
        refunded += amount;
        _refunded[number] = true;
        ++done["refund"];
    }

    function collect(uint256 seed) external {
        if (_shown.length == 0) return;
        bytes32 requestId = _shown[(seed >> 1) % _shown.length].paper.receipt.requestId;
        address who = seed % 2 == 0 ? challenger : friend;
        uint256 mine = shares[requestId][who];
        if (mine == 0 || vm.getBlockTimestamp() < game.faultOf(worker, requestId).collectableAt) return;
        uint256 expected = (potOf[requestId] * mine) / sharesInAll[requestId];
        vm.assertEq(game.collect(worker, requestId, who), expected, "collected");
        potOf[requestId] -= expected;
        pots -= expected;
        sharesInAll[requestId] -= mine;
        shares[requestId][who] = 0;
        if (who == friend) _owe(expected);
        ++done["collect"];
    }

    function refuse(bool silently) external {
        RefusingToken refusing = RefusingToken(address(token));
        if (refusing.refused(friend)) refusing.accept(friend);
        else refusing.refuse(friend, silently);
        ++done["refuse"];
    }

    function payOwed() external {
        if (owedToFriend == 0 || RefusingToken(address(token)).refused(friend)) return;
        game.payOwed(friend);
        owedToFriend = 0;
        ++done["payOwed"];
    }

    function unbond(uint256 seed) external {
        if (seed % 4 != 0) return;
        vm.startPrank(worker);
        if (stakes.participantOf(worker).stake != 0) {
            stakes.requestUnbond(stakes.participantOf(worker).stake);
            ++done["unbond"];
        } else if (vm.getBlockTimestamp() >= stakes.withdrawableAt(worker)) {
            uint256 amount = stakes.withdrawStake(worker);
            if (!stakes.participantOf(worker).jailed) stakes.stake(amount);
            ++done["withdraw stake"];
        }
        vm.stopPrank();
    }

    // views for the invariants

    function shownCount() external view returns (uint256) {
        return _shown.length;
    }

    function claimIndexOf(uint256 number) external view returns (uint64) {
        return _shown[number].draw.part.claimIndex;
    }

    function digestAt(uint256 number) external view returns (bytes32) {
        return _shown[number].digest;
    }

    function requestAt(uint256 number) external view returns (bytes32) {
        return _shown[number].paper.receipt.requestId;
    }

    function games() external view returns (GameGhost[] memory) {
        return _games;
    }

    function parties()
        external
        view
        returns (IDisputeGame game_, address worker_, address challenger_, address friend_, address pool_)
    {
        return (game, worker, challenger, friend, pool);
    }

    function isPending(uint64 index) external view returns (bool) {
        return _isPending(index);
    }

    // inside

    function _drawn(uint256 seed) private view returns (bool can, uint256 number) {
        if (_shown.length == 0 || openGames >= MOST_GAMES) return (false, 0);
        // Mostly a late one: others are too old.
        number = _shown.length - 1 - ((seed >> 8) % (_shown.length < 4 ? _shown.length : 4));
        Shown storage shown = _shown[number];
        if (isProven[shown.paper.receipt.requestId] || !_isPending(shown.draw.part.claimIndex)) return (false, 0);
        uint256 until = channels.claimOf(worker, shown.draw.part.claimIndex).claimedAt + WINDOW;
        return (vm.getBlockTimestamp() < until, number);
    }

    function _running(uint256 seed) private view returns (bool, uint256) {
        if (_games.length == 0) return (false, 0);
        uint256 first = seed % _games.length;
        for (uint256 i; i < _games.length; ++i) {
            uint256 place = (first + i) % _games.length;
            if (!_games[place].isOver) return (true, place);
        }
        return (false, 0);
    }

    function _begin(uint256 gameId, uint256 number, uint256 bond, bool isDemand) private {
        _games.push(GameGhost(gameId, number, bond, isDemand, false));
        bonds += bond;
        ++openGames;
    }

    function _answer(GameGhost storage one, IDisputeGame.Game memory now_, Shown memory shown) private {
        bytes memory tokens;
        for (uint32 i; i < 3 + GENERATED; ++i) tokens = bytes.concat(tokens, tokenBytes(100 + i));
        vm.prank(hot);
        game.answerDemand(one.gameId, shown.paper.receipt, tokens, new bytes32[](0));
        bonds -= one.bond;
        fees -= DEMAND_FEE;
        --openGames;
        if (now_.challenger == friend) _owe(one.bond);
        ++done["answer"];
    }

    function _prove(uint256 seed, uint256 place, Shown memory shown) private {
        if (seed % 2 == 0) return; // nothing is wrong: time will tell
        GameGhost storage one = _games[place];
        IStepVerifier.Step memory step = IStepVerifier.Step(uint32(SEGMENT), uint32(TENSOR), uint32(ROW), 1, 0);
        steps.expect(caseOf(shown, _body().root()), step, _leaf(), true);
        address who = game.gameOf(one.gameId).challenger;
        uint256 left = stakes.slashable(worker);
        vm.prank(who);
        game.proveStep(one.gameId, shown.paper, _leaf(), 0, new IStepVerifier.Opening[](1));
        _over(one);
        _win(one, who, left);
        ++done["won by proof"];
    }

    function _over(GameGhost storage one) private {
        one.isOver = true;
        bonds -= one.bond;
        --openGames;
        if (one.isDemand) fees -= DEMAND_FEE;
    }

    function _win(GameGhost storage one, address who, uint256 left) private {
        _expectFault(_shown[one.shown].paper.receipt.requestId, who, left);
        if (who == friend) _owe(one.bond + (one.isDemand ? DEMAND_FEE : 0));
    }

    /// @param left what could be slashed before
    function _expectFault(bytes32 requestId, address who, uint256 left) private {
        ++shares[requestId][who];
        ++sharesInAll[requestId];
        if (isProven[requestId]) return;
        isProven[requestId] = true;
        ++faults;
        uint256 amount = left / 5 > FIRST_SLASH ? left / 5 : FIRST_SLASH;
        if (faults > 1 || amount > left) amount = left;
        slashed += amount;
        uint256 pot = (amount * 4) / 10;
        uint256 toPool = amount / 10;
        potOf[requestId] = pot;
        pots += pot;
        pooled += toPool;
        burned += amount - pot - toPool;
    }

    function _owe(uint256 amount) private {
        if (RefusingToken(address(token)).refused(friend)) owedToFriend += amount;
    }

    function _pendingClaims() private view returns (uint256 count) {
        for (uint256 i = _shown.length; i > 0 && count < MOST_CLAIMS; --i) {
            if (_isPending(_shown[i - 1].draw.part.claimIndex)) ++count;
        }
    }

    function _isPending(uint64 index) private view returns (bool) {
        try channels.releasableAt(worker, index) returns (uint256) {
            return true;
        } catch {
            return false;
        }
    }

    function _slot() private pure returns (uint256) {
        return slotOf(SEGMENT, TENSOR, ROW);
    }

    function _leaf() private pure returns (bytes memory leaf) {
        leaf = new bytes(176);
        leaf[0] = 0x01;
    }

    function _body() private pure returns (bytes32[][] memory) {
        bytes32[] memory leaves = new bytes32[](2);
        (leaves[0], leaves[1]) = (MerkleTree.shaLeaf(new bytes(1_024)), MerkleTree.shaLeaf(_leaf()));
        return bodyOf(1, _slot(), Trees.sha(leaves).root());
    }

    function _copy(Shown storage to, Shown memory from) private {
        to.digest = from.digest;
        to.paper.signature = from.paper.signature;
        to.paper.receipt = from.paper.receipt;
        SignedObjects.Request storage request = to.paper.request;
        SignedObjects.Request memory source = from.paper.request;
        (request.payer, request.nonce, request.expiry) = (source.payer, source.nonce, source.expiry);
        (request.modelId, request.promptRoot) = (source.modelId, source.promptRoot);
        (request.promptCount, request.maxTokens) = (source.promptCount, source.maxTokens);
        (request.seed, request.sampling, request.stopIds) = (source.seed, source.sampling, source.stopIds);
        for (uint256 i; i < source.path.length; ++i) request.path.push(source.path[i]);
        IDisputeGame.Part memory part = from.draw.part;
        to.draw.part.claimIndex = part.claimIndex;
        (to.draw.part.entries, to.draw.part.groups, to.draw.part.leaf) = (part.entries, part.groups, part.leaf);
    }
}
