"""How well a pretrained BERT guesses masked units of dev, which it did not learn from.

A step of its own in stage 3: another dev set, or fold, trains no BERT again.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from pipeline.recipe import BertSettings
from pipeline.stage import StepContext
from stages.units.kept_back import ALL, ALL_CHOSEN, AT_MASK, SHOWS_MASK, parts, read_tokens

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from stages.units.vocabulary import Vocabulary

VERSION = 1
GUESSES = "dev.json"
Figures = Mapping[str, Mapping[str, float]]  # by fate of the hidden frame: see `guesses`
MASK_SEED = 1  # of the masks: BERTs of all seeds guess at the same frames


def guess(ctx: StepContext, *, settings: BertSettings) -> None:
    """Write dev.json: loss in nats and accuracy by fate of the hidden frame, beside two guesses.

    The guesses that need no model, the most frequent unit and the nearest seen one, are of the same
    frames, and know the frequencies of what the BERT learnt from. Masks follow the rule of
    pretraining. Utterances longer than the BERT has positions are left out, and counted.

    Reads `bert`, `vocabulary`, `dev` (units), and `units/<split>` for each pretraining split.
    """
    from pipeline.precision import chosen_precision
    from stages.units.vocabulary import Vocabulary

    vocabulary = Vocabulary.load(ctx.inputs["vocabulary"])
    learnt = read_tokens(ctx.inputs, vocabulary)
    every, outside = _dev(ctx, vocabulary)
    dev = {name: t for name, t in every.items() if 0 < len(t) <= settings.positions}
    figures = _figures(ctx, settings, vocabulary, learnt, dev) if dev else {}
    facts: dict[str, Any] = {"utterances": len(dev), "left_out": len(every) - len(dev)}
    facts |= {"frames_outside_of_the_vocabulary": outside}
    facts |= {"precision": chosen_precision(settings.precision, ctx.device), "figures": figures}
    (ctx.folder / GUESSES).write_text(json.dumps(facts, indent=1) + "\n", "utf-8")
    _say(ctx, facts)


def _figures(
    ctx: StepContext,
    settings: BertSettings,
    vocabulary: Vocabulary,
    learnt: Mapping[str, NDArray[np.int64]],
    dev: Mapping[str, NDArray[np.int64]],
) -> Figures:
    """By fate of the hidden frame."""
    import torch
    from transformers import BertForMaskedLM

    from stages.units.attention import packed
    from stages.units.guesses import Validation
    from stages.units.masked_units import MaskedUnits

    validation = Validation(
        MaskedUnits({**learnt, **dev}, settings, len(vocabulary), MASK_SEED, ctx.device),
        sorted(dev),
        parts(learnt).learnt_from,
        settings.batch_frames,
        len(vocabulary),
        settings.precision,
        ctx.device,
    )
    model = BertForMaskedLM.from_pretrained(ctx.inputs["bert"]).eval()
    torch.nn.Module.to(model, ctx.device)
    with packed(model):
        found = validation.by_fate(model)
    return {fate: {**told, "frames": int(told["frames"])} for fate, told in found.items()}


def to_compare(figures: Figures) -> tuple[Mapping[str, float], str]:
    """Those at frames that show [MASK], or of all chosen ones where none does; and which it is."""
    at_mask = SHOWS_MASK in figures
    return figures[SHOWS_MASK if at_mask else ALL], AT_MASK if at_mask else ALL_CHOSEN


def pooled(of_sets: Iterable[Figures]) -> Figures:
    """The figures of several dev sets as those of all their hidden frames together."""
    by_fate: dict[str, list[Mapping[str, float]]] = {}
    for figures in of_sets:
        for fate, told in figures.items():
            by_fate.setdefault(fate, []).append(told)
    found = {}
    for fate, sets in by_fate.items():
        frames = sum(told["frames"] for told in sets)
        names = [name for name in sets[0] if name != "frames"]
        means = {name: sum(t[name] * t["frames"] for t in sets) / frames for name in names}
        found[fate] = {"frames": frames} | means
    return found


def _dev(ctx: StepContext, vocabulary: Vocabulary) -> tuple[dict[str, NDArray[np.int64]], int]:
    """Tokens (F,) of dev by `dev/<utterance>`, and how many frames have a unit of no token."""
    from stages.units.corpus import UnitCorpus

    units = UnitCorpus(ctx.inputs["dev"])
    outside = sum(int((~vocabulary.known(units[name])).sum()) for name in units)
    return {f"dev/{name}": vocabulary.tokens(units[name]) for name in units}, outside


def _say(ctx: StepContext, facts: dict[str, Any]) -> None:
    figures, left_out = facts["figures"], facts["left_out"]
    if left_out:
        ctx.say(
            f"{left_out} of {left_out + facts['utterances']} utterances of dev are longer than "
            "bert.positions, or without a frame, and left out"
        )
    if not figures:
        return
    found, where = to_compare(figures)
    ctx.say(
        f"units guessed on dev ({facts['utterances']} utterances), {where}: "
        f"{found['accuracy']:.1%}; the most frequent unit {found['accuracy_most_frequent']:.1%}; "
        f"the nearest seen {found['accuracy_nearest']:.1%}"
    )
