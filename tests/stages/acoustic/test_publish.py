"""results.json from finished score steps."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.recipe import Recipe
from pipeline.stage import Step
from pipeline.store import Store
from stages.acoustic import publish as module
from stages.acoustic.publish import publish, unfinished
from stages.plan import published


@pytest.fixture
def scored(
    make_recipe: Callable[..., Recipe], make_plan: Callable[..., list[Step]], tmp_path: Path
) -> tuple[Recipe, list[Step], Store]:
    """A plan whose budgets, dev and test set are there."""
    recipe = make_recipe()
    steps, store = make_plan(recipe), Store(tmp_path / "exp" / "store")
    for step in steps:
        if step.stage == "prepare" and step in published(steps):
            store.path(step).mkdir(parents=True)
            rejected = {"dev": 1, "test/test": 2}.get(step.label)
            seconds = {"2s": 2.0, "all": 5.5}.get(str(step.budget), 7.5)
            facts = {"speech_seconds": seconds, "rejected": rejected}
            (store.path(step) / "summary.json").write_text(json.dumps(facts))
    return recipe, steps, store


def test_each_score_is_told_with_its_budget_seed_and_test_set(
    scored: tuple[Recipe, list[Step], Store],
) -> None:
    recipe, steps, store = scored
    told = [module.scored(recipe, s, store) for s in steps if s.stage == "score"]
    assert [(t.budget, t.budget_seconds, t.seed, t.test_set) for t in told] == [
        ("2s", 2.0, 1, "test"),
        ("all", 5.5, 1, "test"),
    ]
    assert {(t.test_rejected, t.dev_rejected) for t in told} == {(2, 1)}
    assert {t.dev_speech_seconds for t in told} == {7.5}
    assert {(t.recipe, t.frontend, t.fold) for t in told} == {("tiny", "unit_bert", None)}
    assert {t.closed_grammar for t in told} == {False}
    closed = recipe.corpus.model_copy(update={"closed_grammar": True})
    said = recipe.model_copy(update={"corpus": closed})
    assert all(module.scored(said, s, store).closed_grammar for s in steps if s.stage == "score")
    lm = next(s for s in steps if s.title == "4 lm ngram")
    assert {t.lm for t in told} == {store.path(lm)}
    models = [s for s in steps if s.stage == "finetune"]
    assert [t.model for t in told] == [store.path(s) for s in models]
    scores = [s for s in steps if s.stage == "score"]
    assert [t.scores for t in told] == [store.path(s) for s in scores]


def test_results_are_written_once_and_again_when_they_changed(
    scored: tuple[Recipe, list[Step], Store], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe, steps, store = scored
    content = {"results.json": "first"}
    flattered = ""
    written: list[str] = []

    def write(folder: Path, told: str) -> None:
        written.append(told)
        folder.mkdir(exist_ok=True)
        for name in (*content, module.PAGE, module.PLOT):
            (folder / name).write_text(content.get(name, ""))

    monkeypatch.setattr(module, "gather", lambda finished: content["results.json"])
    monkeypatch.setattr(module, "files", lambda results: content)
    monkeypatch.setattr(module, "write_results", write)
    monkeypatch.setattr(module, "_warning", lambda results: flattered)
    compared: list[Any] = []
    monkeypatch.setattr(module, "compare", compared.append)
    monkeypatch.setattr(module, "format_table", lambda rows, form: "TABLE")
    folder = tmp_path / "exp" / "tiny"
    flattered = "\nWARNING"
    assert publish(recipe, steps, store, folder).endswith("TABLE\nWARNING")
    shutil.rmtree(folder)
    written.clear()
    compared.clear()
    flattered = ""
    text = publish(recipe, steps, store, folder)
    assert text.endswith("TABLE")
    assert "95% interval" in text
    assert publish(recipe, steps, store, folder) == text
    assert len(written) == len(compared) == 1
    (folder / module.PLOT).unlink()
    publish(recipe, steps, store, folder)
    (folder / "results.json").write_bytes(b'[{"wer": \xff')
    publish(recipe, steps, store, folder)
    monkeypatch.setattr(module, "_code", lambda: "of a later version")
    publish(recipe, steps, store, folder)
    assert publish(recipe, steps, store, folder) == text
    content["results.json"] = "second"
    publish(recipe, steps, store, folder)
    content["counts.jsonl"] = "of utterances"
    publish(recipe, steps, store, folder)
    assert written == ["first"] * 4 + ["second"] * 2
    assert len(compared) == 6  # again where something changed, be it the code


def titles(fakes: Any, steps: list[Step]) -> list[str]:
    return [s.step.title for s in unfinished(fakes.run(steps).examine(), published(steps))]


def test_there_are_results_only_of_the_recipe_as_it_is(
    make_recipe: Callable[..., Recipe], make_plan: Callable[..., list[Step]], fakes: Any
) -> None:
    steps = fakes.steps(make_plan(make_recipe()))
    fakes.carry_out(steps, last=6)
    assert titles(fakes, steps) == ["7 score test/2s", "7 score test/all"]
    fakes.carry_out(steps)
    assert titles(fakes, steps) == []
    by_title = {s.title: s for s in steps}
    store = fakes.run(steps).store
    shutil.rmtree(store.path(by_title["3 bert"]))  # nobody needs it now
    shutil.rmtree(store.path(by_title["4 lm ngram"]))  # its facts stand beside the scores
    assert titles(fakes, steps) == ["4 lm ngram"]
    fakes.carry_out(steps, kept=published(steps))
    fakes.content["0 prepare train"] = "another reader"
    fakes.carry_out(steps, first=0, last=0, force=True)
    assert "1 quantizer" in titles(fakes, steps)
