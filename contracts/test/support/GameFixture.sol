// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {MessageHashUtils} from "@openzeppelin/contracts/utils/cryptography/MessageHashUtils.sol";

import {Beacon} from "../../Beacon.sol";
import {Channels} from "../../Channels.sol";
import {DisputeGame} from "../../DisputeGame.sol";
import {IChannels} from "../../interfaces/IChannels.sol";
import {IDisputeGame} from "../../interfaces/IDisputeGame.sol";
import {IModelRegistry} from "../../interfaces/IModelRegistry.sol";
import {IStakeRegistry} from "../../interfaces/IStakeRegistry.sol";
import {MerkleTree} from "../../libraries/MerkleTree.sol";
import {SignedObjects} from "../../libraries/SignedObjects.sol";
import {ModelRegistry} from "../../ModelRegistry.sol";
import {PaperJudge} from "../../PaperJudge.sol";
import {StakeRegistry} from "../../StakeRegistry.sol";
import {StatementJudge} from "../../StatementJudge.sol";
import {TraceJudge} from "../../TraceJudge.sol";
import {Desk} from "./Desk.sol";
import {Fixture} from "./Fixture.sol";
import {MockStepVerifier} from "./MockStepVerifier.sol";
import {Trees} from "./Trees.sol";

/// @title A deployment with a game, and receipts of a worker at any place of a path of three
abstract contract GameFixture is Fixture {
    using Trees for bytes32[][];

    uint40 internal constant MOVE = 4 hours;
    uint40 internal constant DEMAND_GRACE = 1 days;
    uint40 internal constant FORCE_GRACE = 1 days;
    uint96 internal constant FIRST_SLASH = 100e18;
    uint96 internal constant BOND = 10e18;
    uint96 internal constant FORCE_FEE = 1e18;
    uint96 internal constant DEMAND_FEE = 2e18;
    uint128 internal constant PROMPT_PRICE = 1e15;
    uint128 internal constant TOKEN_PRICE = 3e15;
    address internal constant BURNED = 0x000000000000000000000000000000000000dEaD;
    bytes32 internal constant SALT = keccak256("salt");

    address internal immutable pool = makeAddr("pool");
    address internal immutable friend = makeAddr("friend");
    address internal immutable challenger = makeAddr("challenger");
    uint256 internal immutable hotSecret = uint256(keccak256("hot"));
    Desk internal immutable desk = new Desk();
    Beacon internal beacon;
    DisputeGame internal game;
    MockStepVerifier internal steps;
    bytes32 internal modelId;
    uint16 internal rateBps = 10_000;

    /// @notice One receipt of a claim, with everything to show it by.
    struct Shown {
        IDisputeGame.Paper paper;
        IDisputeGame.Draw draw;
        bytes32 digest;
    }

    function setUp() public virtual override {
        super.setUp();
        setUpGame();
    }

    /// @notice A new deployment with another token, or with other parameters.
    function setUpAgain(IERC20 token_) internal {
        deploy(token_);
        enter(worker, hot, STAKE);
        endow(payer, 1_000_000e18);
        endow(otherPayer, 1_000_000e18);
        setUpGame();
    }

    function setUpGame() private {
        address[2] memory challengers = [challenger, friend];
        for (uint256 i; i < 2; ++i) {
            token.transfer(challengers[i], 1_000_000e18);
            vm.prank(challengers[i]);
            token.approve(address(game), type(uint256).max);
        }
        fund(payer, worker, session, DEPOSIT);
    }

    function deploy(IERC20 token_) internal virtual override {
        token = token_;
        models = new ModelRegistry();
        steps = new MockStepVerifier();
        beacon = new Beacon(1, 1);
        IDisputeGame.Parameters memory parameters = gameParameters();
        uint64 nonce = vm.getNonce(address(this));
        IStakeRegistry.Parameters memory stakes_ = stakeParameters(vm.computeCreateAddress(address(this), nonce + 1));
        stakes_.slasher = vm.computeCreateAddress(address(this), nonce + 2);
        stakes = new StakeRegistry(stakes_);
        channels = new Channels(channelParameters());
        parameters.stakeRegistry = stakes;
        game = new DisputeGame(parameters);
        vm.assertEq(address(game), stakes.slasher());
        modelId = models.register(gameModel(), "small");
    }

    function gameParameters() internal returns (IDisputeGame.Parameters memory) {
        return
            IDisputeGame.Parameters({
                stakeRegistry: stakes,
                beacon: beacon,
                paperJudge: new PaperJudge(),
                statementJudge: new StatementJudge(),
                traceJudge: new TraceJudge(),
                rewardPool: pool,
                moveDeadline: MOVE,
                demandGrace: DEMAND_GRACE,
                forceGrace: FORCE_GRACE,
                margin: 48 hours,
                firstSlash: FIRST_SLASH,
                firstSlashBps: 2_000,
                challengerShareBps: 4_000,
                poolShareBps: 1_000,
                minimumRateBps: rateBps,
                baseBond: BOND,
                forceFee: FORCE_FEE,
                demandFee: DEMAND_FEE
            });
    }

    /// @dev Rows of 300 residuals have two leaves.
    function gameModel() internal view returns (IModelRegistry.ModelSpec memory model) {
        model = exampleModel();
        (model.hidden, model.intermediate, model.layers, model.vocab) = (300, 10, 6, 1_000);
        (model.heads, model.kvHeads, model.headDim, model.context) = (2, 1, 2, 64);
        model.stepVerifier = address(steps);
    }

    /// @notice A request of the payer whose path has the worker at `shard` of three.
    function requestOf(uint64 nonce, uint32 shard) internal view returns (SignedObjects.Request memory request) {
        request.payer = payer;
        request.nonce = nonce;
        request.expiry = START + 1 hours;
        request.modelId = modelId;
        request.path = new SignedObjects.Hop[](3);
        for (uint32 i; i < 3; ++i) {
            address who = i == shard ? worker : address(uint160(0xa000 + i));
            request.path[i] = SignedObjects.Hop(who, 2 * i, 2 * i + 2, PROMPT_PRICE, TOKEN_PRICE);
        }
        request.promptCount = 3;
        request.promptRoot = promptRootOf(tokensOf(3, 0));
        request.maxTokens = 20;
        request.stopIds = new uint32[](1);
        request.stopIds[0] = 7;
        request.seed = keccak256("seed");
        request.sampling = SignedObjects.Sampling(0, 0, 65_536);
    }

    /// @notice The honest receipt for `generated` tokens; rows have made-up roots.
    function receiptOf(
        SignedObjects.Request memory request,
        uint32 shard,
        uint32 generated
    ) internal view returns (SignedObjects.Receipt memory receipt) {
        receipt.requestId = digestOf(desk.hashOfRequest(request));
        receipt.shard = shard;
        receipt.worker = request.path[shard].worker;
        receipt.payer = request.payer;
        receipt.promptCount = request.promptCount;
        receipt.generated = generated;
        receipt.positions = generated == 0 ? 2 : request.promptCount + generated - 1;
        uint32[] memory tokens = tokensOf(request.promptCount, generated);
        receipt.tokenRoot = treeOf(tokens, 0, tokens.length).root();
        receipt.inputRoot =
            shard == 0 ? treeOf(tokens, 0, receipt.positions).root() : rowsOf("in", receipt.positions).root();
        receipt.outputRoot =
            shard == 2
                ? treeOf(tokens, request.promptCount, tokens.length).root()
                : rowsOf("out", receipt.positions).root();
        receipt.upstream = shard == 0 ? bytes32(0) : keccak256("upstream");
        uint128 fed = receipt.positions < receipt.promptCount ? receipt.positions : receipt.promptCount;
        receipt.fee = fed * PROMPT_PRICE + generated * TOKEN_PRICE;
    }

    function paperOf(
        SignedObjects.Request memory request,
        SignedObjects.Receipt memory receipt
    ) internal view returns (IDisputeGame.Paper memory) {
        return IDisputeGame.Paper(request, receipt, signReceipt(receipt, hotSecret));
    }

    function signReceipt(SignedObjects.Receipt memory receipt, uint256 secret) internal view returns (bytes memory) {
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(secret, digestOf(desk.hashOfReceipt(receipt)));
        return abi.encodePacked(r, s, v);
    }

    function digestOf(bytes32 hash) internal view returns (bytes32) {
        return MessageHashUtils.toTypedDataHash(channels.domainSeparator(), hash);
    }

    /// @notice Claims receipts with one voucher of the default channel, end to end behind what was claimed before.
    function claimed(IDisputeGame.Paper[] memory papers) internal returns (Shown[] memory shown) {
        uint256 from = channels.channelOf(payer, worker, session).claimed;
        uint256 count = papers.length;
        shown = new Shown[](count);
        IDisputeGame.Leaf[] memory leaves = new IDisputeGame.Leaf[](count);
        bytes32[] memory hashes = new bytes32[](count);
        uint256 end = from;
        for (uint256 i; i < count; ++i) {
            leaves[i].digest = digestOf(desk.hashOfReceipt(papers[i].receipt));
            (leaves[i].before, leaves[i].end) = (uint128(end), uint128(end + papers[i].receipt.fee));
            leaves[i].index = uint64(i);
            end = leaves[i].end;
            hashes[i] = keccak256(abi.encodePacked(hex"00", leaves[i].digest, leaves[i].before, leaves[i].end));
        }
        bytes32[][] memory tree = Trees.keccak(hashes);
        bytes memory packed = pack(sign(sessionSecret, payer, worker, 0, uint96(end), uint64(count), tree.root()));
        vm.prank(worker);
        (uint64 index, ) = channels.claim(worker, packed);
        bytes32 channel = keccak256(abi.encode(payer, worker, session));
        bytes memory entry = abi.encodePacked(bytes20(channel), uint96(from), uint96(end), tree.root());
        for (uint256 i; i < count; ++i) {
            leaves[i].proof = tree.proof(i);
            shown[i].paper = papers[i];
            shown[i].digest = leaves[i].digest;
            shown[i].draw.part.claimIndex = index;
            shown[i].draw.part.entries = entry;
            shown[i].draw.part.groups = new bytes32[](1);
            shown[i].draw.part.groups[0] = keccak256(abi.encodePacked(hex"00", entry));
            shown[i].draw.part.leaf = leaves[i];
        }
    }

    function claimPaper(IDisputeGame.Paper memory paper) internal returns (Shown memory) {
        IDisputeGame.Paper[] memory papers = new IDisputeGame.Paper[](1);
        papers[0] = paper;
        return claimed(papers)[0];
    }

    /// @notice The usual receipt at `shard`, claimed alone.
    function claimOne(uint64 nonce, uint32 shard, uint32 generated) internal returns (Shown memory) {
        SignedObjects.Request memory request = requestOf(nonce, shard);
        return claimPaper(paperOf(request, receiptOf(request, shard, generated)));
    }

    function openAs(address who, Shown memory shown) internal returns (uint256 gameId) {
        vm.prank(who);
        return game.open(shown.paper, shown.draw);
    }

    // trees

    function tokensOf(uint256 prompt, uint256 generated) internal pure returns (uint32[] memory tokens) {
        tokens = new uint32[](prompt + generated);
        for (uint256 i; i < tokens.length; ++i) tokens[i] = uint32(100 + i);
    }

    function promptRootOf(uint32[] memory tokens) internal pure returns (bytes32) {
        return sha256(abi.encodePacked(hex"03", SALT, treeOf(tokens, 0, tokens.length).root()));
    }

    function treeOf(uint32[] memory tokens, uint256 from, uint256 to) internal pure returns (bytes32[][] memory) {
        bytes32[] memory leaves = new bytes32[](to - from);
        for (uint256 i; i < leaves.length; ++i) leaves[i] = MerkleTree.shaLeaf(tokenBytes(tokens[from + i]));
        return Trees.sha(leaves);
    }

    function tokenBytes(uint32 one) internal pure returns (bytes memory) {
        bytes4 big = bytes4(one);
        return abi.encodePacked(big[3], big[2], big[1], big[0]);
    }

    function rowsOf(string memory name, uint256 count) internal pure returns (bytes32[][] memory) {
        bytes32[] memory leaves = new bytes32[](count);
        for (uint256 i; i < count; ++i) leaves[i] = rowOf(name, i).root();
        return Trees.sha(leaves);
    }

    /// @notice A residual row of two leaves.
    function rowOf(string memory name, uint256 position) internal pure returns (bytes32[][] memory) {
        bytes32[] memory leaves = new bytes32[](2);
        for (uint256 i; i < 2; ++i) leaves[i] = MerkleTree.shaLeaf(leafOf(name, position, i));
        return Trees.sha(leaves);
    }

    function leafOf(string memory name, uint256 position, uint256 number) internal pure returns (bytes memory leaf) {
        leaf = new bytes(number == 0 ? 1_024 : 176);
        bytes32 word = keccak256(abi.encode(name, position, number));
        for (uint256 i; i < 32; ++i) leaf[i] = word[i];
    }
}
