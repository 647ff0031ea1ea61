"""What a deployment file says about its contracts: constructor arguments, immutables and getters, by name.

A new contract, immutable or argument that is not listed here is reported as unknown, so that nothing goes unchecked.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from eth_abi.abi import encode
from eth_utils.crypto import keccak

from efedllm.chain.deployment import Deployment
from efedllm.protocol.values import ZERO_ADDRESS


@dataclass(frozen=True)
class Free:
    """A value that the file does not say; it is shown, and has to be the same wherever it stands."""

    is_address: bool


ANY_ADDRESS, ANY_NUMBER = Free(True), Free(False)


@dataclass(frozen=True)
class Expectation:
    """Values of one contract. Addresses with checksum, numbers as int, hashes as bytes.

    arguments: of the constructor, in order; members of a struct one by one.
    """

    address: str
    arguments: Mapping[str, object]
    immutables: Mapping[str, object]
    getters: Mapping[str, object]
    may_be_foreign: bool = False


def expectations(deployment: Deployment, chain_id: int, fee_recipient: str | None) -> dict[str, Expectation]:
    """By contract name. `fee_recipient` is not in the file: None accepts any."""
    contracts, numbers = deployment.contracts, deployment.parameters
    recipient: object = ANY_ADDRESS if fee_recipient is None else fee_recipient
    stakes = {
        "token": contracts.token,
        "modelRegistry": contracts.model_registry,
        "channels": contracts.channels,
        "slasher": ZERO_ADDRESS,
        "unbondingPeriod": numbers.unbonding_seconds,
        "hotKeyDelay": numbers.hot_key_delay_seconds,
    }
    channels = {
        "stakeRegistry": contracts.stake_registry,
        "feeRecipient": recipient,
        "feeBps": numbers.protocol_fee_bps,
        "challengeWindow": numbers.challenge_window_seconds,
        "withdrawalDelay": numbers.withdrawal_delay_seconds,
        "stakeMultiple": numbers.stake_multiple,
    }
    derived = {"token": contracts.token, "slasher": ZERO_ADDRESS}
    beacon = {"delayBlocks": numbers.beacon_delay_blocks, "spacingBlocks": numbers.beacon_spacing_blocks}
    work_token = _eip712("eFedLLM Work", chain_id, contracts.token)
    return {
        "WorkToken": Expectation(
            contracts.token,
            {"recipient": ANY_ADDRESS, "supply": ANY_NUMBER},
            work_token | {"_supply": ANY_NUMBER},
            {
                "symbol": deployment.token_symbol,
                "decimals": deployment.token_decimals,
                "name": "eFedLLM Work",
                "totalSupply": ANY_NUMBER,
                "DOMAIN_SEPARATOR": work_token["_cachedDomainSeparator"],
            },
            may_be_foreign=True,
        ),
        "ModelRegistry": Expectation(contracts.model_registry, {}, {}, {}),
        "StakeRegistry": Expectation(
            contracts.stake_registry, stakes, stakes, stakes | {"participantCount": ANY_NUMBER}
        ),
        "Channels": Expectation(
            contracts.channels,
            channels,
            channels
            | derived
            | {"_unbondingPeriod": numbers.unbonding_seconds}
            | _eip712("eFedLLM", chain_id, contracts.channels),
            channels | derived | {"fees": ANY_NUMBER, "domainSeparator": deployment.domain.separator()},
        ),
        "Beacon": Expectation(
            contracts.beacon,
            {f"{name}_": value for name, value in beacon.items()},
            beacon,
            beacon,
        ),
    }


def _eip712(name: str, chain_id: int, contract: str) -> dict[str, object]:
    """Immutables of OpenZeppelin's EIP712 with version 1."""
    kind = keccak(text="EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)")
    values = [kind, keccak(text=name), keccak(text="1"), chain_id, contract]
    return {
        "_cachedDomainSeparator": keccak(encode(["bytes32", "bytes32", "bytes32", "uint256", "address"], values)),
        "_cachedChainId": chain_id,
        "_cachedThis": contract,
        "_hashedName": keccak(text=name),
        "_hashedVersion": keccak(text="1"),
        "_name": _short_string(name),
        "_version": _short_string("1"),
    }


def _short_string(text: str) -> bytes:
    """As OpenZeppelin's ShortStrings: the text, and its length in the last byte."""
    return text.encode().ljust(31, b"\0") + bytes([len(text)])
