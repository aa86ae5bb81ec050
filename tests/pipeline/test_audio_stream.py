"""Recordings block by block are those that stage 0 makes of them whole."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from pipeline import audio, audio_stream
from pipeline.audio import BadAudio
from stages.prepare import stage
from stages.prepare.corpus import Source, load_file


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audio_stream, "BLOCK_SAMPLES", 7001)


def noise(samples: int, channels: int = 1, seed: int = 0) -> np.ndarray:
    draw = np.random.default_rng(seed).standard_normal((samples, channels))
    return np.clip(0.1 * draw, -0.9, 0.9)


def whole(path: Path) -> np.ndarray:
    return np.concatenate(list(audio_stream.stream(path)))


def stored(samples: np.ndarray, path: Path) -> np.ndarray:
    """As stage 0 stores what it made."""
    audio.write(path, samples)
    return audio.read(path)[0]


@pytest.mark.parametrize(
    ("rate_hz", "channels"), [(8000, 1), (11_025, 2), (22_050, 1), (44_100, 2), (48_000, 1)]
)
def test_resampled_blocks_are_what_stage_0_stores(
    tmp_path: Path, rate_hz: int, channels: int
) -> None:
    soundfile.write(tmp_path / "a.wav", noise(50_000, channels), rate_hz)
    samples, found_hz = audio.read(tmp_path / "a.wav")
    expected = stored(audio.resample(samples, found_hz), tmp_path / "stored.flac")
    np.testing.assert_array_equal(whole(tmp_path / "a.wav"), expected)


@pytest.mark.parametrize("subtype", ["PCM_16", "PCM_24", "FLOAT"])
def test_recordings_at_16_khz_stay_as_they_are(tmp_path: Path, subtype: str) -> None:
    soundfile.write(tmp_path / "a.wav", noise(50_000, 2), 16_000, subtype)
    np.testing.assert_array_equal(whole(tmp_path / "a.wav"), audio.read(tmp_path / "a.wav")[0])


def test_what_lies_above_the_bandwidth_goes_where_there_is_more(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", noise(50_000), 44_100)
    samples = audio.resample(audio.read(tmp_path / "a.wav")[0], 44_100)
    expected = stored(audio.band_limit(samples, 4000), tmp_path / "stored.flac")
    limited = np.concatenate(list(audio_stream.stream(tmp_path / "a.wav", 4000)))
    np.testing.assert_array_equal(limited, expected)
    soundfile.write(tmp_path / "low.wav", noise(50_000), 8000)
    low = np.concatenate(list(audio_stream.stream(tmp_path / "low.wav", 4000)))
    np.testing.assert_array_equal(low, whole(tmp_path / "low.wav"))


@pytest.mark.parametrize(
    ("rate_hz", "bandwidth_hz"), [(44_100, None), (8000, None), (16_000, 4000)]
)
def test_peaks_beyond_full_scale_come_out_as_stage_0_stores_them(
    tmp_path: Path, rate_hz: int, bandwidth_hz: int | None
) -> None:
    """The loudest sample comes last, and scales all that lies before it."""
    samples = np.concatenate([noise(50_000), 7 * noise(7_000, seed=1)])
    soundfile.write(tmp_path / "a.wav", samples, rate_hz, "FLOAT")
    widest = {} if bandwidth_hz is None else {"widest_hz": bandwidth_hz}
    source = Source("a", "s", None, tmp_path, ("a.wav",), widest)
    row = stage._prepare(tmp_path, load_file, source, "", False)
    assert row["utterance"]["stored"]
    expected, found_hz = audio.read(tmp_path / row["utterance"]["path"])
    found = np.concatenate(list(audio_stream.stream(tmp_path / "a.wav", bandwidth_hz)))
    np.testing.assert_array_equal(found, expected)
    assert found_hz == 16_000
    assert np.abs(found).max() > 0.999
    # None is clipped: the quiet part is quieter than it was.
    assert np.count_nonzero(np.abs(found) > 0.999) < 3
    assert np.abs(found[: len(found) // 2]).max() < 0.5


@pytest.mark.parametrize("peak", [0.3, 1.0])
def test_16_bits_are_those_of_a_file(tmp_path: Path, peak: float) -> None:
    samples = np.concatenate([np.linspace(-peak, peak, 100_001), [peak, -peak]]).astype(np.float32)
    found = audio_stream.in_16_bits(samples)
    np.testing.assert_array_equal(found, stored(samples, tmp_path / "a.flac"))
    assert audio_stream.in_16_bits(np.float32([1.7]))[0] == np.float32(32767 / 32768)


def test_a_fault_at_the_end_is_told_after_the_blocks_before(tmp_path: Path) -> None:
    samples = noise(50_000)[:, 0].astype(np.float32)
    samples[-1] = np.nan
    soundfile.write(tmp_path / "nan.wav", samples, 16_000, "FLOAT")
    blocks = audio_stream.stream(tmp_path / "nan.wav")
    assert len(next(blocks)) == 7001
    with pytest.raises(BadAudio, match="not finite"):
        list(blocks)
    soundfile.write(tmp_path / "cut.wav", noise(50_000), 16_000)
    data = (tmp_path / "cut.wav").read_bytes()
    (tmp_path / "cut.wav").write_bytes(data[:-1000])
    with pytest.raises(BadAudio, match="truncated: 49500 samples"):
        whole(tmp_path / "cut.wav")


def test_what_read_refuses_is_refused_with_the_same_words(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "silent.wav", np.zeros(20_000), 16_000)
    soundfile.write(tmp_path / "empty.wav", np.zeros(0), 16_000)
    soundfile.write(tmp_path / "loud.wav", np.full(20_000, 1e9), 16_000, "FLOAT")
    (tmp_path / "text.wav").write_text("no audio")
    for name in ("silent", "empty", "loud", "text", "absent"):
        path = tmp_path / f"{name}.wav"
        with pytest.raises(BadAudio) as by_read:
            audio.read(path)
        with pytest.raises(BadAudio) as by_stream:
            whole(path)
        assert by_stream.value.what == by_read.value.what, name
