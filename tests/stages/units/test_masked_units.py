"""The loss on hidden units, utterances in a row, and masks."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from transformers import BertConfig, BertForMaskedLM

from pipeline.recipe import BertSettings
from stages.units import attention
from stages.units.attention import packed
from stages.units.bert import bert_config
from stages.units.masked_units import Batch, MaskedUnits, hidden_states, losses

SIZE = 28
SETTINGS = BertSettings(layers=2, dim=16, ffn_dim=32, heads=2, dropout=0.1, positions=64)
NAMES = [f"u{n}" for n in range(8)]
LENGTHS = {name: 12 + 5 * n for n, name in enumerate(NAMES)}


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def tokens() -> dict[str, Any]:
    rng = np.random.default_rng(1)
    return {name: rng.integers(3, SIZE, length) for name, length in LENGTHS.items()}


@pytest.fixture(scope="module")
def model() -> BertForMaskedLM:
    torch.manual_seed(0)
    made = BertForMaskedLM(BertConfig(**bert_config(SETTINGS, SIZE))).eval()
    with torch.no_grad():  # a real model's positions and biases are not nothing
        for parameter in made.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return made


def masked(tokens: dict[str, Any], seed: int = 1) -> MaskedUnits:
    return MaskedUnits(tokens, SETTINGS, SIZE, seed, "cpu")


def test_an_utterance_without_frames_hides_nothing(tokens: dict[str, Any]) -> None:
    units = masked(tokens | {"none": np.array([], np.int64)})
    alone, batch = units.batch(["u3"], 0), units.batch(["none", "u3"], 0)
    assert batch.frames == [0, LENGTHS["u3"]]
    assert torch.equal(batch.seen_N, alone.seen_N)
    assert torch.equal(batch.hidden_M, alone.hidden_M)


def as_transformers_takes_it(
    units: MaskedUnits, names: list[str]
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """What is seen, what is attended to and what is to be guessed (-100 elsewhere), padded."""
    longest = max(LENGTHS[name] for name in names)
    seen_BF = torch.zeros(len(names), longest, dtype=torch.long)
    attended_BF, labels_BF = torch.zeros_like(seen_BF), torch.full_like(seen_BF, -100)
    for row, name in enumerate(names):
        seen_F, hidden_F = units.masked(name, 0)
        length = LENGTHS[name]
        seen_BF[row, :length] = torch.from_numpy(seen_F)
        attended_BF[row, :length] = 1
        where = np.flatnonzero(hidden_F)
        labels_BF[row, where] = torch.from_numpy(units.tokens[name][where])
    return seen_BF, attended_BF, labels_BF


def test_the_loss_is_that_of_transformers_on_hidden_frames_alone(
    tokens: dict[str, Any], model: BertForMaskedLM
) -> None:
    units = masked(tokens)
    seen_BF, attended_BF, labels_BF = as_transformers_takes_it(units, NAMES)
    with torch.inference_mode():
        theirs = model(seen_BF, attention_mask=attended_BF, labels=labels_BF)
        with packed(model):
            losses_M, right_M = losses(model, units.batch(NAMES, 0))
    assert losses_M.mean().item() == pytest.approx(theirs.loss.item(), rel=1e-5)
    hidden_BF = labels_BF >= 0
    right = (theirs.logits.argmax(-1) == labels_BF)[hidden_BF]
    assert torch.equal(right, right_M)


@pytest.mark.parametrize("way", ["_one_by_one", "_padded"])
def test_gradients_are_those_of_transformers_too(
    tokens: dict[str, Any], model: BertForMaskedLM, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    monkeypatch.setattr(attention, "_one_by_one", getattr(attention, way))
    units = masked(tokens)
    seen_BF, attended_BF, labels_BF = as_transformers_takes_it(units, NAMES)
    parameters = [p for n, p in model.named_parameters() if p.requires_grad]
    loss = model(seen_BF, attention_mask=attended_BF, labels=labels_BF).loss
    theirs = torch.autograd.grad(loss, parameters)
    with packed(model):
        losses_M, _ = losses(model, units.batch(NAMES, 0))
    ours = torch.autograd.grad(losses_M.mean(), parameters)
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("way", ["_one_by_one", "_padded"])
@pytest.mark.parametrize("names", [NAMES, NAMES[::-1], ["u3"], ["u1", "u1", "u7"]])
def test_hidden_states_in_a_row_are_those_of_an_utterance_alone(
    tokens: dict[str, Any],
    model: BertForMaskedLM,
    monkeypatch: pytest.MonkeyPatch,
    way: str,
    names: list[str],
) -> None:
    """Alone: through transformers' own attention, without mask."""
    monkeypatch.setattr(attention, "_one_by_one", getattr(attention, way))
    units = masked(tokens)
    with torch.inference_mode():
        with packed(model):
            row_ND = hidden_states(model, units.batch(names, 0))
        assert model.config._attn_implementation == "sdpa"
        for name, part_FD in zip(
            names, row_ND.split([LENGTHS[name] for name in names]), strict=True
        ):
            seen_F, _ = units.masked(name, 0)
            alone_FD = model.bert(torch.from_numpy(seen_F)[None]).last_hidden_state[0]
            torch.testing.assert_close(part_FD, alone_FD, rtol=1e-5, atol=2e-6)


