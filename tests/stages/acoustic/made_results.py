"""Results of recipes that never ran: rows and the errors behind them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from stages.acoustic.counts_file import Key, UtteranceCounts, UtteranceSet
from stages.acoustic.results import Results, Row

WORDS = 10


def made(recipe: str, *runs: tuple[str | None, int, Sequence[int]], **changes: Any) -> Results:
    """A recipe's results from (fold, seed, errors of each utterance of ten words).

    A fold's speaker is called like it; without folds there is one, `ann`.
    """
    rows: list[Row] = []
    counts = {}
    for fold, seed, errors in runs:
        names = [f"{fold or 'u'}{n}" for n in range(len(errors))]
        speakers, words = [fold or "ann"] * len(errors), [WORDS] * len(errors)
        on = UtteranceSet(names, speakers, words, [3 * n for n in words])
        row: Row = {"test_set": "test", "budget": "1min", "budget_seconds": 60.0, "seed": seed}
        row |= {"recipe": recipe, "frontend": "log_mel", "decoder": "greedy", "fold": fold}
        row |= {"wer": sum(errors) / sum(words), "wer_low": 0.1, "wer_high": 0.9}
        row |= {"cer": sum(errors) / 3 / sum(words), "cer_low": 0.0, "cer_high": 0.5}
        row |= {"reference_words": sum(words), "reference_chars": 3 * sum(words)}
        row |= {"lm_text": "a text", "lm_perplexity": 2.0, "dev_seconds": 9.0, "confidence": 0.9}
        rows.append(row | {"resampled": "utterances within speaker"} | changes)
        nothing = [0] * len(errors)
        counts[Key.of(rows[-1])] = UtteranceCounts(on, list(errors), nothing, nothing, list(errors))
    return Results(rows, counts)


def together(*several: Results) -> Results:
    rows = [row for results in several for row in results.rows]
    return Results(rows, {k: c for r in several for k, c in (r.counts or {}).items()})
