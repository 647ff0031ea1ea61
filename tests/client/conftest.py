"""The tiny built model, shared with the model's own tests."""

from tests.model.conftest import built, checkpoint

__all__ = ["built", "checkpoint"]
