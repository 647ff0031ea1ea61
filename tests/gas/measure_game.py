"""Gas of whole transactions of disputes, as `measure` has that of payments.

Refresh the committed figures after a change of the contracts, and look at what they say:

    make contracts && .venv/bin/python -m tests.gas.measure_game

The worker is an inner shard of eight layers (hidden 1024, intermediate 3072) that served 1,100 positions; each of its
claims holds 1,000 receipts, of which 1 % are drawn: one has nearly all of the value, so that every point lies in it.
Trees are made up but for the path that is played.
"""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from eth_account import Account
from eth_utils.crypto import keccak

from chain_scripts.creation import creation_address
from efedllm.chain.abi import interface
from efedllm.chain.channels import VoucherClaim
from efedllm.chain.dispute_game import BookLeaf, Draw, Part
from efedllm.chain.local import AnvilProcess
from efedllm.protocol import eip712
from efedllm.protocol.claims import Entry, channel_id
from efedllm.protocol.drawing import DrawPolicy, points
from efedllm.protocol.game import Paper, Side
from efedllm.protocol.merkle import depth_of, leaf_hash, prove, token_leaf, tree_root
from efedllm.protocol.model_spec import ModelSpec, model_id
from efedllm.protocol.objects import Hop, Receipt, Request, Sampling, Voucher
from efedllm.protocol.pricing import fee_of
from efedllm.protocol.vouchers import Leaf, keccak_node
from tests.gas.measure import DAY, RING, STAKE, STEP, UNLIMITED, WINDOW, Market, address, session_key

SNAPSHOT = Path(__file__).with_name("game.json")
MOVE = 4 * 3600
POLICY = DrawPolicy(100, 10**21, 4_000)
RECEIPTS, DRAWN = 1_000, 700
PROMPT, GENERATED = 1_037, 64
POSITIONS = PROMPT + GENERATED - 1
OP_TABLE, WEIGHTS, TOKENIZER = (keccak(text=name) for name in ("ops", "weights", "tokenizer"))
SPEC = ModelSpec(
    1, 1024, 3072, 28, 16, 8, 128, 151_936, 32_768, 4295, OP_TABLE, WEIGHTS, TOKENIZER, address("step verifier")
)
START, END = 8, 16
GATE, GATE_LEAVES = 22, 12
LAYER, ROW, LEAF = 5, 700, 7
EXPIRY = 0x7777777777  # unix seconds, far ahead: no byte depends on when this is measured
LEAF_BYTES = bytes(range(256)) * 4
HOT = Account.from_key(keccak(text="hot"))
PAYER, CHALLENGER, POOL = address("payer 0"), address("challenger"), address("pool")
BURNED = "0x" + "00" * 18 + "dEaD"


class Round(NamedTuple):
    """The nodes that the worker reveals, and which of them the descent goes on with."""

    children: list[bytes]
    digit: int

    @property
    def pick(self) -> tuple[int, bytes, list[bytes]]:
        return self.digit, self.children[self.digit], prove(self.children, self.digit)


