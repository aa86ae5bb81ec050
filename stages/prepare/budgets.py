"""Label budgets: nested, balanced over speakers, the same on every machine."""

from __future__ import annotations

import hashlib
import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from heapq import heappop, heapreplace
from itertools import chain

from pipeline.errors import UserError
from pipeline.manifest import Utterance
from pipeline.recipe import budget_seconds


def labelling_order(utterances: Sequence[Utterance]) -> Iterator[Utterance]:
    """The order in which utterances get their labels; a budget is a beginning of it.

    Next is always the speaker with the least labelled speech so far; a speaker's own utterances
    come in the order of their hashed ids. Copies at other speeds are none of them.
    """
    # A number says it all: where the utterance is among its speaker's, then where in the list.
    waiting: dict[str, list[int]] = defaultdict(list)
    for number, utterance in enumerate(utterances):
        if utterance.transcript is not None and not utterance.is_copy:
            place = hashlib.sha256(utterance.id.encode()).digest()[:16]
            waiting[utterance.speaker].append(int.from_bytes(place, "big") << 32 | number)
    for places in waiting.values():
        places.sort(reverse=True)
    next_ones = [(0.0, speaker) for speaker in sorted(waiting)]  # sorted, so it is a heap
    while next_ones:
        labelled, speaker = next_ones[0]
        utterance = utterances[waiting[speaker].pop() & 0xFFFFFFFF]
        if waiting[speaker]:
            heapreplace(next_ones, (labelled + utterance.speech_seconds, speaker))
        else:
            heappop(next_ones)
        yield utterance


def choose(utterances: Sequence[Utterance], budget: str) -> Iterator[Utterance]:
    """The labelled utterances of a budget: as many of the labelling order as it has room for.

    They come one at a time, since `all` may be many.

    Raises:
        UserError: the corpus holds less than the budget asks for, or not one utterance fits.
    """
    wanted = budget_seconds(budget)
    labelled = (u.speech_seconds for u in utterances if u.transcript is not None and not u.is_copy)
    total = math.fsum(labelled)
    order = labelling_order(utterances)
    first = next(order, None)
    if first is None:
        raise UserError("The train split has no transcripts, so no budget can be made.")
    if wanted is None:
        return chain([first], order)
    if wanted > total:
        raise UserError(
            f"Budget {budget} is larger than the labelled train split.",
            constraint=f"at most {total / 60:.1f} minutes of speech",
            found=f"{wanted / 60:.1f} minutes",
            remedy="lower it in `budgets`, or write all",
        )
    if first.speech_seconds > wanted:
        raise UserError(
            f"No utterance fits budget {budget}.",
            found=f"the first one is {first.speech_seconds:.1f} s long",
            remedy="raise it in `budgets`",
        )
    return _within(chain([first], order), wanted)


def _within(utterances: Iterable[Utterance], seconds: float) -> Iterator[Utterance]:
    """The first ones, as long as all together have no more speech than this."""
    sum_seconds = 0.0
    for utterance in utterances:
        sum_seconds += utterance.speech_seconds
        if sum_seconds > seconds:
            return
        yield utterance


def take(utterances: Iterable[Utterance], budget: str, ids: Iterable[str]) -> Iterator[Utterance]:
    """The utterances of a published list that are usable.

    Raises:
        UserError: none is.
    """
    wanted = set(ids)
    usable = (u for u in utterances if u.id in wanted and u.transcript is not None)
    first = next(usable, None)
    if first is None:
        raise UserError(
            f"No utterance of the published budget {budget} can be used.",
            found=f"{len(wanted)} on its list",
            remedy="see rejected.tsv of the train split",
        )
    return chain([first], usable)
