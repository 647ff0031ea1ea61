"""Exceptions of the verifier.

EfedllmError
└── VerifierError
    ├── StartError        the verifier refuses to start: not registered, another model, missing keys
    └── StoreError        findings cannot be kept: the verifier stops
"""

from efedllm.errors import EfedllmError


class VerifierError(EfedllmError):
    """Base: the message says what to do next."""


class StartError(VerifierError):
    """Something must be put right before this verifier can work."""


class StoreError(VerifierError):
    """The data directory cannot be read or written."""
