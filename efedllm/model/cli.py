"""Commands `efedllm model build` and `efedllm model show`."""

from __future__ import annotations

import json
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from efedllm.model.errors import ModelError

if TYPE_CHECKING:
    from argparse import _SubParsersAction

    from efedllm.model.format import Manifest


def add_parser(subparsers: _SubParsersAction[ArgumentParser]) -> None:
    """Add `model` to the command line."""
    parser = subparsers.add_parser("model", help="build a model in integer form, or show one")
    commands = parser.add_subparsers(dest="model_command", required=True)

    build = commands.add_parser("build", help="convert a float checkpoint of the Llama family")
    build.add_argument("source", metavar="SRC", help="checkpoint folder, or a hub id where there is a network")
    build.add_argument("-o", "--out", metavar="OUT", type=Path, required=True, help="folder to write")
    build.add_argument("--text", metavar="FILE", type=Path, help="measure the perplexity of both forms on this text")
    build.add_argument("--name", help="the model's name; by default the last part of SRC")
    build.add_argument("--force", action="store_true", help="replace a built model at OUT")
    build.add_argument("--json", action="store_true", help="one JSON object on standard output")
    build.set_defaults(run=run_build)

    show = commands.add_parser("show", help="what a built model is; reads its manifest only")
    show.add_argument("model", metavar="OUT", type=Path, help="folder of a built model")
    show.add_argument("--json", action="store_true", help="one JSON object on standard output")
    show.set_defaults(run=run_show)


def run_build(arguments: Namespace) -> int:
    text = None if arguments.text is None else _read_text(arguments.text)
    from efedllm.model.build import build

    with _progress_bar() as tell:
        manifest = build(
            arguments.source, arguments.out, text, progress=tell, name=arguments.name, force=arguments.force
        )
    _print(manifest, arguments.out, arguments.json)
    return 0


def run_show(arguments: Namespace) -> int:
    from efedllm.model.load import read_manifest

    _print(read_manifest(arguments.model), arguments.model, arguments.json)
    return 0


def _print(manifest: Manifest, folder: Path, as_json: bool) -> None:
    report = _report(manifest, folder)
    if as_json:
        print(json.dumps(report))
        return
    width = max(len(key) for key in report)
    for key, value in report.items():
        if value is not None:
            print(f"{key.replace('_', ' '):{width}}  {_plain(value)}")


def _report(manifest: Manifest, folder: Path) -> dict[str, Any]:
    from efedllm.model.optable import op_table_hash
    from efedllm.numerics.limits import SEMANTICS

    quality = asdict(manifest.quality) if manifest.quality else {}
    return {
        "name": manifest.name,
        "folder": str(folder),
        "semantics": SEMANTICS,
        "weights": sum(spec.rows * spec.columns for spec in manifest.layout.tensors.values()),
        **asdict(manifest.dimensions),
        "weights_root": manifest.weights_root.hex(),
        "op_table_hash": op_table_hash().hex(),
        "tokenizer_hash": manifest.tokenizer_hash.hex(),
        "stop_ids": list(manifest.stop_ids),
        "perplexity_float": quality.get("perplexity_float"),
        "perplexity_integer": quality.get("perplexity_integer"),
        "perplexity_tokens": quality.get("tokens"),
    }


def _plain(value: object) -> str:
    match value:
        case bool():
            return "yes" if value else "no"
        case int():
            return f"{value:,}"
        case float():
            return f"{value:.4f}"
        case list():
            return " ".join(map(str, value)) or "none"
        case _:
            return str(value)


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ModelError(f"{path}: cannot be read as text ({error})") from error


@contextmanager
def _progress_bar() -> Iterator[Callable[[str, int, int], None]]:
    """A progress bar on standard error, one line per phase of the work."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description:24}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(file=sys.stderr), transient=True) as progress:
        task = progress.add_task("reading")

        def tell(what: str, done: int, total: int) -> None:
            progress.update(task, description=what, completed=done, total=total)

        yield tell
