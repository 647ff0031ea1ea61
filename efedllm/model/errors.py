"""Errors of this package.

EfedllmError
└── ModelError        a model that cannot be built, read, trusted or run; the message names the file or tensor
    └── CacheFull     no free block in the KV cache: wait for a sequence to end, or start with more blocks
"""

from efedllm.errors import EfedllmError


class ModelError(EfedllmError):
    """A model that cannot be built, read, trusted or run."""


class CacheFull(ModelError):
    """No free block in the KV cache; nothing was changed."""
