"""Participants: roles, stake, keys and services."""

from dataclasses import dataclass
from enum import IntEnum

from efedllm.chain.abi import build
from efedllm.chain.binding import Call, Contract
from efedllm.chain.rpc import BlockId

FOREVER = (1 << 256) - 1  # a time that never comes


class Role(IntEnum):
    NONE = 0
    WORKER = 1
    VERIFIER = 2


@dataclass(frozen=True)
class Participant:
    """Amounts in base units, times in unix seconds; `next_hot_key_at` is 0 while no rotation is under way."""

    stake: int
    unbonding: int
    unbonding_since: int
    jailed: bool
    role: Role
    hot_key: str
    next_hot_key: str
    next_hot_key_at: int


@dataclass(frozen=True)
class Service:
    """What a worker offers: layers `[start, end)`, prices in base units per token for the whole range."""

    model_id: bytes
    start: int
    end: int
    prompt_price: int
    token_price: int
    endpoint: str


class StakeRegistry(Contract):
    async def participant_of(self, participant: str, block: BlockId = "latest") -> Participant:
        """All zero for an address that never registered."""
        return build(Participant, await self._read("participantOf", participant, block=block))

    async def service_of(self, worker: str, block: BlockId = "latest") -> Service:
        """All zero while the worker offers nothing."""
        return build(Service, await self._read("serviceOf", worker, block=block))

    async def hot_key_of(self, participant: str, block: BlockId = "latest") -> str:
        return str(await self._read("hotKeyOf", participant, block=block))

    async def ever_hot_key_of(self, participant: str, key: str, block: BlockId = "latest") -> bool:
        return bool(await self._read("everHotKeyOf", participant, key, block=block))

    async def is_active_worker(self, worker: str, block: BlockId = "latest") -> bool:
        return bool(await self._read("isActiveWorker", worker, block=block))

    async def slashable(self, participant: str, block: BlockId = "latest") -> int:
        return int(await self._read("slashable", participant, block=block))

    async def withdrawable_at(self, participant: str, block: BlockId = "latest") -> int:
        """Unix seconds; FOREVER while nothing is unbonding."""
        return int(await self._read("withdrawableAt", participant, block=block))

    async def participant_count(self, block: BlockId = "latest") -> int:
        return int(await self._read("participantCount", block=block))

    async def participants(self, first: int, end: int, block: BlockId = "latest") -> tuple[str, ...]:
        """Participants `[first, end)` in order of registration."""
        return tuple(await self._read("participants", first, end, block=block))

    async def slasher(self, block: BlockId = "latest") -> str:
        """Who can slash; zero for nobody."""
        return str(await self._read("slasher", block=block))

    def register(self, role: Role, hot_key: str) -> Call:
        return self._build("register", role, hot_key)

    def stake(self, amount: int) -> Call:
        return self._build("stake", amount)

    def request_unbond(self, amount: int) -> Call:
        return self._build("requestUnbond", amount)

    def cancel_unbond(self) -> Call:
        return self._build("cancelUnbond")

    def withdraw_stake(self, to: str) -> Call:
        return self._build("withdrawStake", to)

    def rotate_hot_key(self, hot_key: str) -> Call:
        return self._build("rotateHotKey", hot_key)

    def update_service(self, service: Service) -> Call:
        return self._build("updateService", service)

    def end_service(self) -> Call:
        return self._build("endService")
