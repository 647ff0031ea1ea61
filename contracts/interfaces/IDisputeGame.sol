// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";

import {SignedObjects} from "../libraries/SignedObjects.sol";
import {IBeacon} from "./IBeacon.sol";
import {IChannels} from "./IChannels.sol";
import {IModelRegistry} from "./IModelRegistry.sol";
import {IPaperJudge} from "./IPaperJudge.sol";
import {IStakeRegistry} from "./IStakeRegistry.sol";
import {IStatementJudge} from "./IStatementJudge.sol";
import {IStepVerifier} from "./IStepVerifier.sol";
import {ITraceJudge} from "./ITraceJudge.sol";

/// @title Fault proofs: the chain itself decides whether a worker's receipt is wrong
/// @notice A game leads a worker down the trace of one receipt (docs/trace.md) to one element that the chain recomputes.
/// The challenger picks the first child that differs from its own trace, so that all before it is equal in both.
///
///     open, postTrace (worker), chooseSide, then reveal (worker) and pick down to a leaf, revealLeaf (worker), prove*
///
/// Who misses a deadline loses. Games on one receipt are independent, and a lost one clears nothing. The worker's moves
/// come from its cold or its current hot key, the challenger's from who opened; `timeout`, `refund`, `collect` from anyone.
/// The unit of a fault is a worker's request: however many receipts and games show it, it is slashed once.
interface IDisputeGame {
    /// @notice Which of the three trees of the game root the worker is led down.
    enum Side {
        None,
        Input,
        Body,
        Output
    }

    /// @notice Whose turn it is, and for what.
    enum Phase {
        None,
        Trace, // worker: postTrace
        Side, // challenger: chooseSide
        Reveal, // worker: reveal
        Pick, // challenger: pick, or pickRow where the child is the root of a row of the body or of an inner shard's input
        Leaf, // worker: revealLeaf
        Proof, // challenger: proveStep, proveRow or proveToken
        Lost, // nobody: something lies where nothing is, so the worker has lost; timeout says so at once
        Demand, // worker: answerDemand
        Answered, // nobody: the receipt can still be opened until the deadline; timeout closes it then
        WorkerWon,
        ChallengerWon
    }

    /// @notice Against what a token that was led to is held.
    enum TokenFault {
        Vocabulary, // not below vocab, or no token at all
        TokenRoot, // not the one at its place under the receipt's token root
        Prompt, // not the one of the signed prompt; first shard
        Sample // not the one that the exit of the trace sampled; last shard
    }

    /// @notice A signed receipt and the request that it answers.
    struct Paper {
        SignedObjects.Request request;
        SignedObjects.Receipt receipt;
        bytes signature; // the worker's, by a key that is or was its hot key; only looked at where a paper is first shown
    }

    /// @notice A leaf of a channel's book: the amounts `(before, end]` are for the receipt with this digest.
    struct Leaf {
        bytes32 digest;
        uint128 before;
        uint128 end;
        uint64 index;
        bytes32[] proof;
    }

    /// @notice Where the money for a receipt lies: in one entry of one pending claim.
    struct Part {
        uint64 claimIndex;
        uint8 entry; // number of the entry in its claim
        bytes entries; // the group of up to eight entries that holds it, 76 bytes each; empty: no claim is shown
        bytes32[] groups; // hashes of all groups of the claim, that one's included
        Leaf leaf; // the receipt's
    }

    /// @notice Shows that a receipt may be disputed.
    struct Draw {
        Part part; // may be empty for a receipt that was force-drawn
        Leaf[] ends; // none, or two leaves that reach into the entry, first and last: those from one to the other count
        uint32 point; // which of the drawn points lies in the leaf; not looked at where every receipt is drawn
        uint256 demandId; // a demand of this receipt that keeps it open past the challenge window; 0: none
    }

    /// @notice Holds a token that was led to against another one.
    struct TokenProof {
        TokenFault fault;
        bytes32 other; // TokenRoot, Prompt: hash of the leaf that should be the same
        bytes32 salt; // Prompt
        bytes sample; // Sample: the 16 bytes of tensor 18
        bytes32[] siblings; // of `other`, from the bottom up; Sample: of the row, up to the body root
    }

    /// @notice What is known of a game. Names of fields that the events carry are the same there.
    struct Game {
        address worker;
        address challenger;
        bytes32 receiptDigest;
        Phase phase;
        Side side;
        uint40 deadline; // of whoever has to move
        uint256 bond;
        bool holds; // part of a claim is frozen for it: the next two say which
        uint64 claimIndex;
        uint8 entry;
        bytes32 bodyRoot;
        bytes32 node; // where the descent is: hash of a subtree, of a row, or of a leaf
        uint8 height; // levels below the node in its tree
        bool inRow; // its tree is that of one row
        uint256 path; // number of the node among those of its height; in a row: slot << 24 | that number
        uint32 chunk; // of a demand
    }

