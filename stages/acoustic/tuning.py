"""The two weights of a decoder, tuned on dev over the recipe's grid.

Every point of the grid is tried, on log-probabilities read from their cache, so that a trial
costs a search and no network.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product

from pipeline.recipe import DecodeSettings
from stages.acoustic.scoring import NOTHING, Counts, count_words
from stages.acoustic.search import Desk, Search, in_parts


@dataclass(frozen=True, slots=True)
class Trial:
    """One point of the grid and its word errors on dev."""

    lm_weight: float
    word_score: float
    wer: float
    errors: int


@dataclass(frozen=True, slots=True)
class Part:
    """Some of dev's references, by utterance, to be decoded with these weights."""

    references: Mapping[str, str]
    lm_weight: float
    word_score: float


def grid(settings: DecodeSettings) -> list[tuple[float, float]]:
    """All pairs of (lm_weight, word_score), each once, in the recipe's order."""
    return list(dict.fromkeys(product(settings.lm_weights, settings.word_scores)))


def best(trials: Sequence[Trial]) -> Trial:
    """The trial with the fewest errors; among equals the one nearest to no weights at all."""

    def order(trial: Trial) -> tuple[float, ...]:
        lm_weight, word_score = trial.lm_weight, trial.word_score
        return trial.errors, abs(lm_weight), abs(word_score), lm_weight, word_score

    return min(trials, key=order)


def at_edge(chosen: Trial, settings: DecodeSettings) -> list[str]:
    """The weights whose best value is the grid's largest or smallest: a wider grid may help.

    A language-model weight of 0 is no edge: below it lies nothing.
    """
    edges = []
    for key, value, tried, end in (
        ("lm_weights", chosen.lm_weight, settings.lm_weights, 0.0),
        ("word_scores", chosen.word_score, settings.word_scores, None),
    ):
        if len(set(tried)) > 1 and value in {min(tried), max(tried)} - {end}:
            edges.append(key)
    return edges


def tune(
    search: Search,
    references: Mapping[str, str],
    points: Sequence[tuple[float, float]],
    told: Callable[[int], object],
) -> list[Trial]:
    """A trial for each point, in their order; `told` hears of each part of the work done.

    Raises:
        pipeline.errors.RunError: a process died.
    """
    split = parts_of(references)
    parts = [Part(some, *point) for point in points for some in split]
    counts = search.map(count_errors, parts, told)
    trials = []
    for n, (lm_weight, word_score) in enumerate(points):
        total = sum(counts[n * len(split) : (n + 1) * len(split)], NOTHING)
        trials.append(Trial(lm_weight, word_score, total.rate, total.errors))
    return trials


def parts_of(references: Mapping[str, str]) -> list[dict[str, str]]:
    """The references as they are handed out."""
    return [{i: references[i] for i in some} for some in in_parts(sorted(references))]


def count_errors(desk: Desk, part: Part) -> Counts:
    """Word errors of the utterances of the part."""
    weights = part.lm_weight, part.word_score
    texts = {i: " ".join(desk.decoder.decode(desk.log_probs[i], *weights)) for i in part.references}
    return count_words(part.references, texts)
