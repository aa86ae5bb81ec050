"""Frames whose unit the vocabulary lacks are counted, and told wherever a split is read."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline.errors import UserError
from pipeline.finetune_settings import CtcSettings
from pipeline.manifest import Manifest, Utterance
from pipeline.recipe import BertSettings, TextSettings
from pipeline.stage import StepContext
from stages.acoustic import finetune, lm_stage
from stages.acoustic.frontends import kmeans_mfcc, unit_bert, units
from stages.acoustic.unit_tokens import UnitTokens, tell_outside
from stages.units.corpus import FACTS, facts_text, shard_path, write_shard
from stages.units.vocabulary import Vocabulary

BERT = BertSettings(layers=1, dim=8, ffn_dim=8, heads=1, positions=64)
TEXTS = {"a": "go", "b": "see me", "c": "stop"}
OUTSIDE = {"train": {"a": 0, "b": 3, "c": 0}, "dev": {"a": 1, "b": 0, "c": 8}}
MakeContext = Callable[..., StepContext]


@pytest.fixture
def folders(tmp_path: Path) -> dict[str, Path]:
    """What stage 5 reads: two splits of three utterances, some frames of units not known."""
    torch.set_num_threads(1)
    roles = ("vocabulary", "units", "manifest", "dev/units", "dev/manifest", "budget", "targets")
    made = {role: tmp_path / "in" / role for role in (*roles, "text")}
    for folder in made.values():
        folder.mkdir(parents=True)
    codebook_GVD = np.random.default_rng(0).standard_normal((2, 3, 4)).astype(np.float32)
    Vocabulary.create([(0, 0), (0, 1), (2, 1)], codebook_GVD).save(made["vocabulary"])
    for split, before in (("train", ""), ("dev", "dev/")):
        rows = {name: np.full((20 + n, 2), (0, 1), np.int16) for n, name in enumerate(TEXTS)}
        for name, count in OUTSIDE[split].items():
            rows[name][5 : 5 + count] = (1, 2)
        write_shard(shard_path(made[f"{before}units"], 0), list(rows), list(rows.values()))
        facts = {"utterances": 3, "groups": 2, "codes": 3}
        (made[f"{before}units"] / FACTS).write_text(facts_text(facts))
        told = [Utterance(i, "s", f"{i}.flac", True, 9, 1.0, t) for i, t in TEXTS.items()]
        Manifest(told, made[f"{before}manifest"]).write()
    (made["budget"] / "ids.txt").write_text("a\nb\n")
    text = made.pop("text")
    (text / "lm_text.txt").write_text("".join(f"{t}\n" for t in TEXTS.values()))
    (text / "lm_text.json").write_text('{"name": "toy"}')
    lm = StepContext(made["targets"], {"text": text}, "cpu", made["targets"])
    lm_stage.make_targets(lm, TextSettings())
    return made


def told(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return [line.strip() for line in capsys.readouterr().out.splitlines() if "vocabulary" in line]


def test_frames_outside_of_the_vocabulary_are_counted_also_after_they_were_read(
    folders: dict[str, Path],
) -> None:
    features = UnitTokens(folders["vocabulary"], folders["units"])
    for _ in range(2):
        assert features.outside(["a"]) == (0, 20)
        assert features.outside(TEXTS) == (3, 63)
        assert len(features("b")) == 21


@pytest.mark.parametrize("frontend", [units, unit_bert, kmeans_mfcc])
def test_every_front_end_on_units_counts_them(folders: dict[str, Path], frontend: object) -> None:
    features = frontend.open_split(None, folders)  # type: ignore[attr-defined]
    assert features.outside(TEXTS) == (3, 63)


def test_where_there_are_none_nothing_is_said(
    folders: dict[str, Path], context: MakeContext, capsys: pytest.CaptureFixture[str]
) -> None:
    features = UnitTokens(folders["vocabulary"], folders["units"])
    tell_outside(context("step"), features, ["a", "c"], "it")
    tell_outside(context("step"), features, [], "it")
    tell_outside(context("step"), lambda name: np.zeros((9, 80)), ["a"], "it")
    assert told(capsys) == []


def test_each_split_that_a_model_reads_is_told_of(
    folders: dict[str, Path], context: MakeContext, capsys: pytest.CaptureFixture[str]
) -> None:
    ctx = context("model", folders)
    settings = CtcSettings(updates=1, batch_frames=100, validate_every=1, precision="fp32")
    finetune.finetune(ctx, frontend=units.Settings(), bert=BERT, settings=settings, seed=1)
    replaced = "have a unit outside of the vocabulary; the nearest stands for it"
    assert told(capsys) == [
        f"3 of 41 frames of the budget (7.32%) {replaced}",
        f"9 of 63 frames of dev (14.29%) {replaced}",
    ]
    split = {role: folders[f"dev/{role}"] for role in ("units", "manifest")}
    finetune.compute_log_probs(ctx, {**folders, **split, "model": ctx.folder})
    assert told(capsys) == [f"9 of 63 frames of this split (14.29%) {replaced}"]


@pytest.mark.parametrize("frames", [0, 4])
def test_of_an_utterance_too_short_for_a_unit_nothing_is_heard(
    folders: dict[str, Path], context: MakeContext, capsys: pytest.CaptureFixture[str], frames: int
) -> None:
    """Neither dev in the course of a training nor stage 6 stumbles over it: it counts as empty."""
    rows = {name: np.full((frames if name == "b" else 20, 2), (0, 1), np.int16) for name in TEXTS}
    write_shard(shard_path(folders["dev/units"], 0), list(rows), list(rows.values()))
    ctx = context("model", folders)
    settings = CtcSettings(updates=1, batch_frames=100, validate_every=1, precision="fp32")
    finetune.finetune(ctx, frontend=units.Settings(), bert=BERT, settings=settings, seed=1)
    split = {role: folders[f"dev/{role}"] for role in ("units", "manifest")}
    found = finetune.compute_log_probs(ctx, {**folders, **split, "model": ctx.folder})
    assert [len(found.log_probs[name]) for name in "abc"] == [10, frames // 2, 10]
    assert found.log_probs["b"].shape[1] == found.log_probs["a"].shape[1]
    assert found.filled["b"] == frames / 2
    told = capsys.readouterr().out
    assert ("1 of 3 utterances are too short for a frame: nothing is heard in b" in told) == (
        frames == 0
    )


def test_a_model_whose_positions_are_too_few_for_windows_is_refused_before_it_is_trained(
    folders: dict[str, Path], context: MakeContext
) -> None:
    few, settings = BERT.model_copy(update={"positions": 24}), CtcSettings(updates=1, subsample=4)
    ctx = context("model", folders)
    with pytest.raises(UserError, match="cannot be read in windows") as raised:
        finetune.finetune(ctx, frontend=units.Settings(), bert=few, settings=settings, seed=1)
    assert "lower finetune.subsample" in str(raised.value.remedy)
    assert not (ctx.folder / "training.json").exists()
