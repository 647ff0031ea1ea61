"""Disputes on a real chain: a deployment with a game, workers of whom one cheats, and the verifier's own challenger."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from eth_account.signers.local import LocalAccount

from chain_scripts.creation import Creator, creation_address
from efedllm.chain.chain import Chain
from efedllm.chain.channels import Funding, VoucherClaim
from efedllm.chain.deployment import Contracts, Deployment, Parameters
from efedllm.chain.events import Claimed
from efedllm.chain.local import LOCAL_CHAIN_ID, AnvilProcess, development_account
from efedllm.chain.rpc import Rpc
from efedllm.chain.stake_registry import Role, Service
from efedllm.chain.transactions import Sender, UnlockedAccount
from efedllm.protocol import eip712
from efedllm.protocol.claims import unpack_entries
from efedllm.protocol.model_spec import model_id
from efedllm.protocol.objects import Sampling
from efedllm.protocol.values import ZERO_ADDRESS
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
BOND = WORK
FIRST_SLASH, FIRST_SLASH_BPS = 100 * WORK, 2_000
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
        await payer.send(chain.models.register(spec, "cheats"))
        await payer.send(chain.token.approve(self.deployment.contracts.channels, WORK))
        for at in range(len(self.bounds) - 1):
            await self.hire(at)

    async def hire(self, at: int) -> None:
        """A new worker for a place of the path."""
        number = max(self.books, default=-1) + 1
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


async def deploy(url: str) -> Deployment:
    """Contracts with a game whose times are long enough for a slow machine: nothing ends by itself in a test."""
    async with Rpc(url) as rpc:
        account = development_account(url)
        sender = Sender(rpc, LOCAL_CHAIN_ID, UnlockedAccount(account), {})
        creator = Creator(rpc, sender, lambda _: None)
        token = await creator.create("WorkToken", account, 10**9 * WORK)
        models = await creator.create("ModelRegistry")
        beacon = await creator.create("Beacon", 1, 1)
        judges = [await creator.create(name) for name in ("PaperJudge", "StatementJudge", "TraceJudge")]
        steps = [await creator.create(name) for name in ("AttentionVerifier", "SamplingVerifier")]
        verifier = await creator.create("StepVerifier", *steps)
        nonce = await rpc.transaction_count(account)
        channels, game = creation_address(account, nonce + 1), creation_address(account, nonce + 2)
        stakes = await creator.create("StakeRegistry", (token, models, channels, game, 30 * DAY, 60))
        await creator.create("Channels", (stakes, ZERO_ADDRESS, 0, DAY, 2 * DAY, 10))
        times = (MOVE_SECONDS, DAY, DAY, 12 * MOVE_SECONDS)
        amounts = (FIRST_SLASH, FIRST_SLASH_BPS, 4_000, 1_000, 10_000, BOND, 10, 10)
        created = await creator.create("DisputeGame", (stakes, beacon, *judges, REWARD_POOL, *times, *amounts))
        creator.check_address("DisputeGame", created, game)
        return Deployment(
            chain_id=LOCAL_CHAIN_ID,
            deploy_block=creator.first_block,
            token_symbol="WORK",
            token_decimals=18,
            contracts=Contracts(token, models, stakes, channels, beacon, game, verifier),
            parameters=Parameters(DAY, 2 * DAY, 30 * DAY, 60, 10, 0, 1, 1, 10_000, 4_000, FIRST_SLASH, 32, 0),
        )
