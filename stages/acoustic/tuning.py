"""The weights and the beam of a decoder, tuned on dev over the recipe's grid.

Every point of the grid is tried, on log-probabilities read from their cache, so that a trial
costs a search and no network.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product

from pipeline.recipe import DecodeSettings
from stages.acoustic.decoding import Weights
from stages.acoustic.scoring import NOTHING, Counts, count_words
from stages.acoustic.search import Desk, Search, in_parts


@dataclass(frozen=True, slots=True)
class Trial:
    """One point of the grid and its word errors on dev."""

    weights: Weights
    wer: float
    errors: int


@dataclass(frozen=True, slots=True)
class Part:
    """Some of dev's references, by utterance, to be decoded with these weights."""

    references: Mapping[str, str]
    weights: Weights


def grid(settings: DecodeSettings) -> list[Weights]:
    """All points of the recipe's grid, each once, in its order."""
    points = product(settings.lm_weights, settings.word_scores, settings.beam)
    return list(dict.fromkeys(Weights(*point) for point in points))


def best(trials: Sequence[Trial]) -> Trial:
    """The trial with the fewest errors; among equals the one with the smallest beam, and of
    those the one nearest to no weights at all."""

    def order(trial: Trial) -> tuple[float, ...]:
        lm_weight, word_score, beam = trial.weights
        nearest = abs(lm_weight), abs(word_score), lm_weight, word_score
        return trial.errors, beam or 0, *nearest

    return min(trials, key=order)


def at_edge(chosen: Trial, settings: DecodeSettings) -> list[str]:
    """The settings whose best value is the grid's largest or smallest: a wider grid may help.

    A language-model weight of 0 is no edge, as below it lies nothing; nor is the smallest beam.
    """
    lm_weight, word_score, beam = chosen.weights
    edges = []
    for key, value, tried, ends in (
        ("lm_weights", lm_weight, settings.lm_weights, {min(settings.lm_weights)} - {0.0}),
        ("word_scores", word_score, settings.word_scores, {min(settings.word_scores)}),
        ("beam", beam, settings.beam, set[float]()),
    ):
        if len(set(tried)) > 1 and value in ends | {max(tried)}:
            edges.append(key)
    return edges


def tune(
    search: Search,
    references: Mapping[str, str],
    points: Sequence[Weights],
    told: Callable[[int], object],
) -> list[Trial]:
    """A trial for each point, in their order; `told` hears of each part of the work done.

    Raises:
        pipeline.errors.RunError: a process died.
    """
    split = parts_of(references)
    parts = [Part(some, point) for point in points for some in split]
    counts = search.map(count_errors, parts, told)
    trials = []
    for n, point in enumerate(points):
        total = sum(counts[n * len(split) : (n + 1) * len(split)], NOTHING)
        trials.append(Trial(point, total.rate, total.errors))
    return trials


def parts_of(references: Mapping[str, str]) -> list[dict[str, str]]:
    """The references as they are handed out."""
    return [{i: references[i] for i in some} for some in in_parts(sorted(references))]


def count_errors(desk: Desk, part: Part) -> Counts:
    """Word errors of the utterances of the part."""
    decode, log_probs = desk.decoder.decode, desk.log_probs
    texts = {i: " ".join(decode(log_probs[i], part.weights)) for i in part.references}
    return count_words(part.references, texts)
