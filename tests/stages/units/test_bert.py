"""Stage 3: how the BERT starts, who is kept back, what is written, and exact resume."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import BertForMaskedLM

from pipeline.errors import UserError
from pipeline.recipe import BertSettings
from pipeline.stage import StepContext
from pipeline.training import Training
from stages.units import bert
from stages.units.attention import packed
from stages.units.corpus import FACTS, facts_text, shard_path, write_shard
from stages.units.masked_units import MaskedUnits
from stages.units.vocabulary import MASK, SPECIAL, Vocabulary, combinations

CODES = 5
SMALL: dict[str, Any] = {
    "layers": 2,
    "dim": 16,
    "ffn_dim": 32,
    "heads": 2,
    "positions": 64,
    "batch_frames": 120,
    "updates": 6,
    "warmup_updates": 2,
    "validate_every": 2,
    "checkpoint_every": 3,
    "precision": "fp32",
}
SETTINGS = BertSettings(**SMALL)
GUESSES = ("_most_frequent", "_nearest")
NAMES = [f"u{n}" for n in range(8)]


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def vocabulary() -> Vocabulary:
    codebook_GVD = np.random.default_rng(0).standard_normal((2, CODES, 4)).astype(np.float32)
    return Vocabulary.create(list(combinations(2, CODES)), codebook_GVD)


@pytest.fixture(scope="module")
def tokens(vocabulary: Vocabulary) -> dict[str, Any]:
    rng = np.random.default_rng(1)
    lengths = {name: 12 + 5 * n for n, name in enumerate(NAMES)}
    return {
        name: vocabulary.tokens(rng.integers(0, CODES, (length, 2)).astype(np.int16))
        for name, length in lengths.items()
    }


def test_units_that_sound_alike_start_alike(vocabulary: Vocabulary) -> None:
    """Distances of the embeddings follow those of the codebook (a random projection)."""
    wide = BertSettings(**(SMALL | {"dim": 256}))
    weight = bert.build(wide, vocabulary, 1).bert.embeddings.word_embeddings.weight
    embedded = weight.detach()[len(SPECIAL) :].numpy()
    found, expected = (
        np.linalg.norm(x[:, None] - x[None], axis=-1)[np.triu_indices(len(x), 1)]
        for x in (embedded, vocabulary.vectors_TD)
    )
    assert np.corrcoef(found, expected)[0, 1] > 0.95
    assert embedded.std() == pytest.approx(bert.CODEBOOK_SCALE, rel=0.01)
    random = BertSettings(**(SMALL | {"dim": 256, "embedding_init": "random"}))
    weight = bert.build(random, vocabulary, 1).bert.embeddings.word_embeddings.weight
    assert weight.detach()[len(SPECIAL) :].std().item() == pytest.approx(0.02, rel=0.05)


def test_sinusoidal_positions_tell_how_far_frames_lie_apart(vocabulary: Vocabulary) -> None:
    """Dot products depend on the distance alone, and positions are half as large as units."""
    wide = BertSettings(**(SMALL | {"dim": 64, "position_init": "sinusoidal"}))
    embeddings = bert.build(wide, vocabulary, 1).bert.embeddings
    weight_PD = embeddings.position_embeddings.weight.detach().double()
    products = weight_PD @ weight_PD.T
    for distance in (0, 1, 5, 20):
        of_distance = products.diagonal(distance)
        assert of_distance.std() < 1e-5 * products[0, 0]
    assert products[0, 0] > products[0, 1] > products[0, 5]
    unit_deviation = embeddings.word_embeddings.weight.detach()[len(SPECIAL) :].std().item()
    root_mean_square = weight_PD.square().mean().sqrt().item()
    assert root_mean_square == pytest.approx(0.5 * unit_deviation, rel=0.1)


def test_positions_start_as_transformers_draws_them_unless_a_recipe_says_so(
    vocabulary: Vocabulary,
) -> None:
    weight = bert.build(SETTINGS, vocabulary, 1).bert.embeddings.position_embeddings.weight
    assert weight.detach().std().item() == pytest.approx(0.02, rel=0.1)
    assert "position_init" not in SETTINGS.signed()


def write_units(folder: Path, tokens: dict[str, Any], vocabulary: Vocabulary) -> Path:
    folder.mkdir()
    units = [vocabulary.units_TG[t - len(SPECIAL)].astype(np.int16) for t in tokens.values()]
    write_shard(shard_path(folder, 0), list(tokens), units)
    facts = {"utterances": len(tokens), "groups": 2, "codes": CODES}
    (folder / FACTS).write_text(facts_text(facts))
    return folder


@pytest.fixture
def inputs(tmp_path: Path, tokens: dict[str, Any], vocabulary: Vocabulary) -> dict[str, Path]:
    folder = tmp_path / "vocabulary"
    folder.mkdir()
    vocabulary.save(folder)
    return {
        "units/train": write_units(tmp_path / "units", tokens, vocabulary),
        "vocabulary": folder,
    }


def test_a_killed_pretraining_writes_the_same_bytes(
    context: Callable[..., StepContext],
    inputs: dict[str, Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    whole, killed = context("whole", inputs), context("killed", inputs)
    bert.pretrain(whole, settings=SETTINGS, seed=1)
    batch, calls = MaskedUnits.batch, 0

    def until(*args: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls in (5, 9, 14):  # in mid-epoch, and in an evaluation
            raise KeyboardInterrupt
        return batch(*args)

    monkeypatch.setattr(MaskedUnits, "batch", until)
    for _ in range(3):
        with pytest.raises(KeyboardInterrupt):
            bert.pretrain(killed, settings=SETTINGS, seed=1)
    bert.pretrain(killed, settings=SETTINGS, seed=1)
    for name in ("config.json", "model.safetensors", "pretraining.json"):
        assert (whole.folder / name).read_bytes() == (killed.folder / name).read_bytes()
    facts = json.loads((whole.folder / "pretraining.json").read_text())
    evaluated = [row for row in facts["history"] if "trained_on_loss" in row]
    assert [row["update"] for row in evaluated] == [2, 4, 6]
    assert facts["trained_on_loss"] == min(row["trained_on_loss"] for row in evaluated)
    assert facts["best_update"] in (2, 4, 6)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_activations_computed_again_change_no_byte(
    context: Callable[..., StepContext], inputs: dict[str, Path], precision: str
) -> None:
    """With dropout of activations and of attention."""
    told = SMALL | {"precision": precision, "dropout": 0.2, "accumulate": 2}
    folders = []
    for again in (False, True):
        ctx = context(f"again-{again}", inputs)
        settings = BertSettings(**told, checkpoint_activations=again)
        bert.pretrain(ctx, settings=settings, seed=1)
        folders.append(ctx.folder)
    for name in ("config.json", "model.safetensors", "pretraining.json"):
        assert (folders[0] / name).read_bytes() == (folders[1] / name).read_bytes()


def test_with_accumulation_a_killed_pretraining_writes_the_same_bytes(
    context: Callable[..., StepContext], inputs: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = BertSettings(**SMALL, accumulate=3, checkpoint_activations=True)
    whole, killed = context("whole", inputs), context("killed", inputs)
    bert.pretrain(whole, settings=settings, seed=1)
    batch, calls = MaskedUnits.batch, 0

    def until(*args: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls in (13, 27):
            raise KeyboardInterrupt
        return batch(*args)

    monkeypatch.setattr(MaskedUnits, "batch", until)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            bert.pretrain(killed, settings=settings, seed=1)
    bert.pretrain(killed, settings=settings, seed=1)
    for name in ("model.safetensors", "pretraining.json"):
        assert (whole.folder / name).read_bytes() == (killed.folder / name).read_bytes()


def test_the_weights_of_the_least_loss_on_speech_kept_back_are_written(
    context: Callable[..., StepContext], inputs: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a rate that ruins the model, the end is not the best; the model written is."""
    from stages.units.guesses import Validation

    told: list[tuple[Validation, float]] = []
    figures = Validation.figures

    def kept(self: Validation, model: BertForMaskedLM) -> dict[str, float]:
        found = figures(self, model)
        told.append((self, found["trained_on_loss"]))
        return found

    monkeypatch.setattr(Validation, "figures", kept)
    ctx = context("ruined", inputs)
    wild = BertSettings(**(SMALL | {"learning_rate": 0.5, "warmup_updates": 5}))
    bert.pretrain(ctx, settings=wild, seed=1)
    losses = [loss for _, loss in told]
    assert losses[-1] > min(losses)
    model = BertForMaskedLM.from_pretrained(ctx.folder).eval()
    with packed(model):
        assert figures(told[0][0], model)["trained_on_loss"] == pytest.approx(min(losses), abs=1e-4)