def rounds_above(node: bytes, path: int, height: int) -> tuple[bytes, list[Round]]:
    """Root of a tree in which `node` is number `path` of a level, `height` levels below; and the rounds down to it."""
    sizes = [4] * (height // 4) + ([height % 4] if height % 4 else [])
    rounds = []
    for size in reversed(sizes):
        digit, path = path % (1 << size), path >> size
        children = [keccak(node + bytes([at])) for at in range(1 << size)]
        children[digit] = node
        rounds.append(Round(children, digit))
        node = tree_root(children)
    return node, rounds[::-1]


ROW_ROOT, ROW_ROUNDS = rounds_above(leaf_hash(LEAF_BYTES), LEAF, depth_of(GATE_LEAVES))
UPPER = depth_of(END - START) + 5 + depth_of(POSITIONS)
SLOT = ((LAYER << 5) | GATE) << depth_of(POSITIONS) | ROW
BODY_ROOT, BODY_ROUNDS = rounds_above(ROW_ROOT, SLOT, UPPER)


@dataclass(frozen=True)
class Dispute:
    """A receipt that was claimed and drawn."""

    paper: Paper
    digest: bytes
    draw: Draw
    both_ends: tuple[BookLeaf, BookLeaf]


class Court(Market):
    """The market with a dispute game, a worker that signs, and a challenger with money."""

    def __init__(self, anvil: AnvilProcess) -> None:
        super().__init__(anvil)
        judges = [self._create(name) for name in ("PaperJudge", "StatementJudge", "TraceJudge")]
        times = (MOVE, DAY, DAY, 2 * DAY)
        shares = (2_000, POLICY.challenger_share_bps, 1_000, POLICY.minimum_rate_bps)
        amounts = (10**19, 10**18, 10**18)
        self.game = self._create(
            "DisputeGame", (self.stakes, self.beacon, *judges, POOL, *times, POLICY.first_slash, *shares, *amounts)
        )
        assert self.game == self.slasher
        self.endow(self.worker, self.stakes, UNLIMITED)
        self.call(self.worker, "StakeRegistry", "register", 1, HOT.address)
        self.call(self.worker, "StakeRegistry", "stake", STAKE)
        self.endow(CHALLENGER, self.game, UNLIMITED)
        for one in (self.game, POOL, BURNED):  # a balance is zero once only
            self.call(self.bank, "WorkToken", "transfer", one, 1)
        self._send(self.bank, self.models, interface("ModelRegistry").encode_call("register", SPEC, "measured"))
        self.open(PAYER, UNLIMITED, [self.worker])
        self.claims = 0
        self.next_generation = 1
        """Of the game that will be the next one at place 1."""

    def _slasher(self, nonce: int) -> str:
        return creation_address(self.bank, nonce + 6)

    def play(self, sender: str, function: str, *arguments: object) -> int:
        return self.call(sender, "DisputeGame", function, *arguments)

    def claimed(self, request: Request) -> Dispute:
        """Claims 1,000 receipts, and shows the one that is drawn."""
        first = _receipt(self, request)
        receipts = [replace(first, epoch=at) for at in range(RECEIPTS)]
        digests = [eip712.digest(self.domain, receipt) for receipt in receipts]
        start = self.claims * STEP
        bounds = [start + at + (STEP - RECEIPTS if at > DRAWN else 0) for at in range(RECEIPTS + 1)]
        hashes = [Leaf(b"", digests[at], bounds[at], bounds[at + 1]).hash() for at in range(RECEIPTS)]
        entry = self._claim_one(start + STEP, RECEIPTS, tree_root(hashes, keccak_node), start)
        claim_block = self.block
        self.call(self.bank, "WorkToken", "transfer", POOL, 1)
        self.call(self.worker, "Beacon", "recordBeacon", claim_block + 1)
        seed = bytes.fromhex(self._anvil.rpc("eth_getBlockByNumber", hex(claim_block + 1), False)["hash"][2:])
        assert bounds[DRAWN] < points(POLICY, seed, entry, 1)[0] <= bounds[DRAWN + 1]

        def leaf(at: int) -> BookLeaf:
            return BookLeaf(digests[at], bounds[at], bounds[at + 1], at, tuple(prove(hashes, at, keccak_node)))

        part = Part(self.claims - 1, 0, entry.pack(), (keccak(b"\x00" + entry.pack()),), leaf(DRAWN))
        signature = eip712.sign(self.domain, receipts[DRAWN], HOT)
        paper = Paper(request, receipts[DRAWN], signature)
        return Dispute(paper, digests[DRAWN], Draw(part), (leaf(0), leaf(RECEIPTS - 1)))

    def claim_more(self, count: int) -> None:
        for _ in range(count):
            start = self.claims * STEP
            self._claim_one(start + STEP, 1, keccak(text=f"root {start}"), start)

    def release_all(self) -> None:
        for index in range(max(0, self.claims - RING), self.claims):
            self.call(self.worker, "Channels", "release", self.worker, index)

    def _claim_one(self, total: int, count: int, root: bytes, start: int) -> Entry:
        key = session_key(0)
        voucher = Voucher(PAYER, self.worker, 0, total, count, root)
        packed = VoucherClaim.of(voucher, eip712.sign(self.domain, voucher, key)).pack()
        self.call(self.worker, "Channels", "claim", self.worker, packed)
        self.claims += 1
        return Entry(channel_id(PAYER, self.worker, key.address), start, total, root)

    def request(self, nonce: int) -> Request:
        path = (
            Hop(address("upstream"), 0, START, 3, 3),
            Hop(self.worker, START, END, 3, 3),
            Hop(address("downstream"), END, SPEC.layers, 3, 3),
        )
        return Request(
            PAYER, nonce, EXPIRY, 0, model_id(SPEC), path, keccak(text="prompt"), PROMPT, 2_048, (151_643, 151_645),
            keccak(text="seed"), Sampling(45_875, 50, 62_259),
        )  # fmt: skip

    def game_id(self, generation: int, place: int = 1) -> int:
        return int(self.worker, 16) << 96 | generation << 16 | place


def _receipt(court: Court, request: Request) -> Receipt:
    roots = [keccak(text=name) for name in ("tokens", "rows in", "rows out", "upstream")]
    fee = fee_of(request.path[1], PROMPT, POSITIONS, GENERATED)
    request_id = eip712.digest(court.domain, request)
    return Receipt(request_id, 1, court.worker, PAYER, 0, POSITIONS, PROMPT, GENERATED, *roots, fee)


def _descend(court: Court, game: int, paper: Paper) -> dict[str, int]:
    """Plays from the side to the revealed leaf. Name -> gas of the most expensive transaction of a kind."""
    gas: dict[str, int] = {}

    def note(name: str, cost: int) -> None:
        gas[name] = max(cost, gas.get(name, 0))

    for at, each in enumerate(BODY_ROUNDS):
        reveal = court.play(HOT.address, "reveal", game, each.children)
        if at + 1 < len(BODY_ROUNDS):
            pick = court.play(CHALLENGER, "pick", game, *each.pick)
            note("reveal", reveal)
            note("pick", pick)
            note("a round", reveal + pick)
        else:
            note("pick the root of a row", court.play(CHALLENGER, "pickRow", game, *each.pick, paper))
    for each in ROW_ROUNDS:
        reveal = court.play(HOT.address, "reveal", game, each.children)
        note("a round", reveal + court.play(CHALLENGER, "pick", game, *each.pick))
    note("reveal a leaf", court.play(HOT.address, "revealLeaf", game, paper, LEAF_BYTES))
    return gas


def _demand(court: Court, tokens: int) -> tuple[int, int]:
    """Gas of a demand of so many tokens, of a receipt that is force-drawn, and of its answer."""
    ids = list(range(100_000, 100_000 + tokens))
    request = replace(court.request(10_000 + tokens), promptCount=tokens - 1)
    receipt = replace(_receipt(court, request), promptCount=tokens - 1, positions=tokens - 1, generated=1)
    receipt = replace(receipt, tokenRoot=tree_root([token_leaf(one) for one in ids]))
    paper = Paper(request, receipt, eip712.sign(court.domain, receipt, HOT))
    court.play(CHALLENGER, "forceDraw", paper)
    game = court.game_id(court.next_generation)
    demand = court.play(CHALLENGER, "demand", paper, Draw(), 0)
    packed = b"".join(one.to_bytes(4, "little") for one in ids)
    answer = court.play(HOT.address, "answerDemand", game, receipt, packed, [])
    court.pass_time(DAY + 1)
    court.play(CHALLENGER, "timeout", game, receipt)
    return demand, answer


def measure(anvil: AnvilProcess) -> dict[str, int]:
    """Name -> gas of one transaction."""
    court = Court(anvil)
    gas: dict[str, int] = {}
    one = court.claimed(court.request(0))
    gas["open the first game against a worker"] = court.play(CHALLENGER, "open", one.paper, one.draw)
    game = court.game_id(1)
    gas["post the trace"] = court.play(HOT.address, "postTrace", game, one.digest, BODY_ROOT)
    short = Paper(one.paper.request, one.paper.receipt, b"")
    gas["choose the body"] = court.play(CHALLENGER, "chooseSide", game, Side.BODY, short)
    gas |= _descend(court, game, short)
    court.pass_time(MOVE + 1)
    gas["timeout, worker wins"] = court.play(CHALLENGER, "timeout", game, one.paper.receipt)

    # From here on the place of the game and the slot of the claim were used before.
    court.claim_more(RING - court.claims)
    court.pass_time(WINDOW + 1)
    court.release_all()
    two = court.claimed(court.request(1))
    assert court.claims == RING + 1
    gas["open a game"] = court.play(CHALLENGER, "open", two.paper, two.draw)
    game = court.game_id(2)
    gas["open a second game on the receipt"] = court.play(CHALLENGER, "open", two.paper, two.draw)
    court.play(HOT.address, "postTrace", game, two.digest, BODY_ROOT)
    court.pass_time(MOVE + 1)
    court.play(CHALLENGER, "timeout", game, two.paper.receipt)
    court.next_generation = 3
    forced = court.request(2)
    receipt = _receipt(court, forced)
    paper = Paper(forced, receipt, eip712.sign(court.domain, receipt, HOT))
    gas["force a draw"] = court.play(CHALLENGER, "forceDraw", paper)
    for tokens in (64, 1024):
        gas[f"demand {tokens} tokens"], gas[f"answer with {tokens} tokens"] = _demand(court, tokens)
        court.next_generation += 1
    gas["timeout, worker loses"] = court.play(CHALLENGER, "timeout", court.game_id(1, 2), two.paper.receipt)
    key = session_key(0).address
    gas["refund"] = court.play(CHALLENGER, "refund", two.paper.receipt, PAYER, key, two.draw.part)
    wrong = replace(receipt, fee=receipt.fee + 1)
    paper = Paper(forced, wrong, eip712.sign(court.domain, wrong, HOT))
    gas["prove a misshapen receipt"] = court.play(CHALLENGER, "proveShape", paper)
    court.pass_time(34 * MOVE)
    gas["collect"] = court.play(CHALLENGER, "collect", court.worker, two.paper.receipt.requestId, CHALLENGER)
    return gas


LIMITS: dict[str, int] = {"open a game": 170_000, "a round": 100_000}


def main() -> None:
    with AnvilProcess.start() as anvil:
        SNAPSHOT.write_text(json.dumps(measure(anvil), indent=1) + "\n")
    print(SNAPSHOT)


if __name__ == "__main__":
    main()
