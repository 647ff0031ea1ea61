"""Where the state directory is."""

from pathlib import Path

import pytest

from efedllm.storage.state import STATE_VARIABLE, state_dir


def test_a_variable_of_its_own_comes_first(tmp_path: Path) -> None:
    assert state_dir({STATE_VARIABLE: str(tmp_path), "XDG_STATE_HOME": "/elsewhere"}) == tmp_path


def test_then_where_the_desktop_keeps_state(tmp_path: Path) -> None:
    assert state_dir({"XDG_STATE_HOME": str(tmp_path)}) == tmp_path / "efedllm"


@pytest.mark.parametrize("environ", [{}, {"XDG_STATE_HOME": ""}, {"XDG_STATE_HOME": "relative"}])
def test_else_below_the_home_folder(environ: dict[str, str]) -> None:
    assert state_dir(environ) == Path.home() / ".local" / "state" / "efedllm"


def test_tests_never_use_a_persons_own() -> None:
    assert Path.home() not in state_dir().parents