def test_transformers_loads_what_was_pretrained(
    context: Callable[..., StepContext], inputs: dict[str, Path]
) -> None:
    ctx = context("bert", inputs)
    bert.pretrain(ctx, settings=SETTINGS, seed=1)
    model, told = BertForMaskedLM.from_pretrained(ctx.folder, output_loading_info=True)
    assert not told["missing_keys"]
    assert model.config.vocab_size == CODES**2 + len(SPECIAL)
    assert model(torch.tensor([[MASK, 3, 4]])).logits.shape == (1, 3, CODES**2 + len(SPECIAL))


def test_an_utterance_longer_than_the_positions_is_named(
    context: Callable[..., StepContext], inputs: dict[str, Path]
) -> None:
    short = BertSettings(**(SMALL | {"positions": 40}))
    with pytest.raises(UserError, match=r"(?s)u7 .*bert.positions 40.*47 frames.*47 or more"):
        bert.pretrain(context("bert", inputs), settings=short, seed=1)


def test_where_nothing_is_kept_back_no_figure_says_so(
    context: Callable[..., StepContext], inputs: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    ctx = context("bert", inputs)
    bert.pretrain(ctx, settings=SETTINGS, seed=1)
    facts = json.loads((ctx.folder / "pretraining.json").read_text())
    assert facts["kept_back_utterances"] == 0
    assert "trained on" in facts["weights_chosen_on"]
    assert not any(
        k.startswith(("kept_back_loss", "kept_back_acc", "kept_back_mask")) for k in told_in(facts)
    )
    assert 0 < facts["trained_on_accuracy"] < 1
    said = "".join(capsys.readouterr())
    assert "nothing kept back (that takes 25 utterances)" in said
    rates = [facts[f"trained_on_mask_accuracy{guess}"] for guess in ("", *GUESSES)]
    told = "{:.1%}; the most frequent unit {:.1%}; the nearest seen {:.1%}".format(*rates)
    assert f"in speech trained on, at frames that show [MASK]: {told}" in said


def told_in(facts: dict[str, Any]) -> set[str]:
    return facts.keys() | {name for row in facts["history"] for name in row}


@pytest.fixture
def many(tmp_path: Path, vocabulary: Vocabulary) -> dict[str, Path]:
    """Inputs of 25 utterances of 12 frames: as many as it takes to keep one back."""
    rng = np.random.default_rng(2)
    units = {
        f"u{n}": vocabulary.tokens(rng.integers(0, CODES, (12, 2)).astype(np.int16))
        for n in range(25)
    }
    (tmp_path / "v").mkdir()
    vocabulary.save(tmp_path / "v")
    inputs = {"vocabulary": tmp_path / "v", "units/train": tmp_path / "u"}
    write_units(inputs["units/train"], units, vocabulary)
    return inputs


def test_speech_kept_back_is_not_learnt_from_and_the_learning_rates_are_those_of_the_settings(
    context: Callable[..., StepContext], many: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    learnt_from: set[str] = set()
    guessed_in: set[str] = set()
    rates: list[float] = []
    batch, update, heard = MaskedUnits.batch, Training.update, guessed_in

    def watched_batch(self: MaskedUnits, names: Sequence[str], epoch: int) -> Any:
        heard.update(names)
        return batch(self, names, epoch)

    def watched_update(self: Training, number: int, optimizer: Any) -> dict[str, float]:
        nonlocal heard
        heard = learnt_from
        told = update(self, number, optimizer)
        heard = guessed_in
        rates.append(optimizer.param_groups[0]["lr"])
        assert self.clip_norm == 0.5
        return told

    monkeypatch.setattr(MaskedUnits, "batch", watched_batch)
    monkeypatch.setattr(Training, "update", watched_update)
    ctx = context("bert", many)
    bert.pretrain(ctx, settings=BertSettings(**SMALL, clip_norm=0.5), seed=1)
    assert (len(learnt_from), len(guessed_in)) == (24, 1)
    assert learnt_from | guessed_in == {f"units/train/u{n}" for n in range(25)}
    peak = SETTINGS.learning_rate
    assert rates == pytest.approx([peak * s for s in (1 / 2, 1, 1, 3 / 4, 1 / 2, 1 / 4)])
    assert json.loads((ctx.folder / "pretraining.json").read_text())["precision"] == "fp32"


def test_speech_kept_back_is_called_so_and_chooses_the_weights(
    context: Callable[..., StepContext],
    many: dict[str, Path],
    capsys: pytest.CaptureFixture[str],
) -> None:
    ctx = context("bert", many)
    bert.pretrain(ctx, settings=SETTINGS, seed=1)
    facts = json.loads((ctx.folder / "pretraining.json").read_text())
    assert facts["kept_back_utterances"] == 1
    assert facts["weights_chosen_on"].startswith("the utterances kept back")
    assert not any(k.startswith(("dev", "trained_on")) for k in told_in(facts))
    rows = [row for row in facts["history"] if "kept_back_loss" in row]
    assert facts["kept_back_loss"] == min(row["kept_back_loss"] for row in rows)
    assert facts["kept_back_mask_accuracy"] >= 0
    assert "the frame shows its own unit" in facts["figures_are_of"]
    assert "speech kept back (1 utterances), at frames that show" in "".join(capsys.readouterr())
