"""How well hidden units are guessed, by what is shown at the frame, beside trivial guesses."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers import BertConfig, BertForMaskedLM

from pipeline.recipe import BertSettings
from stages.units import guesses
from stages.units.attention import packed
from stages.units.bert import bert_config
from stages.units.guesses import EPOCH, Validation, nearest_seen
from stages.units.masked_units import Batch, MaskedUnits, losses
from stages.units.vocabulary import MASK, SPECIAL

SIZE = 28
UNITS = SIZE - len(SPECIAL)
SETTINGS = BertSettings(layers=2, dim=16, ffn_dim=32, heads=2, dropout=0.1, positions=64)
NAMES = [f"u{n}" for n in range(8)]


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def model() -> BertForMaskedLM:
    torch.manual_seed(0)
    return BertForMaskedLM(BertConfig(**bert_config(SETTINGS, SIZE))).eval()


def random_tokens(lengths: dict[str, int]) -> dict[str, Any]:
    rng = np.random.default_rng(1)
    return {name: rng.integers(len(SPECIAL), SIZE, n) for name, n in lengths.items()}


def validation(tokens: dict[str, Any], batch_frames: int = 50) -> Validation:
    """On the first two utterances; frequencies are those of the others."""
    units = MaskedUnits(tokens, SETTINGS, SIZE, 1, "cpu")
    return Validation(units, NAMES[:2], NAMES[2:], batch_frames, SIZE, "fp32", "cpu")


def copier(model: BertForMaskedLM, batch: Batch) -> tuple[Tensor, Tensor]:
    """A model that says what it is shown, and one unit where that is [MASK]."""
    shown_M = batch.seen_N[batch.hidden_M]
    guessed_M = torch.where(shown_M == MASK, len(SPECIAL), shown_M)
    right_M = guessed_M == batch.truth_M
    return torch.where(right_M, 0.5, 4.0), right_M


@pytest.fixture
def copies(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(guesses, "losses", copier)
    yield


@pytest.mark.usefixtures("copies")
def test_a_model_that_copies_what_is_shown_is_no_better_than_chance(
    model: BertForMaskedLM,
) -> None:
    """A tenth of the chosen frames show their own unit; over all, copying looks like skill."""
    check = validation(random_tokens(dict.fromkeys(NAMES, 50_000)), 60_000)
    told, chance = check.figures(model), 1 / UNITS
    assert told["kept_back_mask_accuracy"] == pytest.approx(chance, abs=0.004)
    assert told["kept_back_mask_accuracy_nearest"] == pytest.approx(chance, abs=0.004)
    assert told["kept_back_mask_accuracy_most_frequent"] == pytest.approx(chance, abs=0.004)
    assert told["kept_back_accuracy"] == pytest.approx(0.1 + 0.9 * chance, abs=0.008)
    loss = 0.5 * chance + 4.0 * (1 - chance)
    assert told["kept_back_mask_loss"] == pytest.approx(loss, abs=0.02)
    assert told["kept_back_loss"] < loss - 0.2


@pytest.mark.usefixtures("copies")
def test_figures_are_told_apart_by_what_is_shown(model: BertForMaskedLM) -> None:
    found = validation(random_tokens(dict.fromkeys(NAMES, 50_000)), 60_000).by_fate(model)
    assert (found["kept"]["accuracy"], found["random"]["accuracy"]) == (1, 0)
    frames = {fate: told["frames"] for fate, told in found.items()}
    assert frames["all"] == frames["mask"] + frames["kept"] + frames["random"]
    shares = [frames[fate] / frames["all"] for fate in ("mask", "kept", "random")]
    by_chance = 0.1 / UNITS  # of the random ones are the frame's own
    assert shares == pytest.approx([0.8, 0.1 + by_chance, 0.1 - by_chance], abs=0.006)


def test_all_three_guess_at_the_same_frames(
    model: BertForMaskedLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One unit alone, but another wherever a chosen frame does not show [MASK]."""
    own, other = 7, 8
    units = MaskedUnits({name: np.full(400, own) for name in NAMES}, SETTINGS, SIZE, 1, "cpu")
    for name in NAMES[:2]:
        seen_F, hidden_F = units.masked(name, EPOCH)
        units.tokens[name][hidden_F & (seen_F != MASK)] = other  # fates depend on no token
    check = Validation(units, NAMES[:2], NAMES[2:], 1000, SIZE, "fp32", "cpu")
    monkeypatch.setattr(
        guesses, "losses", lambda _, b: (torch.ones(len(b.truth_M)), b.truth_M == own)
    )
    told = check.figures(model)
    names = ("", "_most_frequent", "_nearest")
    assert [told[f"kept_back_mask_accuracy{name}"] for name in names] == [1, 1, 1]
    found = check.by_fate(model)["all"]
    assert found["accuracy"] == found["accuracy_most_frequent"] == found["accuracy_nearest"] < 0.9


