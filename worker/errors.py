"""Exceptions of the worker.

EfedllmError
└── WorkerError
    ├── StartError        the worker refuses to start: wrong weights, stake, keys, range
    ├── StoreError        what was signed cannot be kept: the worker stops acknowledging
    └── SessionError      one request ends; `code` is what the peer is told
"""

from efedllm.errors import EfedllmError


class WorkerError(EfedllmError):
    """Base: the message says what to do next."""


class StartError(WorkerError):
    """Something must be put right before this worker can serve."""


class StoreError(WorkerError):
    """The data directory cannot be written."""


class SessionError(WorkerError):
    """Ends one session. `code`: request, channel, credit, link, path, receipt, voucher, draining, busy or internal."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
