"""How healthy a codebook is: which codes the pretraining speech uses, and how evenly."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.manifest import Manifest, Utterance
from stages.quantizer.model import QuantizerModel

SAMPLE_SECONDS = 600.0  # of speech that the report looks at
COLLAPSED_PER_GROUP = 1.5  # perplexity: below it a group says next to nothing


def sample(
    speech: Sequence[Manifest], seconds: float = SAMPLE_SECONDS
) -> list[tuple[Manifest, Utterance]]:
    """About `seconds` of the speech, spread evenly over the manifests; the same every time."""
    every = [(manifest, utterance) for manifest in speech for utterance in manifest]
    total = sum(utterance.seconds for _, utterance in every)
    step = max(1, math.ceil(total / seconds))
    return every[::step]


def count_codes(
    model: QuantizerModel,
    utterances: Sequence[tuple[Manifest, Utterance]],
    on_utterance: Callable[[], None] = lambda: None,
) -> NDArray[np.int64]:
    """The code indices of all frames of the utterances, one after the other, (frames, G)."""
    found = []
    for manifest, utterance in utterances:
        samples = torch.from_numpy(manifest.samples(utterance)).to(model.device)
        found.append(model.units(samples).cpu().numpy())
        on_utterance()
    return np.concatenate(found) if found else np.zeros((0, model.config.groups), np.int64)


def report(units_FG: NDArray[np.int64], codes: int) -> dict[str, Any]:
    """Per group perplexity, codes in use and dead codes, and the number of pairs in use.

    A pair is a combination of one code per group: the unit of stage 2.
    """
    groups = [_group(units_F, codes) for units_F in units_FG.T]
    perplexity = sum(group["perplexity"] for group in groups)
    return {
        "frames": len(units_FG),
        "codes": codes,
        "groups": groups,
        "perplexity": round(perplexity, 4),
        "pairs_in_use": len(np.unique(units_FG, axis=0)),
        "collapsed": bool(perplexity < COLLAPSED_PER_GROUP * len(groups)),
    }


def _group(units_F: NDArray[np.int64], codes: int) -> dict[str, Any]:
    counts = np.bincount(units_F, minlength=codes)
    shares = counts[counts > 0] / max(len(units_F), 1)
    return {
        "perplexity": round(float(np.exp(-(shares * np.log(shares)).sum())), 4),
        "codes_in_use": int((counts > 0).sum()),
        "dead_codes": np.flatnonzero(counts == 0).tolist(),
    }


def in_words(report: dict[str, Any]) -> str:
    """The report in a sentence or two."""
    groups, codes = report["groups"], report["codes"]
    used = ", ".join(f"{group['codes_in_use']} of {codes}" for group in groups)
    figures = (
        f"{used} codes in use per group, perplexity {report['perplexity']:.1f} of "
        f"{codes * len(groups)}, {report['pairs_in_use']} units (combinations) in use"
    )
    if report["collapsed"]:
        return (
            f"the codebook has COLLAPSED: {figures}. Its units carry no speech: raise "
            "quantizer.diversity_weight, or see that input_norm is on and codebook_init normal"
        )
    return f"codebook: {figures}"


def chance_bits(negatives: int, infonce: bool) -> float:
    """The contrastive loss of a model that knows nothing, in bits per prediction.

    InfoNCE: log2(negatives + 1). Binary cross-entropy: the entropy of "one in negatives + 1",
    once for each candidate.
    """
    candidates = negatives + 1
    if infonce:
        return math.log2(candidates)
    p = 1 / candidates
    return -candidates * (p * math.log2(p) + (1 - p) * math.log2(1 - p)) if negatives else 0.0
