"""What tells runs of one system from others: settings, seeds apart."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.recipe import Recipe
from pipeline.stage import Step
from stages.acoustic.trained_with import settings_by_stage

Told = Callable[..., dict[str, str]]


@pytest.fixture
def told(make_recipe: Callable[..., Recipe], make_plan: Callable[..., list[Step]]) -> Told:
    """`told("section.key=value", ..., label="all")`: of that model of the small recipe."""

    def make(*changes: str, label: str = "all") -> dict[str, str]:
        recipe = make_recipe(*changes)
        steps = make_plan(recipe)
        model = next(s for s in steps if s.stage == "finetune" and s.label == label)
        return settings_by_stage(recipe, model)

    return make


def differing(first: dict[str, str], second: dict[str, str]) -> list[str]:
    return [stage for stage in first | second if first.get(stage) != second.get(stage)]


def test_stages_behind_a_model_stand_in_their_order(told: Told) -> None:
    every = ["prepare", "quantizer", "discretize", "bert", "lm", "finetune"]
    assert list(told()) == every
    assert list(told("frontend=log_mel")) == ["prepare", "lm", "finetune"]


@pytest.mark.parametrize(
    "changes",
    [
        ["seed=5"],
        ["finetune.seeds=[7]"],
        ["name=again"],
        ["decode.beam=7", "decode.lm_weights=[1.0]", "score.bootstrap_samples=500"],
        ["budgets=[all]"],
    ],
)
def test_seeds_names_and_what_comes_after_the_model_change_nothing(
    told: Told, changes: list[str]
) -> None:
    assert told(*changes) == told()


@pytest.mark.parametrize(
    ("changes", "stages"),
    [
        (["quantizer.updates=7"], ["quantizer"]),
        (["bert.dropout=0.3"], ["bert"]),
        (["finetune.updates=9"], ["finetune"]),
        (["frontend={name: unit_bert, layer_weights: true}"], ["finetune"]),
        (["text.units=words"], ["lm"]),
        (["corpus.unlabelled=[more.tsv]"], ["prepare", "quantizer", "discretize", "bert"]),
        (["corpus.train_speeds=[0.9]"], ["prepare"]),
    ],
)
def test_a_setting_changes_its_stage_alone(
    told: Told, changes: list[str], stages: list[str]
) -> None:
    found = differing(told(), told(*changes))
    assert found == stages


def test_another_version_of_a_stage_is_a_difference(
    told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = told()
    monkeypatch.setattr("stages.units.bert.VERSION", 99)
    assert differing(before, told()) == ["bert"]


def test_what_a_front_end_does_not_read_is_no_difference(told: Told) -> None:
    assert told("frontend=log_mel", "quantizer.updates=7") == told("frontend=log_mel")


def test_a_budget_has_its_own_settings_of_fine_tuning(told: Told) -> None:
    changed = "finetune.by_budget={2s: {updates: 3}}"
    assert differing(told(changed, label="2s"), told(changed)) == ["finetune"]


def test_all_folds_and_seeds_of_a_run_have_the_same(
    digits_recipe: Callable[..., Recipe],
    make_plan: Callable[..., list[Step]],
    digits_corpus: Path,
) -> None:
    recipe = digits_recipe("folds=[anna, carl]", "finetune.seeds=[1, 2]")
    models = [s for s in make_plan(recipe) if s.stage == "finetune"]
    assert len(models) >= 4
    assert len({str(settings_by_stage(recipe, m)) for m in models if m.budget == "all"}) == 1
