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


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory: a folder recipes/ of eight, which nothing has to read."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "recipes").mkdir()
    for name in ("demo", "digits", "digits_mfcc", "digits_units", "read", *"xyz"):
        (tmp_path / "recipes" / f"{name}.yaml").touch()
    return tmp_path


@pytest.mark.parametrize("name", ["digits", "digits.yaml", "digit.yaml", "digits.yml"])
def test_a_recipe_is_found_in_the_folder_of_recipes(here: Path, name: str) -> None:
    told = refused("run", name).what
    assert told.startswith(f"No such recipe: {name}; did you mean recipes/digits.yaml?")


@pytest.mark.parametrize("below", ["recipes/digit.yaml", "recipes/digits"])
def test_a_recipe_like_it_is_named_by_the_shorter_path(here: Path, below: str) -> None:
    told = refused("run", here / below).what
    assert "; did you mean recipes/digits.yaml? There are also: recipes/digits_" in told
    assert told.count(str(here)) == 1  # as it was given
    assert "demo" not in told


def test_of_recipes_unlike_it_a_few_are_listed(here: Path) -> None:
    told = refused("run", "recipes/nothing_like_it.yaml").what
    listed = ", ".join(f"recipes/{n}.yaml" for n in ("demo", "digits", "digits_mfcc"))
    assert told.endswith(f"; there are {listed}, recipes/digits_units.yaml and 4 more")


@pytest.mark.parametrize(
    ("base", "told"),
    [
        ("demo.yaml", "demo.yaml is not beside it"),
        ("recipes/dem.yaml", "there is no recipes/dem.yaml; did you mean recipes/demo.yaml?"),
        ("/absent/demo.yaml", "there is no /absent/demo.yaml"),
    ],
)
def test_a_base_that_is_not_there_is_told_with_the_recipe_that_asks(
    here: Path, base: str, told: str
) -> None:
    (here / "my.yaml").write_text(f"base: {base}\n")
    error = refused("run", "my.yaml")
    assert error.what == f"my.yaml: base: {told}"
    name = Path(base).name
    assert error.remedy.startswith(f"copy {name} beside it, or write a path")
