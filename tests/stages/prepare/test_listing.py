"""What a corpus' lists came to is remembered, and forgotten as soon as it may be another."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.recipe import Recipe
from pipeline.recipe_file import load
from pipeline.stage import Step
from stages.plan import plan
from stages.prepare import listing, sources
from stages.prepare.hashes import FileHashes
from tests import made_libri

MakeRecipe = Callable[..., Recipe]
HEADER = "utt_id\tspeaker\tpath\ttranscript\n"
LONG_AGO = time.time_ns() - 3_600 * 10**9


@pytest.fixture(autouse=True)
def every_corpus_is_worth_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listing, "WORTH", 1)


@pytest.fixture
def exp(tmp_path: Path) -> Path:
    (tmp_path / "exp" / "store").mkdir(parents=True)
    return tmp_path / "exp"


def age(folder: Path) -> None:
    """Let all in it have been written long ago: what is new may yet change unseen."""
    for path in [*folder.rglob("*"), folder]:
        os.utime(path, ns=(LONG_AGO, LONG_AGO))


def planned(recipe: Recipe, exp: Path, mode: str = "look") -> list[Step]:
    return plan(recipe, FileHashes(exp / "store" / "files.json", mode))


def signatures(steps: list[Step]) -> dict[str, str]:
    return {step.title: step.signature for step in steps}


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """One more entry each time that the lists of a corpus are read."""
    told: list[int] = []
    splits = sources.splits

    def counted(settings: Any) -> Any:
        told.append(1)
        return splits(settings)

    monkeypatch.setattr(sources, "splits", counted)
    return told


@pytest.mark.parametrize("mode", ["trust", "look"])
def test_what_did_not_change_is_not_read_again(
    make_recipe: MakeRecipe, corpus: Path, exp: Path, reads: list[int], mode: str
) -> None:
    age(corpus)
    recipe = make_recipe("corpus.unlabelled=[more.tsv]")
    first = planned(recipe, exp)
    assert len(reads) == 1
    again = planned(recipe, exp, mode)
    assert len(reads) == 1
    assert signatures(again) == signatures(first)
    # What a step works with is read when it is asked for, and is the same.
    for one, other in zip(first, again, strict=True):
        if one.stage == "prepare" and one.audio_root is not None:
            assert dict(other.audio_files) == dict(one.audio_files)
            assert other.audio_root == one.audio_root
            assert list(other.run.keywords["sources"]) == list(one.run.keywords["sources"])
    assert len(reads) == 2


def change_list(corpus: Path, exp: Path) -> None:
    path = corpus / "dev.tsv"
    path.write_text(path.read_text().replace("stop", "turn left", 1))
    os.utime(path, ns=(LONG_AGO + 5, LONG_AGO + 5))


def add_line(corpus: Path, exp: Path) -> None:
    with open(corpus / "train.tsv", "a") as file:
        file.write("train-99\ta\taudio/more-00.wav\tstop\n")
    os.utime(corpus / "train.tsv", ns=(LONG_AGO, LONG_AGO))


def change_audio(corpus: Path, exp: Path) -> None:
    path = corpus / "audio" / "test-00.wav"
    path.write_bytes(path.read_bytes()[:-2] + b"xx")


def remove_audio(corpus: Path, exp: Path) -> None:
    (corpus / "audio" / "test-00.wav").unlink()


def add_file(corpus: Path, exp: Path) -> None:
    (corpus / "another.txt").write_text("")


def other_hashes(corpus: Path, exp: Path) -> None:
    with open(exp / "store" / "files.json", "a") as file:
        file.write(json.dumps(["/elsewhere.wav", 1, 2, "sha"]) + "\n")


def damage(corpus: Path, exp: Path) -> None:
    (path,) = (exp / "store" / "lists").glob("*.json")
    path.write_bytes(path.read_bytes()[:-9])


@pytest.mark.parametrize(
    "change",
    [change_list, add_line, change_audio, remove_audio, add_file, other_hashes, damage],
)
def test_what_changed_is_planned_as_without_a_memory(
    make_recipe: MakeRecipe, corpus: Path, exp: Path, reads: list[int], change: Any
) -> None:
    age(corpus)
    recipe = make_recipe()
    before = signatures(planned(recipe, exp))
    change(corpus, exp)
    found = signatures(planned(recipe, exp))
    assert len(reads) == 2
    for path in (exp / "store" / "lists").iterdir():
        path.unlink()
    assert found == signatures(planned(recipe, exp))
    assert (found == before) == (change in (add_file, other_hashes, damage))


def test_status_notices_a_list_that_changed_and_trusts_audio(
    make_recipe: MakeRecipe, corpus: Path, exp: Path, reads: list[int]
) -> None:
    age(corpus)
    recipe = make_recipe()
    before = signatures(planned(recipe, exp))
    change_audio(corpus, exp)
    assert signatures(planned(recipe, exp, "trust")) == before
    assert len(reads) == 1
    change_list(corpus, exp)
    assert signatures(planned(recipe, exp, "trust")) != before


def test_verifying_reads_everything(
    make_recipe: MakeRecipe, corpus: Path, exp: Path, reads: list[int]
) -> None:
    age(corpus)
    recipe = make_recipe()
    planned(recipe, exp)
    path = corpus / "audio" / "test-00.wav"
    facts = path.stat()
    path.write_bytes(path.read_bytes()[:-2] + b"xx")
    os.utime(path, ns=(facts.st_atime_ns, facts.st_mtime_ns))
    before = signatures(planned(recipe, exp))
    verified = signatures(planned(recipe, exp, "verify"))
    assert verified != before
    # And what it found out is not hidden by what was remembered before.
    assert signatures(planned(recipe, exp)) == verified == signatures(planned(recipe, exp, "trust"))


def test_lists_that_are_new_may_yet_change_and_are_read_again(
    make_recipe: MakeRecipe, corpus: Path, exp: Path, reads: list[int]
) -> None:
    recipe = make_recipe()
    age(corpus)
    soon = time.time_ns() + 60 * 10**9  # however slow this machine is
    os.utime(corpus / "dev.tsv", ns=(soon, soon))
    for count in (1, 2):
        planned(recipe, exp)
        assert len(reads) == count


def test_small_corpora_are_not_remembered(
    make_recipe: MakeRecipe, corpus: Path, exp: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listing, "WORTH", 19)  # there are 18
    age(corpus)
    planned(make_recipe(), exp)
    assert not (exp / "store" / "lists").exists()


def test_a_split_that_another_front_end_hears_is_found(
    make_recipe: MakeRecipe, corpus: Path, exp: Path, reads: list[int]
) -> None:
    age(corpus)
    changes = ["corpus.unlabelled=[more.tsv]"]
    planned(make_recipe(*changes, "frontend=log_mel"), exp)
    titles = signatures(planned(make_recipe(*changes), exp))
    assert "0 prepare unlabelled/0" in titles
    assert len(reads) == 2
    assert signatures(planned(make_recipe(*changes), exp, "trust")) == titles
    assert len(reads) == 2


def test_a_corpus_elsewhere_is_another(
    make_recipe: MakeRecipe, corpus: Path, exp: Path, tmp_path: Path
) -> None:
    age(corpus)
    first = planned(make_recipe(), exp)
    moved = tmp_path / "moved"
    corpus.rename(moved)
    again = planned(make_recipe(f"corpus.root={moved}"), exp)
    assert signatures(again) == signatures(first)
    assert {s.audio_root for s in again if s.audio_root} == {moved}


@pytest.fixture
def libri_recipe(
    tmp_path: Path, values: dict[str, Any], write_recipe: Callable[..., Path]
) -> MakeRecipe:
    """`libri_recipe("section.key=value", ...)`: on a small LibriSpeech, written long ago."""
    root = made_libri.make(tmp_path / "libri")
    age(root)
    values["corpus"] = {"kind": "librispeech", "root": str(root)}
    path = write_recipe(values | {"lm": {"order": 2, "text": "train"}}, "libri")
    return lambda *changes: load(path, changes)


@pytest.mark.parametrize("mode", ["trust", "look"])
def test_an_official_list_that_changed_is_noticed_though_another_budget_came_meanwhile(
    libri_recipe: MakeRecipe, tmp_path: Path, exp: Path, mode: str
) -> None:
    first = signatures(planned(libri_recipe("budgets=[10min]"), exp))
    more = libri_recipe("budgets=[10min, 100h]")
    before = signatures(planned(more, exp))
    assert first.items() <= before.items()
    listing = next((tmp_path / "libri/librispeech_finetuning/1h/0/clean").rglob("*.txt"))
    (listing.parent / f"{listing.read_text().split()[0]}.flac").unlink()
    listing.write_text("".join(listing.read_text().splitlines(keepends=True)[1:]))
    after = signatures(planned(more, exp, mode))
    changed = {title for title in before if after[title] != before[title]}
    assert "0 prepare budget/10min" in changed
    assert "0 prepare budget/100h" not in changed
