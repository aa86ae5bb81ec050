"""Recordings of any length, block by block: what `audio.read` and stage 0 make of them whole."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline import containers
from pipeline.audio import (
    JOINED,
    LOUDEST_PLAUSIBLE,
    SAMPLE_RATE_HZ,
    BadAudio,
    refuse_unlikely,
)

if TYPE_CHECKING:
    from pipeline.audio import Samples

BLOCK_SAMPLES = 1 << 17  # of each channel: 8 s at 16 kHz


def stream(path: Path, bandwidth_hz: int | None = None) -> Iterator[Samples]:
    """A recording's speech at 16 kHz, one channel, in blocks.

    The samples are those that stage 0 makes of it. Resampled audio is rounded to 16 bits, as it
    is stored there, and a recording that goes beyond full scale is scaled down as a whole: so one
    that is resampled is read twice, first for its peak.

    Args:
        bandwidth_hz: remove what lies above from recordings whose sample rate allows for more.

    Raises:
        BadAudio: as `audio.read`; where the fault lies later in a file that is not resampled, after
            the blocks before.
    """
    import numpy as np

    blocks = _resampled(path, bandwidth_hz)
    first = next(blocks)
    if first.as_it_was:
        yield first.samples
        yield from (block.samples for block in blocks)
        return
    peak = max(float(np.abs(b.samples).max(initial=0.0)) for b in chain([first], blocks))
    for block in _resampled(path, bandwidth_hz):
        made = in_16_bits(block.samples / peak if peak > 1 else block.samples)
        if len(made):
            yield made


@dataclass(frozen=True, slots=True)
class _Block:
    """Samples at 16 kHz; whether they are those of the file."""

    samples: Samples
    as_it_was: bool


def _resampled(path: Path, bandwidth_hz: int | None) -> Iterator[_Block]:
    """The checked blocks of a recording at 16 kHz, at least one."""
    import numpy as np

    steps: list[Any] | None = None
    peak = 0.0
    for samples, rate_hz, last in _marked_last(path):
        if steps is None:
            steps = _resamplers(_rates(rate_hz, bandwidth_hz))
        loudest = float(np.abs(samples).max())
        peak = max(peak, loudest)
        if not np.isfinite(loudest):
            raise BadAudio("not finite: NaN or infinite samples")
        if peak > LOUDEST_PLAUSIBLE:
            raise BadAudio(f"implausible: a sample of {peak:.3g}, where 1 is full scale")
        made = samples
        for step in steps:
            made = step.resample_chunk(made, last=last)
        yield _Block(made, not steps)
    if steps is None:
        raise BadAudio("empty: no samples")
    if peak == 0:
        raise BadAudio("silent: all samples are zero")


def in_16_bits(samples: Samples) -> Samples:
    """The samples as they come back from a file of 16 bits; beyond full scale they are clipped."""
    import numpy as np

    steps = np.clip(np.rint(samples * np.float32(32768)), -32768, 32767)
    return np.asarray(steps / np.float32(32768), dtype=np.float32)


def _rates(rate_hz: int, bandwidth_hz: int | None) -> list[int]:
    """The sample rates that the speech goes through."""
    rates = [rate_hz]
    if rate_hz != SAMPLE_RATE_HZ:
        rates.append(SAMPLE_RATE_HZ)
    if bandwidth_hz is not None and 2 * bandwidth_hz < min(rate_hz, SAMPLE_RATE_HZ):
        rates += [2 * bandwidth_hz, SAMPLE_RATE_HZ]
    return rates


def _resamplers(rates: Sequence[int]) -> list[Any]:
    import soxr

    return [soxr.ResampleStream(a, b, 1, dtype="float32") for a, b in pairwise(rates)]


def _marked_last(path: Path) -> Iterator[tuple[Samples, int, bool]]:
    """Blocks with their sample rate, and whether each is the last: a resampler has to know."""
    before: tuple[Samples, int] | None = None
    for block in _blocks(path):
        if before is not None:
            yield *before, False
        before = block
    if before is not None:
        yield *before, True


def _blocks(path: Path) -> Iterator[tuple[Samples, int]]:
    """Decoded blocks, channels averaged, with their sample rate in Hz."""
    import numpy as np
    import soundfile

    found = 0
    try:
        with soundfile.SoundFile(path) as file:
            rate_hz, promised = int(file.samplerate), file.frames
            refuse_unlikely(file.format, promised, rate_hz, file.seekable())
            while True:
                block_SC = file.read(BLOCK_SAMPLES, dtype="float32", always_2d=True)
                if not len(block_SC):
                    break
                found += len(block_SC)
                yield block_SC.mean(axis=1, dtype=np.float32), rate_hz
        cut = found < promised or containers.is_cut(path)
        joined = containers.is_joined(path)
    except (soundfile.SoundFileError, RuntimeError, OSError, TypeError, ValueError) as error:
        raise BadAudio(f"unreadable: {getattr(error, 'error_string', error)}") from error
    if joined:
        raise BadAudio(JOINED)
    if cut:
        raise BadAudio(f"truncated: {found} samples, the header promises more")
