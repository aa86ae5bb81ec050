"""What is told of the first things that go wrong: a folder not given, a name not quite right."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from pipeline.cli import cli
from pipeline.errors import UserError

RECIPES = Path(__file__).resolve().parents[2] / "recipes"


def refused(*args: object) -> UserError:
    error = CliRunner().invoke(cli, [str(a) for a in args]).exception
    assert isinstance(error, UserError), error
    return error


@pytest.mark.parametrize(
    ("command", "recipe", "named"),
    [
        (["run"], "digits", "utts.tsv"),
        (["status"], "digits_log_mel", "utts.tsv"),
        (["report"], "digits", "utts.tsv"),
        (["export"], "digits", "utts.tsv"),
        (["run", "--dry-run"], "speechocean", "train.tsv"),
    ],
)
def test_a_corpus_folder_that_nobody_gave_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: list[str], recipe: str, named: str
) -> None:
    monkeypatch.chdir(tmp_path)
    more = [tmp_path / "out"] if command == ["export"] else []
    error = refused(*command, RECIPES / f"{recipe}.yaml", *more)
    assert error.what == "corpus.root is not set."
    assert error.remedy == f"--set corpus.root=DIR, the folder that holds {named}"


def test_a_corpus_folder_that_was_given_and_lacks_the_list_is_named(tmp_path: Path) -> None:
    error = refused("run", RECIPES / "digits.yaml", "--set", f"corpus.root={tmp_path}")
    assert error.what == f"No such corpus list: {tmp_path}/utts.tsv"
