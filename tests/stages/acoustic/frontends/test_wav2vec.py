"""Front-ends on a model of stage 1 without stages 2 and 3: plans, refusals, whole runs.

Their features are tested in test_pretrained.py.
"""

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
from pipeline.stage import Step

MakeRecipe = Callable[..., Recipe]
MakePlan = Callable[..., list[Step]]
CPC = ["frontend=cpc", "quantizer.type=none", "quantizer.aggregator=gru", "quantizer.gru_dim=6"]
RECIPES = {
    "wav2vec": ["frontend=wav2vec", "quantizer.type=none"],
    "cpc": CPC,
    "vq_wav2vec": ["frontend=vq_wav2vec"],
}


@pytest.mark.parametrize("name", RECIPES)
def test_stages_2_and_3_are_not_used_and_what_reads_audio_reads_the_model(
    name: str, make_recipe: MakeRecipe, make_plan: MakePlan
) -> None:
    steps = make_plan(make_recipe(*RECIPES[name]))
    assert {s.number for s in steps} == {0, 1, 4, 5, 6, 7}
    model = next(s for s in steps if s.number == 1)
    for step in steps:
        assert "units" not in step.inputs
        if step.number == 5 or step.label.startswith("log_probs/"):
            assert step.inputs["quantizer"] is model, step.title


def test_vq_wav2vec_shares_its_quantizer_with_unit_bert(
    make_recipe: MakeRecipe, make_plan: MakePlan
) -> None:
    ours, units = (make_plan(make_recipe(f"frontend={f}")) for f in ("vq_wav2vec", "unit_bert"))
    shared = {s.artifact_name for s in ours} & {s.artifact_name for s in units}
    assert shared == {s.artifact_name for s in ours if s.number in (0, 1, 4)}


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        (["frontend=wav2vec"], "needs quantizer type none; the quantizer has type gumbel"),
        (["frontend=wav2vec", "quantizer.type=kmeans"], "type none; the quantizer has type kmeans"),
        ([*CPC, "frontend=wav2vec"], "needs quantizer aggregator cnn"),
        ([*CPC, "quantizer.infonce=false"], "needs quantizer infonce true"),
        (["frontend=cpc", "quantizer.type=none"], "needs quantizer aggregator gru"),
        (["frontend=vq_wav2vec", "quantizer.type=none"], "needs quantizer type gumbel or kmeans"),
        (["frontend=unit_bert", "quantizer.type=none"], "needs quantizer type gumbel or kmeans"),
        (["frontend=units", "quantizer.type=none"], "needs quantizer type gumbel or kmeans"),
    ],
)
def test_a_quantizer_section_that_contradicts_the_front_end_is_refused_in_one_line(
    make_recipe: MakeRecipe, changes: list[str], told: str
) -> None:
    with pytest.raises(UserError) as error:
        make_recipe(*changes)
    assert told in str(error.value)
    assert len(str(error.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("name", "change", "same"),
    [
        ("wav2vec", "quantizer.codes=5", True),  # there is no codebook
        ("wav2vec", "quantizer.temperature=[1, 0.5]", True),
        ("wav2vec", "quantizer.gru_dim=5", True),
        ("wav2vec", "quantizer.aggregator_layers=[[8, 2, 1]]", False),
        ("cpc", "quantizer.aggregator_layers=[[8, 2, 1]]", True),
        ("cpc", "quantizer.gru_dim=5", False),
        ("vq_wav2vec", "quantizer.codes=5", False),
    ],
)
def test_the_model_depends_on_the_settings_that_count_for_its_kind(
    make_recipe: MakeRecipe, make_plan: MakePlan, name: str, change: str, same: bool
) -> None:
    def signature(*changes: str) -> str:
        steps = make_plan(make_recipe(*RECIPES[name], *changes))
        return next(s.signature for s in steps if s.number == 1)

    assert (signature() == signature(change)) is same


@pytest.mark.parametrize("name", RECIPES)
def test_every_stage_runs(
    write_recipe: Callable[..., Path], values: dict[str, Any], tmp_path: Path, name: str
) -> None:
    args = ["run", str(write_recipe(values)), "--exp", str(tmp_path / "exp")]
    for change in [*RECIPES[name], "budgets=[all]"]:
        args += ["--set", change]
    result = CliRunner().invoke(cli, args)
    assert result.exit_code == 0, result.output
    rows = json.loads((tmp_path / "exp" / "tiny" / "results.json").read_text())
    assert {r["frontend"] for r in rows} == {name}
    assert "nothing to do" in CliRunner().invoke(cli, args).output
