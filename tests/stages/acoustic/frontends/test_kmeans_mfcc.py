"""The front-end's own stages 1 and 2: sizes from the quantizer section, and a whole run."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from pipeline.cli import cli
from pipeline.errors import UserError
from pipeline.quantizer_settings import QuantizerSettings
from pipeline.recipe import Recipe
from pipeline.stage import Step
from pipeline.store import Store
from stages.acoustic.frontends.kmeans_mfcc import Settings, unit_source
from stages.units.corpus import UnitCorpus

MakeRecipe = Callable[..., Recipe]
MakePlan = Callable[..., list[Step]]


def test_sizes_are_the_quantizers_unless_given() -> None:
    quantizer = QuantizerSettings(groups=4, codes=9)
    told = unit_source(Settings(), quantizer).settings
    assert (told["groups"], told["codes"], told["hop_samples"]) == (4, 9, 160)
    told = unit_source(Settings(groups=1, codes=100, hop_samples=320), quantizer).settings
    assert (told["groups"], told["codes"], told["hop_samples"]) == (1, 100, 320)


def test_sizes_that_the_recipe_does_not_tell_are_asked_for() -> None:
    quantizer = QuantizerSettings(from_=Path("somewhere"))
    with pytest.raises(UserError, match=r"quantizer\.from") as error:
        unit_source(Settings(codes=8), quantizer)
    assert error.value.remedy == "set frontend.groups, frontend.hop_samples"
    unit_source(Settings(groups=1, codes=8, hop_samples=160), quantizer)


def numbers(steps: list[Step], first: int, last: int) -> list[str]:
    return [s.title for s in steps if first <= s.number <= last]


def test_its_stages_1_and_2_stand_in_for_the_quantizers(
    make_recipe: MakeRecipe, make_plan: MakePlan
) -> None:
    steps = make_plan(make_recipe("frontend=kmeans_mfcc", "quantizer.type=none"))
    assert numbers(steps, 1, 3) == [
        "1 quantizer kmeans_mfcc",
        "2 discretize train",
        "2 discretize dev",
        "2 discretize test/test",
        "2 discretize vocabulary",
    ]


@pytest.mark.parametrize(
    ("change", "same"),
    [
        ("quantizer.updates=9", True),
        ("bert.updates=9", True),
        ("finetune.updates=9", True),
        ("quantizer.codes=5", False),
        ("frontend.highest_hz=4000", False),
        ("frontend.fit_seconds=5", False),
        ("seed=2", False),
    ],
)
def test_the_fit_depends_on_its_own_settings_alone(
    make_recipe: MakeRecipe, make_plan: MakePlan, change: str, same: bool
) -> None:
    def signature(*changes: str) -> str:
        steps = make_plan(make_recipe("frontend=kmeans_mfcc", *changes))
        return next(s.signature for s in steps if s.number == 1)

    assert (signature() == signature(change)) is same


def test_every_stage_runs_on_its_units(
    write_recipe: Callable[..., Path],
    values: dict[str, Any],
    tmp_path: Path,
    make_recipe: MakeRecipe,
    make_plan: MakePlan,
) -> None:
    changes = ["frontend=kmeans_mfcc", "budgets=[all]"]
    args = ["run", str(write_recipe(values)), "--exp", str(tmp_path / "exp")]
    for change in changes:
        args += ["--set", change]
    result = CliRunner().invoke(cli, args)
    assert result.exit_code == 0, result.output
    rows = json.loads((tmp_path / "exp" / "tiny" / "results.json").read_text())
    assert {r["frontend"] for r in rows} == {"kmeans_mfcc"}
    store = Store(tmp_path / "exp" / "store")
    step = next(s for s in make_plan(make_recipe(*changes)) if s.title == "2 discretize test/test")
    units = UnitCorpus(store.path(step))
    assert (units.groups, units.codes) == (2, 4)
    assert "nothing to do" in CliRunner().invoke(cli, args).output