    /// @notice What was proven of a worker's request.
    struct Fault {
        uint40 provenAt; // 0: nothing
        uint40 collectableAt; // no game that can share in the pot is open any more
        uint32 winners; // shares not yet collected
        uint96 pot; // what those get together
    }

    /// @notice Constructor arguments. Token, channels and models are those of the stake registry.
    struct Parameters {
        IStakeRegistry stakeRegistry; // names this contract as its slasher
        IBeacon beacon;
        IPaperJudge paperJudge; // the judges have no state and no parameters
        IStatementJudge statementJudge;
        ITraceJudge traceJudge;
        address rewardPool; // zero: its share is burned
        uint40 moveDeadline; // seconds, 1 .. 1 day
        uint40 demandGrace; // seconds that a receipt can still be opened after its tokens were published, 1 .. 30 days
        uint40 forceGrace; // seconds after a request's expiry in which its receipts can be force-drawn, 1 .. 30 days
        uint40 margin; // seconds that the stake stays longer than the longest game; at least 12 moves
        uint96 firstSlash; // base units; what a first fault takes at least, if there is as much
        uint16 firstSlashBps; // of what can be slashed; what a first fault takes at least; 1 .. 10,000
        uint16 challengerShareBps; // of a slash
        uint16 poolShareBps; // of a slash; both shares together at most half, the rest is burned
        uint16 minimumRateBps; // receipts drawn by number, 1 .. 10,000; 10,000: all are
        uint96 baseBond; // base units; see bondFor
        uint96 forceFee; // base units; goes to the worker
        uint96 demandFee; // base units; goes to the worker for the answer
    }

    // games

    /// @param frozen what this game added to what is frozen of the claim; 0 where another game on the receipt holds it
    event Opened(
        uint256 indexed gameId,
        address indexed worker,
        address indexed challenger,
        bytes32 requestId,
        bytes32 receiptDigest,
        uint256 bond,
        bool holds,
        uint64 claimIndex,
        uint8 entry,
        uint256 frozen,
        uint40 deadline
    );
    event TracePosted(uint256 indexed gameId, bytes32 bodyRoot, uint40 deadline);
    /// @param phase Reveal; Leaf, Proof or Pick where the side is a single node
    event SideChosen(uint256 indexed gameId, Side side, bytes32 node, uint8 height, Phase phase, uint40 deadline);
    /// @notice Of the moves of a round, the time of the next deadline follows from that of the block.
    event Revealed(uint256 indexed gameId, bytes32[] children);
    /// @param digit number of the child among those revealed
    /// @param path, node, height where the descent is now, as in `Game`
    event Picked(
        uint256 indexed gameId,
        uint8 digit,
        bytes32 node,
        uint256 path,
        uint8 height,
        bool inRow,
        Phase phase
    );
    event LeafRevealed(uint256 indexed gameId, bytes leaf, uint40 deadline);
    /// @notice The end of a game or of a demand. Of the bond, and of the fee of a demand, so much went to each.
    /// @param unfrozen what this end took from what is frozen of the claim
    event Ended(
        uint256 indexed gameId,
        address indexed worker,
        address indexed challenger,
        Phase outcome,
        uint256 toChallenger,
        uint256 toWorker,
        uint256 burned,
        uint256 unfrozen
    );

    // before a game

    event ForceDrawn(
        address indexed worker,
        bytes32 indexed requestId,
        bytes32 indexed receiptDigest,
        address by,
        uint256 fee,
        uint40 openUntil
    );
    /// @param chunk number of the group of 1,024 tokens that the worker has to publish
    /// @param fee what the worker gets for the answer
    event Demanded(
        uint256 indexed gameId,
        address indexed worker,
        address indexed challenger,
        bytes32 requestId,
        bytes32 receiptDigest,
        uint32 chunk,
        uint256 bond,
        uint256 fee,
        bool holds,
        uint64 claimIndex,
        uint8 entry,
        uint256 frozen,
        uint40 deadline
    );
    /// @notice The bond went back to who demanded, the fee to the worker. The receipt can be opened until `openUntil`.
    /// @param tokens four bytes each, little-endian
    event Answered(uint256 indexed gameId, bytes tokens, uint256 bond, uint256 fee, uint40 openUntil);

    // faults

