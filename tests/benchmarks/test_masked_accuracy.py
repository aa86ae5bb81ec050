"""A stored BERT, measured again, has the figures that stage 3 wrote beside it; and those of dev."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest
import torch
from transformers import BertForMaskedLM

from pipeline.recipe import BertSettings
from pipeline.stage import StepContext
from stages.units import bert
from stages.units.corpus import FACTS, facts_text, shard_path, write_shard
from stages.units.masked_units import MaskedUnits
from stages.units.vocabulary import MASK, Vocabulary, combinations
from tests.benchmarks.masked_accuracy import DEV_SEED, Stored, dev_sets, measure

SETTINGS = BertSettings(
    layers=1,
    dim=16,
    ffn_dim=32,
    heads=2,
    positions=64,
    batch_frames=300,
    updates=2,
    warmup_updates=1,
    validate_every=1,
    precision="fp32",
)


def units(folder: Path, rows: dict[str, Any], quantizer: str = "00") -> Path:
    folder.mkdir()
    write_shard(shard_path(folder, 0), list(rows), list(rows.values()))
    facts = {"utterances": len(rows), "groups": 2, "codes": 5}
    (folder / FACTS).write_text(facts_text(facts))
    stamped(folder, input_signatures={"quantizer": quantizer})
    return folder


def stamped(folder: Path, **stamp: Any) -> None:
    (folder / "stamp.json").write_text(json.dumps(stamp))


@pytest.fixture
def stored(context: Callable[..., StepContext], tmp_path: Path) -> Path:
    """A BERT in a store: two utterances of fifty were kept back from it."""
    torch.set_num_threads(1)
    rng = np.random.default_rng(1)
    rows = {f"u{n}": rng.integers(0, 5, (40, 2)).astype(np.int16) for n in range(50)}
    train, vocabulary = units(tmp_path / "discretize-01", rows), tmp_path / "discretize-02"
    vocabulary.mkdir()
    codebook_GVD = rng.standard_normal((2, 5, 4)).astype(np.float32)
    known = [pair for pair in combinations(2, 5) if pair != (4, 4)]
    Vocabulary.create(known, codebook_GVD).save(vocabulary)
    stamped(vocabulary, input_signatures={"quantizer": "00"})
    ctx = context("bert", {"units/train": train, "vocabulary": vocabulary})
    bert.pretrain(ctx, settings=SETTINGS, seed=3)
    folder = tmp_path / "bert-03"
    ctx.folder.rename(folder)
    stamped(
        folder,
        settings=SETTINGS.signed() | {"seed": 3},
        input_signatures={"units/train": "01", "vocabulary": "02"},
    )
    return folder


@pytest.fixture
def dev(tmp_path: Path) -> dict[str, Any]:
    """Units of dev by utterance, in two folds of a run: mostly two units, in long spells."""
    rng = np.random.default_rng(2)
    rows = {}
    for n in range(12):
        held_F = np.repeat(rng.integers(0, 2, 20), 3)[: 40 + n]
        rows[f"d{n}"] = np.stack([held_F, held_F], axis=1).astype(np.int16)
    rows["d0"][:5] = 4  # a pair that the vocabulary lacks
    run = tmp_path / "run"
    run.mkdir()
    for fold, names in (
        ("lucas", ("d0", "d1", "d2", "d3")),
        ("george", tuple(f"d{n}" for n in range(3, 12))),
    ):
        made = units(tmp_path / f"discretize-{fold}", {name: rows[name] for name in names})
        (run / f"2-discretize-{fold}-dev").symlink_to(made)
        (run / f"2-discretize-{fold}-test-dev").symlink_to(tmp_path / "no test set is read")
    (run / "2-discretize-unlabelled-0dev").symlink_to(tmp_path / "nor other speech")
    return rows


def test_the_figures_of_stage_3_come_out_again(stored: Path) -> None:
    told = measure(stored)
    assert (told["speech"], told["utterances"]) == ("kept back", 2)
    assert len(told["pretraining.json"]) == 7
    assert told["furthest_from_pretraining.json"] < 2e-5


def test_figures_of_before_are_compared_over_all_chosen_frames(stored: Path) -> None:
    path = stored / "pretraining.json"
    facts: dict[str, Any] = json.loads(path.read_text())
    before = {k: v for k, v in facts.items() if "_mask_" not in k}
    before |= {"kept_back_loss": before["kept_back_loss"] + 0.5}
    path.write_text(json.dumps(before))
    told = measure(stored)
    assert set(told["pretraining.json"]) == {"kept_back_loss", "kept_back_accuracy"}
    assert told["furthest_from_pretraining.json"] == pytest.approx(0.5, abs=2e-5)


@pytest.mark.usefixtures("dev")
def test_the_dev_sets_of_all_folds_are_found_and_no_test_set(tmp_path: Path) -> None:
    names = [path.name for path in dev_sets(tmp_path / "run")]
    assert names == ["2-discretize-george-dev", "2-discretize-lucas-dev"]
    alone = tmp_path / "alone"
    (alone / "2-discretize-dev").mkdir(parents=True)
    assert dev_sets(alone) == [alone / "2-discretize-dev"]


def test_on_dev_the_bert_guesses_beside_the_trivial_guesses(
    stored: Path, dev: dict[str, Any], tmp_path: Path
) -> None:
    """Counted frame by frame, an utterance alone each time, with loops in place of the library."""
    told = measure(stored, dev_sets(tmp_path / "run"))["dev"]
    assert (told["sets"], told["utterances"]) == (2, 12)
    assert told["frames"] == sum(range(40, 52))
    assert told["frames_outside_of_the_vocabulary"] == 5
    read = Stored.read(stored)
    heard: Counter[int] = Counter()
    for name in read.split.learnt_from:
        heard.update(read.tokens[name].tolist())
    tokens = {f"dev/{name}": read.vocabulary.tokens(rows) for name, rows in dev.items()}
    masked = MaskedUnits(tokens, SETTINGS, len(read.vocabulary), DEV_SEED, "cpu")
    model = BertForMaskedLM.from_pretrained(stored).eval()
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


def test_each_dev_set_has_the_figures_that_it_has_alone(
    stored: Path, dev: dict[str, Any], tmp_path: Path
) -> None:
    sets = dev_sets(tmp_path / "run")
    by_set = measure(stored, sets)["dev"]["by_set"]
    assert list(by_set) == [path.name for path in sets]
    alone = measure(stored, sets[:1])["dev"]
    assert by_set[sets[0].name] == alone["figures"]["mask"] != by_set[sets[1].name]


def test_figures_of_speech_kept_back_do_not_depend_on_dev(
    stored: Path, dev: dict[str, Any], tmp_path: Path
) -> None:
    beside = measure(stored, dev_sets(tmp_path / "run"))
    assert beside.pop("dev")["utterances"] == len(dev)
    assert beside == measure(stored)


def test_units_of_another_quantizer_are_refused(stored: Path, tmp_path: Path) -> None:
    others = units(tmp_path / "others", {"d": np.zeros((9, 2), np.int16)}, quantizer="99")
    with pytest.raises(click.ClickException, match="another quantizer"):
        measure(stored, [others])
