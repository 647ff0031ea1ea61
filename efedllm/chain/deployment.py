"""Where the contracts of a network are, and the numbers everybody has to agree on."""

import json
import os
import re
import tempfile
import types
import typing
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any, Self

from efedllm.chain.addresses import parse_address
from efedllm.chain.errors import ChainError, DeploymentError, WrongChain
from efedllm.errors import on_one_line
from efedllm.protocol.eip712 import Domain
from efedllm.protocol.values import ZERO_ADDRESS
from efedllm.strict_json import parse_json

_VERSION = 1
_MAX_NUMBER = 2**64 - 1
_MOST = {"token_decimals": 255}  # as ERC-20 has it: whoever divides by 10 ** decimals is not kept busy with it
_MAX_TEXT = 100
_AMOUNT = re.compile("0|[1-9][0-9]{0,38}", re.ASCII)
# Decimal strings in the file: JSON readers lose digits of large numbers.
_AMOUNTS = frozenset({"first_slash", "base_bond", "force_fee", "demand_fee"})


@dataclass(frozen=True)
class Contracts:
    """Checksummed addresses. `dispute_game` is zero where nobody can slash, `step_verifier` (with which models are
    registered) where no model can be judged."""

    token: str
    model_registry: str
    stake_registry: str
    channels: str
    beacon: str
    dispute_game: str = ZERO_ADDRESS
    step_verifier: str = ZERO_ADDRESS

    @property
    def has_game(self) -> bool:
        return self.dispute_game != ZERO_ADDRESS

    def names(self) -> dict[str, str]:
        """Contract names (abi.CONTRACTS) by address."""
        game = {self.dispute_game: "DisputeGame"} if self.has_game else {}
        return {
            self.token: "WorkToken",
            self.model_registry: "ModelRegistry",
            self.stake_registry: "StakeRegistry",
            self.channels: "Channels",
            self.beacon: "Beacon",
        } | game


@dataclass(frozen=True)
class Parameters:
    """Numbers of a deployment. Those of the first group are in the contracts; the others are rules between the parties.

    `first_slash` is in base units; a block is final for our programs when `confirmations` others stand on it.
    """

    challenge_window_seconds: int
    withdrawal_delay_seconds: int
    unbonding_seconds: int
    hot_key_delay_seconds: int
    stake_multiple: int
    protocol_fee_bps: int
    beacon_delay_blocks: int
    beacon_spacing_blocks: int

    minimum_rate_bps: int
    challenger_share_bps: int
    first_slash: int
    credit_tokens: int
    confirmations: int


@dataclass(frozen=True)
class Disputes:
    """Numbers of the dispute game, besides those of `Parameters`; all zero where there is none.

    Amounts are in base units.
    """

    move_deadline_seconds: int = 0
    demand_grace_seconds: int = 0
    force_grace_seconds: int = 0
    margin_seconds: int = 0
    first_slash_bps: int = 0
    pool_share_bps: int = 0
    base_bond: int = 0
    force_fee: int = 0
    demand_fee: int = 0


