"""keys and fund."""

from collections.abc import Callable

import pytest

from tests.support.chain import ETHER, WORK
from tests.support.cli import Person

People = Callable[[str], Person]


def test_keys_new_makes_what_is_missing(person: People) -> None:
    someone = person("someone")
    first = someone.run("keys", "new", "hot", "--light", "--json").json["keys"]
    assert [key["role"] for key in first] == ["hot"]
    second = someone.run("keys", "new", "--light", "--json").json["keys"]
    assert [key["role"] for key in second] == ["cold", "session"]
    assert someone.run("keys", "new", "--light", "--json").json["keys"] == []
    listed = someone.run("keys", "list", "--json").json["keys"]
    assert [key["role"] for key in listed] == ["cold", "hot", "session"]
    assert first[0] in listed


def test_keys_new_never_replaces(person: People) -> None:
    someone = person("someone")
    someone.run("keys", "new", "--light")
    result = someone.run("keys", "new", "cold", "--light")
    assert result.code == 1
    assert "it is kept as it is" in result.err


def test_keys_new_unknown_role(person: People) -> None:
    result = person("someone").run("keys", "new", "warm")
    assert result.code == 1
    assert "no such role: warm; there are cold, hot, session" in result.err


def test_keys_list_without_any(person: People) -> None:
    someone = person("someone")
    assert someone.run("keys", "list", "--json").json == {"keys": []}
    assert "run `efedllm keys new`" in someone.run("keys", "list").out


def test_keys_are_not_shown(person: People) -> None:
    """Addresses have 40 digits; nothing longer may appear."""
    someone = person("someone")
    made = someone.run("keys", "new", "--light")
    words = (made.out + made.err + someone.run("keys", "list").out).split()
    assert not [word for word in words if word.startswith("0x") and len(word) != 42]


def test_fund_defaults_to_own_keys(person: People) -> None:
    someone = person("someone")
    someone.run("keys", "new", "--light")
    funded = someone.json("fund", "--work", "5", "--eth", "0.5")["funded"]
    assert [(entry["eth"], entry["work"]) for entry in funded] == [
        (str(ETHER // 2), str(5 * WORK)),
        (str(ETHER // 2), "0"),
    ]
    own = someone.json("status")["own"]
    assert (own["address"], own["eth"], own["work"]) == (someone.address, str(ETHER // 2), str(5 * WORK))


def test_fund_named_addresses(person: People) -> None:
    addresses = ["0x" + "0a" * 20, "0x" + "0b" * 20]
    funded = person("someone").json("fund", *addresses, "--eth", "0")["funded"]
    assert [(entry["address"].lower(), entry["eth"], entry["work"]) for entry in funded] == [
        (address, "0", str(10_000 * WORK)) for address in addresses
    ]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["0x12"], "'0x12' is not an address"),
        (["0x" + "11" * 20, "--work", "much"], "not a positive decimal number"),
        (["0x" + "11" * 20, "--work", "2000000000"], "are needed"),
        ([], "run `efedllm keys new` or name an address"),
    ],
)
def test_fund_refuses(person: People, words: list[str], message: str) -> None:
    result = person("someone").on_chain("fund", *words)
    assert result.code == 1
    assert message in result.err
