"""Workers that cheat at the till, as processes beside honest ones: what the client pays for and does not get, and what
the honest workers of the path deliver and are not paid for, is measured and at most one credit window each."""

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from eth_account.signers.local import LocalAccount

from efedllm.chain.chain import Chain
from efedllm.chain.keys import KeyRole, KeyStore
from efedllm.chain.participants import Offer
from efedllm.client.api import Access, Client
from efedllm.client.contracts import ContractNetwork
from efedllm.client.job import Timeouts
from efedllm.errors import EfedllmError
from efedllm.protocol.pricing import fee_of
from tests.end_to_end import losses
from tests.end_to_end.market import HONEST, LIARS, PASSWORD, PROMPT, TOKENS, Market, hop_of
from tests.support.raw_client import Answer, Wallet

TIMEOUTS = Timeouts(connect=10, open=10, stall=9, receipt=2, credit=2, quiet=0.5, grace=0.5)
LONG_PROMPT = [7 * at % 90 + 2 for at in range(300)]
FIRST, MIDDLE, LAST = 0, 1, 2


class ChosenPath(ContractNetwork):
    """The chain as it is, but only these workers are seen."""

    workers: frozenset[str] = frozenset()

    async def offers(self) -> Sequence[Offer]:
        return [offer for offer in await super().offers() if offer.worker in self.workers]


@dataclass
class Customer:
    """The program's own client, with channels to everybody."""

    market: Market
    wallet: Wallet
    network: ChosenPath
    client: Client

    async def ask(
        self,
        names: Sequence[str],
        prompt: Sequence[int] = PROMPT,
        tokens: int = TOKENS,
        on_token: Callable[[list[int]], None] = lambda _: None,
    ) -> tuple[Answer, EfedllmError | None]:
        self.network.workers = frozenset(self.market.offers[name].worker for name in names)
        generation = self.client.generate(prompt, max_tokens=tokens, temperature=0.0, stop_ids=())
        error = None
        try:
            async for _ in generation:
                on_token(generation.tokens)
        except EfedllmError as raised:
            error = raised
        await generation.aclose()
        answer = Answer(generation.request_id or b"", len(prompt), generation.tokens, generation.reason)
        return answer, error

    async def measure(self, cheat: str, names: Sequence[str], liar: str, answer: Answer) -> None:
        """The client's loss to the liar, and that of every honest worker."""
        if not answer.request_id:  # it did not begin
            losses.record(cheat, "client", 0, 0, self.market.window(liar))
            return
        offer, generated = self.market.offers[liar], len(answer.tokens)
        positions = answer.prompt_count + generated - 1 if generated else 0
        paid = self.client._payments.channel(offer.worker).paid(answer.request_id)
        got = fee_of(hop_of(offer), answer.prompt_count, positions, generated)
        losses.record(cheat, "client", paid, got, self.market.window(liar))
        for name in names:
            if name != liar:
                given = await self.market.receipted(name, self.wallet, answer.request_id)
                paid = await self.market.paid(name, self.wallet, answer.request_id)
                losses.record(cheat, f"honest {name} worker", given, paid, self.market.window(name))


@asynccontextmanager
async def customer_of(market: Market, data_dir: Path) -> AsyncIterator[Customer]:
    async def cold() -> LocalAccount:
        return market.payer

    wallet = market.wallet()
    async with await Chain.connect(market.network.rpc, market.network.deployment) as chain:
        network = ChosenPath(chain, wallet.payer, cold)
        access = Access(network, wallet.session)
        async with Client(data_dir=data_dir, timeouts=TIMEOUTS, access=access) as client:
            yield Customer(market, wallet, network, client)


@pytest.fixture
async def customer(market: Market, tmp_path: Path) -> AsyncIterator[Customer]:
    async with customer_of(market, tmp_path) as one:
        yield one


@dataclass(frozen=True)
class Cheat:
    """What the worker at `shard` does, and what the client says then."""

    lie: str
    shard: int
    words: str | None
    """None: nothing; the client puts it right by itself."""
    prompt: tuple[int, ...] = tuple(PROMPT)
    asks_before: bool = False
    may_stay_unpaid: bool = False
    """Where it was fast, it was caught before it was paid for a window of work: its own channel is used up then, those
    of the others go on."""


