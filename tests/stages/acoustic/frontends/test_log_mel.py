from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pipeline import audio
from pipeline.manifest import Manifest, Utterance
from pipeline.recipe import BertSettings
from stages.acoustic.frontends import log_mel
from stages.acoustic.labelled import count_frames


def tone(pitch_hz: float, seconds: float = 1.0) -> np.ndarray:
    times = np.arange(int(seconds * 16_000)) / 16_000
    noise = 0.001 * np.random.RandomState(0).standard_normal(len(times))
    return (0.3 * np.sin(2 * np.pi * pitch_hz * times) + noise).astype(np.float32)


@pytest.mark.parametrize(("samples", "frames"), [(1600, 11), (16_000, 101), (16_079, 101)])
def test_a_frame_every_10_ms(samples: int, frames: int) -> None:
    feats_FD = log_mel.log_mel(tone(500, 2)[:samples], log_mel.Settings(mel_bins=40))
    assert feats_FD.shape == (frames, 40)
    assert feats_FD.dtype == np.float32


def test_each_bin_has_mean_0_and_variance_1() -> None:
    feats_FD = log_mel.log_mel(tone(500), log_mel.Settings())
    np.testing.assert_allclose(feats_FD.mean(axis=0), 0, atol=1e-4)
    np.testing.assert_allclose(feats_FD.std(axis=0), 1, atol=1e-2)


def test_loudness_changes_nothing() -> None:
    noise = 0.1 * np.random.RandomState(0).standard_normal(16_000)
    speech = (noise * np.linspace(0.3, 1, 16_000)).astype(np.float32)  # nowhere at the floor
    quiet, loud = (log_mel.log_mel(g * speech, log_mel.Settings()) for g in (0.1, 1.0))
    np.testing.assert_allclose(quiet, loud, atol=1e-3)


def test_a_higher_tone_is_in_a_higher_bin() -> None:
    bins = []
    for pitch_hz in (300, 1000, 3000):
        speech = np.concatenate([tone(50, 0.5), tone(pitch_hz, 0.5)])
        feats_FD = log_mel.log_mel(speech, log_mel.Settings())
        bins.append(int((feats_FD[60:].mean(axis=0) - feats_FD[:40].mean(axis=0)).argmax()))
    assert bins == sorted(bins)
    assert len(set(bins)) == 3


def test_features_are_those_of_the_utterance_named(tmp_path: Path) -> None:
    rows = []
    for name, pitch_hz in (("a", 300), ("b", 3000)):
        audio.write(tmp_path / f"{name}.flac", tone(pitch_hz))
        rows.append(Utterance(name, "s", f"{name}.flac", True, 16_000, 1.0, "go"))
    manifest = Manifest(rows, tmp_path)
    manifest.write()
    settings = log_mel.Settings(mel_bins=20)
    features = log_mel.open_split(settings, {"manifest": tmp_path})
    expected = log_mel.log_mel(manifest.samples(manifest["b"]), settings)
    np.testing.assert_array_equal(features("b"), expected)
    assert not np.array_equal(features("a"), features("b"))


@pytest.fixture
def split(tmp_path: Path) -> Path:
    rows = []
    for name, samples in (("a", 1600), ("b", 1759), ("c", 1760), ("d", 9000)):
        audio.write(tmp_path / f"{name}.flac", tone(300)[:samples])
        rows.append(Utterance(name, "s", f"{name}.flac", True, samples, 0.1, "go"))
    Manifest(rows, tmp_path).write()
    return tmp_path


def test_frames_are_counted_without_reading_audio(split: Path) -> None:
    features = log_mel.open_split(log_mel.Settings(), {"manifest": split})
    counted = {name: features.frames(name) for name in "abcd"}
    assert counted == {name: len(features(name)) for name in "abcd"}
    for path in split.glob("*.flac"):
        path.unlink()
    features = log_mel.open_split(log_mel.Settings(), {"manifest": split})
    assert count_frames(features, "abcd") == counted


def test_the_encoder_is_of_the_berts_size_and_comes_back_from_its_config() -> None:
    bert = BertSettings(layers=1, dim=16, ffn_dim=16, heads=2, positions=32)
    made = log_mel.new_encoder(log_mel.Settings(mel_bins=20, stride=3), bert, {})
    assert (made.dim, made.stride, made.mask_channels) == (16, 3, 20)
    back = log_mel.empty_encoder(made.config)
    shapes = [{k: v.shape for k, v in e.state_dict().items()} for e in (made, back)]
    assert shapes[0] == shapes[1]
