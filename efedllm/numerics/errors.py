"""Errors of the numerics package.

EfedllmError
`- NumericsError
   |- LimitError     a dimension, scale or value breaks a bound of docs/numerics.md; names the tensor or field
   |- SamplingError  sampling parameters that the semantics does not define
   `- BackendError   a back end that is unknown, unusable on the device, or that failed its self-test
"""

from efedllm.errors import EfedllmError


class NumericsError(EfedllmError):
    """Base of every error raised here."""


class LimitError(NumericsError):
    """A bound is broken: with this value, integers could leave their proved widths."""


class SamplingError(NumericsError):
    """Sampling parameters outside the ranges of the semantics."""


class BackendError(NumericsError):
    """No back end that is asked for (or none at all) multiplies exactly here."""
