"""`--max-gas-price`: in gwei, with a default, refused when it is no price."""

from __future__ import annotations

import argparse

import pytest

from efedllm.options import DEFAULT_MAX_GAS_PRICE, add_gas_option

GWEI = 10**9


def parsed(*arguments: str) -> int:
    parser = argparse.ArgumentParser()
    add_gas_option(parser)
    return int(parser.parse_args(arguments).max_gas_price)


@pytest.mark.parametrize(
    ("text", "wei"), [("30", 30 * GWEI), ("0.5", GWEI // 2), ("0.000000001", 1), ("1e3", 1000 * GWEI)]
)
def test_gwei(text: str, wei: int) -> None:
    assert parsed("--max-gas-price", text) == wei


def test_default_is_finite() -> None:
    assert parsed() == DEFAULT_MAX_GAS_PRICE == 500 * GWEI


@pytest.mark.parametrize("text", ["0", "-1", "", "cheap", "nan", "inf", "1e999999999", "0.0000000001"])
def test_no_price(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parsed(f"--max-gas-price={text}")
    assert "is not a positive number of gwei" in capsys.readouterr().err
