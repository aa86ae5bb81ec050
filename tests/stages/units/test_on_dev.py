"""What stage 3 tells of a BERT on dev."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import BertForMaskedLM

from pipeline.stage import StepContext
from stages.units import bert, on_dev
from stages.units.kept_back import parts, read_tokens
from stages.units.masked_units import MaskedUnits
from stages.units.vocabulary import MASK, Vocabulary, combinations
from tests.stages.units.small_bert import SETTINGS, units

MakeContext = Callable[..., StepContext]
Units = dict[str, Any]


@pytest.fixture
def inputs(context: MakeContext, tmp_path: Path) -> dict[str, Path]:
    """A BERT of two updates: two utterances of fifty were kept back from it."""
    torch.set_num_threads(1)
    rng = np.random.default_rng(1)
    rows = {f"u{n}": rng.integers(0, 5, (40, 2)).astype(np.int16) for n in range(50)}
    folders = {"units/train": units(tmp_path / "train", rows), "vocabulary": tmp_path / "words"}
    folders["vocabulary"].mkdir()
    codebook_GVD = rng.standard_normal((2, 5, 4)).astype(np.float32)
    known = [pair for pair in combinations(2, 5) if pair != (4, 4)]
    Vocabulary.create(known, codebook_GVD).save(folders["vocabulary"])
    ctx = context("bert", folders)
    bert.pretrain(ctx, settings=SETTINGS, seed=3)
    return {**folders, "bert": ctx.folder}


@pytest.fixture
def dev() -> Units:
    """Units by utterance: mostly two of them, in long spells."""
    rng = np.random.default_rng(2)
    rows = {}
    for n in range(12):
        held_F = np.repeat(rng.integers(0, 2, 20), 3)[: 40 + n]
        rows[f"d{n}"] = np.stack([held_F, held_F], axis=1).astype(np.int16)
    rows["d0"][:5] = 4  # a pair that the vocabulary lacks
    return rows


@pytest.fixture
def guess(context: MakeContext, inputs: dict[str, Path], tmp_path: Path) -> Callable[..., Units]:
    def made(rows: Units, name: str = "dev") -> Units:
        ctx = context(f"on {name}", inputs | {"dev": units(tmp_path / name, rows)})
        on_dev.guess(ctx, settings=SETTINGS)
        told: Units = json.loads((ctx.folder / "dev.json").read_text())
        return told

    return made


def test_on_dev_the_bert_guesses_beside_the_trivial_guesses(
    guess: Callable[..., Units],
    inputs: dict[str, Path],
    dev: Units,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Counted frame by frame, an utterance alone each time, with loops in place of the library."""
    told = guess(dev)
    assert (told["utterances"], told["left_out"]) == (12, 0)
    assert told["frames_outside_of_the_vocabulary"] == 5
    vocabulary = Vocabulary.load(inputs["vocabulary"])
    learnt = read_tokens(inputs, vocabulary)
    heard: Counter[int] = Counter()
    for name in parts(learnt).learnt_from:
        heard.update(learnt[name].tolist())
    tokens = {f"dev/{name}": vocabulary.tokens(rows) for name, rows in dev.items()}
    masked = MaskedUnits(tokens, SETTINGS, len(vocabulary), on_dev.MASK_SEED, "cpu")
    model = BertForMaskedLM.from_pretrained(inputs["bert"]).eval()
    frames, by_bert, by_near, by_frequency, loss = 0, 0, 0, 0, 0.0
    for name, truth_F in tokens.items():
        seen_F, hidden_F = masked.masked(name, 0)
        with torch.inference_mode():
            logits_FT = model(torch.from_numpy(seen_F)[None]).logits[0]
        for f in np.flatnonzero(hidden_F & (seen_F == MASK)):
            near = min(np.flatnonzero(~hidden_F), key=lambda g: (abs(g - f), g), default=f)
            frames += 1
            by_bert += int(logits_FT[f].argmax()) == truth_F[f]
            by_near += truth_F[near] == truth_F[f]
            by_frequency += heard.most_common(1)[0][0] == truth_F[f]
            loss -= float(logits_FT[f].log_softmax(-1)[truth_F[f]])
    found = told["figures"]["mask"]
    assert found["frames"] == frames > 50
    assert found["accuracy"] == pytest.approx(by_bert / frames, abs=1e-5)
    assert found["loss"] == pytest.approx(loss / frames, abs=1e-4)
    assert found["accuracy_nearest"] == pytest.approx(by_near / frames, abs=1e-5)
    assert found["accuracy_most_frequent"] == pytest.approx(by_frequency / frames, abs=1e-5)
    assert by_near > 2 * max(by_frequency, 1)  # dev's own frequencies are not known
    said = capsys.readouterr().out
    assert "units guessed on dev (12 utterances), at frames that show [MASK]: " in said
    assert f"the nearest seen {by_near / frames:.1%}" in said


def test_two_sets_together_have_the_figures_of_one_of_both(
    guess: Callable[..., Units], dev: Units
) -> None:
    halves = [{n: dev[n] for n in list(dev)[start::2]} for start in (0, 1)]
    whole = guess(dev, "whole")["figures"]
    pooled = on_dev.pooled(guess(half, f"half {n}")["figures"] for n, half in enumerate(halves))
    assert pooled.keys() == whole.keys() == {"all", "mask", "kept", "random"}
    for fate, told in whole.items():
        assert pooled[fate] == pytest.approx(told, abs=2e-5)


def test_what_the_bert_cannot_read_is_left_out_and_counted(
    guess: Callable[..., Units], dev: Units, capsys: pytest.CaptureFixture[str]
) -> None:
    long, none = np.zeros((65, 2), np.int16), np.zeros((0, 2), np.int16)
    told = guess(dev | {"long": long, "none": none})
    assert (told["utterances"], told["left_out"]) == (12, 2)
    assert told["figures"] == guess(dev, "plain")["figures"]
    capsys.readouterr()
    alone = guess({"long": long}, "alone")
    assert (alone["utterances"], alone["left_out"], alone["figures"]) == (0, 1, {})
    said = capsys.readouterr().out
    assert "1 of 1 utterances of dev are longer than bert.positions" in said
    assert "units guessed" not in said
