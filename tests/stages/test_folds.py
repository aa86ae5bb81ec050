"""Folds of a recipe: what each hears, what they share, and what one more of them runs."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from pipeline.cli import cli
from pipeline.errors import UserError
from pipeline.manifest import Manifest
from pipeline.recipe import Recipe
from pipeline.stage import Step, StepContext
from pipeline.store import Store
from stages.acoustic import publish
from stages.plan import published

SPEAKERS = ["anna", "bert", "carl", "dora"]
Runs = Callable[..., list[str]]


@pytest.fixture
def steps(digits_recipe: Callable[..., Recipe], make_plan: Callable[..., list[Step]]) -> list[Step]:
    return make_plan(digits_recipe())


@pytest.fixture
def runs(
    digits_recipe: Callable[..., Recipe], make_plan: Callable[..., list[Step]], fakes: Any
) -> Runs:
    """`runs("section.key=value")`: titles of what a changed recipe runs."""

    def run(*changes: str) -> list[str]:
        ran: list[str] = fakes.carry_out(fakes.steps(make_plan(digits_recipe(*changes))))
        return ran

    return run


def ancestors(step: Step) -> Iterator[Step]:
    yield step
    for source in step.inputs.values():
        yield from ancestors(source)


def recordings(step: Step) -> set[str]:
    """The files that a step of stage 0 makes its split of."""
    return {name for source in step.run.keywords["sources"] for name in source.files}  # type: ignore[attr-defined]


def test_every_speaker_is_test_once_and_the_next_one_dev(steps: list[Step]) -> None:
    def speakers(fold: str, label: str) -> set[str]:
        step = next(s for s in steps if (s.number, s.fold, s.label) == (0, fold, label))
        return {name.split("_")[1].removesuffix(".wav") for name in recordings(step)}

    assert {s.fold for s in steps if s.fold} == set(SPEAKERS)
    for number, fold in enumerate(SPEAKERS):
        dev = SPEAKERS[(number + 1) % 4]
        assert speakers(fold, "test/test") == {fold}
        assert speakers(fold, "dev") == {dev}
        assert speakers(fold, "train") == set(SPEAKERS) - {fold, dev}


def test_nothing_that_a_fold_trains_has_heard_its_test_or_read_its_dev(steps: list[Step]) -> None:
    for step in steps:
        if step.number not in (1, 3, 4, 5) or step.title.endswith(("ngram", "dev")):
            continue
        read = [s for s in ancestors(step) if s.number == 0]
        labels = {s.label for s in read}
        splits = [s for s in read if s.label in ("train", "unlabelled/0")]
        heard = {name for split in splits for name in recordings(split)}
        assert not labels & {"dev", "test/test"}, step.title
        assert heard and not any(step.fold and f"_{step.fold}." in name for name in heard)


def test_the_text_of_the_language_model_is_that_of_the_folds_training_speakers(
    steps: list[Step], context: Callable[..., StepContext]
) -> None:
    for fold in SPEAKERS:
        by_label = {s.label: s for s in steps if s.fold == fold and s.number == 0}
        train, text = context(f"{fold}-train"), context(f"{fold}-text", {})
        by_label["train"].run(train)
        assert list(by_label["text"].inputs.values()) == [by_label["train"]]
        by_label["text"].run(context(f"{fold}-text", {"train": train.folder}))
        lines = (text.folder / "lm_text.txt").read_text().splitlines()
        manifest = Manifest.load(train.folder)
        assert sorted(lines) == sorted(str(u.transcript) for u in manifest)
        assert fold not in {u.speaker for u in manifest}
        assert sum(len(line.split()) for line in lines) == 14  # two speakers' recordings, once


def test_budgets_of_a_fold_lie_in_its_training_speech_and_in_each_other(
    digits_recipe: Callable[..., Recipe],
    make_plan: Callable[..., list[Step]],
    context: Callable[..., StepContext],
) -> None:
    for fold in SPEAKERS:
        steps = make_plan(
            digits_recipe("corpus.digits=[1, 2]", "budgets=[1.5s, 3s, all]", f"folds=[{fold}]")
        )
        train = context(f"{fold}-train")
        next(s for s in steps if s.label == "train" and s.number == 0).run(train)
        ids = []
        for budget in ("1.5s", "3s", "all"):
            made = context(f"{fold}-{budget}", {"train": train.folder})
            next(s for s in steps if s.number == 0 and s.budget == budget).run(made)
            ids.append(set((made.folder / "ids.txt").read_text().split()))
        assert set() < ids[0] < ids[1] < ids[2] <= {u.id for u in Manifest.load(train.folder)}


def test_folds_share_stages_1_to_3_where_pretraining_hears_others_only(steps: list[Step]) -> None:
    shared = [s.title for s in steps if s.fold is None]
    assert shared == [
        "0 prepare unlabelled/0",
        "1 quantizer",
        "2 discretize unlabelled/0",
        "2 discretize vocabulary",
        "3 bert",
    ]
    models = [s for s in steps if s.number == 5]
    assert len(models) == 4 * 2
    assert len({id(s.inputs["bert"]) for s in models}) == 1


def test_pretraining_that_hears_train_is_a_folds_own(
    digits_recipe: Callable[..., Recipe], make_plan: Callable[..., list[Step]]
) -> None:
    steps = make_plan(digits_recipe("corpus.pretrain_on=[train, unlabelled]"))
    assert [s.title for s in steps if s.fold is None] == ["0 prepare unlabelled/0"]
    assert [s.title for s in steps if s.number in (1, 3)] == [
        *(f"1 quantizer {fold}" for fold in SPEAKERS),
        *(f"3 bert {fold}{label}" for fold in SPEAKERS for label in ("", "/dev")),
    ]
    for name in ("signature", "link_name"):
        assert len({getattr(s, name) for s in steps}) == len(steps)
    for step in steps:
        assert {s.fold for s in ancestors(step)} <= {step.fold, None}


def test_steps_come_after_what_they_read_and_have_names_of_their_own(steps: list[Step]) -> None:
    seen: set[int] = set()
    for step in steps:
        assert all(id(source) in seen for source in step.inputs.values()), step.title
        seen.add(id(step))
    for told in ("link_name", "artifact_name", "title"):
        assert len({getattr(s, told) for s in steps}) == len(steps)


def test_one_more_fold_runs_its_own_steps_alone(runs: Runs) -> None:
    first = runs("folds=[bert]")
    assert "1 quantizer" in first and "3 bert" in first
    assert runs("folds=[bert, anna]") == [
        "0 prepare anna/train",
        "0 prepare anna/dev",
        "0 prepare anna/test/test",
        "0 prepare anna/budget/2s",
        "0 prepare anna/budget/all",
        "0 prepare anna/text",
        "2 discretize anna/train",
        "2 discretize anna/dev",
        "2 discretize anna/test/test",
        "3 bert anna/dev",
        "4 lm anna/targets",
        "4 lm anna/ngram",
        "5 finetune anna/2s",
        "5 finetune anna/all",
        "6 decode anna/log_probs/dev/2s",
        "6 decode anna/dev/2s",
        "6 decode anna/log_probs/test/2s",
        "6 decode anna/test/2s",
        "6 decode anna/log_probs/dev/all",
        "6 decode anna/dev/all",
        "6 decode anna/log_probs/test/all",
        "6 decode anna/test/all",
        "7 score anna/test/2s",
        "7 score anna/test/all",
    ]
    assert runs("folds=[bert]") == runs("folds=[anna]") == []
    assert all(
        "/carl/" in f" {t}".replace(" ", "/") or "/dora/" in f" {t}".replace(" ", "/")
        for t in runs("folds=all")
    )


def test_a_fold_is_the_same_work_as_the_corpus_cut_so_without_folds(runs: Runs) -> None:
    runs()
    assert runs("folds=null", "corpus.test_speakers=[carl]") == []


def test_links_carry_the_folds_name_and_go_with_it(runs: Runs, fakes: Any) -> None:
    runs("folds=[anna, dora]")
    links = {p.name for p in (fakes.exp / "tiny").glob("[0-9]-*")}
    assert {"1-quantizer", "3-bert", "5-finetune-anna-2s", "7-score-dora-test-all"} <= links
    assert not any("-bert-" in name.removeprefix("3-bert-") for name in links)  # of that fold
    assert {name for name in links if name.startswith("3-bert-")} == {
        "3-bert-anna-dev",
        "3-bert-dora-dev",
    }
    for name in ("5-finetune-anna-2s", "5-finetune-dora-2s"):
        assert (fakes.exp / "tiny" / name / "stamp.json").is_file()
    target = os.readlink(fakes.exp / "tiny" / "5-finetune-anna-2s")
    assert target != os.readlink(fakes.exp / "tiny" / "5-finetune-dora-2s")
    runs("folds=[anna]")
    assert not any("dora" in p.name for p in (fakes.exp / "tiny").glob("[0-9]-*"))


def test_a_changed_recording_of_a_speaker_leaves_pretraining(
    runs: Runs, digits_corpus: Path
) -> None:
    runs()
    shutil.copy(digits_corpus / "audio" / "0_eve.wav", digits_corpus / "audio" / "3_anna.wav")
    ran = runs()
    assert {int(title[0]) for title in ran} == {0, 2, 3, 4, 5, 6, 7}
    assert all(title.endswith("/dev") for title in ran if title[0] == "3")
    assert "5 finetune anna/all" not in ran  # she is its test alone
    assert "5 finetune bert/all" in ran  # which trains on dora and anna


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        (["folds=[ana]"], "there is no fold 'ana'; did you mean anna"),
        (["folds=some"], "folds: all, or a list of the corpus' folds by name; found 'some'"),
        (["folds=[]"], "folds: all, or a list"),
        (["folds=[anna, anna]"], "folds: anna stands twice"),
        (["corpus.test_speakers=[anna]"], "folds and corpus.test_speakers contradict"),
        (["corpus.dev_speakers=[anna]"], "folds and corpus.dev_speakers contradict"),
        (["corpus.root=/no/such"], "No such corpus folder: /no/such"),
        (["corpus={kind: synthetic}"], "a corpus of kind synthetic has none; leave the key out"),
        (["corpus={kind: tsv, train: more.tsv}"], "a corpus of kind tsv has none"),
    ],
)
def test_wrong_folds_are_told(
    digits_recipe: Callable[..., Recipe],
    make_plan: Callable[..., list[Step]],
    changes: list[str],
    told: str,
) -> None:
    with pytest.raises(UserError) as caught:
        make_plan(digits_recipe(*changes))
    assert told in caught.value.text()


def test_a_speaker_whose_name_fits_no_link_cannot_be_a_fold(
    digits_recipe: Callable[..., Recipe], make_plan: Callable[..., list[Step]], digits_corpus: Path
) -> None:
    path = digits_corpus / "utts.tsv"
    path.write_text(path.read_text().replace("\tanna\t", "\tanna b/c\t"))
    with pytest.raises(UserError, match="'anna b/c' cannot name a fold"):
        make_plan(digits_recipe())
    assert make_plan(digits_recipe("folds=[bert]"))


def test_status_tells_the_fold(
    runs: Runs, fakes: Any, digits_corpus: Path, write_recipe: Callable[..., Path]
) -> None:
    runs("folds=[carl]")
    path = digits_corpus.parent / "tiny.yaml"
    args = ["status", str(path), "--exp", str(fakes.exp), "--set", "folds=[bert, carl]"]
    rows = json.loads(CliRunner().invoke(cli, [*args, "--json"]).output)
    models = {(r["fold"], r["label"]): r["state"] for r in rows if r["name"] == "finetune"}
    assert models == {
        ("bert", "2s"): "missing",
        ("bert", "all"): "missing",
        ("carl", "2s"): "done",
        ("carl", "all"): "done",
    }
    pretrained = [r for r in rows if r["name"] in ("quantizer", "bert") and r["label"] != "dev"]
    assert {r["fold"] for r in pretrained} == {None}
    table = CliRunner().invoke(cli, args).output.splitlines()
    assert table[0].split() == ["stage", "fold", "step", "state", "seconds", "why"]
    assert any(line.split()[:4] == ["5", "finetune", "carl", "2s"] for line in table)
    assert any(line.split()[:4] == ["1", "quantizer", "-", "done"] for line in table)


def test_a_score_is_told_with_its_fold(
    steps: list[Step], digits_recipe: Callable[..., Recipe], tmp_path: Path
) -> None:
    store = Store(tmp_path / "exp" / "store")
    for step in published(steps):
        if step.stage == "prepare":
            store.path(step).mkdir(parents=True)
            facts = {"speech_seconds": 2.0, "rejected": SPEAKERS.index(str(step.fold))}
            (store.path(step) / "summary.json").write_text(json.dumps(facts))
    told = [publish.scored(digits_recipe(), s, store) for s in steps if s.stage == "score"]
    assert [(t.fold, t.budget, t.test_set) for t in told] == [
        (fold, budget, "test") for fold in SPEAKERS for budget in ("2s", "all")
    ]
    assert [t.test_rejected for t in told] == [t.dev_rejected for t in told]
    assert [t.test_rejected for t in told] == [0, 0, 1, 1, 2, 2, 3, 3]
