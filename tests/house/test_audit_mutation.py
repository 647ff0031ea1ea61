"""Planting faults: which, that each is switched on alone, and that none is switched on otherwise."""

from __future__ import annotations

import re
from collections.abc import Mapping

import pytest

from tools.mutation.campaign import order, sample
from tools.mutation.schema import Chosen, schema, viewed
from tools.mutation.sites import Kind, Mutant, Site, merged, mutants
from tools.mutation.solidity_sites import Definitions, solidity_sites
from tools.mutation.unit import compile_json, errors

FILE = "contracts/X.sol"


def compiled(source: str) -> Mapping[str, object]:
    content = {
        "language": "Solidity",
        "sources": {FILE: {"content": source}},
        "settings": {"outputSelection": {"*": {"": ["ast"], "*": ["abi"]}}},
    }
    return compile_json(content)


def contract(body: str, state: str = "") -> str:
    return f"""// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;
contract X {{
    {state}
    function f(uint256 a, uint256 b) external pure returns (uint256 c) {{ {body} }}
}}
"""


def sites_of(source: str) -> list[Site]:
    output = compiled(source)
    assert errors(output) == []
    tree = output["sources"][FILE]["ast"]  # type: ignore[index]
    return merged(solidity_sites(source.encode(), tree, Definitions.collect(iter([tree]))))


def faults(body: str, state: str = "") -> set[tuple[str, str]]:
    """(original, replacement) of the faults in a function."""
    source = contract(body, state)
    found = mutants(FILE, source.encode(), sites_of(source))
    return {(mutant.original, mutant.replacement) for _, _, mutant in found}


CASES: list[tuple[str, set[tuple[str, str]]]] = [
    ("c = a + b;", {("a + b", "(a - b)"), ("c = a + b;", "")}),
    ("if (a < b) c = a;", {("a < b", text) for text in ("(a <= b)", "(a >= b)", "true", "false")}),
    ("if (a == b && b != a) c = a;", {("a == b && b != a", text) for text in ("(a == b)", "(b != a)")}),
    ("c = a << b;", {("a << b", "(a >> b)")}),
    ("c = a & b;", {("a & b", "(a | b)")}),
    ("c = a % 7;", {("a % 7", "(a / 7)"), ("7", "uint256(7 + 1)"), ("7", "uint256(7 - 1)")}),
    ("c = a * (2 ** 8 - 1);", {("(2 ** 8 - 1)", "uint256((2 ** 8 - 1) + 1)")}),
    ("c += a;", {("c += a;", "c -= a;"), ("c += a;", "c = a;"), ("c += a;", "")}),
    ("return a > b ? a : b;", {("a > b", "(a >= b)"), ("a > b", "false")}),
    ("c = type(uint256).max;", {("type(uint256).max", "(type(uint256).max - 1)")}),
    ("for (uint256 i; i < a; ++i) c += i;", {("i < a", "(i <= a)"), ("i < a", "false")}),
    ("assembly { c := add(a, 1) }", {("add(a, 1)", "sub(a, 1)"), ("1", "sub(1, 1)"), ("c := add(a, 1)", "")}),
    ("assembly { if lt(a, b) { c := 1 } }", {("lt(a, b)", "iszero(gt(a, b))"), ("lt(a, b)", "0")}),
    ("assembly { c := sub(a, shl(4, b)) }", {("sub(a, shl(4, b))", "sub(shl(4, b), a)")}),
    ("assembly { mstore(a, b) }", {("mstore(a, b)", "")}),
]


@pytest.fixture(scope="module")
def faults_of_cases() -> list[set[tuple[str, str]]]:
    """Each case is a function of one contract: starting the compiler takes longer than compiling."""
    parts = [contract(body).split("\n    ", 2)[2].rstrip("}\n") + "}" for body, _ in CASES]
    functions = "\n".join(part.replace("function f", f"function f{i}") for i, part in enumerate(parts))
    source = contract("c = a;", functions)
    found = mutants(FILE, source.encode(), sites_of(source))
    return [
        {(mutant.original, mutant.replacement) for _, _, mutant in found if mutant.scope == f"X.f{i}"}
        for i in range(len(CASES))
    ]


@pytest.mark.parametrize("number", range(len(CASES)), ids=[body for body, _ in CASES])
def test_faults_of_a_place(faults_of_cases: list[set[tuple[str, str]]], number: int) -> None:
    assert CASES[number][1] <= faults_of_cases[number]


