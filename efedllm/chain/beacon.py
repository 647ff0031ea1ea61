"""Seeds for draws."""

from efedllm.chain.binding import Call, Contract
from efedllm.chain.rpc import BlockId


class Beacon(Contract):
    async def first_candidate(self, claim_block: int, block: BlockId = "latest") -> int:
        """First block whose hash may become the seed of a claim mined in `claim_block`."""
        return int(await self._read("firstCandidate", claim_block, block=block))

    async def seed_for(self, claim_block: int, block: BlockId = "latest") -> bytes | None:
        """The seed of a claim mined in `claim_block`, or None while there is none."""
        ready, seed = await self._read_all("seedFor", claim_block, block=block)
        return bytes(seed) if ready else None

    async def seed_at(self, block_number: int, block: BlockId = "latest") -> bytes:
        return bytes(await self._read("seedAt", block_number, block=block))

    def record_beacon(self, block_number: int) -> Call:
        return self._build("recordBeacon", block_number)