def test_a_row_holds_its_utterances_and_what_is_hidden_of_them(tokens: dict[str, Any]) -> None:
    units = masked(tokens)
    batch: Batch = units.batch(["u5", "u2"], 0)
    assert batch.frames == [37, 22]
    assert batch.positions_N.tolist() == [*range(37), *range(22)]
    truth_N = np.concatenate([tokens["u5"], tokens["u2"]])
    hidden_N = np.zeros(59, bool)
    hidden_N[batch.hidden_M] = True
    assert batch.truth_M.tolist() == truth_N[hidden_N].tolist()
    assert batch.seen_N[~torch.from_numpy(hidden_N)].tolist() == truth_N[~hidden_N].tolist()
    assert hidden_N[:37].any()
    assert hidden_N[37:].any()


def test_masks_depend_on_seed_epoch_and_utterance_alone(tokens: dict[str, Any]) -> None:
    def told(names: list[str], epoch: int = 0, seed: int = 1) -> tuple[bytes, bytes]:
        batch = masked(tokens, seed).batch(names, epoch)
        start = sum(LENGTHS[name] for name in names[: names.index("u3")])
        rows = range(start, start + LENGTHS["u3"])
        hidden = [int(n) - start for n in batch.hidden_M if int(n) in rows]
        return bytes(hidden), bytes(batch.seen_N[list(rows)].tolist())

    assert told(["u3"]) == told(NAMES) == told(NAMES[::-1])
    assert len({told(["u3"]), told(["u3"], epoch=1), told(["u3"], seed=2)}) == 3


def test_a_short_utterance_has_a_hidden_frame_all_the_same() -> None:
    units = masked({f"s{n}": np.array([5, 6]) for n in range(30)})
    assert all(units.masked(name, 0)[1].any() for name in units.tokens)


def test_spans_of_drawn_lengths_are_a_setting(tokens: dict[str, Any]) -> None:
    long = {"u": np.full(60_000, 5)}
    drawn = SETTINGS.model_copy(update={"mask_span_std": 10.0})
    _, static_F = masked(long).masked("u", 0)
    _, drawn_F = MaskedUnits(long, drawn, SIZE, 1, "cpu").masked("u", 0)
    ends = [np.flatnonzero(np.diff(np.r_[0, m.astype(int), 0])) for m in (static_F, drawn_F)]
    shortest = [int((e[1::2] - e[::2])[:-1].min()) for e in ends]
    assert shortest == [10, 1]
