"""Label budgets: nested, balanced over speakers, the same on every machine."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable

from pipeline.errors import UserError
from pipeline.manifest import Utterance
from pipeline.recipe import budget_seconds


def labelling_order(utterances: Iterable[Utterance]) -> list[Utterance]:
    """The order in which utterances get their labels; a budget is a beginning of it.

    Next is always the speaker with the least labelled speech so far; a speaker's own utterances
    come in the order of their hashed ids.
    """
    waiting: dict[str, list[Utterance]] = defaultdict(list)
    for utterance in utterances:
        if utterance.transcript is not None:
            waiting[utterance.speaker].append(utterance)
    for rows in waiting.values():
        rows.sort(key=lambda u: hashlib.sha256(u.id.encode()).hexdigest(), reverse=True)
    labelled = dict.fromkeys(sorted(waiting), 0.0)
    order = []
    while labelled:
        speaker = min(labelled, key=lambda s: (labelled[s], s))
        utterance = waiting[speaker].pop()
        labelled[speaker] += utterance.speech_seconds
        order.append(utterance)
        if not waiting[speaker]:
            del labelled[speaker]
    return order


def choose(utterances: Iterable[Utterance], budget: str) -> list[Utterance]:
    """The labelled utterances of a budget: as many of the labelling order as it has room for.

    Raises:
        UserError: the corpus holds less than the budget asks for, or not one utterance fits.
    """
    order = labelling_order(utterances)
    wanted = budget_seconds(budget)
    total = sum(u.speech_seconds for u in order)
    if not order:
        raise UserError("The train split has no transcripts, so no budget can be made.")
    if wanted is None:
        return order
    if wanted > total:
        raise UserError(
            f"Budget {budget} is larger than the labelled train split.",
            constraint=f"at most {total / 60:.1f} minutes of speech",
            found=f"{wanted / 60:.1f} minutes",
            remedy="lower it in `budgets`, or write all",
        )
    chosen, sum_seconds = [], 0.0
    for utterance in order:
        sum_seconds += utterance.speech_seconds
        if sum_seconds > wanted:
            break
        chosen.append(utterance)
    if not chosen:
        raise UserError(
            f"No utterance fits budget {budget}.",
            found=f"the first one is {order[0].speech_seconds:.1f} s long",
            remedy="raise it in `budgets`",
        )
    return chosen


def take(utterances: Iterable[Utterance], budget: str, ids: Iterable[str]) -> list[Utterance]:
    """The utterances of a published list that are usable.

    Raises:
        UserError: none is.
    """
    wanted = set(ids)
    chosen = [u for u in utterances if u.id in wanted and u.transcript is not None]
    if not chosen:
        raise UserError(
            f"No utterance of the published budget {budget} can be used.",
            found=f"{len(wanted)} on its list",
            remedy="see rejected.tsv of the train split",
        )
    return chosen
