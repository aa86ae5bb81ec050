"""Speech as the models see it: 16 kHz, one channel, float32 in [-1, 1]."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline import containers
from pipeline.errors import VqasrError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Samples = NDArray[np.float32]

SAMPLE_RATE_HZ = 16_000
LOUDEST_PLAUSIBLE = 8.0  # float files may exceed 1; far beyond it the file is damaged
FORMATS = ("WAV", "WAVEX", "RF64", "FLAC", "OGG", "MP3")  # as soundfile calls them
LOWEST_RATE_HZ, HIGHEST_RATE_HZ = 1_000, 768_000
UNKNOWN_LENGTH = 2**63 - 1  # libsndfile's, of a FLAC that was written into a pipe
MOST_VALUES = 2**29  # 2 GiB as float32: nine hours at 16 kHz
JOINED = (
    "joined: another recording follows the first, which alone would be read; "
    "cut them apart, or write them anew as one"
)
CLIPPED_FROM = 0.98  # of full scale; mu-law's largest value is 0.9804


class BadAudio(VqasrError):
    """A recording that no model may see; `what` is the reason, in words."""


def read(path: Path) -> tuple[Samples, int]:
    """Decode a whole file to mono float32 samples and its sample rate in Hz.

    Channels are averaged. WAV, FLAC, Ogg (Vorbis, Opus) and MP3 are read.

    Raises:
        BadAudio: unreadable, of another format, shorter than its header promises, too large to
            be one utterance, several recordings joined, empty, or not finite.
    """
    import numpy as np
    import soundfile

    try:
        with soundfile.SoundFile(path) as file:
            promised, rate = file.frames, int(file.samplerate)
            refuse_unlikely(file.format, promised, rate, file.seekable())
            _refuse_large(promised, rate, file.channels)
            samples_SC = file.read(dtype="float32", always_2d=True)
        cut = len(samples_SC) < promised or containers.is_cut(path)
        joined = containers.is_joined(path)
    # A name that ends in .raw is a TypeError of soundfile's.
    except (soundfile.SoundFileError, RuntimeError, OSError, TypeError, ValueError) as error:
        # Without the path, which libsndfile puts before it: the reason is a part of an artifact.
        raise BadAudio(f"unreadable: {getattr(error, 'error_string', error)}") from error
    if joined:
        raise BadAudio(JOINED)
    if cut:
        raise BadAudio(f"truncated: {len(samples_SC)} samples, the header promises more")
    with np.errstate(all="ignore"):  # infinite samples of either sign: `check` tells
        samples: Samples = samples_SC.mean(axis=1, dtype=np.float32)
    check(samples)
    return samples, rate


def refuse_unlikely(kind: str, samples: int, rate_hz: int, seekable: bool) -> None:
    """Raise BadAudio for what a header claims of format, sample rate and length, before reading.

    Args:
        seekable: whether libsndfile can read any part of it.
    """
    if kind not in FORMATS:
        raise BadAudio(f"unsupported: a file of the format {kind}; WAV, FLAC, Ogg, MP3 are read")
    if not seekable:  # a WAV of GSM 6.10 is the one of them that telephones leave
        raise BadAudio(
            f"unsupported: a {kind} whose encoding cannot be read at any place (such as GSM 6.10); "
            "convert it to WAV of 16 bits, or FLAC"
        )
    if not LOWEST_RATE_HZ <= rate_hz <= HIGHEST_RATE_HZ:
        raise BadAudio(f"implausible: a sample rate of {rate_hz} Hz")
    if samples == UNKNOWN_LENGTH:
        raise BadAudio(f"unsupported: a {kind} of a stream, without its length; write it to a file")


def _refuse_large(samples: int, rate_hz: int, channels: int) -> None:
    """Raise BadAudio before memory is taken for what a header only claims."""
    seconds = samples / rate_hz
    if max(samples * channels, seconds * SAMPLE_RATE_HZ) > MOST_VALUES:
        hours = seconds / 3600
        raise BadAudio(f"too large: {hours:.1f} hours by its header; cut it into utterances")


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


def clipped_share(samples: Samples) -> float:
    """The share of samples at the ends of the scale: in runs of three or more equal ones."""
    import numpy as np

    same = (samples[1:] == samples[:-1]) & (np.abs(samples[1:]) >= CLIPPED_FROM)
    runs = same[1:] & same[:-1]  # of three, at their first sample
    flat = np.zeros(len(samples), bool)
    for shift in range(3):
        flat[shift : shift + len(runs)] |= runs
    return float(flat.mean())


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


def write(path: Path, samples: Samples, rate_hz: int = SAMPLE_RATE_HZ) -> str:
    """Write 16-bit FLAC and return the file's hex SHA-256.

    Samples beyond full scale would wrap: they are scaled down.
    """
    import numpy as np
    import soundfile

    path.parent.mkdir(parents=True, exist_ok=True)
    peak = float(np.abs(samples).max(initial=0.0))
    scaled = samples / peak if peak > 1 else samples
    file = io.BytesIO()  # libsndfile would blame its decoder for a full disk
    soundfile.write(file, scaled, rate_hz, "PCM_16", format="FLAC")
    content = file.getvalue()
    path.write_bytes(content)
    return hashlib.sha256(content).hexdigest()


def file_sha256(path: Path) -> str:
    """Hex SHA-256 of a file, read in pieces."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
