"""`efedllm model register`: announce a built model."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import TYPE_CHECKING

from efedllm.options import add_key_options, emit

if TYPE_CHECKING:
    from argparse import _SubParsersAction

    from efedllm.chain.chain import Chain


def add_parser(subparsers: _SubParsersAction[ArgumentParser]) -> None:
    """`subparsers` are those of `efedllm model`."""
    parser = subparsers.add_parser(
        "register",
        help="put a built model into the registry",
        description="Put a built model into the registry. Anybody may, it costs gas only, and twice is harmless.",
    )
    parser.add_argument("model", metavar="OUT", type=Path, help="folder of a built model")
    parser.add_argument("--name", help="what people call it (default: its name in model.json)")
    add_key_options(parser)
    parser.set_defaults(run=run)


def run(arguments: Namespace) -> int:
    from .network import run_on_chain

    return run_on_chain(arguments, _register)


async def _register(arguments: Namespace, chain: Chain) -> int:
    from efedllm.model.load import read_manifest
    from efedllm.model.spec import model_spec
    from efedllm.protocol.model_spec import model_id

    from .network import own_sender

    manifest = read_manifest(arguments.model)
    spec = model_spec(manifest, chain.deployment.contracts.step_verifier)
    name = arguments.name or manifest.name
    is_new = not await chain.models.is_registered(model_id(spec))
    if is_new:
        await own_sender(arguments, chain).send(chain.models.register(spec, name))
    shown = "0x" + model_id(spec).hex()
    result = {"model_id": shown, "name": name, "layers": spec.layers, "new": is_new}
    emit(arguments, result, f"{name} {'is' if is_new else 'was already'} registered as {shown}")
    return 0
