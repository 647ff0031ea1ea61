"""The model commands, as a person types them."""

from __future__ import annotations

import json
from argparse import ArgumentParser
from pathlib import Path

import pytest

from efedllm.model.cli import add_parser
from efedllm.model.errors import ModelError
from efedllm.model.load import read_manifest


def run(*words: str) -> int:
    parser = ArgumentParser()
    add_parser(parser.add_subparsers(required=True))
    arguments = parser.parse_args(words)
    code: int = arguments.run(arguments)
    return code


def test_build_then_show(checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text, out = tmp_path / "text.txt", tmp_path / "out"
    text.write_text("To be, or not to be, that is the question. " * 9)
    words = ["model", "build", str(checkpoint), "-o", str(out), "--name", "bard", "--text", str(text), "--json"]
    assert run(*words) == 0
    built = json.loads(capsys.readouterr().out)
    manifest = read_manifest(out)
    assert manifest.quality is not None
    assert built["perplexity_float"] == manifest.quality.perplexity_float
    assert built["perplexity_integer"] == manifest.quality.perplexity_integer
    assert built["weights_root"] == manifest.weights_root.hex()
    assert (built["name"], built["layers"], built["tied"], built["folder"]) == ("bard", 3, True, str(out))

    assert run("model", "show", str(out), "--json") == 0
    assert json.loads(capsys.readouterr().out) == built
    assert run("model", "show", str(out)) == 0
    shown = capsys.readouterr().out
    assert f"weights root        {manifest.weights_root.hex()}\n" in shown
    assert f"perplexity integer  {manifest.quality.perplexity_integer:.4f}\n" in shown
    assert "tied                yes\n" in shown and "stop ids            3 7\n" in shown


def test_without_a_text_nothing_is_measured(built: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("model", "show", str(built), "--json") == 0
    assert json.loads(capsys.readouterr().out)["perplexity_float"] is None
    assert run("model", "show", str(built)) == 0
    assert "perplexity" not in capsys.readouterr().out


def test_force_replaces(checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = str(tmp_path / "out")
    assert run("model", "build", str(checkpoint), "-o", out) == 0
    assert "name                tied\n" in capsys.readouterr().out
    with pytest.raises(ModelError, match="exists already"):
        run("model", "build", str(checkpoint), "-o", out, "--name", "other")
    assert run("model", "build", str(checkpoint), "-o", out, "--name", "other", "--force") == 0
    assert read_manifest(Path(out)).name == "other"


def test_an_unreadable_text_is_told_before_the_work(checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    for name in ("missing", "binary"):
        with pytest.raises(ModelError, match=f"{name}: cannot be read as text"):
            run("model", "build", str(checkpoint), "-o", str(tmp_path / "out"), "--text", str(tmp_path / name))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("words", [["model"], ["model", "build", "x"], ["model", "show", "x", "--colour"]])
def test_usage(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        run(*words)
    assert "usage:" in capsys.readouterr().err
