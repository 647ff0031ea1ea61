"""A chain made of lists, for tests of readers: mined and reorganised at will, at most one `Claimed` in a block."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from eth_utils.crypto import keccak

from efedllm.chain.abi import encode_values, interface
from efedllm.chain.answers import Block, Log
from efedllm.chain.errors import UnknownBlock
from efedllm.chain.rpc import BlockId
from efedllm.protocol.claims import Entry

CHANNELS = "0x" + "cC" * 20
WORKER = "0x" + "11" * 20
CONTRACTS = {"Channels": CHANNELS}


@dataclass(frozen=True)
class Made:
    """A block and the index of the claim in it, None for an empty one."""

    block: Block
    claim: int | None


class FakeChain:
    """`LogSource` of a reader."""

    def __init__(self) -> None:
        self._branch = 0
        self.blocks = [Made(Block(0, keccak(b"genesis"), bytes(32), 0, 1), None)]

    def mine(self, claims: Sequence[int | None]) -> None:
        """One block for each."""
        for claim in claims:
            below = self.blocks[-1].block
            content = below.hash + bytes([self._branch % 256]) + repr(claim).encode()
            self.blocks.append(Made(Block(below.number + 1, keccak(content), below.hash, below.number, 1), claim))

    def reorganise(self, depth: int) -> None:
        """The newest `depth` blocks are gone; those mined next are others."""
        self._branch += 1
        del self.blocks[max(1, len(self.blocks) - depth) :]

    async def block(self, block: BlockId = "latest") -> Block:
        if block == "latest":
            return self.blocks[-1].block
        assert isinstance(block, int)
        if block >= len(self.blocks):
            raise UnknownBlock(f"no block {block}")
        return self.blocks[block].block

    async def logs(self, addresses: Sequence[str], first: int, last: int) -> list[Log]:
        return [_log(made) for made in self.blocks[first : last + 1] if made.claim is not None]

    async def logs_of(self, addresses: Sequence[str], block: Block) -> list[Log]:
        if block.number >= len(self.blocks) or self.blocks[block.number].block != block:
            raise UnknownBlock(f"no block {block.number}")
        return await self.logs(addresses, block.number, block.number)


def _log(made: Made) -> Log:
    events = interface("Channels").events
    signature = next(one for one in events.values() if one.name == "Claimed")
    entry = Entry(b"\x07" * 20, 0, 10, bytes(32))
    values = [WORKER, made.claim, 10, bytes(32), entry.pack()]
    pairs = list(zip(signature.inputs, values, strict=True))
    plain = [(item, value) for item, value in pairs if not item["indexed"]]
    return Log(
        address=CHANNELS,
        topics=[signature.hash, *(encode_values([item], [value]) for item, value in pairs if item["indexed"])],
        data=encode_values([item for item, _ in plain], [value for _, value in plain]),
        blockNumber=made.block.number,
        blockHash=made.block.hash,
        transactionHash=keccak(made.block.hash),
        logIndex=0,
    )
