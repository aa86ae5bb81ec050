"""What a preset or other budgets take back of the recipes below, and what they leave."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.bert_settings import PRESETS
from pipeline.errors import UserError
from pipeline.finetune_settings import CtcSettings, FinetuneSettings
from pipeline.recipe import BertSettings
from pipeline.recipe_file import load

RECIPES = Path(__file__).resolve().parents[2] / "recipes"
Values = dict[str, Any]
WriteRecipe = Callable[..., Path]


def sizes(bert: BertSettings) -> dict[str, Any]:
    return {name: getattr(bert, name) for name in PRESETS["small"]}


def test_a_preset_on_the_command_line_is_the_papers_model() -> None:
    bert = load(RECIPES / "digits.yaml", ["bert.preset=small"]).bert
    assert sizes(bert) == PRESETS["small"]
    assert bert.updates == 1500  # no size: the recipe's
    assert bert.attention_dropout == 0.0


@pytest.mark.parametrize(
    "changes",
    [["bert.preset=base", "bert.layers=6"], ["bert.layers=6", "bert.preset=base"]],
)
def test_sizes_beside_a_preset_win(changes: list[str]) -> None:
    bert = load(RECIPES / "digits.yaml", changes).bert
    assert sizes(bert) == PRESETS["base"] | {"layers": 6}


def test_a_recipes_preset_replaces_sizes_of_its_base_and_is_changed_by_what_lies_over_it(
    write_recipe: WriteRecipe, values: Values
) -> None:
    write_recipe(values, "base")
    middle = {"base": "base.yaml", "bert": {"preset": "small", "layers": 5}}
    write_recipe(middle, "middle")
    top = write_recipe({"base": "middle.yaml", "bert": {"dropout": 0.2}}, "top")
    assert sizes(load(top).bert) == PRESETS["small"] | {"layers": 5, "dropout": 0.2}
    assert sizes(load(top, ["bert.preset=base"]).bert) == PRESETS["base"]
    assert sizes(load(top, ["bert.preset=null"]).bert)["layers"] == 5


def test_a_preset_in_the_recipe_itself_leaves_the_sizes_beside_it(
    write_recipe: WriteRecipe, values: Values
) -> None:
    values["bert"] |= {"preset": "small"}
    told = sizes(load(write_recipe(values)).bert)
    assert told == PRESETS["small"] | {k: v for k, v in values["bert"].items() if k in told}


def test_a_preset_of_fine_tuning_is_the_published_one_for_every_budget() -> None:
    path, changes = RECIPES / "speechocean.yaml", ["finetune.preset=libri_light_10min"]
    tuning = load(path, changes).finetune
    published = FinetuneSettings(preset="libri_light_10min").for_budget("all")
    for budget in ("10min", "all"):
        found = tuning.for_budget(budget)
        assert (found.updates, found.learning_rate) == (published.updates, published.learning_rate)
        assert found.head_frames == 7  # of which the preset says nothing: the recipe's
    changes.append("finetune.by_budget.10min.updates=10_001")
    assert load(path, changes).finetune.for_budget("10min").updates == 10_001


def preset_settings(preset: str) -> CtcSettings:
    """As published, but for what the demo sets and no preset speaks of."""
    beside = {"batch_frames": 1500, "subsample": 1, "head_frames": 7}
    return FinetuneSettings(preset=preset, **beside).for_budget("all")  # type: ignore[arg-type]


@pytest.mark.parametrize("as_option", [False, True])
def test_a_preset_of_one_budget_replaces_the_bases_settings_there_and_nowhere_else(
    write_recipe: WriteRecipe, as_option: bool
) -> None:
    demo = load(RECIPES / "demo.yaml").finetune
    if as_option:
        told = [f"finetune.by_budget.{b}.preset=libri_light_10h" for b in ("2min", "all")]
        tuning = load(RECIPES / "demo.yaml", told).finetune
    else:
        by_budget = {b: {"preset": "libri_light_10h"} for b in ("2min", "all")}
        values = {"base": str(RECIPES / "demo.yaml"), "finetune": {"by_budget": by_budget}}
        tuning = load(write_recipe(values)).finetune
    for budget in ("2min", "all"):  # one with settings of its own in the demo, and one without
        found = tuning.for_budget(budget)
        assert found.signed() == preset_settings("libri_light_10h").signed()
    assert tuning.for_budget("6min") == demo.for_budget("6min")


def test_what_stands_beside_or_over_a_budgets_preset_wins(write_recipe: WriteRecipe) -> None:
    own_values = {"preset": "libri_light_10h", "learning_rate": 0.5}
    tuning = {"time_mask_span": 9, "by_budget": {"all": own_values}}
    path = write_recipe({"base": str(RECIPES / "demo.yaml"), "finetune": tuning})
    found = load(path, ["finetune.updates=11000"]).finetune.for_budget("all")
    own = {"time_mask_span": 9, "learning_rate": 0.5, "updates": 11_000}
    published = preset_settings("libri_light_10h")
    assert found.signed() == published.signed() | own
    back = load(path, ["finetune.by_budget.all.preset=null"]).finetune.for_budget("all")
    assert (back.updates, back.learning_rate) == (1100, 0.5)  # the demo's again
    other = load(path, ["finetune.by_budget.all.preset=libri_light_100h"]).finetune
    assert other.for_budget("all").signed() == preset_settings("libri_light_100h").signed()


@pytest.mark.parametrize(
    ("preset", "told"), [("libri_light", "set by_budget.all.preset"), ("huge", "libri_light_100h")]
)
def test_a_wrong_preset_of_a_budget_is_told_in_a_line(preset: str, told: str) -> None:
    with pytest.raises(UserError, match=told) as caught:
        load(RECIPES / "demo.yaml", [f"finetune.by_budget.all.preset={preset}"])
    assert len(str(caught.value).splitlines()) == 1


def test_other_budgets_need_no_settings_of_those_that_are_gone(
    write_recipe: WriteRecipe, values: Values
) -> None:
    path = RECIPES / "speechocean.yaml"
    assert load(path, ["budgets=[30min]"]).finetune.by_budget == {}
    own = load(path).finetune.for_budget("10min")
    assert load(path, ["budgets=[10min]"]).finetune.for_budget("10min") == own
    values["finetune"]["by_budget"] = {"2s": {"updates": 9}, "all": {"updates": 8}}
    write_recipe(values, "base")
    child = load(write_recipe({"base": "base.yaml", "budgets": ["all"]}, "child")).finetune
    assert list(child.by_budget) == ["all"]


@pytest.mark.parametrize("changes", [["finetune.by_budget.5min.updates=9"], []])
def test_settings_of_an_unknown_budget_in_the_same_layer_are_refused_in_a_line(
    write_recipe: WriteRecipe, values: Values, changes: list[str]
) -> None:
    if changes:
        changes.append("budgets=[all]")
    else:
        values["finetune"]["by_budget"] = {"5min": {"updates": 9}}
    with pytest.raises(UserError, match=r"by_budget\.5min is of no budget") as caught:
        load(write_recipe(values), changes)
    (line,) = str(caught.value).splitlines()
    assert line.endswith("Correct it, or leave it out (--set finetune.by_budget={})")
