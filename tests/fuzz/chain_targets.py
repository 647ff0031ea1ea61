"""Targets of the chain package: deployments, events, reverts, results of calls, claims' inputs, a node's answers."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

from eth_utils.crypto import keccak

from efedllm.chain import answers
from efedllm.chain.abi import CONTRACTS, encode_values, interface
from efedllm.chain.beacon import Beacon
from efedllm.chain.channels import Channels
from efedllm.chain.claims import vouchers_in
from efedllm.chain.deployment import Contracts, Deployment, Parameters
from efedllm.chain.errors import ChainError, DeploymentError
from efedllm.chain.events import KINDS, decode_log
from efedllm.chain.model_registry import ModelRegistry
from efedllm.chain.reverts import explain
from efedllm.chain.rpc import Rpc
from efedllm.chain.stake_registry import StakeRegistry
from efedllm.protocol import eip712
from efedllm.protocol.objects import Voucher
from efedllm.strict_json import parse_json
from tests.fuzz.protocol_targets import KEY, VOUCHERS, sign
from tests.fuzz.target import Target, check_error

ADDRESS = "0x" + "11" * 20
WORD = keccak(b"word")


def deployment(data: bytes) -> bytes:
    """Blanks and the case of addresses are a person's own affair; every value counts."""
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise DeploymentError("it is not text") from error
    found = Deployment.from_json(text, "x")
    written = found.to_json()
    assert Deployment.from_json(written, "x") == found
    plain, again = parse_json(text), parse_json(written)
    for tree in (plain, again):
        tree["contracts"] = {name: address.lower() for name, address in tree["contracts"].items()}
    assert json.dumps(plain, sort_keys=True) == json.dumps(again, sort_keys=True)
    return data


def deployments() -> list[bytes]:
    contracts = Contracts(*("0x" + f"{at:02x}" * 20 for at in range(1, 6)))
    made = Deployment(31337, 5, "WORK", 18, contracts, Parameters(*range(10, 20), 10**20, 32, 3))
    return [made.to_json().encode()]


_EVENTS = [
    (contract, topic, signature)
    for contract in CONTRACTS
    for topic, signature in interface(contract).events.items()
    if signature.name in {kind.__name__ for kind in KINDS[contract]}
]


def event(data: bytes) -> bytes:
    """Number of the event, of topics behind its own, then those and the data."""
    if len(data) < 2:
        return data
    contract, topic, _ = _EVENTS[data[0] % len(_EVENTS)]
    topics = [topic, *(data[2 + 32 * at : 34 + 32 * at] for at in range(data[1] % 5))]
    log = {
        "topics": topics,
        "data": data[2 + 32 * (data[1] % 5) :],
        "blockNumber": 1,
        "logIndex": 0,
        "blockHash": WORD,
        "transactionHash": WORD,
        "address": ADDRESS,
    }
    decode_log(contract, log)
    return data


def _zero(kind: str, item: Any) -> Any:
    if kind.endswith("[]"):
        return [_zero(kind[:-2], item)]
    match kind:
        case "tuple":
            return tuple(_zero(part["type"], part) for part in item["components"])
        case "address":
            return ADDRESS
        case "bool":
            return True
        case "string":
            return "http://127.0.0.1:1"
        case "bytes":
            return bytes(range(76))
    return WORD[: int(kind[5:])] if kind.startswith("bytes") else 1


def events() -> list[bytes]:
    made = []
    for at, (_, _, signature) in enumerate(_EVENTS):
        indexed = [item for item in signature.inputs if item["indexed"]]
        plain = [item for item in signature.inputs if not item["indexed"]]
        topics = b"".join(encode_values([item], [_zero(item["type"], item)]) for item in indexed)
        data = encode_values(plain, [_zero(item["type"], item) for item in plain])
        made.append(bytes([at, len(indexed)]) + topics + data)
    return made


def revert(data: bytes) -> bytes:
    check_error(explain(data))
    return data


def reverts() -> list[bytes]:
    known = [signature for contract in CONTRACTS for signature in interface(contract).errors.values()]
    own = [
        signature.hash[:4] + encode_values(signature.inputs, [_zero(item["type"], item) for item in signature.inputs])
        for signature in known
    ]
    text = bytes.fromhex("08c379a0") + encode_values([{"type": "string"}], ["transfer amount\nexceeds balance"])
    return [b"", text, bytes.fromhex("4e487b71") + bytes(32), *own]


def claim_input(data: bytes) -> bytes:
    found = vouchers_in(data, ADDRESS)
    for voucher, signature in found:
        r, vs = eip712.compact(signature)
        head = bytes.fromhex(voucher.payer[2:]) + voucher.total.to_bytes(12) + voucher.receiptsRoot
        assert head + r + vs + voucher.epoch.to_bytes(3) + voucher.count.to_bytes(8) in data
    return data


