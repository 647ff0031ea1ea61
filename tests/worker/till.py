"""A worker with money to collect, on a real chain: channels, vouchers in a store, and a collector over them."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from eth_account import Account
from eth_account.signers.local import LocalAccount

from efedllm.chain.chain import Chain
from efedllm.chain.channels import Funding
from efedllm.chain.stake_registry import Role
from efedllm.chain.transactions import Sender
from efedllm.protocol.eip712 import sign
from tests.support.chain import WORK, new_account
from worker.collecting import Rules
from worker.collector import Collector
from worker.notices import Notices
from worker.store import Store

# A gwei buys a base unit: gas costs nothing beside whole tokens.
CHEAP = Rules(coin_value=10**9, claim_within=10**6, close_margin=5, spacing=0, look_every=3)
# A unit of gas costs about a whole token: nothing of these tests is worth that.
DEAR = Rules(coin_value=10**27, claim_within=10**6, close_margin=5, spacing=0, look_every=3)


@dataclass
class Paying:
    """A client with one channel."""

    account: LocalAccount
    session: LocalAccount


@dataclass
class Market:
    """One worker, its store, and whoever pays it; `events` are those that its operator was told."""

    chain: Chain
    cold: LocalAccount
    hot: LocalAccount
    store: Store
    events: list[dict[str, object]] = field(default_factory=list)

    @classmethod
    async def open(cls, chain: Chain, folder: Path, hot_wei: int = 10**18) -> "Market":
        cold, hot = await new_account(chain, 1000 * WORK), await new_account(chain, 0, hot_wei)
        sender = chain.sender(cold)
        await sender.send(chain.stakes.register(Role.WORKER, hot.address))
        await sender.send(chain.token.approve(chain.stakes.address, 1000 * WORK))
        await sender.send(chain.stakes.stake(1000 * WORK))
        return cls(chain, cold, hot, Store(folder / "worker.sqlite"))

    async def client(self, deposit: int) -> Paying:
        paying = Paying(await new_account(self.chain, 100 * WORK), Account.create())
        await self.chain.sender(paying.account).send(self.chain.token.approve(self.chain.channels.address, 100 * WORK))
        await self.fund(paying, deposit)
        return paying

    async def fund(self, paying: Paying, amount: int) -> None:
        funding = [Funding(self.cold.address, amount)]
        await self.chain.sender(paying.account).send(self.chain.channels.fund(paying.session.address, funding))

    async def close(self, paying: Paying) -> None:
        call = self.chain.channels.request_close(paying.session.address, [self.cold.address])
        await self.chain.sender(paying.account).send(call)

    async def finish(self, paying: Paying) -> None:
        call = self.chain.channels.finish_close(paying.session.address, [self.cold.address])
        await self.chain.sender(paying.account).send(call)

    def voucher(self, paying: Paying, total: int, epoch: int = 0, signer: LocalAccount | None = None) -> None:
        """The client pays up to `total`, and the worker keeps the voucher as if it had served."""
        payer, key = paying.account.address, paying.session.address
        book = self.store.book(payer, key, self.cold.address, epoch)
        leaf, replaces = book.next_leaf(total.to_bytes(32), total.to_bytes(32), total - book.total)
        voucher = book.voucher_after(leaf, replaces)
        signature = sign(self.chain.deployment.domain, voucher, signer or paying.session)
        self.store.keep_voucher(key, leaf, len(book.leaves), voucher, signature)

    def collector(
        self, rules: Rules = CHEAP, chain: Chain | None = None, sender: Sender | None = None, **notices: Any
    ) -> Collector:
        at = chain or self.chain
        told = Notices(lambda _, event: self.events.append(event), **notices)
        return Collector(at, self.cold.address, self.store, sender or at.sender(self.hot), rules, told)

    async def claimed(self, paying: Paying) -> int:
        state = await self.chain.channels.channel_of(paying.account.address, self.cold.address, paying.session.address)
        return state.claimed

    def told(self, event: str) -> list[dict[str, object]]:
        return [one for one in self.events if one["event"] == event]
