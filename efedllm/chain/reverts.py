"""What a contract's refusal means, in words that say what to do."""

from functools import cache

from eth_abi.exceptions import DecodingError

from efedllm.chain.abi import CONTRACTS, JUDGES, Signature, decode_values, interface
from efedllm.chain.errors import Reverted
from efedllm.errors import on_one_line

_SHOWN = 160
"""Characters of a refusal that are shown."""
_BUILT_IN = {
    bytes.fromhex("08c379a0"): Signature("Error", "Error(string)", ({"name": "reason", "type": "string"},), ()),
    bytes.fromhex("4e487b71"): Signature("Panic", "Panic(uint256)", ({"name": "code", "type": "uint256"},), ()),
}

# Amounts are base units: a contract knows no decimals.
ADVICE = {
    "InsufficientStake": "the stake of {stake} is too small, {needed} base units are needed",
    "ERC20InsufficientBalance": "{sender} has {balance} base units of the token, {needed} are needed"
    " (local chain: `efedllm fund`)",
    "ERC20InsufficientAllowance": "the contract may take {allowance} base units of the token, {needed} are needed",
    "NotRegistered": "{participant} is not registered: run `efedllm stake` first",
    "NotAWorker": "{participant} is not registered as a worker: run `efedllm stake --role worker` with another key",
    "IsJailed": "{participant} was slashed and is jailed: start again with another key",
    "HotKeyIsCold": "{hotKey} is the cold key itself: the hot key has to be another one",
    "NotTheWorker": "{caller} is neither the cold nor the hot key of the worker: pass its --data-dir",
    "HotKeyTaken": "the hot key {hotKey} is or was another's: run `efedllm keys new hot` in a fresh data directory",
    "UnknownModel": "the model is not registered: run `efedllm model register`",
    "NothingUnbonding": "nothing is unbonding: run `efedllm unstake` first",
    "StillReachable": "a challenge can still reach the stake until unix time {until}: try again then",
    "TooEarly": "too early: try again after unix time {until}",
    "NotReleasable": "the claim cannot be released before unix time {until}",
    "NoChannel": "{payer} has no channel with {worker} under session key {sessionKey}: run `efedllm channel open`",
    "ChannelClosing": "the channel with {worker} is closing: finish with `efedllm channel close`, then open it again",
    "NotClosing": "the channel with {worker} is not closing: run `efedllm channel close` first",
    "NothingToClaim": "none of the vouchers brings anything: they are claimed already, or their channels are empty",
    "NothingToWithdraw": "there is nothing to withdraw yet",
    "RingFull": "claim {claimIndex} has to be released before there is room for another",
    "ClaimFrozen": "claim {claimIndex} is under dispute",
}


@cache
def _errors() -> dict[bytes, Signature]:
    known = dict(_BUILT_IN)
    for contract in (*CONTRACTS, *JUDGES):
        known.update(interface(contract).errors)
    return known


def explain(data: bytes, message: str = "") -> Reverted:
    """The exception for a revert with return data `data`; `message` is what the node said, for reverts without data."""
    signature = _errors().get(data[:4])
    if signature is None:
        detail = f"unknown error {_hex(data)}" if data else _line(message) or "no reason given"
        return Reverted(f"the contract refused: {detail}")
    names = [item["name"] for item in signature.inputs]
    try:
        arguments = dict(zip(names, decode_values(signature.inputs, data[4:]), strict=True))
    except DecodingError:
        return Reverted(f"the contract refused: malformed {signature.name} {_hex(data)}", signature.name)
    shown = {name: _line(str(value)) for name, value in arguments.items()}
    call = f"{signature.name}({', '.join(f'{name}={value}' for name, value in shown.items())})"
    advice = ADVICE.get(signature.name)
    text = f"{advice.format(**shown)} [{call}]" if advice else f"the contract refused: {call}"
    return Reverted(text, signature.name, arguments)


def _line(text: str) -> str:
    """A contract's or a node's words, as an error of ours repeats them."""
    return on_one_line(text[:_SHOWN])


def _hex(data: bytes) -> str:
    return f"0x{data[: _SHOWN // 2].hex()}{'...' if len(data) > _SHOWN // 2 else ''}"
