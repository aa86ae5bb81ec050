"""Utterances longer than the acoustic model has positions: read in windows that overlap.

Windows are as long as the model allows, and a quarter of each lies under the next one. Where two
overlap, each gives the half that lies farther from its edge, so every frame that is kept has an
eighth of a window of context at least, but for the ends of the utterance. A frame comes from one
window; nothing is cut, doubled or averaged.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pipeline.errors import UserError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from stages.acoustic.model import AcousticModel

OVERLAP = 4  # the part of a window that lies under the next one is one of so many


@dataclass(frozen=True, slots=True)
class Window:
    """Input frames [start, stop) that are read at once, of which [first, last) are kept."""

    start: int
    stop: int
    first: int
    last: int


def windows(frames: int, longest: int, step: int) -> list[Window]:
    """The windows over an utterance of so many input frames.

    Args:
        longest: input frames that the model reads at once.
        step: input frames that become one CTC frame; windows and what is kept start at its
            multiples.

    Raises:
        ValueError: the model reads fewer than 8 CTC frames at once.
    """
    length = longest // step * step
    hop = length - length // OVERLAP // step * step
    if frames <= longest:
        return [Window(0, frames, 0, frames)]
    if length // step < 2 * OVERLAP:
        raise ValueError(f"windows of {longest} frames are too short to overlap")
    starts = [*range(0, frames - length, hop), -(-(frames - length) // step) * step]
    # The middle of what two neighbours share.
    cuts = [(b + a + length) // 2 // step * step for a, b in itertools.pairwise(starts)]
    return [
        Window(start, min(start + length, frames), first, last)
        for start, first, last in zip(starts, [0, *cuts], [*cuts, frames], strict=True)
    ]


def log_probs(model: AcousticModel, feats: NDArray[Any], device: str) -> NDArray[Any]:
    """Log-probabilities (CTC frames, targets) of one utterance of any length.

    Args:
        feats: its features (F, D) or tokens (F,).
    """
    import numpy as np
    import torch

    step = model.step
    found = []
    for window in windows(len(feats), model.encoder.longest_frames, step):
        piece = torch.from_numpy(feats[window.start : window.stop])[None].to(device)
        lengths_B = torch.tensor([piece.shape[1]], device=device)
        with torch.inference_mode():
            rows_TV = model(piece, lengths_B)[0].cpu().numpy()
        at = (window.first - window.start) // step
        found.append(rows_TV[at : -(-(window.last - window.start) // step)])
    return np.concatenate(found)


def refuse_few_positions(model: AcousticModel) -> None:
    """Raise UserError if the model takes so few frames that longer speech has no windows."""
    least = 2 * OVERLAP * model.step
    if model.encoder.longest_frames < least:
        raise UserError(
            "The model takes so few frames that long speech cannot be read in windows.",
            constraint=f"{least} frames or more",
            found=f"{model.encoder.longest_frames} (bert.positions)",
            remedy="raise bert.positions, or lower finetune.subsample",
        )
