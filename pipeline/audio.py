"""Speech as the models see it: 16 kHz, one channel, float32 in [-1, 1]."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.errors import VqasrError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Samples = NDArray[np.float32]

SAMPLE_RATE_HZ = 16_000
LOUDEST_PLAUSIBLE = 8.0  # float files may exceed 1; far beyond it the file is damaged


class BadAudio(VqasrError):
    """A recording that no model may see; `what` is the reason, in words."""


def read(path: Path) -> tuple[Samples, int]:
    """Decode a whole file to mono float32 samples and its sample rate in Hz.

    Channels are averaged. WAV, FLAC, Ogg (Vorbis, Opus) and MP3 are read.

    Raises:
        BadAudio: unreadable, shorter than its header promises, empty, or not finite.
    """
    import numpy as np
    import soundfile

    try:
        with soundfile.SoundFile(path) as file:
            promised, rate = file.frames, int(file.samplerate)
            samples_SC = file.read(dtype="float32", always_2d=True)
    except (soundfile.SoundFileError, RuntimeError, OSError) as error:
        # Without the path, which libsndfile puts before it: the reason is a part of an artifact.
        raise BadAudio(f"unreadable: {getattr(error, 'error_string', error)}") from error
    if len(samples_SC) < promised or promised < promised_by_riff(path, samples_SC.shape[1]):
        raise BadAudio(f"truncated: {len(samples_SC)} samples, the header promises more")
    samples: Samples = samples_SC.mean(axis=1, dtype=np.float32)
    check(samples)
    return samples, rate


def check(samples: Samples) -> None:
    """Raise BadAudio if the samples are none, not finite, all zero or absurdly loud."""
    import numpy as np

    if not len(samples):
        raise BadAudio("empty: no samples")
    peak = float(np.abs(samples).max())
    if not np.isfinite(peak):
        raise BadAudio("not finite: NaN or infinite samples")
    if peak == 0:
        raise BadAudio("silent: all samples are zero")
    if peak > LOUDEST_PLAUSIBLE:
        raise BadAudio(f"implausible: a sample of {peak:.3g}, where 1 is full scale")


def promised_by_riff(path: Path, channels: int) -> int:
    """Frames that a WAV's data chunk announces; libsndfile reports what is really there.

    Streams of unknown length announce 0xFFFFFFFF or 0: no promise. Other formats: 0.
    """
    with open(path, "rb") as file:
        head = file.read(12)
        if head[:4] != b"RIFF" or head[8:] != b"WAVE":
            return 0
        bytes_per_frame = 0
        while len(chunk := file.read(8)) == 8:
            size = int.from_bytes(chunk[4:], "little")
            if chunk[:4] == b"fmt ":
                body = file.read(size)
                bytes_per_frame = int.from_bytes(body[12:14], "little")
            elif chunk[:4] == b"data":
                known = size not in (0, 0xFFFFFFFF) and bytes_per_frame
                return size // bytes_per_frame if known else 0
            else:
                file.seek(size + size % 2, 1)
    return 0


def resample(samples: Samples, rate_hz: int, to_hz: int = SAMPLE_RATE_HZ) -> Samples:
    """Band-limited resampling (soxr, high quality). The same rate returns the input."""
    if rate_hz == to_hz:
        return samples
    import numpy as np
    import soxr

    return np.asarray(soxr.resample(samples, rate_hz, to_hz), dtype=np.float32)


def band_limit(samples: Samples, bandwidth_hz: int) -> Samples:
    """Remove what lies above `bandwidth_hz` from 16 kHz speech, as a lower sample rate would."""
    if 2 * bandwidth_hz >= SAMPLE_RATE_HZ:
        return samples
    there = resample(samples, SAMPLE_RATE_HZ, 2 * bandwidth_hz)
    return resample(there, 2 * bandwidth_hz, SAMPLE_RATE_HZ)


def at_speed(samples: Samples, speed: float) -> Samples:
    """Speech as if played so much faster: shorter, and higher in pitch and formants.

    It keeps its sample rate: what a faster voice would have above half of that is lost, what a
    slower one lacks there stays empty.
    """
    import numpy as np
    import soxr

    return np.asarray(soxr.resample(samples, speed, 1.0), dtype=np.float32)


def write(path: Path, samples: Samples, rate_hz: int = SAMPLE_RATE_HZ) -> None:
    """Write 16-bit FLAC. Samples beyond full scale would wrap: they are scaled down."""
    import numpy as np
    import soundfile

    path.parent.mkdir(parents=True, exist_ok=True)
    peak = float(np.abs(samples).max(initial=0.0))
    soundfile.write(path, samples / peak if peak > 1 else samples, rate_hz, "PCM_16", format="FLAC")


def file_sha256(path: Path) -> str:
    """Hex SHA-256 of a file, read in pieces."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
