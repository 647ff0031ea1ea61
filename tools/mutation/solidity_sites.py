"""Faults in Solidity: which places of a syntax tree take which other texts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from tools.mutation.sites import Kind, Node, Site, children, descend, place
from tools.mutation.yul_sites import yul_sites

OPERATORS: Mapping[str, tuple[str, ...]] = {
    "+": ("-",),
    "-": ("+",),
    "*": ("/",),
    "/": ("*",),
    "%": ("/",),
    "**": ("*",),
    "<<": (">>",),
    ">>": ("<<",),
    "&": ("|",),
    "|": ("&",),
    "^": ("|",),
    "<": ("<=", ">="),
    "<=": ("<", ">"),
    ">": (">=", "<="),
    ">=": (">", "<"),
    "==": ("!=",),
    "!=": ("==",),
    "&&": ("||",),
    "||": ("&&",),
}
ASSIGNMENTS: Mapping[str, tuple[str, ...]] = {
    "+=": ("-=", "="),
    "-=": ("+=", "="),
    "*=": ("/=", "="),
    "/=": ("*=", "="),
    "|=": ("&=", "="),
    "&=": ("|=", "="),
    "^=": ("|=", "="),
    "<<=": (">>=", "="),
    ">>=": ("<<=", "="),
}
TWINS: Mapping[str, str] = {"min": "max", "max": "min", "mulDivDown": "mulDivUp", "mulDivUp": "mulDivDown"}

# Declarations and types compute nothing.
_NO_CODE = frozenset(
    {
        "EnumDefinition",
        "ErrorDefinition",
        "EventDefinition",
        "ImportDirective",
        "InheritanceSpecifier",
        "OverrideSpecifier",
        "ParameterList",
        "PragmaDirective",
        "StructDefinition",
        "StructuredDocumentation",
        "UserDefinedValueTypeDefinition",
        "UsingForDirective",
    }
)
_REMOVABLE = frozenset({"ExpressionStatement", "EmitStatement", "Break", "Continue"})


@dataclass(frozen=True)
class Definitions:
    """What identifiers of all sources may refer to, by the number that the syntax tree gives it."""

    constants: Mapping[int, str]  # type of a constant
    next_member: Mapping[int, str]  # member of an enum -> the one after it, the last one -> the first
    modifiers: Mapping[int, tuple[int, int]]

    @classmethod
    def collect(cls, trees: Iterator[Node]) -> Definitions:
        constants, next_member, modifiers = {}, {}, {}
        for tree in trees:
            for node in descend(tree):
                match node["nodeType"]:
                    case "VariableDeclaration" if node.get("constant"):
                        constants[node["id"]] = _type(node)
                    case "EnumDefinition":
                        members = node["members"]
                        for member, following in zip(members, [*members[1:], members[0]], strict=True):
                            next_member[member["id"]] = following["name"]
                    case "ModifierDefinition":
                        modifiers[node["id"]] = place(node)
        return cls(constants, next_member, modifiers)


def solidity_sites(source: bytes, tree: Node, definitions: Definitions) -> Iterator[Site]:
    """Sites of one source, assembly included, in no particular order."""
    yield from _Walk(source, definitions).sites(tree, None, "")


@dataclass(frozen=True)
class _Walk:
    source: bytes
    definitions: Definitions

    def text(self, node: Node) -> str:
        start, end = place(node)
        return self.source[start:end].decode()

    def sites(self, node: Node, parent: Node | None, scope: str) -> Iterator[Site]:
        kind = node["nodeType"]
        if kind in _NO_CODE or kind.endswith("TypeName") or (kind == "VariableDeclaration" and node.get("constant")):
            return
        if kind == "ContractDefinition" and node["contractKind"] == "interface":
            return
        if kind in {"ContractDefinition", "FunctionDefinition", "ModifierDefinition"}:
            scope = ".".join(filter(None, (scope, node["name"] or node.get("kind", ""))))
        start, end = place(node)
        if kind == "InlineAssembly":
            yield from yul_sites(self.source, node, self.definitions.constants, scope)
            return
        if kind == "ModifierInvocation":
            definition = self.definitions.modifiers.get(node["modifierName"]["referencedDeclaration"])
            if definition:
                yield Site(start, end, Kind.MODIFIER, ("",), scope, definition)
        if kind == "ModifierDefinition":
            yield Site(start, end, Kind.MODIFIER_DEFINITION, (), scope)
        texts = tuple(text for text in self.expressions(node, parent) if text != self.text(node))
        if texts:
            yield Site(start, end, Kind.EXPRESSION, texts, scope)
        statements = tuple(self.statements(node, parent))
        if statements:
            end += self.source[end : end + 1] == b";"
            yield Site(start, end, Kind.STATEMENT, statements, scope)
        if self.is_number(node) or (kind == "FunctionCall" and self.literal_conversion(node)):
            return  # one number is one site, however it is written
        for child in children(node):
            yield from self.sites(child, node, scope)

    # statements

    def statements(self, node: Node, parent: Node | None) -> Iterator[str]:
        kind = node["nodeType"]
        if parent is not None and parent["nodeType"] == "ForStatement" and node is not parent["body"]:
            return  # a loop that never ends tells nothing about the tests
        if kind in _REMOVABLE and not _sets_pointer(node):
            yield ""
        if kind == "ExpressionStatement":
            yield from self.statement_expressions(node["expression"])
        elif kind in {"EmitStatement", "RevertStatement"}:
            call = node["eventCall"] if kind == "EmitStatement" else node["errorCall"]
            keyword = "emit" if kind == "EmitStatement" else "revert"
            yield from (f"{keyword} {text};" for text in self.swaps(call))

    def statement_expressions(self, expression: Node) -> Iterator[str]:
        if expression["nodeType"] == "Assignment":
            left, right = self.text(expression["leftHandSide"]), self.text(expression["rightHandSide"])
            for operator in ASSIGNMENTS.get(expression["operator"], ()):
                yield f"{left} {operator} {right};"
        elif expression["nodeType"] == "FunctionCall":
            yield from (f"{text};" for text in self.swaps(expression))

    # expressions

    def expressions(self, node: Node, parent: Node | None) -> Iterator[str]:
        text = self.text(node)
        if self.is_number(node):
            if parent is None or not self.literal_conversion(parent):
                yield from self.numbers(node, parent)
            return
        match node["nodeType"]:
            case "Literal" if node["kind"] == "bool":
                yield "false" if text == "true" else "true"
            case "Literal" if node["kind"] == "string" and node["value"]:
                yield '""'
            case "Literal" if node["kind"] == "hexString":
                yield 'hex"7f"'
            case "Identifier" | "MemberAccess":
                yield from self.names(node)
            case "BinaryOperation":
                left, right = self.text(node["leftExpression"]), self.text(node["rightExpression"])
                yield from (f"({left} {other} {right})" for other in OPERATORS.get(node["operator"], ()))
                if node["operator"] in {"&&", "||"}:
                    yield from (f"({left})", f"({right})")
            case "UnaryOperation" if node["operator"] in {"!", "-", "~"}:
                yield f"({self.text(node['subExpression'])})"
            case "FunctionCall":
                yield from self.calls(node, parent)
        if parent is not None:
            yield from self.conditions(node, parent)

    def conditions(self, node: Node, parent: Node) -> Iterator[str]:
        if node is not parent.get("condition") or node["nodeType"] == "Literal":
            return
        if parent["nodeType"] in {"IfStatement", "Conditional"}:
            yield "true"
        if parent["nodeType"] in {"IfStatement", "Conditional", "ForStatement", "WhileStatement"}:
            yield "false"

    def is_number(self, node: Node) -> bool:
        """Whether the compiler computes the node: a number, however it is written."""
        return _type(node).startswith("int_const")

    def numbers(self, node: Node, parent: Node | None) -> Iterator[str]:
        if parent is not None and parent["nodeType"] == "TupleExpression" and len(parent["components"]) > 1:
            return  # what it is taken for stands elsewhere
        text = self.text(node)
        wanted = _common_type(node, parent)
        for changed in [f"{text} + 1"] + ([f"{text} - 1"] if _type(node) != "int_const 0" else []):
            yield f"bytes32(uint256({changed}))" if wanted == "bytes32" else f"{wanted}({changed})"

    def names(self, node: Node) -> Iterator[str]:
        declaration, text = node.get("referencedDeclaration"), self.text(node)
        kind = self.definitions.constants.get(declaration or 0, "")
        if kind.startswith(("uint", "int")):
            yield from (f"({text} + 1)", f"({text} - 1)")
        elif kind == "bytes32":
            yield f"bytes32(uint256({text}) ^ 1)"
        elif node["nodeType"] == "MemberAccess":
            if declaration is not None and declaration in self.definitions.next_member:
                yield f"{self.text(node['expression'])}.{self.definitions.next_member[declaration]}"
            elif node["memberName"] in TWINS and _is_type(node["expression"]):
                yield f"({text} {'-' if node['memberName'] == 'max' else '+'} 1)"

    def literal_conversion(self, node: Node) -> bool:
        """`address(0)` and the like, which take no computed number."""
        if node["nodeType"] != "FunctionCall" or node["kind"] != "typeConversion":
            return False
        [argument] = node["arguments"]
        return self.is_number(argument) and not _type(node).startswith(("uint", "int"))

    def calls(self, node: Node, parent: Node | None) -> Iterator[str]:
        if self.literal_conversion(node):
            width = 160 if _type(node).startswith(("address", "contract")) else 8 * int(_type(node)[5:] or 1)
            callee, argument = self.text(node["expression"]), self.text(node["arguments"][0])
            inner = f"uint{width}({argument} + 1)"
            yield f"{callee}(address({inner}))" if _type(node).startswith("contract") else f"{callee}({inner})"
        is_event = parent is not None and parent["nodeType"] in {"EmitStatement", "RevertStatement"}
        if node["kind"] != "functionCall" or _type(node) == "tuple()" or is_event:
            return
        callee = node["expression"]
        if callee.get("memberName") not in {"min", "max"}:  # in which order does not matter to these
            yield from self.swaps(node)
        if callee.get("memberName") in TWINS:
            end = place(callee)[1] - place(node)[0]
            rest = self.text(node).encode()[end:].decode()
            yield f"{self.text(callee['expression'])}.{TWINS[callee['memberName']]}{rest}"
        if parent is not None and parent["nodeType"] == "Return":
            yield from _nothing(_type(node))

    def swaps(self, call: Node) -> Iterator[str]:
        """The call with two neighbouring arguments of one type exchanged."""
        arguments = call["arguments"]
        if call.get("names") or not arguments:
            return
        texts = [self.text(argument) for argument in arguments]
        start, first, last = place(call)[0], place(arguments[0])[0], place(arguments[-1])[1]
        head = self.source[start:first].decode()
        tail = self.source[last : place(call)[1]].decode()
        for i in range(len(arguments) - 1):
            same_type = _plain(_type(arguments[i])) == _plain(_type(arguments[i + 1]))
            if same_type and texts[i] != texts[i + 1]:
                swapped = [*texts[:i], texts[i + 1], texts[i], *texts[i + 2 :]]
                yield f"{head}{', '.join(swapped)}{tail}"


def _sets_pointer(node: Node) -> bool:
    """Whether a reference into storage gets its value here, without which the compiler refuses the function."""
    expression = node.get("expression") or {}
    return expression.get("nodeType") == "Assignment" and _type(expression).endswith("storage pointer")


def _type(node: Node) -> str:
    return str((node.get("typeDescriptions") or {}).get("typeString") or "")


def _is_type(node: Node) -> bool:
    """`type(uint256)`, not a library's name."""
    return node["nodeType"] == "FunctionCall" and _type(node).startswith("type(")


def _plain(kind: str) -> str:
    """The type without where its value lies; numbers and texts in the source are of one type each."""
    if kind.startswith(("int_const", "literal_string")):
        return kind.split()[0]
    return kind.removesuffix(" memory").removesuffix(" calldata").removesuffix(" storage ref")


def _common_type(node: Node, parent: Node | None) -> str:
    """Type as which a number in the source takes part; empty where its surroundings do not say."""
    if parent is None or parent["nodeType"] != "BinaryOperation":
        return ""
    if parent["operator"] in {"<<", ">>", "**"} and node is parent["rightExpression"]:
        return ""
    return str((parent.get("commonType") or {}).get("typeString") or "")


def _nothing(kind: str) -> Iterator[str]:
    """The zero of a value type."""
    if kind.startswith(("uint", "int", "bytes")) and " " not in kind and kind != "bytes":
        yield f"{kind}(0)"
    elif kind in {"address", "bool"}:
        yield "address(0)" if kind == "address" else "false"
