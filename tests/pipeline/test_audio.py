"""What no model may see is refused by its reason; all else becomes 16 kHz mono."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from pipeline import audio, audio_stream, containers
from pipeline.audio import BadAudio

TONE = (0.3 * np.sin(np.arange(8000) * 0.2)).astype(np.float32)


def reason(path: Path) -> str:
    with pytest.raises(BadAudio) as caught:
        audio.read(path)
    return caught.value.what


def test_a_wav_that_holds_less_than_its_header_promises_is_truncated(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, TONE, 16_000, "PCM_16")
    whole = path.read_bytes()
    assert len(audio.read(path)[0]) == 8000
    path.write_bytes(whole[: len(whole) // 2])
    assert reason(path).startswith("truncated")
    path.write_bytes(whole[:-2])  # one sample
    assert reason(path).startswith("truncated")


def test_a_truncated_flac_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.flac"
    soundfile.write(path, np.random.RandomState(0).uniform(-0.5, 0.5, 40_000), 16_000)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    assert "truncated" in reason(path) or "unreadable" in reason(path)


@pytest.mark.parametrize("size", [0, 0xFFFFFFFF])
def test_a_wav_of_a_stream_promises_nothing(tmp_path: Path, size: int) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, TONE, 16_000, "PCM_16")
    content = bytearray(path.read_bytes())
    at = content.index(b"data") + 4
    content[at : at + 4] = size.to_bytes(4, "little")
    path.write_bytes(content)
    if size:
        assert len(audio.read(path)[0]) == 8000
    else:  # libsndfile takes it at its word
        assert "empty" in reason(path)


@pytest.mark.parametrize(
    ("samples", "told"),
    [
        ([0.1, np.nan, 0.1], "not finite"),
        ([0.1, np.inf], "not finite"),
        ([0.1, 1e29], "implausible"),
        ([0.0] * 100, "silent"),
        ([], "empty"),
    ],
)
def test_damaged_samples_are_named(tmp_path: Path, samples: list[float], told: str) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, np.array(samples, np.float32), 16_000, "FLOAT")
    assert reason(path).startswith(told)


MADE = {
    "ogg": {"format": "OGG", "subtype": "VORBIS"},
    "opus": {"format": "OGG", "subtype": "OPUS"},
    "flac": {"format": "FLAC"},
    "mp3": {"format": "MP3"},
}


@pytest.mark.case(18)
@pytest.mark.parametrize("kind", MADE)
def test_of_joined_recordings_none_is_read_as_all(tmp_path: Path, kind: str) -> None:
    one, other, both = (tmp_path / f"{name}.{kind}" for name in ("one", "other", "both"))
    noise = 0.1 * np.random.RandomState(0).standard_normal(32_000)
    soundfile.write(one, noise, 16_000, **MADE[kind])
    soundfile.write(other, TONE, 16_000, **MADE[kind])
    assert len(audio.read(one)[0]) == 32_000
    both.write_bytes(one.read_bytes() + other.read_bytes())
    assert reason(both).startswith("joined: another recording follows the first")
    with pytest.raises(BadAudio, match="joined"):
        list(audio_stream.stream(both))


@pytest.mark.case(18)
def test_joined_frames_of_mp3_without_a_header_are_read_to_the_end(tmp_path: Path) -> None:
    path = tmp_path / "a.mp3"
    soundfile.write(path, np.tile(TONE, 4), 16_000, format="MP3")
    content = path.read_bytes()
    frames = content[content.index(b"\xff\xf3", 2) :]  # behind the one that counts them
    path.write_bytes(frames)
    once = len(audio.read(path)[0])
    path.write_bytes(frames + frames)
    assert len(audio.read(path)[0]) == 2 * once


@pytest.mark.parametrize("at", range(-40, 8, 4))
def test_a_recording_is_seen_behind_whatever_block_it_begins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    path = tmp_path / "a.ogg"
    soundfile.write(path, TONE, 16_000, **MADE["ogg"])
    content = path.read_bytes()
    assert not containers.is_joined(path)
    path.write_bytes(content + content)
    monkeypatch.setattr(containers, "BLOCK_BYTES", len(content) - at)
    assert containers.is_joined(path)
    path.write_bytes(content)
    assert not containers.is_joined(path)


@pytest.mark.parametrize("content", [b"", b"RIFF", b"not audio at all" * 50])
def test_what_is_no_audio_is_unreadable(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.wav"
    path.write_bytes(content)
    assert reason(path).startswith("unreadable")


@pytest.mark.parametrize(
    ("suffix", "rate_hz", "channels", "kind"),
    [
        ("wav", 8_000, 1, {"subtype": "PCM_16"}),
        ("wav", 44_100, 2, {"subtype": "PCM_24"}),
        ("wav", 16_000, 2, {"subtype": "FLOAT"}),
        ("flac", 48_000, 1, {"subtype": "PCM_24"}),
        ("ogg", 48_000, 1, {"format": "OGG", "subtype": "OPUS"}),
        ("mp3", 44_100, 1, {"format": "MP3"}),
    ],
)
def test_formats_come_out_as_the_same_tone(
    tmp_path: Path, suffix: str, rate_hz: int, channels: int, kind: dict[str, Any]
) -> None:
    seconds, pitch_hz = 1.0, 440
    tone = 0.5 * np.sin(2 * np.pi * pitch_hz * np.arange(int(rate_hz * seconds)) / rate_hz)
    path = tmp_path / f"a.{suffix}"
    soundfile.write(path, np.tile(tone[:, None], channels), rate_hz, **kind)
    samples, found_hz = audio.read(path)
    samples = audio.resample(samples, found_hz)
    assert (samples.dtype, samples.ndim) == (np.float32, 1)
    assert abs(len(samples) - 16_000) <= 0.1 * 16_000  # MP3 pads
    middle = samples[4000:12_000]
    spectrum = np.abs(np.fft.rfft(middle * np.hanning(len(middle))))
    assert abs(spectrum.argmax() * 16_000 / len(middle) - pitch_hz) <= 2
    assert np.abs(middle).max() == pytest.approx(0.5, abs=0.05)


def test_channels_are_averaged(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, np.stack([TONE, 0 * TONE], axis=1), 16_000, "FLOAT")
    np.testing.assert_allclose(audio.read(path)[0], TONE / 2, atol=1e-7)


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    written = audio.write(tmp_path / "sub" / "a.flac", TONE)
    assert written == audio.file_sha256(tmp_path / "sub" / "a.flac")
    samples, rate_hz = audio.read(tmp_path / "sub" / "a.flac")
    assert rate_hz == 16_000
    np.testing.assert_allclose(samples, TONE, atol=2**-15)


def test_samples_beyond_full_scale_do_not_wrap(tmp_path: Path) -> None:
    audio.write(tmp_path / "a.flac", 3 * TONE)
    samples, _ = audio.read(tmp_path / "a.flac")
    assert np.corrcoef(samples, TONE)[0, 1] > 0.9999


def test_band_limiting_removes_what_lies_above() -> None:
    times = np.arange(16_000) / 16_000
    low, high = (np.sin(2 * np.pi * f * times).astype(np.float32) for f in (1000, 6000))
    limited = audio.band_limit(low + high, 4000)
    np.testing.assert_allclose(limited[2000:-2000], low[2000:-2000], atol=0.01)
    assert audio.band_limit(low, 8000) is low


@pytest.mark.case(8)
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
def test_a_full_disk_is_told_as_one() -> None:
    with pytest.raises(OSError, match="No space left on device"):
        audio.write(Path("/dev/full"), TONE)
