"""Masks and learning rates beside fairseq's own functions, which the published figures used."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from pipeline.finetune_settings import FinetuneSettings
from pipeline.schedules import tri_stage_schedule
from stages.quantizer.fairseq.bridge import import_fairseq
from stages.units.masking import span_mask


@pytest.mark.parametrize(
    ("size", "mask_prob", "mask_length"),
    [(400, 0.65, 10), (1200, 0.65, 10), (768, 0.25, 64), (768, 0.5, 64)],
)
def test_masks_hide_as_much_as_fairseqs_do(size: int, mask_prob: float, mask_length: int) -> None:
    """Ours is given a start probability, fairseq the share that spans would cover side by side."""
    utils: Any = import_fairseq("fairseq.data.data_utils")
    np.random.seed(0)
    # One at a time: of a batch, fairseq unmasks frames until all have as few masked as the fewest.
    theirs = np.concatenate(
        [utils.compute_mask_indices((1, size), None, mask_prob, mask_length) for _ in range(400)]
    )
    rng = np.random.default_rng(0)
    ours = np.stack([span_mask(size, mask_prob / mask_length, mask_length, rng) for _ in theirs])
    assert ours.mean() == pytest.approx(theirs.mean(), abs=0.03)
    # Spans overlap, so the share hidden is far below mask_prob: 49 % in the paper for 0.65.
    assert ours.mean() == pytest.approx(1 - np.exp(-mask_prob), abs=0.03)


@pytest.mark.parametrize("budget", ["10min", "10h", "100h"])
def test_the_learning_rate_is_fairseqs_at_every_update(budget: str) -> None:
    module: Any = import_fairseq("fairseq.optim.lr_scheduler.tri_stage_lr_scheduler")
    settings = FinetuneSettings(preset="libri_light").for_budget(budget)
    rates: list[float] = []
    optimizer = object.__new__(import_fairseq("fairseq.optim").FairseqOptimizer)
    optimizer.set_lr = rates.append
    config = SimpleNamespace(
        lr=[settings.learning_rate],
        init_lr_scale=0.01,
        final_lr_scale=settings.final_scale,
        phase_ratio=list(settings.phases),
        max_update=settings.updates,
    )
    schedule = module.TriStageLRSchedule(config, optimizer)
    ours = tri_stage_schedule(settings.updates, settings.phases, settings.final_scale)
    for update in range(settings.updates + 1):
        rate = schedule.step_update(update)
        assert settings.learning_rate * ours(update) == pytest.approx(rate, rel=1e-9), update
