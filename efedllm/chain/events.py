"""Everything the contracts tell, as typed events. Fields are those of the Solidity event, in its order."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cache
from typing import Any

from eth_abi.exceptions import DecodingError

from efedllm.chain.abi import AbiItem, Signature, build, decode_values, interface
from efedllm.chain.errors import ChainError
from efedllm.chain.game_events import GAME_EVENTS
from efedllm.chain.model_registry import ModelSpec
from efedllm.chain.origin import Event as Event
from efedllm.chain.origin import Origin as Origin
from efedllm.chain.stake_registry import Role, Service


@dataclass(frozen=True)
class ModelRegistered(Event):
    model_id: bytes
    publisher: str
    spec: ModelSpec
    name: str


@dataclass(frozen=True)
class Registered(Event):
    participant: str
    role: Role
    hot_key: str


@dataclass(frozen=True)
class Staked(Event):
    participant: str
    amount: int
    stake: int


@dataclass(frozen=True)
class UnbondRequested(Event):
    participant: str
    amount: int
    unbonding: int
    since: int


@dataclass(frozen=True)
class UnbondCancelled(Event):
    participant: str
    amount: int
    stake: int


@dataclass(frozen=True)
class StakeWithdrawn(Event):
    participant: str
    to: str
    amount: int


@dataclass(frozen=True)
class HotKeyRotation(Event):
    participant: str
    hot_key: str
    effective_at: int


@dataclass(frozen=True)
class ServiceUpdated(Event):
    worker: str
    service: Service


@dataclass(frozen=True)
class ServiceEnded(Event):
    worker: str


@dataclass(frozen=True)
class Slashed(Event):
    participant: str
    requested: int
    taken: int
    to: str


@dataclass(frozen=True)
class Jailed(Event):
    participant: str


@dataclass(frozen=True)
class ChannelFunded(Event):
    payer: str
    worker: str
    session_key: str
    epoch: int
    amount: int
    deposit: int


@dataclass(frozen=True)
class CloseRequested(Event):
    payer: str
    worker: str
    session_key: str
    epoch: int
    closing_at: int


@dataclass(frozen=True)
class ChannelClosed(Event):
    payer: str
    worker: str
    session_key: str
    epoch: int
    refund: int


@dataclass(frozen=True)
class Claimed(Event):
    """`entries` are packed as docs/protocol.md says; the protocol package reads them."""

    worker: str
    claim_index: int
    amount: int
    commitment: bytes
    entries: bytes


@dataclass(frozen=True)
class Released(Event):
    worker: str
    claim_index: int
    amount: int
    fee: int


@dataclass(frozen=True)
class EarningsWithdrawn(Event):
    worker: str
    to: str
    amount: int


@dataclass(frozen=True)
class FeesWithdrawn(Event):
    to: str
    amount: int


@dataclass(frozen=True)
class Frozen(Event):
    worker: str
    claim_index: int
    amount: int


@dataclass(frozen=True)
class Unfrozen(Event):
    worker: str
    claim_index: int
    amount: int


@dataclass(frozen=True)
class Forfeited(Event):
    worker: str
    claim_index: int
    amount: int
    to: str


@dataclass(frozen=True)
class BeaconRecorded(Event):
    block_number: int
    seed: bytes


@dataclass(frozen=True)
class Transfer(Event):
    """ERC-20: `source` is zero when tokens are made, `target` when they are burned."""

    source: str
    target: str
    amount: int


# Events of a contract that are not listed are none of ours: an ERC-20 may emit whatever it likes.
KINDS: Mapping[str, tuple[type[Event], ...]] = {
    "ModelRegistry": (ModelRegistered,),
    "StakeRegistry": (
        Registered, Staked, UnbondRequested, UnbondCancelled, StakeWithdrawn, HotKeyRotation, ServiceUpdated,
        ServiceEnded, Slashed, Jailed,
    ),
    "Channels": (
        ChannelFunded, CloseRequested, ChannelClosed, Claimed, Released, EarningsWithdrawn, FeesWithdrawn, Frozen,
        Unfrozen, Forfeited,
    ),
    "Beacon": (BeaconRecorded,),
    "DisputeGame": GAME_EVENTS,
    "WorkToken": (Transfer,),
}  # fmt: skip


@cache
def _kinds(contract: str) -> dict[bytes, tuple[type[Event], Signature]]:
    by_name = {kind.__name__: kind for kind in KINDS[contract]}
    return {
        topic: (by_name[signature.name], signature)
        for topic, signature in interface(contract).events.items()
        if signature.name in by_name
    }


def decode_log(contract: str, log: Mapping[str, Any]) -> Event | None:
    """The event behind a log of `contract` (a name from abi.CONTRACTS), None if it is not one of ours.

    Raises ChainError for a log of ours that does not decode: the deployment is not what the file says.
    """
    topics = [bytes(topic) for topic in log["topics"]]
    kind, signature = _kinds(contract).get(topics[0] if topics else b"", (None, None))
    if kind is None or signature is None:
        return None
    try:
        values = _values(signature, topics[1:], bytes(log["data"]))
    except (DecodingError, ValueError) as error:
        raise ChainError(f"{contract} emitted a malformed {signature.name} in block {log['blockNumber']}") from error
    origin = Origin(
        block_number=log["blockNumber"],
        log_index=log["logIndex"],
        block_hash=bytes(log["blockHash"]),
        transaction_hash=bytes(log["transactionHash"]),
        contract=log["address"],
    )
    return build(kind, (tuple(getattr(origin, item.name) for item in fields(Origin)), *values))


def _values(signature: Signature, topics: list[bytes], data: bytes) -> list[Any]:
    """Values in the event's order: indexed ones come from the topics, one each, the others from the data."""
    indexed: list[AbiItem] = [item for item in signature.inputs if item["indexed"]]
    plain: list[AbiItem] = [item for item in signature.inputs if not item["indexed"]]
    from_topics = iter([decode_values([item], topic)[0] for item, topic in zip(indexed, topics, strict=True)])
    from_data = iter(decode_values(plain, data))
    return [next(from_topics if item["indexed"] else from_data) for item in signature.inputs]
