"""MFCC: shapes, normalisation, and slopes and cepstra against their definitions."""

from __future__ import annotations

import numpy as np
import pytest

from stages.quantizer.mfcc import DIM, mfcc


def noise(samples: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    envelope = np.interp(
        np.arange(samples),
        np.arange(0, samples + 800, 800),
        rng.uniform(0.05, 0.3, len(range(0, samples + 800, 800))),
    )
    return (envelope * rng.standard_normal(samples)).astype(np.float32)


@pytest.mark.parametrize(("samples", "hop", "frames"), [(1600, 160, 11), (16_100, 320, 51)])
def test_a_frame_every_hop(samples: int, hop: int, frames: int) -> None:
    feats_FD = mfcc(noise(samples), hop_samples=hop, highest_hz=8000)
    assert feats_FD.shape == (frames, DIM)
    assert feats_FD.dtype == np.float32


def test_each_dimension_has_mean_0_and_variance_1() -> None:
    feats_FD = mfcc(noise(16_000), hop_samples=160, highest_hz=4000)
    np.testing.assert_allclose(feats_FD.mean(axis=0), 0, atol=1e-4)
    np.testing.assert_allclose(feats_FD.std(axis=0), 1, atol=1e-2)


def test_loudness_changes_nothing() -> None:
    speech = noise(16_000)
    quiet, loud = (mfcc(g * speech, hop_samples=320, highest_hz=8000) for g in (0.1, 1.0))
    np.testing.assert_allclose(quiet, loud, atol=2e-3)


def test_slopes_are_those_of_a_line_through_five_frames() -> None:
    feats_FD = mfcc(noise(16_000), hop_samples=160, highest_hz=8000).astype(np.float64)
    for first in (0, 13):
        times = np.arange(-2, 3)
        expected = [
            np.polyfit(times, feats_FD[f - 2 : f + 3, first], 1)[0]
            for f in range(2, len(feats_FD) - 2)
        ]
        found = feats_FD[2:-2, first + 13]
        assert np.corrcoef(expected, found)[0, 1] > 0.99999  # the scale is normalised away


def test_what_lies_above_the_band_is_not_heard() -> None:
    low = noise(16_000)
    high = 0.05 * np.sin(2 * np.pi * 6000 * np.arange(16_000) / 16_000).astype(np.float32)
    both = [mfcc(x, hop_samples=320, highest_hz=4000) for x in (low, low + high)]
    wide = [mfcc(x, hop_samples=320, highest_hz=8000) for x in (low, low + high)]
    assert np.abs(both[0] - both[1]).mean() < 0.1 * np.abs(wide[0] - wide[1]).mean()
