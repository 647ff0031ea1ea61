"""What a deployment file says about its contracts: constructor arguments, immutables and getters, by name.

A new contract, immutable or argument that is not listed here is reported as unknown, so that nothing goes unchecked.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from eth_abi.abi import encode
from eth_utils.crypto import keccak

from efedllm.chain.deployment import Deployment


@dataclass(frozen=True)
class Free:
    """A value that the file does not say; it is shown, and has to be the same wherever it stands."""

    is_address: bool


ANY_ADDRESS, ANY_NUMBER = Free(True), Free(False)
LONGEST_MOVES = 34
"""Of a game about the largest model that can be registered: down its trace, down its longest row, and four more."""
JUDGES = {"paperJudge": "PaperJudge", "statementJudge": "StatementJudge", "traceJudge": "TraceJudge"}
"""Contracts that the game asks, by the getters of their addresses."""
STEP_JUDGES = {"attention": "AttentionVerifier", "sampling": "SamplingVerifier"}
"""The same for the step verifier."""


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


@dataclass(frozen=True)
class OpenAddresses:
    """What no file says; None accepts any."""

    fee_recipient: str | None = None
    reward_pool: str | None = None


def expectations(
    deployment: Deployment, chain_id: int, open_addresses: OpenAddresses, parts: Mapping[str, str]
) -> dict[str, Expectation]:
    """By contract name. `parts`: judges by name, at the addresses that game and step verifier say; they are in no file,
    and are told by their code alone."""
    contracts, numbers = deployment.contracts, deployment.parameters
    stakes = {
        "token": contracts.token,
        "modelRegistry": contracts.model_registry,
        "channels": contracts.channels,
        "slasher": contracts.dispute_game,
        "unbondingPeriod": numbers.unbonding_seconds,
        "hotKeyDelay": numbers.hot_key_delay_seconds,
    }
    channels = {
        "stakeRegistry": contracts.stake_registry,
        "feeRecipient": _free(open_addresses.fee_recipient),
        "feeBps": numbers.protocol_fee_bps,
        "challengeWindow": numbers.challenge_window_seconds,
        "withdrawalDelay": numbers.withdrawal_delay_seconds,
        "stakeMultiple": numbers.stake_multiple,
    }
    derived = {"token": contracts.token, "slasher": contracts.dispute_game}
    beacon = {"delayBlocks": numbers.beacon_delay_blocks, "spacingBlocks": numbers.beacon_spacing_blocks}
    work_token = _eip712("eFedLLM Work", chain_id, contracts.token)
    found = {
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
    if not contracts.has_game:
        return found
    return found | {
        "DisputeGame": _game(deployment, open_addresses, parts),
        "StepVerifier": _step_verifier(deployment, parts),
        **{name: Expectation(address, {}, {}, {}) for name, address in parts.items()},
    }


def _game(deployment: Deployment, open_addresses: OpenAddresses, parts: Mapping[str, str]) -> Expectation:
    contracts, numbers, disputes = deployment.contracts, deployment.parameters, deployment.disputes
    arguments: dict[str, object] = {
        "stakeRegistry": contracts.stake_registry,
        "beacon": contracts.beacon,
        **{getter: _free(parts.get(name)) for getter, name in JUDGES.items()},
        "rewardPool": _free(open_addresses.reward_pool),
        "moveDeadline": disputes.move_deadline_seconds,
        "demandGrace": disputes.demand_grace_seconds,
        "forceGrace": disputes.force_grace_seconds,
        "margin": disputes.margin_seconds,
        "firstSlash": numbers.first_slash,
        "firstSlashBps": disputes.first_slash_bps,
        "challengerShareBps": numbers.challenger_share_bps,
        "poolShareBps": disputes.pool_share_bps,
        "minimumRateBps": numbers.minimum_rate_bps,
        "baseBond": disputes.base_bond,
        "forceFee": disputes.force_fee,
        "demandFee": disputes.demand_fee,
    }
    derived: dict[str, object] = {
        "token": contracts.token,
        "channels": contracts.channels,
        "modelRegistry": contracts.model_registry,
    }
    return Expectation(
        contracts.dispute_game,
        arguments,
        arguments | derived | {"_challengeWindow": numbers.challenge_window_seconds},
        arguments | derived | {"longestGame": LONGEST_MOVES * disputes.move_deadline_seconds},
    )


def _step_verifier(deployment: Deployment, parts: Mapping[str, str]) -> Expectation:
    judges = {getter: _free(parts.get(name)) for getter, name in STEP_JUDGES.items()}
    arguments = {f"{getter}_": address for getter, address in judges.items()}
    return Expectation(deployment.contracts.step_verifier, arguments, judges, judges)


def _free(address: str | None) -> object:
    return ANY_ADDRESS if address is None else address


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
