"""Models and services on the chain, for tests that need no real model."""

from __future__ import annotations

from eth_account.signers.local import LocalAccount

from efedllm.chain.chain import Chain
from efedllm.chain.keys import KeyRole, KeyStore
from efedllm.chain.stake_registry import Service
from efedllm.protocol.model_spec import ModelSpec, model_id
from efedllm.protocol.values import ZERO_ADDRESS
from tests.support.cli import PASSWORD, Person

SPEC = ModelSpec(
    semantics=1,
    hidden=64,
    intermediate=128,
    layers=8,
    heads=4,
    kv_heads=2,
    head_dim=16,
    vocab=256,
    context=512,
    epsilon=42950,
    op_table=b"\x01" * 32,
    weights_root=b"\x02" * 32,
    tokenizer_hash=b"\x03" * 32,
    step_verifier=ZERO_ADDRESS,
)
MODEL_ID = model_id(SPEC)


async def register_model(chain: Chain, person: Person, name: str = "test model") -> None:
    await chain.sender(_cold_key(person)).send(chain.models.register(SPEC, name))


async def serve(chain: Chain, person: Person, start: int, end: int, token_price: int = 4) -> None:
    """Announce a service of a staked worker, as the worker program does when it starts."""
    service = Service(MODEL_ID, start, end, 1, token_price, "http://127.0.0.1:1234")
    await chain.sender(_cold_key(person)).send(chain.stakes.update_service(service))


def _cold_key(person: Person) -> LocalAccount:
    return KeyStore(person.data_dir).load(KeyRole.COLD, PASSWORD)
