"""DisputeGame in Python, as far as players can tell: calls come in as they are encoded for the contract, events go out.

It has blocks that can be replaced, money that is conserved, and one rule more than the contract: a call is refused by
an exception, and then nothing has happened.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass, field, replace
from hashlib import sha256
from typing import Any

from efedllm.chain.abi import build, decode_values, interface
from efedllm.chain.answers import Block
from efedllm.chain.binding import Call
from efedllm.chain.dispute_game import BookLeaf, Fault, Part, TokenProof
from efedllm.chain.dispute_game import Draw as DrawProof
from efedllm.chain.errors import Reverted
from efedllm.chain.game_events import (
    Answered,
    Collected,
    Demanded,
    Divided,
    Ended,
    LeafRevealed,
    Opened,
    Picked,
    Proven,
    Refunded,
    Revealed,
    SideChosen,
    TracePosted,
    Won,
)
from efedllm.chain.origin import Event, Origin
from efedllm.chain.transactions import Receipt as Mined
from efedllm.protocol import eip712
from efedllm.protocol.descent import Descent, Pick, spot_of
from efedllm.protocol.drawing import DrawPolicy
from efedllm.protocol.errors import ProtocolError, ReceiptError, RequestError
from efedllm.protocol.game import OVER, TOKENS_PER_CHUNK, WORKER_MOVES, Game, Paper, Phase, Side, TokenFault
from efedllm.protocol.hash_tree import HashTree, Opening, root_above
from efedllm.protocol.merkle import depth_of, leaf_hash, node_hash, token_leaf
from efedllm.protocol.model_spec import ModelSpec
from efedllm.protocol.objects import Hop, Receipt, Request, Sampling
from efedllm.protocol.receipts import check_link, check_shape
from efedllm.protocol.requests import ModelLimits, check_request
from efedllm.protocol.statements import TokenEvidence, TokenStatement
from efedllm.protocol.trace import Step, zero_root
from efedllm.protocol.trace_case import Case, shape_of
from efedllm.protocol.trace_elements import unpack
from efedllm.protocol.trace_tensors import Exit, Kind, Layer
from tests.support.draw_judge import is_shown
from tests.support.step_judge import is_wrong
from verifier.findings import Claim

MOVE_SECONDS = 100
BOND = 1000
FEE = 30
SLASH = 10_000
WINDOW = 100_000
TIME = 1_900_000_000


def _refuse(unless: object, name: str) -> None:
    if not unless:
        raise Reverted(f"refused: {name}", name)


@dataclass
class State:
    """All that a block changes."""

    number: int = 1
    time: int = TIME
    games: dict[int, Game] = field(default_factory=dict)
    papers: dict[int, Paper] = field(default_factory=dict)
    leaves: dict[int, bytes] = field(default_factory=dict)
    balances: dict[str, int] = field(default_factory=dict)
    faults: dict[tuple[str, bytes], Fault] = field(default_factory=dict)
    shares: dict[tuple[str, bytes, str], int] = field(default_factory=dict)
    refunded: dict[bytes, int] = field(default_factory=dict)
    events: list[Event] = field(default_factory=list)
    salt: bytes = b""


class Arena:
    """`keys`: hot keys of each worker. `claims`: what is claimed, by worker and index; all of it is pending."""

    def __init__(self, domain: eip712.Domain, model: ModelSpec, limits: ModelLimits, policy: DrawPolicy) -> None:
        self.domain, self.model, self.limits, self.policy = domain, model, limits, policy
        self.keys: dict[str, frozenset[str]] = {}
        self.claims: dict[tuple[str, int], Claim] = {}
        self.payers: dict[bytes, str] = {}
        self.state = State()
        self._blocks: list[State] = []
        self.calls = 0

    # ── the chain ───────────────────────────────────────────────────────────

    def mine(self, seconds: int = 1) -> None:
        self._blocks.append(deepcopy(self.state))
        self.state.number += 1
        self.state.time += seconds

    def reorganise(self, depth: int) -> None:
        """The newest blocks are gone; others without transactions take their place."""
        newest = self.state.number
        self.state = self._blocks[-depth]
        del self._blocks[-depth:]
        self.state.salt = sha256(self.state.salt + b"fork").digest()
        while self.state.number <= newest:
            self.mine()

    def block_hash(self, number: int) -> bytes:
        salt = self.state.salt if number > len(self._blocks) else self._salt_at(number)
        return sha256(b"block" + number.to_bytes(8) + salt).digest()

    def _salt_at(self, number: int) -> bytes:
        return self._blocks[number - 1].salt if number >= 1 else b""

    def block(self) -> Block:
        number = self.state.number
        return Block(number, self.block_hash(number), self.block_hash(number - 1), self.state.time, 1)

    def send(self, sender: str, call: Call) -> Mined:
        """In a block of its own. Raises Reverted, and nothing has changed."""
        function = call.label.removeprefix("DisputeGame.")
        values = decode_values(interface("DisputeGame").functions[function].inputs, call.data[4:])
        self.mine()
        before = len(self.state.events)
        try:
            getattr(self, f"_{function}")(sender, *values)
        except (Reverted, ProtocolError) as error:
            self.state = self._blocks.pop()
            if isinstance(error, Reverted):
                raise
            raise Reverted(str(error)) from error
        self.calls += 1
        made = tuple(self.state.events[before:])
        return Mined(sha256(call.data).digest(), self.state.number, 21_000 + len(call.data), 0, None, made)

    def _tell(self, kind: type[Event], *values: Any) -> None:
        state = self.state
        origin = Origin(
            state.number, len(state.events), self.block_hash(state.number), sha256(repr(values).encode()).digest(), ""
        )
        state.events.append(kind(origin, *values))

    def _deadline(self) -> int:
        return self.state.time + MOVE_SECONDS

    # ── opening ─────────────────────────────────────────────────────────────

    def bond_for(self, worker: str) -> int:
        return BOND * (1 + sum(one.worker == worker and one.phase not in OVER for one in self.state.games.values()))

    def _paper(self, values: tuple[Any, ...]) -> Paper:
        request, receipt, signature = values
        request = list(request)
        request[5] = tuple(Hop(*hop) for hop in request[5])
        request[11] = Sampling(*request[11])
        return Paper(Request(*request), Receipt(*receipt), signature)

    def _shown(self, values: tuple[Any, ...]) -> Paper:
        paper = self._paper(values)
        _refuse(eip712.digest(self.domain, paper.request) == paper.receipt.requestId, "OtherRequest")
        signer = eip712.recover(self.domain, paper.receipt, paper.signature)
        _refuse(signer in self.keys[paper.receipt.worker], "NotSignedByWorker")
        return paper

    def _start(self, sender: str, paper: Paper, draw: DrawProof, phase: Phase, chunk: int, fee: int = 0) -> int:
        worker, digest = paper.receipt.worker, eip712.digest(self.domain, paper.receipt)
        key = worker, paper.receipt.requestId
        _refuse(key not in self.state.faults, "AlreadyProven")
        claim = self.claims[worker, draw.part.claim_index]
        _refuse(is_shown(self.policy, claim, digest, draw), "NotDrawn")
        _refuse(self.state.time <= TIME + WINDOW, "TooLate")
        bond = self.bond_for(worker)
        _refuse(self.state.balances.get(sender, 0) >= bond + fee, "ERC20InsufficientBalance")
        self.state.balances[sender] -= bond + fee
        game_id = int(worker, 16) << 96 | 1 << 16 | len(self.state.games)
        self.state.games[game_id] = Game(
            worker, sender, digest, phase, Side.NONE, self._deadline(), bond, True, draw.part.claim_index,
            draw.part.entry, bytes(32), bytes(32), 0, False, 0, chunk,
        )  # fmt: skip
        self.state.papers[game_id] = paper
        return game_id

    def _open(self, sender: str, paper: Any, draw: Any) -> None:
        shown, proof = self._shown(paper), build(DrawProof, self._draw(draw))
        game_id = self._start(sender, shown, proof, Phase.TRACE, 0)
        game = self.state.games[game_id]
        self._tell(
            Opened, game_id, game.worker, sender, shown.receipt.requestId, game.receipt_digest, game.bond, True,
            game.claim_index, game.entry, 0, game.deadline,
        )  # fmt: skip

    @staticmethod
    def _draw(values: Any) -> Any:
        part, ends, point, demand = values
        return part, tuple(build(BookLeaf, one) for one in ends), point, demand

    def _demand(self, sender: str, paper: Any, draw: Any, chunk: int) -> None:
        shown, proof = self._shown(paper), build(DrawProof, self._draw(draw))
        game_id = self._start(sender, shown, proof, Phase.DEMAND, chunk, FEE)
        game = self.state.games[game_id]
        self._tell(
            Demanded, game_id, game.worker, sender, shown.receipt.requestId, game.receipt_digest, chunk, game.bond, FEE,
            True, game.claim_index, game.entry, 0, game.deadline,
        )  # fmt: skip

    # ── moves ───────────────────────────────────────────────────────────────

    def _turn(self, game_id: int, phase: Phase, sender: str = "") -> Game:
        _refuse(game_id in self.state.games, "NoSuchGame")
        game = self.state.games[game_id]
        _refuse(game.phase is phase, "WrongPhase")
        _refuse(self.state.time <= game.deadline, "TooLate")
        _refuse(not sender or sender == game.challenger, "NotTheChallenger")
        return game

    def _set(self, game_id: int, game: Game, **values: Any) -> int:
        deadline = self._deadline()
        self.state.games[game_id] = replace(game, deadline=deadline, **values)
        return deadline

    def _descent(self, game_id: int) -> Descent:
        paper = self.state.papers[game_id]
        return Descent(shape_of(self.model, paper.request, paper.receipt))

    def _postTrace(self, sender: str, game_id: int, digest: bytes, body_root: bytes) -> None:
        game = self._turn(game_id, Phase.TRACE)
        _refuse(game.receipt_digest == digest, "OtherReceipt")
        self._tell(TracePosted, game_id, body_root, self._set(game_id, game, phase=Phase.SIDE, body_root=body_root))

    def _chooseSide(self, sender: str, game_id: int, side: int, paper: Any) -> None:
        game, descent = self._turn(game_id, Phase.SIDE, sender), self._descent(game_id)
        receipt = self.state.papers[game_id].receipt
        spot = descent.root(Side(side))
        node = {Side.INPUT: receipt.inputRoot, Side.BODY: game.body_root, Side.OUTPUT: receipt.outputRoot}[spot.side]
        phase = descent.phase(spot)
        deadline = self._set(game_id, game, phase=phase, side=spot.side, node=node, height=spot.height)
        self._tell(SideChosen, game_id, spot.side, node, spot.height, phase, deadline)

    def _reveal(self, sender: str, game_id: int, children: Sequence[bytes]) -> None:
        game = self._turn(game_id, Phase.REVEAL)
        _refuse(len(children) == 1 << min(4, game.height), "WrongCount")
        level = list(children)
        while len(level) > 1:
            level = [node_hash(level[at], level[at + 1]) for at in range(0, len(level), 2)]
        _refuse(level[0] == game.node, "WrongHash")
        self._tell(Revealed, game_id, tuple(children), self._set(game_id, game, phase=Phase.PICK))

    def _pick(self, sender: str, game_id: int, digit: int, child: bytes, siblings: Sequence[bytes]) -> None:
        self._picked(sender, game_id, Pick(digit, child, tuple(siblings), False, False))

    def _pickRow(self, sender: str, game_id: int, digit: int, child: bytes, siblings: Any, paper: Any) -> None:
        self._picked(sender, game_id, Pick(digit, child, tuple(siblings), True, False))

    def _picked(self, sender: str, game_id: int, pick: Pick) -> None:
        game, descent = self._turn(game_id, Phase.PICK, sender), self._descent(game_id)
        levels = min(4, game.height)
        _refuse(len(pick.siblings) == levels, "WrongCount")
        _refuse(root_above(pick.child, pick.digit, pick.siblings) == game.node, "WrongHash")
        picked = descent.child(spot_of(game), pick.digit)
        _refuse(descent.is_row_root(picked) == pick.is_row, "RowReached" if not pick.is_row else "RowNotReached")
        if descent.is_empty(picked):
            _refuse(pick.child != zero_root(picked.height), "NothingThere")
        spot = descent.after(spot_of(game), pick)
        values = {"node": pick.child, "path": spot.path, "height": spot.height, "in_row": spot.in_row}
        phase = descent.phase(spot)
        deadline = self._set(game_id, game, phase=phase, **values)
        self._tell(Picked, game_id, pick.digit, pick.child, spot.path, spot.height, spot.in_row, phase, deadline)

    def _revealLeaf(self, sender: str, game_id: int, paper: Any, leaf: bytes) -> None:
        game, descent = self._turn(game_id, Phase.LEAF), self._descent(game_id)
        _refuse(len(leaf) == descent.leaf_bytes(spot_of(game)), "WrongLength")
        _refuse(leaf_hash(leaf) == game.node, "WrongHash")
        self.state.leaves[game_id] = leaf
        self._tell(LeafRevealed, game_id, leaf, self._set(game_id, game, phase=Phase.PROOF))

    def _answerDemand(self, sender: str, game_id: int, receipt: Any, tokens: bytes, siblings: Any) -> None:
        game = self._turn(game_id, Phase.DEMAND)
        receipt = self.state.papers[game_id].receipt
        first = TOKENS_PER_CHUNK * game.chunk
        count = min(TOKENS_PER_CHUNK, receipt.promptCount + receipt.generated - first)
        _refuse(len(tokens) == 4 * count, "WrongLength")
        leaves = [leaf_hash(tokens[4 * at : 4 * at + 4]) for at in range(count)]
        height = depth_of(receipt.promptCount + receipt.generated) - len(siblings)
        root = HashTree(leaves, height).root
        _refuse(root_above(root, game.chunk, siblings) == receipt.tokenRoot, "WrongHash")
        self.state.balances[game.challenger] += game.bond
        deadline = self._set(game_id, game, phase=Phase.ANSWERED)
        self._tell(Answered, game_id, tokens, game.bond, FEE, deadline)

    # ── proofs ──────────────────────────────────────────────────────────────

    def _proveStep(self, sender: str, game_id: int, paper: Any, leaf: bytes, element: int, operands: Any) -> None:
        game, descent = self._turn(game_id, Phase.PROOF, sender), self._descent(game_id)
        _refuse(game.side is Side.BODY, "WrongProof")
        shown = self.state.papers[game_id]
        case = Case(descent.shape, shown.receipt.inputRoot, game.body_root, shown.request.seed, shown.request.sampling)
        step = Step(*descent.place(spot_of(game)), element)
        openings = [Opening(data, tuple(siblings)) for data, siblings in operands]
        _refuse(is_wrong(case, step, leaf, openings), "NothingWrong")
        self._end(game_id, Phase.CHALLENGER_WON)

    def _proveRow(self, sender: str, game_id: int, paper: Any, row: bytes, siblings: Any) -> None:
        game, descent = self._turn(game_id, Phase.PROOF, sender), self._descent(game_id)
        _refuse(game.side is Side.OUTPUT and not descent.is_last, "WrongProof")
        shape = descent.shape
        node = shape.row_node(shape.segments - shape.has_exit - 1, Layer.ADD_MLP, descent.word(spot_of(game)))
        _refuse(len(siblings) == node.depth, "WrongCount")
        _refuse(root_above(row, node.path, siblings) == game.body_root, "WrongHash")
        _refuse(row != game.node, "NothingWrong")
        self._end(game_id, Phase.CHALLENGER_WON)

    def _proveToken(self, sender: str, game_id: int, paper: Any, leaf: bytes, values: Any) -> None:
        game, descent = self._turn(game_id, Phase.PROOF, sender), self._descent(game_id)
        proof: TokenProof = build(TokenProof, values)
        is_output = game.side is Side.OUTPUT
        _refuse((is_output and descent.is_last) or (game.side is Side.INPUT and descent.is_first), "WrongProof")
        receipt = self.state.papers[game_id].receipt
        word = descent.word(spot_of(game))
        index = receipt.promptCount + word if is_output else word
        token = int.from_bytes(leaf, "little")
        match proof.fault:
            case TokenFault.VOCABULARY:
                _refuse(token >= self.model.vocab, "NothingWrong")
            case TokenFault.TOKEN_ROOT:
                depth = depth_of(receipt.promptCount + receipt.generated)
                _refuse(len(proof.siblings) == depth, "WrongCount")
                _refuse(root_above(proof.other, index, proof.siblings) == receipt.tokenRoot, "WrongHash")
                _refuse(proof.other != game.node, "NothingWrong")
            case TokenFault.SAMPLE:
                node = descent.shape.row_node(descent.shape.segments - 1, Exit.SAMPLE, index - 1)
                _refuse(is_output and len(proof.siblings) == node.depth, "WrongProof")
                above = root_above(leaf_hash(proof.sample), node.path, proof.siblings)
                _refuse(above == game.body_root, "WrongHash")
                _refuse(unpack(Kind.SAMPLE, proof.sample)[0][0] != token, "NothingWrong")
            case _:
                _refuse(False, "WrongProof")
        self._end(game_id, Phase.CHALLENGER_WON)

    def _timeout(self, sender: str, game_id: int, receipt: Any) -> None:
        _refuse(game_id in self.state.games, "NoSuchGame")
        game = self.state.games[game_id]
        _refuse(game.phase not in OVER, "WrongPhase")
        _refuse(game.phase is Phase.LOST or self.state.time > game.deadline, "TooEarly")
        if game.phase is Phase.ANSWERED:
            self.state.games[game_id] = replace(game, phase=Phase.WORKER_WON)
            self._tell(Ended, game_id, game.worker, game.challenger, Phase.WORKER_WON, 0, 0, 0, 0)
            return
        is_worker = game.phase in WORKER_MOVES or game.phase is Phase.LOST
        self._end(game_id, Phase.CHALLENGER_WON if is_worker else Phase.WORKER_WON)

    # ── statements ──────────────────────────────────────────────────────────

    def _proveShape(self, sender: str, paper: Any) -> None:
        shown = self._shown(paper)
        try:
            check_request(shown.request, self.limits, shown.request.expiry - 1)
            check_shape(shown.request, shown.receipt.requestId, shown.receipt)
        except (RequestError, ReceiptError):
            self._proven(sender, shown.receipt, 0)
        else:
            _refuse(False, "NothingWrong")

    def _proveLink(self, sender: str, paper: Any, upstream: Any) -> None:
        shown, named = self._shown(paper), Receipt(*upstream)
        digest = eip712.digest(self.domain, named)
        _refuse(digest == shown.receipt.upstream, "NotCommitted")
        try:
            check_link(named, digest, shown.receipt)
        except ReceiptError:
            self._proven(sender, shown.receipt, 0)
        else:
            _refuse(False, "NothingWrong")

    def _proveTokens(self, sender: str, paper: Any, values: Any) -> None:
        shown, evidence = self._shown(paper), build(TokenEvidence, values)
        receipt = shown.receipt
        count = receipt.promptCount + receipt.generated
        match evidence.statement:
            case TokenStatement.VOCABULARY:
                _refuse(evidence.token >= self.model.vocab, "NothingWrong")
                root, depth = receipt.tokenRoot, depth_of(count)
            case TokenStatement.STOP_ID:
                _refuse(evidence.index + 1 < receipt.generated, "NothingWrong")
                _refuse(evidence.token in shown.request.stopIds, "NothingWrong")
                root, depth = receipt.outputRoot, depth_of(receipt.generated)
            case _:
                raise Reverted("not played here")
        _refuse(len(evidence.siblings) == depth, "WrongCount")
        above = root_above(token_leaf(evidence.token), evidence.index, evidence.siblings)
        _refuse(above == root, "NotCommitted")
        self._proven(sender, receipt, 0)

    # ── money ───────────────────────────────────────────────────────────────

    def _end(self, game_id: int, outcome: Phase) -> None:
        game = self.state.games[game_id]
        self.state.games[game_id] = replace(game, phase=outcome)
        if outcome is Phase.CHALLENGER_WON:
            back = game.bond + (FEE if game.phase is Phase.DEMAND else 0)
            self.state.balances[game.challenger] += back
            self._tell(Ended, game_id, game.worker, game.challenger, outcome, back, 0, 0, 0)
            self._proven(game.challenger, self.state.papers[game_id].receipt, game_id)
        else:
            half = game.bond // 2
            self.state.balances[game.worker] = self.state.balances.get(game.worker, 0) + half
            self._tell(Ended, game_id, game.worker, game.challenger, outcome, 0, half, game.bond - half, 0)

    def _proven(self, challenger: str, receipt: Receipt, game_id: int) -> None:
        state, key = self.state, (receipt.worker, receipt.requestId)
        if key not in state.faults:
            pot = SLASH * 4 // 10
            state.faults[key] = Fault(state.time, state.time + 50, 0, pot)
            self._tell(Proven, *key, 1, state.time + 50)
            self._tell(Divided, *key, SLASH, pot, SLASH // 10, SLASH - pot - SLASH // 10)
        else:
            _refuse(game_id, "AlreadyProven")
        fault = state.faults[key]
        state.faults[key] = replace(fault, winners=fault.winners + 1)
        state.shares[*key, challenger] = state.shares.get((*key, challenger), 0) + 1
        self._tell(Won, *key, challenger, game_id)

    def _refund(self, sender: str, receipt: Any, payer: str, session_key: str, part: Any) -> None:
        made, place = Receipt(*receipt), build(Part, part)
        _refuse((made.worker, made.requestId) in self.state.faults, "NotProven")
        digest = eip712.digest(self.domain, made)
        _refuse(digest not in self.state.refunded and digest == place.leaf.digest, "NotInEntry")
        self.state.refunded[digest] = amount = place.leaf.end - place.leaf.before
        self.state.balances[payer] = self.state.balances.get(payer, 0) + amount
        self._tell(
            Refunded, made.worker, made.requestId, payer, digest, place.claim_index, place.entry, amount, 0
        )  # fmt: skip

    def _collect(self, sender: str, worker: str, request_id: bytes, challenger: str) -> None:
        key = worker, request_id, challenger
        fault = self.state.faults[worker, request_id]
        _refuse(self.state.time >= fault.collectable_at, "TooEarly")
        shares = self.state.shares.pop(key, 0)
        _refuse(shares, "NothingToCollect")
        amount = fault.pot * shares // fault.winners
        self.state.faults[worker, request_id] = replace(fault, winners=fault.winners - shares, pot=fault.pot - amount)
        self.state.balances[challenger] += amount
        self._tell(Collected, *key, amount)
