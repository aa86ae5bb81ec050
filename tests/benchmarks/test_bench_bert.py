"""Both sides of the benchmark learn the same from the same utterances."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from transformers import BertConfig, BertForMaskedLM

from pipeline.recipe import BertSettings
from stages.units.attention import packed
from stages.units.bert import bert_config
from stages.units.masked_units import MaskedUnits, losses
from tests.benchmarks import bench_bert
from tests.benchmarks.bench_bert import RandomBatches, Side, padded_batch, real_share

SETTINGS = BertSettings(layers=1, dim=16, ffn_dim=32, heads=2, dropout=0.0)
LENGTHS = {f"u{n}": 10 + 7 * n for n in range(9)}


def test_the_peer_s_loss_on_its_padded_batch_is_ours() -> None:
    torch.manual_seed(0)
    tokens = {n: np.random.default_rng(0).integers(3, 40, count) for n, count in LENGTHS.items()}
    model = BertForMaskedLM(BertConfig(**bert_config(SETTINGS, 40))).eval()
    masked = MaskedUnits(tokens, SETTINGS, 40, 1, "cpu")
    names = ["u8", "u0", "u3"]
    with torch.no_grad():
        theirs = model(**padded_batch(masked, names, 2, "cpu"))
        with packed(model):
            losses_M, _ = losses(model, masked.batch(names, 2))
    assert theirs.loss.item() == pytest.approx(losses_M.mean().item(), rel=1e-5)
    assert theirs.logits.shape == (3, LENGTHS["u8"], 40)  # at all positions


def test_random_batches_hold_every_utterance_once_within_their_frames() -> None:
    batches = RandomBatches(LENGTHS, 150, seed=1)
    made = batches.epoch(0)
    assert sorted(i for batch in made for i in batch) == sorted(LENGTHS)
    padded = [len(batch) * max(LENGTHS[i] for i in batch) for batch in made]
    assert max(padded) <= 150
    side = Side(lambda n: None, batches, LENGTHS)
    assert real_share(side) == pytest.approx(sum(LENGTHS.values()) / sum(padded))


def test_units_of_the_updates_that_were_made_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    batches, made = RandomBatches(LENGTHS, 150, seed=1), []
    side = Side(made.append, batches, LENGTHS)
    clock = iter([0.0, 2.0, 5.0, 9.0])
    monkeypatch.setattr(bench_bert.time, "perf_counter", lambda: next(clock))

    def units(*numbers: int) -> int:
        return sum(LENGTHS[i] for n in numbers for i in batches.at(n)[1])

    assert side.rate(2, "cpu") == units(0, 1) / 2
    assert side.rate(3, "cpu") == units(2, 3, 4) / 4
    assert made == [0, 1, 2, 3, 4]


def test_without_the_speech_lengths_are_drawn(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    monkeypatch.setattr(bench_bert, "SPEECH", tmp_path / "none.tsv")
    lengths, told = bench_bert.utterance_lengths()
    assert len(lengths) == 1340
    assert np.median(list(lengths.values())) == pytest.approx(192, rel=0.05)
    assert "log-normal" in told
