"""Features of a split: which are kept in memory, and how they are normalised."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pipeline import audio
from pipeline.manifest import Manifest, Utterance
from stages.acoustic import features
from stages.acoustic.features import Features, normalised

LENGTHS = {"a": 1600, "b": 1700, "c": 1760, "d": 9000}


@pytest.fixture
def manifest(tmp_path: Path) -> Manifest:
    rows = []
    for number, (name, samples) in enumerate(LENGTHS.items()):
        noise = 0.1 * np.random.RandomState(number).standard_normal(samples)
        audio.write(tmp_path / f"{name}.flac", noise.astype(np.float32))
        rows.append(Utterance(name, "s", f"{name}.flac", True, samples, 0.1, "go"))
    return Manifest(rows, tmp_path)


def blocks(samples: np.ndarray) -> np.ndarray:
    """A frame every 100 samples, of 20 values."""
    return samples[: len(samples) // 100 * 100].reshape(-1, 100)[:, :20].copy()


def test_features_in_memory_are_bounded_by_their_bytes(
    manifest: Manifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(features, "CACHED_BYTES", 35 * 4 * 20)  # 35 frames of 20 floats
    split = Features(manifest, blocks, lambda samples: samples // 100)
    first = [split(name) for name in "adbc"]
    again = [split(name) for name in "adbc"]
    assert [one is other for one, other in zip(first, again, strict=True)] == [1, 0, 1, 0]
    for name, one, other in zip("adbc", first, again, strict=True):
        np.testing.assert_array_equal(one, other)
        np.testing.assert_array_equal(one, blocks(manifest.samples(manifest[name])))


def test_frames_are_counted_from_the_manifest(manifest: Manifest) -> None:
    split = Features(manifest, blocks, lambda samples: samples // 100)
    expected = {name: len(split(name)) for name in LENGTHS}
    for path in manifest.folder.glob("*.flac"):
        path.unlink()
    fresh = Features(manifest, blocks, lambda samples: samples // 100)
    assert {name: fresh.frames(name) for name in LENGTHS} == expected


def test_normalised_dimensions_have_mean_0_and_variance_1() -> None:
    feats_FD = 5 + 3 * np.random.RandomState(0).standard_normal((50, 4)).astype(np.float32)
    found = normalised(feats_FD)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found.mean(axis=0), 0, atol=1e-5)
    np.testing.assert_allclose(found.std(axis=0), 1, atol=1e-4)
    np.testing.assert_allclose(normalised(np.full((3, 2), 7, np.float32)), 0)