@dataclass(frozen=True)
class Deployment:
    """One set of contracts on one chain. `deploy_block` is the first block that can hold an event of theirs."""

    chain_id: int
    deploy_block: int
    token_symbol: str
    token_decimals: int
    contracts: Contracts
    parameters: Parameters
    disputes: Disputes = Disputes()

    @property
    def domain(self) -> Domain:
        """The EIP-712 domain of everything that is signed for this deployment."""
        return Domain(self.chain_id, self.contracts.channels)

    def to_plain(self) -> dict[str, Any]:
        """For JSON, with amounts as decimal strings."""
        return _readable(asdict(self))

    def to_json(self) -> str:
        return json.dumps({"version": _VERSION, **self.to_plain()}, indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str, where: str) -> Self:
        """Strict inverse of `to_json`. Raises DeploymentError naming `where` and the field."""
        try:
            plain = parse_json(text)
        except ValueError as error:
            raise DeploymentError(f"{where} is not JSON ({error}): write it again with `efedllm deploy`") from error
        if not isinstance(plain, dict) or not _is_version(plain.pop("version", None)):
            raise DeploymentError(f"{where} is not a deployment file of version {_VERSION}")
        return typing.cast(Self, _parse(cls, plain, where))

    @classmethod
    def read(cls, path: Path) -> Self:
        try:
            text = path.read_text()
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not text"
            raise DeploymentError(
                f"cannot read the deployment file {path} ({reason}): run `efedllm deploy` or pass --deployment FILE"
            ) from error
        return cls.from_json(text, str(path))

    def write(self, path: Path) -> None:
        """Replace the file as a whole, so that no reader ever sees half of it."""
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile("w", dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
                file.write(self.to_json())
            os.replace(file.name, path)
        except OSError as error:
            raise DeploymentError(f"cannot write the deployment file {path}: {error.strerror}") from error


def default_path(chain_id: int, home: Path | None = None) -> Path:
    """Where `deploy` writes and everybody looks last."""
    return (home or Path.home()) / ".efedllm" / "deployments" / f"{chain_id}.json"


def find_deployment(chain_id: int, given: Path | None, environ: Mapping[str, str] = os.environ) -> Deployment:
    """The deployment to use on chain `chain_id`: file `given`, else `EFEDLLM_DEPLOYMENT`, else the default path.

    Raises DeploymentError if there is no file, or it is for another chain.
    """
    from_environment = environ.get("EFEDLLM_DEPLOYMENT")
    path = given or (Path(from_environment) if from_environment else default_path(chain_id))
    deployment = Deployment.read(path)
    if deployment.chain_id != chain_id:
        raise WrongChain(
            f"{path} is for chain {deployment.chain_id}, but the RPC endpoint serves chain {chain_id}:"
            " pass another --rpc or --deployment"
        )
    return deployment


def _readable(plain: Mapping[str, Any]) -> dict[str, Any]:
    """With amounts as decimal strings."""
    return {
        name: _readable(value) if isinstance(value, dict) else str(value) if name in _AMOUNTS else value
        for name, value in plain.items()
    }


def _is_version(value: object) -> bool:
    return type(value) is int and value == _VERSION


def _parse(kind: type[Any], plain: object, where: str) -> Any:
    """An instance of dataclass `kind` from parsed JSON."""
    if not isinstance(plain, dict):
        raise DeploymentError(f"{where}: expected an object")
    hints = typing.get_type_hints(kind)
    names = [item.name for item in fields(kind)]
    if unknown := sorted(plain.keys() - set(names)):
        raise DeploymentError(f"{where}: unknown field {on_one_line(unknown[0][:40])}")
    if missing := [name for name in names if name not in plain]:
        raise DeploymentError(f"{where}: missing field {missing[0]}")
    return kind(**{name: _value(hints[name], name, plain[name], f"{where}: {name}", kind) for name in names})


def _value(hint: type[Any], name: str, value: object, where: str, owner: type[Any]) -> object:
    if not isinstance(hint, types.GenericAlias) and is_dataclass(hint):
        return _parse(hint, value, where)
    if name in _AMOUNTS:
        if not (isinstance(value, str) and _AMOUNT.fullmatch(value)):
            raise DeploymentError(f"{where}: expected an amount as a decimal string")
        return int(value)
    if hint is int:
        most = _MOST.get(name, _MAX_NUMBER)
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= most:
            raise DeploymentError(f"{where}: expected a whole number from 0 to {most}")
        return value
    if not isinstance(value, str) or not value.isprintable() or len(value) > _MAX_TEXT:
        raise DeploymentError(f"{where}: expected a string of at most {_MAX_TEXT} printable characters")
    if owner is Contracts:
        try:
            return parse_address(value)
        except ChainError as error:
            raise DeploymentError(f"{where}: {error}") from error
    return value