    /// @param number 1 for the worker's first fault
    event Proven(address indexed worker, bytes32 indexed requestId, uint32 number, uint40 collectableAt);
    /// @notice One more share in a fault's pot.
    /// @param gameId 0 for statements, which need no game
    event Won(address indexed worker, bytes32 indexed requestId, address indexed challenger, uint256 gameId);
    /// @notice What a fault took, and where it went: amount = pot + pool + burned.
    event Divided(
        address indexed worker,
        bytes32 indexed requestId,
        uint256 amount,
        uint256 pot,
        uint256 pool,
        uint256 burned
    );
    event Collected(address indexed worker, bytes32 indexed requestId, address indexed challenger, uint256 amount);
    /// @param unfrozen what was frozen of the claim for this receipt until then
    event Refunded(
        address indexed worker,
        bytes32 indexed requestId,
        address indexed payer,
        bytes32 receiptDigest,
        uint64 claimIndex,
        uint8 entry,
        uint256 amount,
        uint256 unfrozen
    );
    /// @notice The token refused to send this to `account`, for which it waits.
    event Owed(address indexed account, uint256 amount);
    event OwedPaid(address indexed account, uint256 amount);

    error ParameterOutOfRange(string field, uint256 value);
    error TokenMismatch(uint256 expected, uint256 received);
    /// @notice The game has ended and its place was given to another, or it never was.
    error NoSuchGame(uint256 gameId);
    error WrongPhase(Phase phase);
    error TooLate(uint256 deadline);
    error TooEarly(uint256 until);
    error NotTheWorker(address caller);
    error NotTheChallenger(address caller);
    error TooManyGames(address worker);

    /// @notice The request is not the one that the receipt names.
    error OtherRequest(bytes32 requestId);
    /// @notice The receipt is not the one of the game.
    error OtherReceipt(bytes32 digest);
    /// @notice The counts are not what the request allows: see `proveShape`.
    error MalformedReceipt();
    /// @notice Not by a key that is or was the worker's hot key.
    error NotSignedByWorker(address signer);
    /// @notice Nothing is proven of this request of the worker.
    error NotProven(address worker, bytes32 requestId);
    /// @notice Something is proven of this request of the worker already.
    error AlreadyProven(address worker, bytes32 requestId);

    /// @notice The entries are not those of the claim, or that one is not among them.
    error NotInClaim(uint64 claimIndex, uint8 entry);
    /// @notice The leaf is not under the entry's root, or does not reach into what was claimed, or is another receipt's.
    error NotInEntry(bytes32 digest);
    /// @notice There is no such point, or it does not lie in the leaf, or the seed of the claim's draws is not ready.
    error NotDrawn(uint256 point);
    /// @notice The receipt was neither claimed nor force-drawn.
    error NotForced(bytes32 digest);
    error AlreadyForced(bytes32 digest);
    error NotTheDemand(uint256 gameId);

    error WrongCount(uint256 count, uint256 expected);
    /// @notice Data and siblings do not lead to the node.
    error WrongHash(bytes32 hash, bytes32 expected);
    error WrongLength(uint256 length, uint256 expected);
    /// @notice There is nothing at this place, and what was committed says so.
    error NothingThere();
    /// @notice The pick leads to the root of a row: it has to be made with `pickRow`.
    error RowReached();
    error RowNotReached();
    /// @notice The proof does not show a fault.
    error NothingWrong();
    /// @notice Such a proof does not go with the side or the shard of the game.
    error WrongProof();
    error NothingToCollect();

    // before a game

    /// @notice Pays the worker a fee so that a receipt can be disputed whether it is claimed, and drawn, or not: for one
    /// challenge window from now on.
    function forceDraw(Paper calldata paper) external;
    /// @notice Demands that the worker publishes token ids of a drawn or force-drawn receipt. Costs a bond, which comes
    /// back with the answer, and the fee for the answer; both come back when there is none, which is a fault.
    /// @param chunk tokens `[1024 * chunk, 1024 * (chunk + 1))` of prompt and answer, as many as there are
    function demand(Paper calldata paper, Draw calldata draw, uint32 chunk) external returns (uint256 gameId);
    /// @param tokens four bytes each, little-endian
    /// @param siblings of their subtree, up to the receipt's token root
    function answerDemand(
        uint256 gameId,
        SignedObjects.Receipt calldata receipt,
        bytes calldata tokens,
        bytes32[] calldata siblings
    ) external;

    // a game

