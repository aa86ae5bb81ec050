"""How healthy a codebook is: which codes the pretraining speech uses, and how evenly."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import RunError
from pipeline.manifest import Manifest, Utterance
from stages.quantizer.stage import CODEBOOK

if TYPE_CHECKING:
    from stages.quantizer.model import QuantizerModel

SAMPLE_SECONDS = 600.0  # of speech that the report looks at


def collapsed_below(codes: int) -> float:
    """The perplexity below which a group of `codes` codes has collapsed.

    5 % of what the codes allow, but at least 1.5 (one code, now and then another) and at most 8.
    Short runs that ended well came no lower than 30 % in any window.
    """
    return min(max(0.05 * codes, 1.5), 8.0)


def sample(
    speech: Sequence[Manifest], seconds: float = SAMPLE_SECONDS
) -> list[tuple[Manifest, Utterance]]:
    """About `seconds` of the speech, spread evenly over the manifests; the same every time."""
    total = sum(utterance.seconds for manifest in speech for utterance in manifest)
    step = max(1, math.ceil(total / seconds))
    every = ((manifest, utterance) for manifest in speech for utterance in manifest)
    return list(islice(every, 0, None, step))


def count_codes(
    model: QuantizerModel,
    utterances: Sequence[tuple[Manifest, Utterance]],
    on_utterance: Callable[[], None] = lambda: None,
) -> NDArray[np.int64]:
    """The code indices of all frames of the utterances, one after the other, (frames, G)."""
    import torch

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
    floor = collapsed_below(codes)
    collapsed = [number for number, group in enumerate(groups) if group["perplexity"] < floor]
    return {
        "frames": len(units_FG),
        "codes": codes,
        "groups": groups,
        "perplexity": round(perplexity, 4),
        "pairs_in_use": len(np.unique(units_FG, axis=0)),
        "collapsed_groups": collapsed,
        "collapsed": bool(collapsed),
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
    if report["collapsed"]:
        return (
            f"the codebook has COLLAPSED: {figures(report)}. Its units carry next to no speech; "
            f"{REMEDY}"
        )
    return f"codebook: {figures(report)}"


REMEDY = (
    "train again with quantizer.on_collapse: repair, a larger quantizer.diversity_weight (Gumbel), "
    "or input_norm on and codebook_init normal"
)


def figures(report: dict[str, Any]) -> str:
    """Codes in use, perplexity and pairs in words."""
    groups, codes = report["groups"], report["codes"]
    used = ", ".join(f"{group['codes_in_use']} of {codes}" for group in groups)
    each = " + ".join(f"{group['perplexity']:.1f}" for group in groups)
    return (
        f"{used} codes in use per group, perplexity {each} of {codes * len(groups)}, "
        f"{report['pairs_in_use']} units (combinations) in use"
    )


def refuse_collapsed(quantizer: Path, remedy: str = REMEDY) -> None:
    """Refuse to go on with a quantizer whose own report tells of a collapse.

    Args:
        quantizer: the artifact of stage 1; without a report it is let through.

    Raises:
        RunError: a group of its codebook has collapsed.
    """
    path = quantizer / CODEBOOK
    report = json.loads(path.read_text("utf-8")) if path.is_file() else {}
    if report.get("collapsed"):
        raise RunError(
            "The quantizer's codebook has collapsed: its units would carry next to no speech.",
            constraint=f"a perplexity of {collapsed_below(report['codes']):.2g} or more in each "
            "group",
            found=figures(report),
            remedy=remedy,
        )


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