CHEATS = [
    # receipts
    Cheat("raises its price", MIDDLE, r"receipt.fee is \d+, the request gives"),
    Cheat("counts a token too many", LAST, "where 25 and 16 were due"),
    Cheat("names another upstream receipt", MIDDLE, "upstream"),
    Cheat("commits to other inputs", MIDDLE, "received other rows than shard 0 committed to"),
    Cheat("commits to other outputs", MIDDLE, "received other rows than shard 1 committed to"),
    Cheat("commits to other outputs", LAST, "outputRoot"),
    Cheat("commits to other tokens", FIRST, "tokenRoot of shard 1 differs from shard 0"),
    Cheat("commits to other tokens", MIDDLE, "tokenRoot"),
    Cheat("signs for another request", MIDDLE, "requestId is another request's"),
    Cheat("signs for another epoch", LAST, "epoch"),
    Cheat("signs with another key", LAST, "is signed by 0x.*, not by its hot key"),
    Cheat("sends a receipt twice", FIRST, "where .* were due"),
    Cheat("sends an older receipt", LAST, "where .* were due"),
    # tokens and rows
    Cheat("shows other tokens", LAST, "showed other tokens than it signed for"),
    Cheat("feeds back other tokens", LAST, "fed back another token"),
    Cheat("withholds rows", MIDDLE, "nothing came along the path"),
    Cheat("withholds rows", MIDDLE, "nothing came along|no voucher came", tuple(LONG_PROMPT)),
    Cheat("sends other rows", MIDDLE, "received other rows than shard 1 committed to"),
    # silence
    Cheat("is silent after opening", FIRST, "closed the link|did not link"),
    Cheat("is silent after opening", LAST, "closed the link|did not link"),
    Cheat("is silent in the prompt", MIDDLE, "did not credit a voucher", tuple(LONG_PROMPT)),
    Cheat("is silent between token and receipt", LAST, "sent no receipt", may_stay_unpaid=True),
    Cheat("is silent at the first token", LAST, "no token came|nothing came"),
    Cheat("never credits", MIDDLE, "did not credit a voucher within"),
    Cheat("stops after payment", FIRST, "nothing came along the path"),
    Cheat("stops after payment", LAST, "nothing came along the path|no token came"),
    # the book
    Cheat("credits another sum", MIDDLE, r"it credits \d+ base units for a voucher of \d+"),
    Cheat("names a higher total", LAST, r"names vouchers of \d+ base units, and shows none"),
    Cheat("names a lower total", FIRST, None, asks_before=True),
    Cheat("names another epoch", MIDDLE, "epoch"),
]


def name_of(cheat: Cheat) -> str:
    long = ", long prompt" if len(cheat.prompt) > 64 else ""
    return f"{HONEST[cheat.shard]} worker {cheat.lie}{long}"


@pytest.mark.parametrize("cheat", CHEATS, ids=name_of)
async def test_worker_that_cheats(market: Market, customer: Customer, cheat: Cheat) -> None:
    names = [LIARS[shard] if shard == cheat.shard else name for shard, name in enumerate(HONEST)]
    liar = names[cheat.shard]
    if cheat.asks_before:
        _, error = await customer.ask(names)
        assert error is None
    async with market.bystander():
        with market.lying(cheat.lie):
            answer, error = await customer.ask(names, cheat.prompt)
    await market.until_idle()
    await customer.measure(f"{name_of(cheat)}", names, liar, answer)
    told = "" if error is None else str(error).replace(market.offers[liar].worker, "LIAR")
    print(f"\n    {name_of(cheat)}: {told}")
    assert "\n" not in told
    assert (error is None) if cheat.words is None else re.search(cheat.words, told)
    again, error = await customer.ask(names)
    if cheat.may_stay_unpaid and error is not None:
        assert re.search("of earlier requests unpaid.*close it with `efedllm channel close`", str(error))
        assert market.offers[liar].worker in str(error)
        again, error = await customer.ask(HONEST)
    assert error is None
    assert again.tokens == market.undisturbed


async def test_price_that_rises_on_the_chain_in_mid_request(market: Market, customer: Customer) -> None:
    """A request goes on at the price that its client signed; who asks later sees the new one."""
    liar = LIARS[MIDDLE]
    names = [HONEST[FIRST], liar, HONEST[LAST]]
    password = market.network.processes.environment[PASSWORD]
    owner = KeyStore(Path(market.network.data_dir(liar))).load(KeyRole.COLD, password)
    async with await Chain.connect(market.network.rpc, market.network.deployment) as chain:
        sender = chain.sender(owner)
        honest = await chain.stakes.service_of(owner.address)
        dearer = replace(honest, prompt_price=3 * honest.prompt_price, token_price=3 * honest.token_price)
        raising: list[asyncio.Task[object]] = []

        def raise_it(tokens: list[int]) -> None:
            if len(tokens) == 2:
                raising.append(asyncio.create_task(sender.send(chain.stakes.update_service(dearer))))

        answer, error = await customer.ask(names, tokens=120, on_token=raise_it)
        await asyncio.gather(*raising)
        try:
            assert error is None
            assert len(answer.tokens) == 120
            agreed = fee_of(hop_of(market.offers[liar]), len(PROMPT), len(PROMPT), 120)
            assert await market.paid(liar, customer.wallet, answer.request_id) == agreed
            losses.record("middle worker raises its price on the chain", "client", agreed, agreed, market.window(liar))
            (offer,) = [offer for offer in await customer.network.offers() if offer.worker == owner.address]
            assert offer.token_price == dearer.token_price
        finally:
            await sender.send(chain.stakes.update_service(honest))


async def test_the_ledger_adds_up(market: Market) -> None:
    """After all that: sound stores, everything that was vouched for is claimed, and the audit finds nothing."""
    await market.until_idle()
    market.check_stores()
    await market.claim(*HONEST, *LIARS)
    assert await market.audit() == []
