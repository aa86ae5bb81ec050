"""Where audio that is too long to be taken whole is cut: in its pauses.

The rule, used wherever speech becomes units or text: audio of up to LONGEST_SECONDS stays whole. Of
longer audio, pieces are cut off from the start. Each cut lies in the window of the last sixth
before the limit, at the multiple of 10 ms (from the piece's start) with the least energy in
the 10 ms before and the 10 ms after it; of equals, the last. The window moves to the left where
what remains would be shorter than it. So pieces overlap in nothing, leave out nothing, hold
at most the limit and at least a sixth of it, and depend on the samples alone.

Each piece is encoded by itself. An encoder whose frame sees `field` samples and comes every
`hop` makes, over all pieces, about (field - hop) / hop frames fewer a cut than over the whole:
2 for vq-wav2vec, 20 ms in a pause.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pipeline.audio import Samples

LONGEST_SECONDS = 60.0
WINDOW_SHARE = 6  # the window is this part of the limit
STEPS_PER_SECOND = 100


def pieces(samples: Samples, longest: int, rate_hz: int) -> list[tuple[int, int]]:
    """First sample and end of each piece of at most `longest` samples, in order.

    Raises:
        ValueError: `longest` is so short that the window holds no multiple of 10 ms.
    """
    window, step = _sizes(longest, rate_hz)
    spans, start = [], 0
    while len(samples) - start > longest:
        end = start + _quietest(samples[start:], longest, window, step)
        spans.append((start, end))
        start = end
    return [*spans, (start, len(samples))]


def each_piece(blocks: Iterable[Samples], longest: int, rate_hz: int) -> Iterator[Samples]:
    """The pieces of audio that comes in blocks: those that `pieces` cuts it into as a whole.

    In memory are a piece, the window behind it and a block.

    Raises:
        ValueError: as `pieces`.
    """
    import numpy as np

    window, step = _sizes(longest, rate_hz)
    rest = np.zeros(0, dtype=np.float32)
    for block in blocks:
        rest = np.concatenate([rest, block])
        while len(rest) >= longest + window:  # what follows does not move the cut
            end = _quietest(rest, longest, window, step)
            yield rest[:end].copy()
            rest = rest[end:]
    for start, end in pieces(rest, longest, rate_hz):
        yield rest[start:end]


def _sizes(longest: int, rate_hz: int) -> tuple[int, int]:
    """Samples of the window and of a step."""
    step = rate_hz // STEPS_PER_SECOND
    window = longest // WINDOW_SHARE
    if window < 2 * step:
        raise ValueError(f"pieces of {longest} samples are too short to look for pauses in")
    return window, step


def _quietest(rest: Samples, longest: int, window: int, step: int) -> int:
    """Where to cut `rest`: a multiple of `step`."""
    import numpy as np

    last = min(longest, len(rest) - window) // step
    first = last - window // step + 1
    heard = rest[(first - 1) * step : (last + 1) * step].astype(np.float64)
    blocks = np.square(heard).reshape(-1, step).sum(1)
    around = blocks[:-1] + blocks[1:]
    return (last - int(around[::-1].argmin())) * step
