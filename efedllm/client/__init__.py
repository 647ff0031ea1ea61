"""What an application uses: finding workers, paying them, streaming text; never torch.

    from efedllm.client import Client

Names are loaded when they are first used, so that a command line which asks nothing stays quick.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from efedllm.client.api import Client, Spending
    from efedllm.client.errors import ClientError, Violation, WorkerFailed
    from efedllm.client.generation import Generation, Piece, Share

_HOMES = {
    "Client": "api",
    "Spending": "api",
    "ClientError": "errors",
    "Violation": "errors",
    "WorkerFailed": "errors",
    "Generation": "generation",
    "Piece": "generation",
    "Share": "generation",
}

__all__ = ["Client", "ClientError", "Generation", "Piece", "Share", "Spending", "Violation", "WorkerFailed"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__} has no attribute {name}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
