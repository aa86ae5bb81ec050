"""Span masking: its share, and what becomes of the masked."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.batches import generator
from stages.units.masking import corrupt, span_mask
from stages.units.vocabulary import MASK, SPECIAL

FRAMES = 200_000
SIZE = 1003


@pytest.mark.parametrize(("probability", "span"), [(0.05, 10), (0.065, 5), (0.2, 1)])
def test_the_share_of_hidden_frames_is_as_expected(probability: float, span: int) -> None:
    """A frame is seen if none of the last `span` frames starts a span."""
    mask_F = span_mask(FRAMES, probability, span, generator(1))
    assert mask_F.mean() == pytest.approx(1 - (1 - probability) ** span, abs=0.01)
    assert (mask_F.shape, mask_F.dtype) == ((FRAMES,), np.bool_)


def test_spans_are_of_their_length_but_for_the_last() -> None:
    mask_F = span_mask(FRAMES, 0.001, 10, generator(1))
    edges = np.flatnonzero(np.diff(np.r_[0, mask_F.astype(int), 0]))
    lengths = edges[1::2] - edges[::2]
    assert lengths[:-1].min() == 10
    assert np.median(lengths) == 10


def test_lengths_of_spans_can_be_drawn_from_a_normal_distribution() -> None:
    """Rounded N(10, 10), none below 0: what fairseq draws; here spans hardly ever meet."""
    mask_F = span_mask(3_000_000, 0.001, 10, generator(1), 10.0)
    edges = np.flatnonzero(np.diff(np.r_[0, mask_F.astype(int), 0]))
    lengths = edges[1::2] - edges[::2]
    drawn = np.random.default_rng(0).normal(10, 10, 1_000_000)
    expected = np.maximum(np.round(drawn), 0)
    seen = expected[expected > 0]  # a span without a frame is not seen
    assert lengths.mean() == pytest.approx(seen.mean(), rel=0.04)
    assert np.median(lengths) == pytest.approx(np.median(seen), abs=1)
    assert lengths.max() > 35
    starts = len(lengths) / 3_000_000
    assert starts == pytest.approx(0.001 * (expected > 0).mean(), rel=0.06)


def test_spans_of_one_length_are_what_a_convolution_gives() -> None:
    for frames in (1, 5, 10, 200):
        starts = generator(3).random(frames) < 0.2
        expected = np.convolve(starts, np.ones(10))[:frames] > 0.5
        np.testing.assert_array_equal(span_mask(frames, 0.2, 10, generator(3)), expected)


@pytest.mark.parametrize("frames", [1, 3, 9, 10, 11])
def test_speech_shorter_than_a_span_is_masked_to_its_length(frames: int) -> None:
    masks = [span_mask(frames, 0.5, 10, generator(n), 5.0 * (n % 2)) for n in range(20)]
    assert all(mask.shape == (frames,) for mask in masks)
    assert any(mask.any() for mask in masks)


def test_of_the_masked_80_percent_are_mask_10_stay_and_10_are_random() -> None:
    tokens_F = np.full(FRAMES, 7)
    mask_F = span_mask(FRAMES, 0.05, 10, generator(1))
    seen_F = corrupt(tokens_F, mask_F, SIZE, generator(2))
    assert (seen_F[~mask_F] == 7).all()
    hidden = seen_F[mask_F]
    assert (hidden == MASK).mean() == pytest.approx(0.8, abs=0.01)
    assert (hidden == 7).mean() == pytest.approx(0.1, abs=0.01)
    others = hidden[(hidden != MASK) & (hidden != 7)]
    assert len(others) / len(hidden) == pytest.approx(0.1, abs=0.01)
    assert others.min() == len(SPECIAL)
    assert others.max() == SIZE - 1
    assert len(np.unique(others)) > 990


def test_masks_are_a_pure_function_of_their_key() -> None:
    masks = [
        span_mask(500, 0.05, 10, generator(*key)).tobytes()
        for key in [
            (1, "mask", 0, "u"),
            (1, "mask", 0, "u"),
            (1, "mask", 1, "u"),
            (2, "mask", 0, "u"),
        ]
    ]
    assert masks[0] == masks[1]
    assert len(set(masks)) == 3


def test_what_is_given_is_left_as_it_was() -> None:
    tokens_F = np.arange(3, 103)
    corrupt(tokens_F, np.ones(100, bool), SIZE, generator(1))
    np.testing.assert_array_equal(tokens_F, np.arange(3, 103))
