"""Registered models."""

from efedllm.chain.abi import build
from efedllm.chain.binding import Call, Contract
from efedllm.chain.rpc import BlockId
from efedllm.protocol.model_spec import ModelSpec

__all__ = ["ModelRegistry", "ModelSpec"]


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
