"""A chain in memory as a client sees it, and a client on it; tests change its state at will."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import msgpack
from eth_account import Account
from eth_account.signers.local import LocalAccount

from efedllm.chain.participants import Offer
from efedllm.client.api import Access, Client
from efedllm.client.errors import ModelError
from efedllm.client.job import Timeouts
from efedllm.client.network import ChannelState, History, Token, Top
from efedllm.protocol.eip712 import Domain
from efedllm.protocol.model_spec import ModelSpec
from efedllm.protocol.tokenizer_hash import tokenizer_hash
from efedllm.protocol.values import ZERO_ADDRESS

DOMAIN = Domain(31337, "0x" + "c0" * 20)
MODEL_ID = b"\x11" * 32
TOKENIZER_JSON = (Path(__file__).parents[2] / "models/shakespeare/checkpoint/tokenizer.json").read_bytes()
TIMEOUTS = Timeouts(connect=30, open=30, stall=60, receipt=30, credit=30, quiet=0.5, grace=0.5)
"""Short where somebody honest waits in vain too."""


def spec_of(layers: int, vocab: int, context: int, stop_ids: Sequence[int] = ()) -> ModelSpec:
    return ModelSpec(
        semantics=1,
        hidden=64,
        intermediate=128,
        layers=layers,
        heads=4,
        kv_heads=2,
        head_dim=16,
        vocab=vocab,
        context=context,
        epsilon=42950,
        op_table=b"\x01" * 32,
        weights_root=b"\x02" * 32,
        tokenizer_hash=tokenizer_hash({"tokenizer.json": TOKENIZER_JSON}, stop_ids),
        step_verifier=ZERO_ADDRESS,
    )


@dataclass
class MemoryNetwork:
    """`channels` by (worker, session key)."""

    offered: list[Offer]
    model_spec: ModelSpec
    payer: str = field(default_factory=lambda: str(Account.create().address))
    domain: Domain = DOMAIN
    token: Token = field(default_factory=lambda: Token("WORK", 18))
    credit_tokens: int = 32
    names: dict[bytes, str] = field(default_factory=lambda: {MODEL_ID: "test model"})
    channels: dict[tuple[str, str], ChannelState] = field(default_factory=dict)
    hot_keys: dict[str, str] = field(default_factory=dict)
    money: int = 10**9
    fundings: list[list[Top]] = field(default_factory=list)
    came_back: int = 0
    time: int = field(default_factory=lambda: int(time.time()))

    async def offers(self) -> Sequence[Offer]:
        return self.offered

    async def spec(self, model_id: bytes) -> ModelSpec:
        if model_id not in self.names:
            raise ModelError("no such model")
        return self.model_spec

    async def model_names(self) -> dict[bytes, str]:
        return self.names

    async def hot_key(self, worker: str) -> str:
        return self.hot_keys.get(worker, ZERO_ADDRESS)

    async def channel(self, worker: str, session_key: str) -> ChannelState:
        return self.channels.get((worker, session_key), ChannelState(0, 0, False, 0))

    async def balance(self) -> int:
        return self.money

    async def fund(self, session_key: str, tops: Sequence[Top]) -> None:
        self.fundings.append(list(tops))
        for top in tops:
            self.money -= top.amount
            old = await self.channel(top.worker, session_key)
            self.channels[top.worker, session_key] = replace(old, deposit=old.deposit + top.amount)

    async def confirmation(self) -> None:
        for key, state in self.channels.items():
            self.channels[key] = replace(state, deposit=state.deposit + state.unconfirmed, unconfirmed=0)

    async def history(self, session_key: str) -> History:
        workers = tuple(worker for worker, key in self.channels if key == session_key)
        spent = sum(top.amount for tops in self.fundings for top in tops)
        return History(workers, spent - self.came_back)

    async def close(self, session_key: str, workers: Sequence[str]) -> None:
        for worker in workers:
            state = self.channels[worker, session_key]
            self.channels[worker, session_key] = replace(state, closing=True, closing_at=self.time + 100)

    async def finish(self, session_key: str, workers: Sequence[str]) -> int:
        refund = 0
        for worker in workers:
            state = self.channels[worker, session_key]
            refund += state.deposit - state.claimed
            self.channels[worker, session_key] = ChannelState(0, 0, False, state.epoch + 1)
        self.money += refund
        self.came_back += refund
        return refund

    async def now(self) -> int:
        return self.time


def keep_tokenizer(data_dir: Path, spec: ModelSpec, stop_ids: Sequence[int] = ()) -> None:
    """As if the client had fetched the tokenizer before."""
    folder = data_dir / "tokenizers"
    folder.mkdir(parents=True, exist_ok=True)
    packed = msgpack.packb({"files": {"tokenizer.json": TOKENIZER_JSON}, "stop_ids": list(stop_ids)})
    (folder / f"{spec.tokenizer_hash.hex()}.msgpack").write_bytes(packed)


def client_on(
    network: MemoryNetwork,
    data_dir: Path,
    signer: LocalAccount | None = None,
    timeouts: Timeouts = TIMEOUTS,
    **options: Any,
) -> Client:
    """A client whose tokenizer is at hand."""
    keep_tokenizer(data_dir, network.model_spec)
    access = Access(network, signer or Account.create())
    return Client(data_dir=data_dir, timeouts=timeouts, access=access, **options)