@pytest.mark.usefixtures("copies")
def test_where_no_frame_shows_mask_the_figures_are_over_all_chosen(
    model: BertForMaskedLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        MaskedUnits, "masked", lambda self, name, _: (self.tokens[name], np.arange(9) == 4)
    )
    told = validation(random_tokens(dict.fromkeys(NAMES, 9))).figures(model)
    assert told == {"kept_back_loss": 0.5, "kept_back_accuracy": 1.0}


@pytest.mark.parametrize(
    ("hidden", "nearest"),
    [
        ([0, 1, 1, 1, 0], [0, 0, 0, 4, 4]),  # a tie goes to the left
        ([1, 1, 0, 0, 1], [2, 2, 2, 3, 3]),
        ([1, 1, 1], [0, 1, 2]),
        ([0, 0], [0, 1]),
    ],
)
def test_the_nearest_frame_that_is_seen(hidden: list[int], nearest: list[int]) -> None:
    assert nearest_seen(np.array(hidden, bool)).tolist() == nearest


def test_validation_compares_with_guesses_that_need_no_model(model: BertForMaskedLM) -> None:
    with packed(model):
        told = validation({name: np.full(30, 7) for name in NAMES}).figures(model)
        assert told["kept_back_mask_accuracy_most_frequent"] == 1
        assert told["kept_back_mask_accuracy_nearest"] == 1
        share = (6 * 30 + 1) / (6 * 30 + SIZE)
        assert told["kept_back_mask_loss_frequencies"] == pytest.approx(-np.log(share), abs=1e-5)
        changing = {name: 3 + np.arange(30) % 25 for name in NAMES}
        told = validation(changing).figures(model)
        assert told["kept_back_mask_accuracy_nearest"] == 0
        assert told["kept_back_mask_accuracy_most_frequent"] < 0.2


def test_figures_are_means_over_frames_however_they_are_batched(model: BertForMaskedLM) -> None:
    tokens = random_tokens({name: 40 + 3 * n for n, name in enumerate(NAMES)})
    batch = MaskedUnits(tokens, SETTINGS, SIZE, 1, "cpu").batch(NAMES[:2], EPOCH)
    with packed(model), torch.no_grad():
        losses_M, right_M = losses(model, batch)
        one, many = (validation(tokens, n).figures(model) for n in (1000, 5))
    at_mask_M = batch.seen_N[batch.hidden_M] == MASK
    assert 0 < at_mask_M.sum() < len(losses_M)
    for start, of_M in (("kept_back", at_mask_M | True), ("kept_back_mask", at_mask_M)):
        assert one[f"{start}_loss"] == pytest.approx(losses_M[of_M].mean().item(), abs=2e-5)
        accuracy = right_M[of_M].float().mean().item()
        assert one[f"{start}_accuracy"] == pytest.approx(accuracy, abs=1e-5)
    assert one == pytest.approx(many, abs=2e-5)