def test_a_constant_is_changed_where_it_is_used() -> None:
    found = faults("c = LIMIT;", "uint256 private constant LIMIT = 5;")
    assert {("LIMIT", "(LIMIT + 1)"), ("LIMIT", "(LIMIT - 1)")} <= found
    assert not any(original == "5" for original, _ in found)


def test_neighbouring_arguments_of_one_type_are_exchanged() -> None:
    source = contract(
        "c = g(a, b);", "function g(uint256 x, uint256 y) private pure returns (uint256) { return x - y; }"
    )
    texts = [mutant.replacement for _, _, mutant in mutants(FILE, source.encode(), sites_of(source))]
    assert "g(b, a)" in texts


@pytest.mark.parametrize(
    "body",
    [
        "for (uint256 i; i < a; ++i) c = i;",
        "assembly { for { let i := 0 } lt(i, a) { i := add(i, 1) } { c := i } }",
    ],
)
def test_the_step_of_a_loop_is_not_removed(body: str) -> None:
    """A loop without an end tells nothing about the tests."""
    assert not {("++i", ""), ("++i;", ""), ("i := add(i, 1)", "")} & faults(body)


def test_calls_in_assembly_are_made_once() -> None:
    """Both texts of a place are computed, so neither may call."""
    source = contract("assembly { c := add(a, staticcall(b, a, 0, 0, 0, 0)) }").replace("pure", "view")
    found = {mutant.original for _, _, mutant in mutants(FILE, source.encode(), sites_of(source))}
    assert found == {"c := add(a, staticcall(b, a, 0, 0, 0, 0))", "0"}


def test_equal_faults_of_a_function_are_told_apart() -> None:
    source = contract("c = a + b; c = a + b;")
    names = [mutant.name for _, _, mutant in mutants(FILE, source.encode(), sites_of(source))]
    assert f"{FILE} X.f: a + b -> (a - b)" in names
    assert f"{FILE} X.f: a + b -> (a - b) #2" in names
    assert len(names) == len(set(names))


SOURCES = [
    contract("if (a < b && a != 3) { c = a + b * 2; } else c = a - 1; c ^= 1;"),
    contract("assembly { for { let i := 0 } lt(i, a) { i := add(i, 1) } { if eq(i, b) { break } c := add(c, i) } }"),
    contract('c = a; if (c == 0) revert("zero");')
    .replace("pure returns", "pure only(a) returns")
    .replace("    function f", "    modifier only(uint256 x) { if (x > 9) revert(); _; }\n    function f"),
]


@pytest.mark.parametrize("source", SOURCES)
def test_a_schema_with_every_fault_compiles(source: str) -> None:
    numbered = dict(enumerate(mutants(FILE, source.encode(), sites_of(source)), start=1))
    chosen: dict[Site, dict[int, str]] = {}
    for number, (site, text, _) in numbered.items():
        chosen.setdefault(site, {})[number] = text
    carried = schema(source.encode(), [Chosen(site, chosen.get(site, {})) for site in sites_of(source)])
    assert errors(compiled(carried.text.decode())) == []
    assert carried.places.keys() == numbered.keys()
    text = carried.text.decode()
    for number in numbered:
        assert len(re.findall(rf"(?:fault__|choose__|coinbase\(\), )\(?{number}\b", text)) in {
            1,
            2,
        }  # twice in the copy of a modifier
    for number, (start, end) in carried.places.items():
        assert number in carried.faults_at(start)
        assert end > start


def test_a_schema_without_faults_is_the_source() -> None:
    source = SOURCES[0].encode()
    assert schema(source, []).text.startswith(viewed(source))
    assert len(viewed(source)) == len(source)


def test_a_place_outside_of_all_sites_belongs_to_no_fault() -> None:
    site = Site(3, 5, Kind.EXPRESSION, ("b",), "X.f")
    carried = schema(b"a = aa;", [Chosen(site, {7: "b"})])
    assert carried.faults_at(0) == []


def test_a_sample_is_the_same_each_time_and_another_for_another_seed() -> None:
    all_of_them = [Mutant(FILE, "X.f", i, f"a{i}", "b", 1) for i in range(50)]
    first = sample(all_of_them, 10, 1)
    assert len(first) == 10
    assert sample(list(reversed(all_of_them)), 10, 1) == first
    assert sample(all_of_them, 10, 2) != first
    assert sample(all_of_them, None, 1) == frozenset(all_of_them) == sample(all_of_them, 50, 1)


def test_suites_of_the_file_come_first_then_the_quick_ones() -> None:
    suites = {"InvariantsTest": 900, "YTest": 5, "XTest": 300, "XSlowTest": 400}
    assert order(suites, FILE) == ["XTest", "XSlowTest", "YTest", "InvariantsTest"]
