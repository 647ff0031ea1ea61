"""The objects people sign. Field order and types are those of the EIP-712 types in docs/protocol.md."""

from dataclasses import dataclass

from efedllm.protocol.values import Struct, abi

KIND_INFERENCE = 0


@dataclass(frozen=True)
class Hop(Struct):
    """One worker of a path: layers `[start, end)` at prices in base units per token."""

    worker: str = abi("address")
    start: int = abi("uint32")
    end: int = abi("uint32")
    promptPrice: int = abi("uint128")
    tokenPrice: int = abi("uint128")


@dataclass(frozen=True)
class Sampling(Struct):
    """Fixed-point sampling parameters: `temperature` and `topP` are Q16, `topK` 0 is off."""

    temperature: int = abi("uint32")
    topK: int = abi("uint32")
    topP: int = abi("uint32")


@dataclass(frozen=True)
class Request(Struct):
    """What a client asks for; its EIP-712 digest is the request id. Signed by the session key."""

    payer: str = abi("address")
    nonce: int = abi("uint64")
    expiry: int = abi("uint64")
    kind: int = abi("uint8")
    modelId: bytes = abi("bytes32")
    path: tuple[Hop, ...] = abi("Hop[]")
    promptRoot: bytes = abi("bytes32")
    promptCount: int = abi("uint32")
    maxTokens: int = abi("uint32")
    stopIds: tuple[int, ...] = abi("uint32[]")
    seed: bytes = abi("bytes32")
    sampling: Sampling = abi("Sampling")


@dataclass(frozen=True)
class Receipt(Struct):
    """What a worker did so far for one request: cumulative counts and roots. Signed by the hot key."""

    requestId: bytes = abi("bytes32")
    shard: int = abi("uint32")
    worker: str = abi("address")
    payer: str = abi("address")
    epoch: int = abi("uint64")
    positions: int = abi("uint32")
    promptCount: int = abi("uint32")
    generated: int = abi("uint32")
    tokenRoot: bytes = abi("bytes32")
    inputRoot: bytes = abi("bytes32")
    outputRoot: bytes = abi("bytes32")
    upstream: bytes = abi("bytes32")
    fee: int = abi("uint128")


@dataclass(frozen=True)
class Voucher(Struct):
    """Cumulative payment over a channel, for the receipts under `receiptsRoot`. Signed by the session key."""

    payer: str = abi("address")
    worker: str = abi("address")
    epoch: int = abi("uint64")
    total: int = abi("uint128")
    count: int = abi("uint64")
    receiptsRoot: bytes = abi("bytes32")


@dataclass(frozen=True)
class Link(Struct):
    """Proof that the dialling side of a connection holds a hot key of the request's path."""

    requestId: bytes = abi("bytes32")
    worker: str = abi("address")
    challenge: bytes = abi("bytes32")


@dataclass(frozen=True)
class Fetch(Struct):
    """A reader's claim to the data behind a receipt. `expiry` is unix seconds."""

    requestId: bytes = abi("bytes32")
    reader: str = abi("address")
    expiry: int = abi("uint64")
