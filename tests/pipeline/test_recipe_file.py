"""Recipes: bases, changes, and mistakes told all at once, a line each."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from pipeline.errors import UserError
from pipeline.recipe import Recipe, budget_seconds
from pipeline.recipe_file import load
from stages.quantizer.doctor import SEED_STRIDE

Values = dict[str, Any]
WriteRecipe = Callable[..., Path]
ROOT = Path(__file__).resolve().parents[2]


def refused(path: Path, *changes: str) -> str:
    with pytest.raises(UserError) as caught:
        load(path, changes)
    return str(caught.value)


def test_all_mistakes_are_told_at_once_with_the_nearest_name(
    write_recipe: WriteRecipe, values: Values
) -> None:
    values["finetune"]["udpates"] = 5
    values["bert"]["layers"] = "many"
    values["finetune"]["subsample"] = 99
    values["corpus"]["kind"] = "tvs"
    values["frontend"] = "log_mle"
    values["qantizer"] = {}
    values["budgets"] = ["10 minutes"]
    values["decode"]["decoders"] = ["gredy"]
    path = write_recipe(values)
    lines = refused(path).splitlines()
    expected = {
        "finetune.udpates": "did you mean updates?",
        "bert.layers": "found 'many'",
        "finetune.subsample": "found 99",
        "'tvs'": "did you mean tsv?",
        "'log_mle'": "did you mean log_mel?",
        "unknown key qantizer": "did you mean quantizer?",
        "budgets: ": "10min",
        "'gredy'": "did you mean greedy?",
    }
    for what, remedy in expected.items():
        told = [line for line in lines if what in line]
        assert len(told) == 1, what
        assert told[0].startswith(f"{path}: ")
        assert remedy in told[0]
    assert len(lines) == len(expected)


def test_mistakes_of_values_together_hide_no_others(
    write_recipe: WriteRecipe, values: Values
) -> None:
    changes = {"groups": 3, "prediction_steps": 40, "negatives": 0, "codes": 1}
    values["quantizer"] |= changes
    values["lm"] |= {"prune": [2, 1]}
    values["text"] = {"alphabet": "a b"}
    assert len(refused(write_recipe(values)).splitlines()) == 6


def test_a_crop_must_hold_a_frame_for_every_step(
    make_recipe: Callable[..., Recipe], write_recipe: WriteRecipe, values: Values
) -> None:
    """3 frames away the samples are others: 345 of one frame, 160 to each of the next 3 + 5 - 1."""
    steps = "quantizer.prediction_steps=5"
    assert make_recipe(steps, "quantizer.crop_samples=1465").quantizer.crop_samples == 1465
    told = refused(write_recipe(values), steps, "quantizer.crop_samples=1464")
    assert "quantizer.crop_samples: too short to predict anything: at least 1465" in told


def test_a_recipe_is_checked_without_anything_heavy() -> None:
    script = (
        "import sys; from pathlib import Path; from pipeline.recipe_file import load\n"
        "load(Path('recipes/demo.yaml'))\n"
        "print([m for m in ('torch', 'numpy', 'transformers') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout == "[]\n"


def test_a_corpus_checks_its_own_keys(write_recipe: WriteRecipe, values: Values) -> None:
    values["corpus"]["tset"] = {}
    del values["corpus"]["train"]
    text = refused(write_recipe(values))
    assert "unknown key corpus.tset; did you mean test?" in text
    assert "corpus.train: Field required" in text


@pytest.mark.parametrize(
    ("section", "key", "value", "told"),
    [
        ("bert", "heads", 3, "dim 16 is not a multiple of heads 3"),
        ("finetune", "phases", [0.5, 0.5, 0.5], "add up to 1"),
        ("finetune", "seeds", [], "finetune.seeds"),
        ("quantizer", "type", "gumble", "'gumbel', 'kmeans' or 'none'"),
        ("quantizer", "encoder_layers", "__import__('os')", "quantizer.encoder_layers"),
        ("decode", "beam", 0, "greater than 0"),
        ("machine", "device", "tpu", "machine.device"),
        ("quantizer", "aggregator_layers", [], "quantizer.aggregator_layers: at least one layer"),
        ("quantizer", "aggregator_layers", [[8, 0, 1]], "each 1 or more"),
        ("quantizer", "aggregator_layers", [[8, 2, 2]], "every stride must be 1"),
        ("quantizer", "encoder_layers", [[8, 10, 0]], "quantizer.encoder_layers: at least one"),
        ("quantizer", "groups", 3, "quantizer.groups: the last encoder layer's 8 channels"),
        ("quantizer", "crop_samples", 12_001, "quantizer.batch_samples: must be at least crop"),
        ("quantizer", "prediction_steps", 40, "quantizer.crop_samples: too short"),
        ("quantizer", "final_learning_rate", 0.5, "must be below learning_rate, 0.002"),
        ("quantizer", "negatives", 0, "negatives or cross_sample_negatives must be 1 or more"),
        ("quantizer", "temperature", [0.5, 2.0], "the larger first"),
        ("quantizer", "codes", 32_768, "less than or equal to 32767"),
        ("quantizer", "kmeans_gamma", float("inf"), "finite"),
        ("decode", "lm_weights", [0.0, float("nan")], "decode.lm_weights.1: "),
        ("decode", "decoders", ["greedy", "greedy"], "greedy stands twice"),
        ("finetune", "seeds", [1, 2, 1], "finetune.seeds: 1 stands twice"),
        ("lm", "prune", [-1], "lm.prune: counts of 0 or more"),
        ("lm", "prune", [1, 0], "none below the one before"),
        ("lm", "prune", [0, 1, 1], "lm.prune: at most a count per order, 2"),
        ("text", "alphabet", "abc |", "text.alphabet: no white space"),
    ],
)
def test_values_out_of_range_are_named(
    write_recipe: WriteRecipe, values: Values, section: str, key: str, value: Any, told: str
) -> None:
    values.setdefault(section, {})[key] = value
    text = refused(write_recipe(values))
    assert told in text
    assert len(text.splitlines()) == 1


@pytest.mark.case(26)
@pytest.mark.parametrize("key", ["seed", "finetune.seeds"])
def test_a_seed_is_what_every_generator_takes(
    write_recipe: WriteRecipe, values: Values, key: str
) -> None:
    path = write_recipe(values)
    first = ".0" if key == "finetune.seeds" else ""
    for seed, bound in ((-1, "greater than"), (2**32, "less than"), (10**20 - 1, "less than")):
        value = f"[{seed}]" if first else str(seed)
        text = refused(path, f"{key}={value}")
        assert f"{key}{first}: " in text and bound in text and str(seed) in text
        assert len(text.splitlines()) == 1
    largest = 2**32 - 1
    load(path, [f"{key}=[{largest}]" if first else f"{key}={largest}"])
    np.random.RandomState(largest)
    torch.Generator().manual_seed(largest * SEED_STRIDE + 10**9)  # of the last update of any run


@pytest.mark.parametrize("section", ["corpus", "frontend"])
def test_without_corpus_or_frontend_those_there_are_get_listed(
    write_recipe: WriteRecipe, values: Values, section: str
) -> None:
    del values[section]
    known = {"corpus": "synthetic, tsv", "frontend": "log_mel, mfcc, unit_bert, units"}[section]
    assert known in refused(write_recipe(values))


def test_a_recipe_lies_over_its_base_key_by_key(write_recipe: WriteRecipe, values: Values) -> None:
    write_recipe(values, "base")
    over = {"base": "base.yaml", "finetune": {"updates": 7}, "budgets": ["all"]}
    recipe = load(write_recipe(over, "over"))
    assert recipe.name == "over"
    assert recipe.finetune.updates == 7
    assert recipe.finetune.batch_frames == 100  # from the base
    assert recipe.budgets == ["all"]


def test_another_corpus_replaces_the_whole_section(
    write_recipe: WriteRecipe, values: Values
) -> None:
    write_recipe(values, "base")
    over = {"base": "base.yaml", "corpus": {"kind": "synthetic"}}
    assert load(write_recipe(over, "over")).corpus.kind == "synthetic"


def test_keys_of_a_front_end_may_lie_over_its_name_alone(
    write_recipe: WriteRecipe, values: Values
) -> None:
    """`frontend: unit_bert` is short for a section, in a base too."""
    write_recipe(values | {"frontend": "unit_bert"}, "base")
    frontend = load(
        write_recipe({"base": "base.yaml", "frontend": {"freeze": True}}, "over")
    ).frontend
    assert (frontend.name, frontend.freeze) == ("unit_bert", True)  # type: ignore[attr-defined]


@pytest.mark.parametrize("order", [1, -1])
def test_another_front_end_set_by_name_leaves_the_keys_of_the_first_behind(
    write_recipe: WriteRecipe, values: Values, order: int
) -> None:
    path = write_recipe(values | {"frontend": {"name": "unit_bert", "layer_weights": True}})
    changes = ["frontend.name=log_mel", "frontend.mel_bins=40"]
    frontend = load(path, changes[::order]).frontend
    assert (frontend.name, frontend.mel_bins) == ("log_mel", 40)  # type: ignore[attr-defined]
    same = load(path, ["frontend.name=unit_bert"]).frontend
    assert same.layer_weights  # type: ignore[attr-defined]


def test_another_kind_within_a_section_has_its_own_defaults_by_file_and_by_set(
    write_recipe: WriteRecipe, values: Values
) -> None:
    acoustic = {"kind": "lstm", "layers": 2, "dim": 64}
    path = write_recipe(values | {"frontend": {"name": "unit_bert", "acoustic": acoustic}}, "base")
    other = {"base": "base.yaml", "frontend": {"acoustic": {"kind": "transformer"}}}
    by_file = load(write_recipe(other, "over")).frontend
    by_set = load(path, ["frontend.acoustic.kind=transformer"]).frontend
    assert by_set == by_file
    assert by_set.acoustic.dim == 192  # type: ignore[attr-defined]
    same = load(path, ["frontend.acoustic.kind=lstm"]).frontend
    assert same.acoustic.dim == 64  # type: ignore[attr-defined]


@pytest.mark.parametrize("back", ["one.yaml", "../{folder}/two.yaml"])
def test_a_base_that_leads_back_is_refused(
    write_recipe: WriteRecipe, tmp_path: Path, back: str
) -> None:
    write_recipe({"base": back.format(folder=tmp_path.name)}, "two")
    path = write_recipe({"base": "two.yaml"}, "one")
    assert "leads back to itself" in refused(path)


def test_set_reaches_any_depth_and_is_read_as_yaml(
    write_recipe: WriteRecipe, values: Values
) -> None:
    recipe = load(
        write_recipe(values),
        [
            "finetune.seeds=[1, 2]",
            "corpus.test.more=more.tsv",
            "frontend=log_mel",
            "frontend.mel_bins=40",
            "seed=3",
            "bert.dropout=0",
        ],
    )
    assert recipe.finetune.seeds == [1, 2]
    assert recipe.corpus.test == {"test": "test.tsv", "more": "more.tsv"}  # type: ignore[attr-defined]
    assert (recipe.frontend_name, recipe.frontend.mel_bins) == ("log_mel", 40)  # type: ignore[attr-defined]
    assert (recipe.seed, recipe.bert.dropout) == (3, 0)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ("finetune.updates", "write section.key=value"),
        ("=3", "write section.key=value"),
        ("seed.more=3", "seed holds a value, not a section"),
        ("bert.layers=[", "not YAML"),
        ("bert.layrs=2", "did you mean layers?"),
    ],
)
def test_a_wrong_set_is_told(
    write_recipe: WriteRecipe, values: Values, change: str, told: str
) -> None:
    values["seed"] = 1
    text = refused(write_recipe(values), change)
    assert told in text
    assert len(text.splitlines()) == 1


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"corpus: [", "cannot be read as YAML"),
        (b"\xff\xfe", "cannot be read as YAML"),
        (b"- corpus", "must be a mapping"),
        (b"", "must be a mapping"),
        (b"base: 3", "base must be the name"),
        (b"seed: !!python/object/apply:os.getcwd []", "cannot be read as YAML"),
    ],
)
def test_what_is_no_recipe_is_said_in_one_line(tmp_path: Path, content: bytes, told: str) -> None:
    path = tmp_path / "bad.yaml"
    path.write_bytes(content)
    text = refused(path)
    assert told in text
    assert len(text.splitlines()) == 1


def test_a_missing_recipe_lists_those_beside_it(
    tmp_path: Path, write_recipe: WriteRecipe, values: Values
) -> None:
    there = write_recipe(values, "there")
    assert str(there) in refused(tmp_path / "their.yaml")


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("30s", 30), ("1.5min", 90), ("2h", 7200), ("all", None)],
)
def test_budgets_are_read(text: str, seconds: float | None) -> None:
    assert budget_seconds(text) == seconds


@pytest.mark.parametrize("text", ["", "10", "0s", "-1min", "min", "10 min", "ALL"])
def test_what_is_no_budget_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="10min"):
        budget_seconds(text)


def test_what_changes_no_result_stays_out_of_the_signature(
    make_recipe: Callable[..., Recipe],
) -> None:
    plain = make_recipe()
    other = make_recipe("finetune.checkpoint_every=9", "corpus.root=/elsewhere")
    assert plain.finetune.signed() == other.finetune.signed()
    assert plain.corpus.signed() == other.corpus.signed()
    assert "updates" in plain.finetune.signed()
    json.dumps(plain.quantizer.signed())


def test_the_recipes_of_the_project_can_be_read() -> None:
    for path in sorted((ROOT / "recipes").glob("*.yaml")):
        recipe = load(path)
        assert recipe.name == path.stem
        own = yaml.safe_load(path.read_text("utf-8"))
        if "base" not in own:
            assert len(recipe.budgets) >= 3
