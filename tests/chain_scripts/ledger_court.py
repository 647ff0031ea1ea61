"""Disputes of a market on a real chain: games of every outcome, demands, faults, refunds, a collected share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from eth_account.signers.local import LocalAccount
from eth_utils.crypto import keccak

from benchmarks.books import Served
from efedllm.chain.binding import Call
from efedllm.chain.chain import Chain
from efedllm.chain.dispute_game import BookLeaf, Draw, Part, TokenProof
from efedllm.chain.events import Claimed
from efedllm.chain.game_events import Demanded, Opened
from efedllm.chain.local import AnvilProcess
from efedllm.protocol import eip712
from efedllm.protocol.committed import CommittedTokens
from efedllm.protocol.game import Paper, Side, TokenFault
from efedllm.protocol.objects import Receipt
from efedllm.protocol.trace import Node
from efedllm.protocol.vouchers import Leaf

LED_TO = 2
"""The generated token that a game is about."""


@dataclass(frozen=True)
class Case:
    """A receipt that was claimed alone, its request, and the tokens behind it."""

    paper: Paper
    digest: bytes
    part: Part
    prompt: Sequence[int]
    generated: Sequence[int]
    session_key: str
    early: Paper
    """A receipt of the same request that was not claimed."""

    @classmethod
    def of(cls, served: Served, claimed: Claimed, leaf: Leaf, session_key: str) -> Case:
        record = served.records[0]
        papers = [Paper(record.request, *signed) for signed in record.receipts]
        place = BookLeaf(leaf.receipt_digest, leaf.before, leaf.after, 0, ())
        part = Part(claimed.claim_index, 0, claimed.entries, (bytes(keccak(b"\0" + claimed.entries)),), place)
        tokens = record.prompt, record.generated
        return cls(papers[-1], leaf.receipt_digest, part, *tokens, session_key, papers[0])

    @property
    def receipt(self) -> Receipt:
        return self.paper.receipt


class Court:
    """`hold`: what happens in the challenge window. `collect` once the longest game is over.

    Of three claims of a worker the first is for tokens that no model has, the others are right.
    """

    def __init__(
        self, chain: Chain, anvil: AnvilProcess, hot: LocalAccount, one: LocalAccount, two: LocalAccount
    ) -> None:
        assert chain.game is not None
        self.chain, self.anvil, self.game = chain, anvil, chain.game
        self.hot, self.one, self.two = hot, one, two

    async def hold(self, wrong: Case, right: Case, last: Case) -> None:
        game, hot, one, two = self.game, self.hot, self.one, self.two
        for challenger in (one, two):
            await self._send(challenger, self.chain.token.approve(game.address, 10**24))
        await self._send(two, game.force_draw(last.early))
        answered = await self._begin(one, game.demand(right.paper, Draw(right.part), 0))
        tokens = b"".join(token.to_bytes(4, "little") for token in [*right.prompt, *right.generated])
        await self._send(hot, game.answer_demand(answered, right.receipt, tokens, []))
        left = await self._begin(two, game.open(last.paper, Draw(last.part)))
        won = await self._begin(one, game.open(wrong.paper, Draw(wrong.part)))
        silent = await self._begin(two, game.open(wrong.paper, Draw(wrong.part)))
        open_one = await self._begin(one, game.open(right.paper, Draw(right.part)))
        for game_id, case in ((left, last), (won, wrong), (open_one, right)):
            await self._send(hot, game.post_trace(game_id, case.digest, case.digest))
        await self._send(one, game.choose_side(open_one, Side.INPUT, right.paper))
        await self._win(won, wrong)
        await self._send(two, game.refund(wrong.receipt, wrong.receipt.payer, wrong.session_key, wrong.part))
        self.anvil.increase_time(self.chain.deployment.disputes.demand_grace_seconds + 1)
        for game_id, case in ((silent, wrong), (left, last), (answered, right)):
            await self._send(two, game.timeout(game_id, case.receipt))
        await self._begin(two, game.demand(right.paper, Draw(right.part), 0))
        await self._send(two, game.prove_shape(self._dearer(last)))

    async def collect(self, wrong: Case) -> None:
        receipt = wrong.receipt
        await self._send(self.two, self.game.collect(receipt.worker, receipt.requestId, self.one.address))

    async def _win(self, game_id: int, case: Case) -> None:
        """Down the output to a token, which is none."""
        game, source = self.game, CommittedTokens(case.generated)
        children = [source.node(Node(source.depth, at)) for at in range(1 << source.depth)]
        way = source.open_token(LED_TO)
        await self._send(self.one, game.choose_side(game_id, Side.OUTPUT, case.paper))
        await self._send(self.hot, game.reveal(game_id, children))
        await self._send(self.one, game.pick(game_id, LED_TO, children[LED_TO], way.siblings))
        self.anvil.increase_time(1)  # so that this move has a deadline of its own
        await self._send(self.hot, game.reveal_leaf(game_id, case.paper, way.data))
        proof = TokenProof(TokenFault.VOCABULARY)
        await self._send(self.one, game.prove_token(game_id, case.paper, way.data, proof))

    def _dearer(self, case: Case) -> Paper:
        """A receipt for more than its request's prices, signed by the worker."""
        receipt = replace(case.receipt, fee=case.receipt.fee + 1)
        return replace(
            case.paper, receipt=receipt, signature=eip712.sign(self.chain.deployment.domain, receipt, self.hot)
        )

    async def _begin(self, who: LocalAccount, call: Call) -> int:
        receipt = await self.chain.sender(who).send(call)
        (begun,) = [event for event in receipt.events if isinstance(event, Opened | Demanded)]
        return begun.game_id

    async def _send(self, who: LocalAccount, call: Call) -> None:
        await self.chain.sender(who).send(call)
