"""Exceptions of the chain package.

EfedllmError
└── ChainError                 anything between this program and the contracts
    ├── ChainUnreachable       no answer from the RPC endpoint: worth trying again later
    │   └── ChainSlow          no answer in time: worth asking for less
    ├── UnknownBlock           a block that the node does not have (yet)
    ├── DeploymentError        no deployment file, a malformed one, or one of another chain
    │   └── WrongChain         the endpoint serves another chain than it should
    ├── KeyStoreError          a key file or password that is missing or wrong
    ├── LocalChainError        Anvil is missing or did not start
    ├── AmountError            an amount that is no amount of this token
    ├── Reorganised            blocks that were already read are no longer part of the chain
    ├── KeyInUse               another process sends with this key; `pid` is its process id where it is known
    ├── OutboxError            what is known of transactions under way cannot be kept or read
    └── TransactionError       a transaction that was not carried out
        ├── Reverted           refused by a contract; `name` and `arguments` are those of its error
        ├── NotMined           sent, but not in a block within the time allowed
        ├── GasTooDear         gas stayed above the highest price that may be paid
        ├── EarlierTransaction nothing was sent, since an earlier transaction of the key was still under way
        ├── NonceTaken         another program's transaction took the place of ours, which had no effect
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


class ChainSlow(ChainUnreachable):
    """Connected, but no answer in time."""


class UnknownBlock(ChainError):
    """A block number or hash that the node does not know."""


class DeploymentError(ChainError):
    """The contracts cannot be found, or are not what the file says."""


class WrongChain(DeploymentError):
    """The endpoint serves another chain than the deployment's, or another than before."""


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


class KeyInUse(ChainError):
    """One key, one process: two would take each other's nonces and do everything twice."""

    def __init__(self, address: str, pid: int | None) -> None:
        holder = "another program" if pid is None else f"another program (process {pid})"
        super().__init__(f"{holder} sends with the key of {address}: let it end first, or use another key")
        self.address, self.pid = address, pid


class OutboxError(ChainError):
    """The record of transactions under way cannot be kept or read: nothing is sent without it."""


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


class GasTooDear(TransactionError):
    """Gas stayed above the cap. `transaction_hash` is None if nothing was sent."""

    def __init__(self, price_wei: int, cap_wei: int, transaction_hash: str | None) -> None:
        gwei = 10**9
        state = "nothing was sent"
        if transaction_hash is not None:
            state = f"transaction {transaction_hash} waits and may be mined later"
        super().__init__(
            f"gas costs {price_wei / gwei:g} gwei, more than the {cap_wei / gwei:g} allowed, and {state}:"
            " try again later, or with a higher --max-gas-price"
        )
        self.transaction_hash = transaction_hash


class EarlierTransaction(TransactionError):
    """A transaction of the same key was still under way when another was to be sent. It is settled by now.

    What was to be sent was decided without knowing what the earlier one did: look again, then decide.
    """

    def __init__(self, address: str, what: str) -> None:
        super().__init__(
            f"nothing was sent, since {what} of {address} was still under way: it is settled now, look at what it did"
            " (`efedllm status`), then try again if this is still wanted"
        )
        self.address = address


class NonceTaken(TransactionError):
    """Another program or machine uses the same key."""

    def __init__(self, address: str, nonce: int, transaction_hash: bytes) -> None:
        super().__init__(
            f"another program or machine sends with the key of {address}: its transaction 0x{transaction_hash.hex()}"
            f" took nonce {nonce} and ours had no effect: use the key in one place only, then try again"
        )
        self.transaction_hash = transaction_hash


class OutOfGasMoney(TransactionError):
    """The account that sends cannot pay for gas."""

    def __init__(self, address: str) -> None:
        super().__init__(
            f"{address} cannot pay for gas: send it some of the chain's own coin (local chain: `efedllm fund`)"
        )
        self.address = address
