"""A contract at an address: reads are awaited, writes are built here and sent by a `Sender`."""

from dataclasses import dataclass
from typing import Any

from efedllm.chain.abi import Interface, interface
from efedllm.chain.errors import DeploymentError
from efedllm.chain.rpc import BlockId, Rpc


@dataclass(frozen=True)
class Call:
    """A transaction to send: calldata for `to`, or creation code if there is none. `label` is for messages."""

    to: str | None
    data: bytes
    label: str
    value_wei: int = 0


class Contract:
    """Base of the bindings, which are named like their contracts.

    Methods that read take the block to read at; methods that return a `Call` change state once it is sent.
    """

    def __init__(self, rpc: Rpc, address: str) -> None:
        self.rpc = rpc
        self.address = address

    @property
    def interface(self) -> Interface:
        return interface(type(self).__name__)

    def _build(self, function: str, *arguments: object) -> Call:
        return Call(self.address, self.interface.encode_call(function, *arguments), f"{self.interface.name}.{function}")

    async def _read_all(self, function: str, *arguments: object, block: BlockId) -> tuple[Any, ...]:
        """All values that the function returns. Raises Reverted, ChainUnreachable, DeploymentError."""
        data = await self.rpc.call(self.address, self.interface.encode_call(function, *arguments), block)
        if not data:
            raise DeploymentError(
                f"there is no {self.interface.name} at {self.address}: if the chain was restarted, run `efedllm deploy`"
            )
        return self.interface.decode_result(function, data)

    async def _read(self, function: str, *arguments: object, block: BlockId) -> Any:
        """The only value that the function returns."""
        return (await self._read_all(function, *arguments, block=block))[0]
