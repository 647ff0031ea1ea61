"""Games, demands, and what follows a proven fault."""

from collections.abc import Sequence
from dataclasses import dataclass

from efedllm.chain.abi import build
from efedllm.chain.batch import read_some
from efedllm.chain.binding import Call, Contract
from efedllm.chain.rpc import BlockId
from efedllm.protocol.game import Game, Paper, Side, TokenFault
from efedllm.protocol.objects import Receipt

EMPTY_WORD = bytes(32)


@dataclass(frozen=True)
class BookLeaf:
    """A leaf of a channel's book: the amounts `(before, end]` are for the receipt with this digest."""

    digest: bytes
    before: int
    end: int
    index: int
    proof: tuple[bytes, ...]


NO_LEAF = BookLeaf(EMPTY_WORD, 0, 0, 0, ())


@dataclass(frozen=True)
class Part:
    """Where the money for a receipt lies. `entries`: the group of up to eight entries that holds it; empty: no claim is
    shown. `groups`: hashes of all groups of the claim."""

    claim_index: int
    entry: int
    entries: bytes
    groups: tuple[bytes, ...]
    leaf: BookLeaf


NO_PART = Part(0, 0, b"", (), NO_LEAF)


@dataclass(frozen=True)
class Draw:
    """Shows that a receipt may be disputed; see `IDisputeGame.Draw`."""

    part: Part = NO_PART
    ends: tuple[BookLeaf, ...] = ()
    point: int = 0
    demand_id: int = 0


@dataclass(frozen=True)
class TokenProof:
    """Holds a token that was led to against another one; see `IDisputeGame.TokenProof`."""

    fault: TokenFault
    other: bytes = EMPTY_WORD
    salt: bytes = EMPTY_WORD
    sample: bytes = b""
    siblings: tuple[bytes, ...] = ()


@dataclass(frozen=True)
class Opening:
    """`IStepVerifier.Opening`: data with the siblings of its hash from the bottom up to the root."""

    data: bytes
    siblings: tuple[bytes, ...]


@dataclass(frozen=True)
class Fault:
    """What was proven of a worker's request; all zero for nothing."""

    proven_at: int
    collectable_at: int
    winners: int
    pot: int


