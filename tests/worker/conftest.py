"""The tiny built model, shared with the model's own tests."""

from tests.model.conftest import backend, built, checkpoint

__all__ = ["backend", "built", "checkpoint"]
