"""Disputes on a real chain: a deployment with a game, workers of whom one cheats, and the verifier's own challenger."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from eth_account.signers.local import LocalAccount

from efedllm.chain.chain import Chain
from efedllm.chain.channels import Funding, VoucherClaim
from efedllm.chain.deployment import Deployment
from efedllm.chain.events import Claimed
from efedllm.chain.local import AnvilProcess
from efedllm.chain.stake_registry import Role, Service
from efedllm.chain.transactions import Sender
from efedllm.cli import main
from efedllm.protocol import eip712
from efedllm.protocol.claims import unpack_entries
from efedllm.protocol.model_spec import model_id
from efedllm.protocol.objects import Sampling
from efedllm.protocol.vouchers import Book, Leaf
from tests.support.chain import WORK, fund
from tests.support.cheat_model import CheatModel
from tests.support.cheat_session import Session, Terms, run
from tests.support.cheats import WARM, Cheat
from tests.verifier.path import PAYER, SESSION, cold, hot, key
from verifier.findings import Claim, Draw

VERIFIER = key("verifier hot")
STAKE = 1000 * WORK
DEPOSIT = 10**9
BOND = FEE = WORK
"""Of a first game; and what a force-draw and a demand cost."""
FIRST_SLASH_BPS = 2_000
REWARD_POOL = "0x" + "70" * 20
BURNED = "0x000000000000000000000000000000000000dEaD"


@dataclass(frozen=True)
class Paid:
    """A receipt that was claimed."""

    claim: Claim
    draw: Draw
    leaves: Sequence[Leaf]


@dataclass
class Courtroom:
    """hands: numbers of the keys of the workers on the path, `cold(n)` and `hot(n)`; one that cheated is replaced."""

    anvil: AnvilProcess
    chain: Chain
    model: CheatModel
    bounds: Sequence[int]
    hands: list[int] = field(default_factory=list)
    books: dict[int, Book] = field(default_factory=dict)
    nonce: int = 0
    first_hand: int = 0
    """Other rooms on the same chain have other keys."""

    @property
    def deployment(self) -> Deployment:
        return self.chain.deployment

    @property
    def model_id(self) -> bytes:
        return model_id(self.model.weights.spec(self.deployment.contracts.step_verifier))

    async def open(self) -> None:
        """Registers the model, funds payer and verifier, and hires a path."""
        chain = self.chain
        await fund(chain, PAYER.address, WORK)
        await fund(chain, VERIFIER.address, 10 * STAKE)
        payer = chain.sender(PAYER)
        spec = self.model.weights.spec(self.deployment.contracts.step_verifier)
        if not await chain.models.is_registered(self.model_id):
            await payer.send(chain.models.register(spec, "cheats"))
        await payer.send(chain.token.approve(self.deployment.contracts.channels, WORK))
        for at in range(len(self.bounds) - 1):
            await self.hire(at)

    async def hire(self, at: int) -> None:
        """A new worker for a place of the path."""
        number = max(self.books, default=self.first_hand - 1) + 1
        account, hot_key, chain = cold(number), hot(number), self.chain
        await fund(chain, account.address, STAKE)
        await fund(chain, hot_key.address)
        sender = chain.sender(account)
        await sender.send(chain.stakes.register(Role.WORKER, hot_key.address))
        await sender.send(chain.token.approve(self.deployment.contracts.stake_registry, STAKE))
        await sender.send(chain.stakes.stake(STAKE))
        start, end = self.bounds[at], self.bounds[at + 1]
        await sender.send(chain.stakes.update_service(Service(self.model_id, start, end, 5, 7, "http://127.0.0.1:1")))
        await chain.sender(PAYER).send(chain.channels.fund(SESSION.address, [Funding(account.address, DEPOSIT)]))
        self.books[number] = Book(PAYER.address, account.address, 0)
        self.hands[at:] = [number, *self.hands[at + 1 :]]

    def serve(
        self,
        prompt: Sequence[int],
        max_tokens: int,
        cheat: Cheat | None = None,
        at: int = 0,
        stop_ids: tuple[int, ...] = (),
        sampling: Sampling = WARM,
    ) -> Session:
        """A request through the path, of whom worker `at` cheats."""
        self.nonce += 1
        terms = Terms(self.deployment.domain, 0, tuple(self.hands), self.model_id, self.nonce)
        return run(
            self.model, self.bounds, prompt, max_tokens, cheat, at, terms=terms, stop_ids=stop_ids, sampling=sampling
        )

    async def claim(self, session: Session, at: int) -> Paid:
        """Worker `at` is paid for its receipt, and claims."""
        book, receipt = self.books[self.hands[at]], session.receipts[at]
        digest = eip712.digest(self.deployment.domain, receipt)
        leaf, replaces = book.next_leaf(receipt.requestId, digest, receipt.fee)
        voucher = book.voucher_after(leaf, replaces)
        book.add(leaf, replaces)
        signed = VoucherClaim.of(voucher, eip712.sign(self.deployment.domain, voucher, SESSION))
        sent = await self.hot(at).send(self.chain.channels.claim(book.worker, [signed]))
        event = next(one for one in sent.events if isinstance(one, Claimed))
        origin, entries = event.origin, unpack_entries(event.entries)
        claim = Claim(book.worker, event.claim_index, origin.block_number, origin.transaction_hash, entries)
        return Paid(claim, Draw(book.worker, claim.index, 0, len(book.leaves) - 1, leaf), list(book.leaves))

    def hot(self, at: int) -> Sender:
        return self.chain.sender(hot(self.hands[at]))

    def cold(self, at: int) -> LocalAccount:
        return cold(self.hands[at])

    async def balance(self, address: str) -> int:
        return await self.chain.token.balance_of(address)


MOVE_SECONDS = 600
DAY = 86_400


def deploy(url: str, file: Path, move_seconds: int = MOVE_SECONDS, window: int = DAY) -> Deployment:
    """Contracts with a game whose times are long enough for a slow machine: nothing ends by itself in a test."""
    numbers = {
        "challenge-window": window,
        "withdrawal-delay": 2 * window,
        "unbonding": 3 * window + 60 * move_seconds,
        "move-deadline": move_seconds,
        "demand-grace": move_seconds,
        "force-grace": DAY,
        "margin": 12 * move_seconds,
        "first-slash": 100,
        "first-slash-bps": FIRST_SLASH_BPS,
        "base-bond": 1,
        "force-fee": 1,
        "demand-fee": 1,
        "reward-pool": REWARD_POOL,
    }
    options = [text for name, value in numbers.items() for text in (f"--{name}", str(value))]
    assert main(["deploy", "--local", "--rpc", url, "--out", str(file), *options]) == 0
    return Deployment.read(file)