def claim_inputs() -> list[bytes]:
    packed = b""
    for voucher in VOUCHERS:
        small = Voucher(voucher.payer, ADDRESS, 7, 10**20, 9, voucher.receiptsRoot)
        r, vs = eip712.compact(sign(small))
        packed += bytes.fromhex(small.payer[2:]) + small.total.to_bytes(12) + small.receiptsRoot + r + vs
        packed += small.epoch.to_bytes(3) + small.count.to_bytes(8)
    return [interface("Channels").encode_call("claim", ADDRESS, packed * count) for count in (1, 3)]


class Told(Rpc):
    """A node whose answers to calls are what a stranger chose."""

    data = b""

    async def call(self, *_: object, **__: object) -> bytes:
        return self.data


_TOLD = Told.__new__(Told)
_STAKES, _CHANNELS = StakeRegistry(_TOLD, ADDRESS), Channels(_TOLD, ADDRESS)
_MODELS, _BEACON = ModelRegistry(_TOLD, ADDRESS), Beacon(_TOLD, ADDRESS)
_VIEWS: tuple[tuple[str, str, Callable[[], Awaitable[object]]], ...] = (
    ("StakeRegistry", "participantOf", lambda: _STAKES.participant_of(ADDRESS)),
    ("StakeRegistry", "serviceOf", lambda: _STAKES.service_of(ADDRESS)),
    ("StakeRegistry", "hotKeyOf", lambda: _STAKES.hot_key_of(ADDRESS)),
    ("StakeRegistry", "participants", lambda: _STAKES.participants(0, 9)),
    ("ModelRegistry", "specOf", lambda: _MODELS.spec_of(WORD)),
    ("Beacon", "seedFor", lambda: _BEACON.seed_for(1)),
    ("Channels", "channelOf", lambda: _CHANNELS.channel_of(ADDRESS, ADDRESS, ADDRESS)),
)


def view(data: bytes) -> bytes:
    """Number of a view function, and what a node says it returned."""
    if data:
        _TOLD.data = data[1:]
        asyncio.run(_awaited(_VIEWS[data[0] % len(_VIEWS)][2]))
    return data


async def _awaited(make: Callable[[], Awaitable[object]]) -> object:
    return await make()


def views() -> list[bytes]:
    made = []
    for at, (contract, function, _) in enumerate(_VIEWS):
        outputs = interface(contract).functions[function].outputs
        made.append(bytes([at]) + encode_values(outputs, [_zero(item["type"], item) for item in outputs]))
    return made


_READERS: tuple[Callable[[Any], object], ...] = (
    answers.quantity, answers.data, answers.hash32, answers.address, answers.block, answers.log, answers.mined,
    answers.transactions, answers.known, answers.revert_data,
)  # fmt: skip


class Unusable(ChainError):
    """Stands for what `Rpc` makes of an answer of the wrong form."""


def answer(data: bytes) -> bytes:
    """A result in JSON, read as each kind of answer."""
    try:
        result = parse_json(data)
    except ValueError as error:
        raise Unusable("not JSON") from error
    for reader in _READERS:
        try:
            reader(result)
        except (ValueError, KeyError, TypeError):  # as the module promises
            continue
    return data


def results() -> list[bytes]:
    word, address = "0x" + WORD.hex(), KEY.address.lower()
    block = {"number": "0x1", "hash": word, "parentHash": word, "timestamp": "0x2", "baseFeePerGas": "0x7"}
    log = {"address": address, "topics": [word], "data": "0x00", "blockNumber": "0x1", "logIndex": "0x0"}
    log |= {"blockHash": word, "transactionHash": word}
    mined = {"transactionHash": word, "blockNumber": "0x1", "status": "0x1", "gasUsed": "0x5208", "logs": [log]}
    mined |= {"effectiveGasPrice": "0x7", "contractAddress": None}
    with_all = block | {"transactions": [{"hash": word, "from": address, "nonce": "0x3"}]}
    return [json.dumps(value).encode() for value in ("0x12", word, block, log, mined, with_all, None, {"data": "0x"})]


TARGETS = (
    Target("deployment", deployment, deployments, "json", DeploymentError, runs=10_000),
    Target("event", event, events, "words", ChainError, canonical=False, runs=50_000),
    Target("revert", revert, reverts, "words", ChainError, canonical=False, runs=100_000),
    Target("claim_input", claim_input, claim_inputs, "words", ChainError, canonical=False, runs=100_000),
    Target("view", view, views, "words", ChainError, canonical=False, runs=20_000),
    Target("answer", answer, results, "json", ChainError, canonical=False, runs=50_000),
)
