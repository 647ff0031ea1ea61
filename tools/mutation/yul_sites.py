"""Faults in assembly."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from tools.mutation.sites import Kind, Node, Site, children, descend, place

FUNCTIONS: Mapping[str, tuple[str, ...]] = {
    "add": ("sub",),
    "sub": ("add",),
    "mul": ("div",),
    "div": ("mul",),
    "sdiv": ("div",),
    "mod": ("div",),
    "smod": ("mod",),
    "and": ("or",),
    "or": ("and",),
    "xor": ("or",),
    "shl": ("shr",),
    "shr": ("shl",),
    "sar": ("shr",),
    "lt": ("gt",),
    "gt": ("lt",),
    "slt": ("sgt",),
    "sgt": ("slt",),
    "addmod": ("mulmod",),
    "mulmod": ("addmod",),
    "signextend": ("byte",),
}
# With the other side of the boundary: a < b -> a <= b.
_BOUNDARIES: Mapping[str, str] = {"lt": "gt", "gt": "lt", "slt": "sgt", "sgt": "slt"}
_SWAPPED = frozenset({"sub", "div", "mod", "smod", "sdiv"})
# Both texts of a site are computed before one is taken, so neither may do anything.
_EFFECTS = frozenset({"call", "callcode", "create", "create2", "delegatecall", "staticcall"})


def yul_sites(source: bytes, assembly: Node, constants: Mapping[int, str], scope: str) -> Iterator[Site]:
    """Sites of one assembly statement; the first is the block itself."""
    outer = {
        tuple(int(part) for part in reference["src"].split(":"))[:2]: constants[reference["declaration"]]
        for reference in assembly["externalReferences"]
        if reference["declaration"] in constants
    }
    block = assembly["AST"]
    yield Site(*place(block), Kind.YUL_BLOCK, (), scope)
    yield from _Walk(source, outer, scope).sites(block, None)


class _Walk:
    def __init__(self, source: bytes, constants: Mapping[tuple[int, ...], str], scope: str) -> None:
        self._source = source
        self._constants = constants
        self._scope = scope

    def sites(self, node: Node, parent: Node | None) -> Iterator[Site]:
        kind = node["nodeType"]
        if kind in {"YulTypedName", "YulFunctionDefinition"}:
            if kind == "YulFunctionDefinition":
                yield from self.sites(node["body"], node)
            return
        texts = tuple(self._expressions(node, parent))
        if texts:
            yield Site(*place(node), Kind.YUL_EXPRESSION, texts, self._scope)
        if self._is_removable(node, parent):
            yield Site(*place(node), Kind.YUL_STATEMENT, ("",), self._scope)
        for child in children(node):
            if kind == "YulForLoop" and child is node["post"]:
                # Its expressions only: a loop without a step never ends, which tells nothing about the tests.
                yield from (site for site in self.sites(child, node) if site.kind is Kind.YUL_EXPRESSION)
                continue
            is_target = kind == "YulAssignment" and child in node["variableNames"]
            is_name = kind == "YulFunctionCall" and child is node["functionName"]
            is_case_value = kind == "YulCase" and child is node["value"]
            if not (is_target or is_name or is_case_value):
                yield from self.sites(child, node)

    def _text(self, node: Node) -> str:
        start, end = place(node)
        return self._source[start:end].decode()

    def _is_removable(self, node: Node, parent: Node | None) -> bool:
        return node["nodeType"] in {"YulExpressionStatement", "YulAssignment", "YulBreak", "YulContinue", "YulLeave"}

    def _expressions(self, node: Node, parent: Node | None) -> Iterator[str]:
        if any(self._callee(part) in _EFFECTS for part in descend(node)):
            return
        text = self._text(node)
        match node["nodeType"]:
            case "YulLiteral" if node["kind"] == "number":
                yield f"add({text}, 1)"
                if int(node["value"], 0):
                    yield f"sub({text}, 1)"
            case "YulIdentifier" if place_key(node) in self._constants:
                yield f"add({text}, 1)"
            case "YulFunctionCall":
                yield from self._calls(node)
        if parent is not None and node is parent.get("condition"):
            yield "0"
            if parent["nodeType"] == "YulIf":
                yield "1"

    def _calls(self, node: Node) -> Iterator[str]:
        name, arguments = self._callee(node), [self._text(argument) for argument in node["arguments"]]
        inside = ", ".join(arguments)
        yield from (f"{other}({inside})" for other in FUNCTIONS.get(name, ()))
        if name in _BOUNDARIES:
            yield f"iszero({_BOUNDARIES[name]}({inside}))"
        if name in _SWAPPED:
            yield f"{name}({', '.join(reversed(arguments))})"
        if name in {"not", "iszero"}:
            yield inside if name == "not" else f"iszero(iszero({inside}))"
        if name == "eq":
            yield f"iszero(eq({inside}))"

    @staticmethod
    def _callee(node: Node) -> str:
        return str(node["functionName"]["name"]) if node["nodeType"] == "YulFunctionCall" else ""


def place_key(node: Node) -> tuple[int, int]:
    start, end = place(node)
    return start, end - start