    function open(Paper calldata paper, Draw calldata draw) external returns (uint256 gameId);
    /// @param receiptDigest of the game: after a reorganisation, its id may be that of another
    function postTrace(uint256 gameId, bytes32 receiptDigest, bytes32 bodyRoot) external;
    /// @notice A side with a single node goes on where a pick would: with Leaf or Proof, or with Pick, when `pickRow` is
    /// next, with digit 0, that very node and no siblings.
    function chooseSide(uint256 gameId, Side side, Paper calldata paper) external;
    /// @param children all nodes four levels below the node, or `height` levels where that is less
    function reveal(uint256 gameId, bytes32[] calldata children) external;
    /// @notice Picks a child by its way up to the node. Where no row or leaf is, the child has to differ from a tree of
    /// zero words: then the worker has lost.
    function pick(uint256 gameId, uint8 digit, bytes32 child, bytes32[] calldata siblings) external;
    /// @notice A pick of the root of a row, from which the descent goes on in the row.
    function pickRow(
        uint256 gameId,
        uint8 digit,
        bytes32 child,
        bytes32[] calldata siblings,
        Paper calldata paper
    ) external;
    /// @param leaf of the length that every leaf there has
    function revealLeaf(uint256 gameId, Paper calldata paper, bytes calldata leaf) external;
    /// @notice Body: one element of the revealed leaf is not what its operands give.
    function proveStep(
        uint256 gameId,
        Paper calldata paper,
        bytes calldata leaf,
        uint32 element,
        IStepVerifier.Opening[] calldata operands
    ) external;
    /// @notice Output of an inner shard: the row is not that of the last layer's tensor 27.
    /// @param row root of that tensor's row at the position led to
    /// @param siblings up to the body root
    function proveRow(uint256 gameId, Paper calldata paper, bytes32 row, bytes32[] calldata siblings) external;
    /// @notice Input of a first shard, output of a last one: the token is not what it has to be.
    function proveToken(uint256 gameId, Paper calldata paper, bytes calldata leaf, TokenProof calldata proof) external;
    /// @notice Ends what nobody can move in any more.
    function timeout(uint256 gameId, SignedObjects.Receipt calldata receipt) external;

    // faults without a game: what was signed contradicts itself (IStatementJudge says how)

    function proveShape(Paper calldata paper) external;
    function proveLink(Paper calldata paper, SignedObjects.Receipt calldata upstream) external;
    function proveEquivocation(
        Paper calldata paper,
        SignedObjects.Receipt calldata other,
        bytes calldata signature
    ) external;
    function proveTokens(Paper calldata paper, IStatementJudge.TokenEvidence calldata evidence) external;

    // after a fault

    /// @notice Sends what is pending for a receipt of a request with a proven fault back to who paid it, once.
    /// @param payer, sessionKey of the channel
    function refund(
        SignedObjects.Receipt calldata receipt,
        address payer,
        address sessionKey,
        Part calldata part
    ) external returns (uint256 amount);
    /// @notice Pays all shares of `challenger` in the pot of a fault.
    function collect(address worker, bytes32 requestId, address challenger) external returns (uint256 amount);
    /// @notice Sends again what the token refused to send to `account`.
    function payOwed(address account) external;

    // views

    /// @notice Also of a game that has ended, until its place is taken by another; then it reverts with NoSuchGame.
    function gameOf(uint256 gameId) external view returns (Game memory);
    /// @notice `baseBond` for a game or demand against a worker with none open, and as much more for each that is.
    function bondFor(address worker) external view returns (uint256);
    function faultOf(address worker, bytes32 requestId) external view returns (Fault memory);
    /// @return open games and demands against the worker
    /// @return faults of the worker
    function recordOf(address worker) external view returns (uint32 open, uint32 faults);
    /// @notice Shares of `challenger` in a fault's pot, not yet collected.
    function sharesOf(address worker, bytes32 requestId, address challenger) external view returns (uint32);
    /// @notice What is frozen of a claim for one receipt.
    /// @return holders games that hold it
    function partOf(
        address worker,
        uint64 claimIndex,
        uint8 entry,
        bytes32 receiptDigest
    ) external view returns (uint32 holders, uint96 frozen, bool refunded);
    /// @notice Time until which a force-drawn receipt can be opened; 0 if it is not.
    function forcedUntil(bytes32 receiptDigest) external view returns (uint40);
    function owed(address account) external view returns (uint256);
    /// @notice Seconds that a game can take at most.
    function longestGame() external view returns (uint256);

    // parameters

    function token() external view returns (IERC20);
    function stakeRegistry() external view returns (IStakeRegistry);
    function channels() external view returns (IChannels);
    function modelRegistry() external view returns (IModelRegistry);
    function beacon() external view returns (IBeacon);
    function paperJudge() external view returns (IPaperJudge);
    function statementJudge() external view returns (IStatementJudge);
    function traceJudge() external view returns (ITraceJudge);
    function rewardPool() external view returns (address);
    function moveDeadline() external view returns (uint40);
    function demandGrace() external view returns (uint40);
    function forceGrace() external view returns (uint40);
    function margin() external view returns (uint40);
    function firstSlash() external view returns (uint96);
    function firstSlashBps() external view returns (uint16);
    function challengerShareBps() external view returns (uint16);
    function poolShareBps() external view returns (uint16);
    function minimumRateBps() external view returns (uint16);
    function baseBond() external view returns (uint96);
    function forceFee() external view returns (uint96);
    function demandFee() external view returns (uint96);
}
