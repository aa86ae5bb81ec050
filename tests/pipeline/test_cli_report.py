"""vqasr report on the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from click.testing import CliRunner, Result

from pipeline.cli import cli
from pipeline.errors import UserError

ROW: dict[str, Any] = {
    "test_set": "test",
    "budget": "1min",
    "budget_seconds": 58.0,
    "seed": 1,
    "recipe": "demo",
    "frontend": "log_mel",
    "decoder": "greedy",
    "fold": None,
    "wer": 0.25,
    "wer_low": 0.2,
    "wer_high": 0.3,
    "cer": 0.1,
    "reference_words": 80,
    "lm_text": "the grammar",
    "lm_perplexity": 7.5,
    "dev_seconds": 90.0,
}


def call(*args: object) -> Result:
    return CliRunner().invoke(cli, ["report", *map(str, args)])


def results(tmp_path: Path) -> Path:
    path = tmp_path / "results.json"
    path.write_text(json.dumps([ROW]))
    return path


def test_a_page_is_written_where_it_is_wanted(tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    result = call(results(tmp_path), "-o", path, "--exp", tmp_path / "exp")
    assert result.exception is None
    assert "25.0" in path.read_text()
    assert f"{path}: 1 recipe" in result.output.replace("\n", "")


def test_a_page_is_of_words_unless_characters_are_asked_for(tmp_path: Path) -> None:
    path, there = tmp_path / "page.html", results(tmp_path)
    for args, name in (((), "Word"), (("--metric", "cer"), "Character")):
        assert call(there, "-o", path, "--exp", tmp_path / "exp", *args).exception is None
        assert f"<h1>{name} error rate by label budget</h1>" in path.read_text()
    assert call(there, "-o", path, "--metric", "ser").exit_code == 2


def test_wrong_arguments_are_told_and_nothing_is_written(tmp_path: Path) -> None:
    page, exp = tmp_path / "page.html", tmp_path / "exp"
    there = results(tmp_path)
    cases: list[tuple[list[object], str]] = [
        ([tmp_path / "no" / "such.json"], "is not there"),
        (["nothing"], "nothing has no results"),
        (["recipe.yaml"], "has no results"),
        ([there, "--set", "seed=2"], "--set changes recipes' files"),
        (
            [there, "-o", tmp_path / "no where" / "page.html"],
            f"is not there.\n  remedy: make it (mkdir -p '{tmp_path}/no where')",
        ),
    ]
    for args, told in cases:
        result = call("-o", page, "--exp", exp, *args)
        assert isinstance(result.exception, UserError), args
        assert told in str(result.exception)
    assert not page.exists()
