"""Exceptions of the client package.

EfedllmError
└── ClientError              asking, paying or streaming did not work
    ├── RoutingError         no path covers the model, or none at an acceptable price
    ├── ModelError           no such model, or its tokenizer cannot be had
    │   └── TokenizerError   bytes that are no tokenizer, or do not have the hash that the model commits to
    ├── FundingError         a channel that cannot carry the request
    ├── StoreError           the disk refuses, or another program holds the store
    │   └── OldCopy          the store knows less than was signed; nothing more is signed for `worker` in this epoch
    ├── WorkerFailed         a worker refused, broke off or fell silent; `worker` is its address
    └── Violation            a worker broke the protocol; `worker` is its address, and nobody from it on is paid further
"""

from efedllm.errors import EfedllmError


class ClientError(EfedllmError):
    """Base: the message says what to do next."""


class RoutingError(ClientError):
    """Workers and their offers do not make a path."""


class ModelError(ClientError):
    """The model cannot be asked."""


class TokenizerError(ModelError):
    """A tokenizer that cannot be used."""


class FundingError(ClientError):
    """Money is missing, or must not be spent."""


class StoreError(ClientError):
    """Nothing may be signed, because it could not be kept."""


class OldCopy(StoreError):
    """A data directory that was put back from a backup, and could not be brought up to date."""

    def __init__(self, worker: str, message: str) -> None:
        super().__init__(message)
        self.worker = worker


class WorkerFailed(ClientError):
    """A worker did not do its part. `code` is the worker's own word for it, or one of `peer.py`, or
    "stalled"."""

    def __init__(self, worker: str, code: str, reason: str) -> None:
        super().__init__(f"worker {worker}: {reason}")
        self.worker, self.code, self.reason = worker, code, reason


class Violation(ClientError):
    """What a worker signed or sent cannot come from an honest one."""

    def __init__(self, worker: str, reason: str) -> None:
        super().__init__(f"worker {worker} broke the protocol and is not paid further: {reason}")
        self.worker, self.reason = worker, reason
