"""The plan over Libri-light's budgets: six folds of ten minutes, all else planned once."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from pipeline.cli import cli
from pipeline.errors import UserError
from pipeline.recipe import Recipe
from pipeline.recipe_file import load
from pipeline.stage import Step
from stages.prepare import sources
from stages.use.chosen import choose
from tests import made_libri

FOLDS = [f"fold{n}" for n in range(6)]
BUDGETS = ["10min", "1h", "10h", "100h"]
MakePlan = Callable[..., list[Step]]


@pytest.fixture
def libri_recipe(
    tmp_path: Path, values: dict[str, Any], write_recipe: Callable[..., Path]
) -> Callable[..., Recipe]:
    """`libri_recipe("section.key=value", ...)`: the small recipe on a small LibriSpeech."""
    root = made_libri.make(tmp_path / "libri")
    values["corpus"] = {"kind": "librispeech", "root": str(root)}
    values |= {"budgets": BUDGETS, "lm": {"order": 2, "text": "train"}}
    path = write_recipe(values, "libri")
    return lambda *changes: load(path, changes)


def test_folds_share_all_but_the_ten_minutes(
    libri_recipe: Callable[..., Recipe], make_plan: MakePlan
) -> None:
    steps = make_plan(libri_recipe("folds=all"))
    own = [s for s in steps if s.fold is not None]
    assert {s.budget for s in own} == {"10min"}
    assert {(s.number, s.stage) for s in own} == {
        (0, "prepare"),
        (5, "finetune"),
        (6, "decode"),
        (7, "score"),
    }
    assert [s.title for s in steps if s.number == 5] == [
        "5 finetune 1h",
        "5 finetune 10h",
        "5 finetune 100h",
        *(f"5 finetune {fold}/10min" for fold in FOLDS),
    ]
    assert len([s for s in steps if s.number in (1, 3) and s.label != "dev"]) == 2
    for told in ("link_name", "artifact_name", "title"):
        assert len({getattr(s, told) for s in steps}) == len(steps)
    seen: set[int] = set()
    for step in steps:
        assert all(id(source) in seen for source in step.inputs.values()), step.title
        seen.add(id(step))


def test_an_official_list_is_read_once_for_all_folds_that_share_it(
    libri_recipe: Callable[..., Recipe], make_plan: MakePlan, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []
    budget_ids = sources.budget_ids

    def counted(settings: Any, budget: str, train: Any) -> Any:
        read.append(budget)
        return budget_ids(settings, budget, train)

    monkeypatch.setattr(sources, "budget_ids", counted)
    make_plan(libri_recipe("folds=all"))
    assert sorted(read) == ["100h", "10h", *["10min"] * 6, "1h"]


def test_a_fold_is_the_recipe_with_that_set(
    libri_recipe: Callable[..., Recipe], make_plan: MakePlan
) -> None:
    def names(*changes: str) -> set[str]:
        return {s.artifact_name for s in make_plan(libri_recipe(*changes))}

    assert names() == names("folds=[fold0]")
    assert names("corpus.ten_minutes=4") == names("folds=[fold4]")
    assert len(names("folds=[fold0, fold4]") - names()) == 1 + 1 + 6 + 2  # 0, 5, 6 and 7 of fold4


def test_a_budget_without_folds_is_exported_without_a_fold(
    libri_recipe: Callable[..., Recipe], make_plan: MakePlan
) -> None:
    recipe = libri_recipe("folds=all")
    steps = make_plan(recipe)
    with pytest.raises(UserError) as caught:
        choose(recipe, steps, "10h", "fold0", None)
    told = "--fold fold0: 10h is the same for all folds"
    assert told in caught.value.text() and "leave --fold out" in caught.value.text()
    assert choose(recipe, steps, "10h", None, None).model.title == "5 finetune 10h"
    chosen = choose(recipe, steps, "10min", "fold3", None)
    assert chosen.model.title == "5 finetune fold3/10min"
    assert {s.fold for s in (chosen.tuned, *chosen.scores)} == {"fold3"}


def test_each_fold_trains_on_its_own_utterances(
    libri_recipe: Callable[..., Recipe], make_plan: MakePlan, context: Callable[..., Any]
) -> None:
    steps = make_plan(libri_recipe("folds=all"))
    train = context("train")
    next(s for s in steps if s.title == "0 prepare train").run(train)
    found = {}
    for step in (s for s in steps if s.label.startswith("budget/")):
        made = context(step.link_name, {"train": train.folder})
        step.run(made)
        found[step.place] = set((made.folder / "ids.txt").read_text().split())
    for n, fold in enumerate(FOLDS):
        assert found[f"{fold}/budget/10min"] == made_libri.ids(f"1h/{n}")
    assert found["budget/1h"] == made_libri.ids(*made_libri.PARTS[:6])
    assert found["budget/10h"] == made_libri.ids(*made_libri.PARTS)
    assert len(found["budget/100h"]) == 24


def test_an_official_budget_is_known_by_its_list(
    libri_recipe: Callable[..., Recipe], make_plan: MakePlan, tmp_path: Path
) -> None:
    def budgets() -> dict[str, str]:
        steps = make_plan(libri_recipe())
        return {s.label: s.signature for s in steps if s.label.startswith("budget/")}

    before = budgets()
    listing = next((tmp_path / "libri/librispeech_finetuning/9h/clean").rglob("*.txt"))
    (listing.parent / f"{listing.read_text().split()[0]}.flac").unlink()
    listing.write_text("".join(listing.read_text().splitlines(keepends=True)[1:]))
    changed = {label for label, told in budgets().items() if told != before[label]}
    assert changed == {"budget/10h"}


def test_rejected_recordings_of_a_list_are_counted(
    libri_recipe: Callable[..., Recipe],
    make_plan: MakePlan,
    context: Callable[..., Any],
    tmp_path: Path,
) -> None:
    damaged = next((tmp_path / "libri/LibriSpeech/train-clean-100/101").rglob("*0001.flac"))
    damaged.write_bytes(b"no audio")
    steps = {s.title: s for s in make_plan(libri_recipe())}
    train = context("train")
    steps["0 prepare train"].run(train)
    made = context("budget", {"train": train.folder})
    steps["0 prepare budget/10min"].run(made)
    ids = set((made.folder / "ids.txt").read_text().split())
    assert ids == made_libri.ids("1h/0") - {damaged.stem}
    assert '"rejected": 1' in (made.folder / "summary.json").read_text()


def test_a_split_of_fewer_utterances_than_published_says_so_and_keeps_it(
    libri_recipe: Callable[..., Recipe],
    make_plan: MakePlan,
    context: Callable[..., Any],
    capsys: pytest.CaptureFixture[str],
) -> None:
    made = context("dev")
    next(s for s in make_plan(libri_recipe()) if s.title == "0 prepare dev").run(made)
    summary = json.loads((made.folder / "summary.json").read_text())
    fewer = [{"name": "dev-other", "found": 3, "published": 2864}]
    assert summary["incomplete_sets"] == fewer
    assert "fewer utterances than published, used as they are: dev-other 3 of 2864" in (
        capsys.readouterr().out
    )


def test_transcripts_without_audio_are_counted(
    libri_recipe: Callable[..., Recipe],
    make_plan: MakePlan,
    context: Callable[..., Any],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    before = make_plan(libri_recipe())
    listing = next((tmp_path / "libri/librispeech_finetuning/1h/0/clean").rglob("*.txt"))
    with open(listing, "a") as file:
        file.write("101-9101-0077 STOP\n")
    steps = make_plan(libri_recipe())
    assert [s.signature for s in steps] == [s.signature for s in before]
    by_title = {s.title: s for s in steps}
    train = context("train")
    by_title["0 prepare train"].run(train)
    assert "without_audio" not in (train.folder / "summary.json").read_text()
    for budget, count in (("10min", 1), ("100h", None)):
        made = context(budget, {"train": train.folder})
        capsys.readouterr()
        by_title[f"0 prepare budget/{budget}"].run(made)
        summary = json.loads((made.folder / "summary.json").read_text())
        assert summary.get("transcripts_without_audio") == count
        told = capsys.readouterr().out
        assert ("without audio in Libri-light's folder, left out: 1 (" in told) == bool(count)
        assert ("101-9101-0077" in told) == bool(count)
    steps = make_plan(libri_recipe("corpus.kind=librilight", "corpus.train=[]", "budgets=[10h]"))
    train = context("light")
    next(s for s in steps if s.title == "0 prepare train").run(train)
    assert json.loads((train.folder / "summary.json").read_text())["transcripts_without_audio"] == 1


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        (["folds=[0]"], "folds: all, or a list of the corpus' folds by name"),
        (["folds=[fold6]"], "there is no fold 'fold6'"),
        (["folds=all", "corpus.ten_minutes=1"], "folds and corpus.ten_minutes contradict"),
        (["corpus.train=[train-clean-360]"], "4 of the 4 utterances of Libri-light's 10min"),
        (["corpus.root=/no/such"], "No such corpus folder: /no/such"),
        (["corpus.root=/no/such", "corpus.download=true"], "without --dry-run downloads"),
        (["corpus.train=[train-clean-600]"], "corpus.train.0"),
    ],
)
def test_wrong_settings_are_told(
    libri_recipe: Callable[..., Recipe], make_plan: MakePlan, changes: list[str], told: str
) -> None:
    with pytest.raises(UserError) as caught:
        make_plan(libri_recipe(*changes))
    assert told in caught.value.text()


def test_neither_status_nor_a_dry_run_downloads(
    libri_recipe: Callable[..., Recipe], tmp_path: Path
) -> None:
    root = tmp_path / "nothing"
    for command in (["status"], ["run", "--dry-run"]):
        told = [*command, str(tmp_path / "libri.yaml"), "--exp", str(tmp_path / "exp")]
        told += ["--set", f"corpus.root={root}", "--set", "corpus.download=true"]
        told += ["--set", "corpus.mirror=http://127.0.0.1:9"]
        result = CliRunner().invoke(cli, told)
        assert isinstance(result.exception, UserError)
        assert not root.exists()
