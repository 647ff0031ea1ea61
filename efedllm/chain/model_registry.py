"""Registered models."""

from dataclasses import dataclass

from efedllm.chain.abi import build
from efedllm.chain.binding import Call, Contract
from efedllm.chain.rpc import BlockId


@dataclass(frozen=True)
class ModelSpec:
    """Everything that the model id commits to, in the contract's order; `epsilon` is the RMSNorm epsilon times 2^32."""

    semantics: int
    hidden: int
    intermediate: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    vocab: int
    context: int
    epsilon: int
    op_table: bytes
    weights_root: bytes
    tokenizer_hash: bytes
    step_verifier: str


class ModelRegistry(Contract):
    async def is_registered(self, model_id: bytes, block: BlockId = "latest") -> bool:
        return bool(await self._read("isRegistered", model_id, block=block))

    async def spec_of(self, model_id: bytes, block: BlockId = "latest") -> ModelSpec:
        """Raises Reverted with name "UnknownModel"."""
        return build(ModelSpec, await self._read("specOf", model_id, block=block))

    async def layers_of(self, model_id: bytes, block: BlockId = "latest") -> int:
        """Raises Reverted with name "UnknownModel"."""
        return int(await self._read("layersOf", model_id, block=block))

    async def id_of(self, spec: ModelSpec) -> bytes:
        return bytes(await self._read("idOf", spec, block="latest"))

    def register(self, spec: ModelSpec, name: str) -> Call:
        return self._build("register", spec, name)
