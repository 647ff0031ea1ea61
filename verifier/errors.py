"""Exceptions of the verifier.

EfedllmError
└── VerifierError
    ├── StartError        the verifier refuses to start: not registered, another model, missing keys
    ├── StoreError        findings cannot be kept: the verifier stops
    └── Unanswered        a worker did not hand out what it was asked for
"""

from efedllm.errors import EfedllmError


class VerifierError(EfedllmError):
    """Base: the message says what to do next."""


class StartError(VerifierError):
    """Something must be put right before this verifier can work."""


class StoreError(VerifierError):
    """The data directory cannot be read or written."""


class Unanswered(VerifierError):
    """No answer, a refusal, or bytes that are no answer; asked again later."""
