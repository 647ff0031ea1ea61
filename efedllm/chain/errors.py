"""Exceptions of the chain package.

EfedllmError
└── ChainError                 anything between this program and the contracts
    ├── ChainUnreachable       no answer from the RPC endpoint: worth trying again later
    ├── UnknownBlock           a block that the node does not have (yet)
    ├── DeploymentError        no deployment file, a malformed one, or one of another chain
    ├── KeyStoreError          a key file or password that is missing or wrong
    ├── LocalChainError        Anvil is missing or did not start
    ├── AmountError            an amount that is no amount of this token
    ├── Reorganised            blocks that were already read are no longer part of the chain
    └── TransactionError       a transaction that was not carried out
        ├── Reverted           refused by a contract; `name` and `arguments` are those of its error
        ├── NotMined           sent, but not in a block within the time allowed
        └── OutOfGasMoney      the sending account cannot pay for gas
"""

from collections.abc import Mapping

from efedllm.errors import EfedllmError


class ChainError(EfedllmError):
    """Base: the message says what to do next."""


class ChainUnreachable(ChainError):
    """The endpoint does not answer, or not with JSON-RPC."""

    def __init__(self, url: str, reason: str = "") -> None:
        detail = f" ({reason})" if reason else ""
        super().__init__(f"cannot reach the chain at {url}{detail}: start one with `efedllm chain` or pass --rpc")
        self.url = url


class UnknownBlock(ChainError):
    """A block number or hash that the node does not know."""


class DeploymentError(ChainError):
    """The contracts cannot be found, or are not what the file says."""


class KeyStoreError(ChainError):
    """A key cannot be read or written."""


class LocalChainError(ChainError):
    """The local chain cannot be started or controlled."""


class AmountError(ChainError):
    """Not an amount: no number, negative, too precise or too large."""


class Reorganised(ChainError):
    """The block a cursor stands on was replaced; whoever consumed events up to it has to roll back below `block`."""

    def __init__(self, block: int) -> None:
        super().__init__(f"block {block} was replaced after its events were read: roll back and read again")
        self.block = block


class TransactionError(ChainError):
    """A transaction had no effect."""


class Reverted(TransactionError):
    """A contract refused. `name` is the Solidity error, empty if it gave none; `arguments` its fields by name."""

    def __init__(self, message: str, name: str = "", arguments: Mapping[str, object] | None = None) -> None:
        super().__init__(message)
        self.name = name
        self.arguments = dict(arguments or {})


class NotMined(TransactionError):
    """The transaction was sent and may still be mined."""

    def __init__(self, transaction_hash: str, seconds: float) -> None:
        super().__init__(
            f"transaction {transaction_hash} was not mined within {seconds:g} s, but may be later:"
            " look before sending again"
        )
        self.transaction_hash = transaction_hash


class OutOfGasMoney(TransactionError):
    """The account that sends cannot pay for gas."""

    def __init__(self, address: str) -> None:
        super().__init__(
            f"{address} cannot pay for gas: send it some of the chain's own coin (local chain: `efedllm fund`)"
        )
        self.address = address