class DisputeGame(Contract):
    # before a game

    def force_draw(self, paper: Paper) -> Call:
        return self._build("forceDraw", paper)

    def demand(self, paper: Paper, draw: Draw, chunk: int) -> Call:
        return self._build("demand", paper, draw, chunk)

    def answer_demand(self, game_id: int, receipt: Receipt, tokens: bytes, siblings: Sequence[bytes]) -> Call:
        """`tokens`: four bytes each, little-endian."""
        return self._build("answerDemand", game_id, receipt, tokens, list(siblings))

    # a game

    def open(self, paper: Paper, draw: Draw) -> Call:
        return self._build("open", paper, draw)

    def post_trace(self, game_id: int, receipt_digest: bytes, body_root: bytes) -> Call:
        return self._build("postTrace", game_id, receipt_digest, body_root)

    def choose_side(self, game_id: int, side: Side, paper: Paper) -> Call:
        return self._build("chooseSide", game_id, side, paper)

    def reveal(self, game_id: int, children: Sequence[bytes]) -> Call:
        return self._build("reveal", game_id, list(children))

    def pick(self, game_id: int, digit: int, child: bytes, siblings: Sequence[bytes]) -> Call:
        return self._build("pick", game_id, digit, child, list(siblings))

    def pick_row(self, game_id: int, digit: int, child: bytes, siblings: Sequence[bytes], paper: Paper) -> Call:
        return self._build("pickRow", game_id, digit, child, list(siblings), paper)

    def reveal_leaf(self, game_id: int, paper: Paper, leaf: bytes) -> Call:
        return self._build("revealLeaf", game_id, paper, leaf)

    def prove_step(self, game_id: int, paper: Paper, leaf: bytes, element: int, operands: Sequence[Opening]) -> Call:
        return self._build("proveStep", game_id, paper, leaf, element, list(operands))

    def prove_row(self, game_id: int, paper: Paper, row: bytes, siblings: Sequence[bytes]) -> Call:
        return self._build("proveRow", game_id, paper, row, list(siblings))

    def prove_token(self, game_id: int, paper: Paper, leaf: bytes, proof: TokenProof) -> Call:
        return self._build("proveToken", game_id, paper, leaf, proof)

    def timeout(self, game_id: int, receipt: Receipt) -> Call:
        return self._build("timeout", game_id, receipt)

    # faults without a game

    def prove_shape(self, paper: Paper) -> Call:
        return self._build("proveShape", paper)

    def prove_link(self, paper: Paper, upstream: Receipt) -> Call:
        return self._build("proveLink", paper, upstream)

    def prove_equivocation(self, paper: Paper, other: Receipt, signature: bytes) -> Call:
        return self._build("proveEquivocation", paper, other, signature)

    def prove_tokens(self, paper: Paper, evidence: object) -> Call:
        """`evidence`: a dataclass with the fields of `IStatementJudge.TokenEvidence`."""
        return self._build("proveTokens", paper, evidence)

    # after a fault

    def refund(self, receipt: Receipt, payer: str, session_key: str, part: Part) -> Call:
        return self._build("refund", receipt, payer, session_key, part)

    def collect(self, worker: str, request_id: bytes, challenger: str) -> Call:
        return self._build("collect", worker, request_id, challenger)

    def pay_owed(self, account: str) -> Call:
        return self._build("payOwed", account)

    # views

    async def game_of(self, game_id: int, block: BlockId = "latest") -> Game:
        """Raises Reverted with name "NoSuchGame" once its place was given to another, or where it never was."""
        return build(Game, await self._read("gameOf", game_id, block=block))

    async def games_of(self, game_ids: Sequence[int], block: int) -> list[Game | None]:
        """Many at once; None where `game_of` would say that there is no such game."""
        answers = await read_some(self, block, [("gameOf", (game_id,)) for game_id in game_ids])
        return [None if answer is None else build(Game, answer[0]) for answer in answers]

    async def bond_for(self, worker: str, block: BlockId = "latest") -> int:
        return int(await self._read("bondFor", worker, block=block))

    async def fault_of(self, worker: str, request_id: bytes, block: BlockId = "latest") -> Fault:
        return build(Fault, await self._read("faultOf", worker, request_id, block=block))

    async def record_of(self, worker: str, block: BlockId = "latest") -> tuple[int, int]:
        """Open games and demands against the worker, and its faults."""
        games, faults = await self._read_all("recordOf", worker, block=block)
        return int(games), int(faults)

    async def shares_of(self, worker: str, request_id: bytes, challenger: str, block: BlockId = "latest") -> int:
        return int(await self._read("sharesOf", worker, request_id, challenger, block=block))

    async def part_of(
        self, worker: str, claim_index: int, entry: int, receipt_digest: bytes, block: BlockId = "latest"
    ) -> tuple[int, int, bool]:
        """Games that hold what is frozen of a claim for a receipt, how much that is, and whether it was refunded."""
        arguments = worker, claim_index, entry, receipt_digest
        holders, frozen, refunded = await self._read_all("partOf", *arguments, block=block)
        return int(holders), int(frozen), bool(refunded)

    async def forced_until(self, receipt_digest: bytes, block: BlockId = "latest") -> int:
        """Unix seconds until which a force-drawn receipt can be opened; 0 if it is not."""
        return int(await self._read("forcedUntil", receipt_digest, block=block))

    async def owed(self, account: str, block: BlockId = "latest") -> int:
        return int(await self._read("owed", account, block=block))

    async def longest_game(self, block: BlockId = "latest") -> int:
        return int(await self._read("longestGame", block=block))

    async def number(self, parameter: str, block: BlockId = "latest") -> int:
        """A parameter that is a number, by the name of its getter: "moveDeadline", "forceGrace", "baseBond", ..."""
        return int(await self._read(parameter, block=block))
