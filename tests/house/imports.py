"""Who may import whom, and finding those who do not keep to it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LIBRARY = "efedllm"
PROGRAMS = frozenset({"worker", "verifier", "chain_scripts"})
PARTS = frozenset({"protocol", "numerics", "model", "chain", "client", "storage"})
# Packages that only those who compute may load: a client must work without them.
COMPUTE = frozenset({"torch", "transformers", "safetensors", "numpy"})

_ALL_PARTS = frozenset(f"{LIBRARY}.{part}" for part in PARTS)
# What each room may import of the project besides itself and the modules next to efedllm/__init__.py.
ALLOWED: dict[str, frozenset[str]] = {
    "efedllm.protocol": frozenset(),
    "efedllm.numerics": frozenset(),
    "efedllm.model": frozenset({"efedllm.numerics", "efedllm.protocol"}),
    "efedllm.storage": frozenset(),
    "efedllm.chain": frozenset({"efedllm.protocol", "efedllm.storage"}),
    "efedllm.client": frozenset({"efedllm.protocol", "efedllm.chain", "efedllm.storage"}),
    "efedllm": frozenset(),
    "efedllm.cli": _ALL_PARTS | PROGRAMS,
    "efedllm.__main__": frozenset({"efedllm.cli"}),
    "worker": _ALL_PARTS,
    "verifier": _ALL_PARTS,
    "chain_scripts": _ALL_PARTS,
    # Like tests they measure programs and are in no wheel.
    "benchmarks": _ALL_PARTS | {"worker", "verifier", "chain_scripts"},
    "models": _ALL_PARTS,
    "tools": frozenset({"efedllm.chain"}),
}
# `python -m worker` is `efedllm worker`: starting a program may go through the command line, the program itself not.
ALLOWED |= {f"{program}.__main__": ALLOWED[program] | {"efedllm.cli"} for program in ("worker", "verifier")}
WITHOUT_COMPUTE = frozenset({"efedllm", "efedllm.cli"}) | {
    f"efedllm.{part}" for part in ("protocol", "storage", "chain", "client")
}


@dataclass(frozen=True)
class Import:
    """One imported module, as a dotted name from the root of the checkout."""

    module: str
    line: int
    is_relative: bool


def room(module: str) -> str:
    """The package whose rules hold for a module: `efedllm.protocol.merkle` -> `efedllm.protocol`."""
    names = module.split(".")
    if names[0] != LIBRARY:
        return names[0]
    if len(names) > 1 and (names[1] in PARTS or f"{LIBRARY}.{names[1]}" in ALLOWED):
        return f"{LIBRARY}.{names[1]}"
    return LIBRARY


def imports(source: str, module: str, is_package: bool) -> Iterator[Import]:
    """Every import in `source`, wherever it stands, with relative ones resolved.

    `from a.b import c` yields `a.b.c`: whether c is a module or a name in a.b, the room is the same or inside it.
    """
    package = module.split(".") if is_package else module.split(".")[:-1]
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (Import(alias.name, node.lineno, False) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            names = [*base, *(node.module.split(".") if node.module else [])]
            yield from (Import(".".join([*names, alias.name]), node.lineno, node.level > 0) for alias in node.names)
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in {"import_module", "importlib.import_module"}:
            target = node.args[0]
            if isinstance(target, ast.Constant) and isinstance(target.value, str):
                yield Import(target.value, node.lineno, False)


def violations(source: str, module: str, is_package: bool = False) -> list[str]:
    """What a module imports against the rules: one line each, with the place."""
    own = room(module)
    allowed = ALLOWED.get(module, ALLOWED[own])
    found = []
    for item in imports(source, module, is_package):
        target = room(item.module)
        top = item.module.split(".")[0]
        if top in COMPUTE and own in WITHOUT_COMPUTE:
            found.append(f"{module}:{item.line} imports {item.module}, which a client does not have")
        elif own in PROGRAMS and top == own and not item.is_relative:
            found.append(f"{module}:{item.line} imports {item.module}: use a relative import, the wheel renames it")
        elif target in ALLOWED and target not in {own, LIBRARY} and target not in allowed:
            found.append(f"{module}:{item.line} imports {item.module}: {own} must not import {target}")
    return found


def project_modules() -> Iterator[tuple[Path, str, bool]]:
    """(file, module name, whether it is a package) of every Python file that the rules hold for."""
    for folder in sorted({name.split(".")[0] for name in ALLOWED}):
        for path in sorted((ROOT / folder).rglob("*.py")):
            names = path.relative_to(ROOT).with_suffix("").parts
            is_package = names[-1] == "__init__"
            yield path, ".".join(names[:-1] if is_package else names), is_package
