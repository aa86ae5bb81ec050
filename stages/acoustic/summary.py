"""Several seeds and folds of a system as one figure, with its interval and its deviations.

A system on a test set is a recipe, a budget and a decoder. Its rows differ in the seed of the
training and in the fold: which part of the corpus was held out.

- Folds: errors and words of all are summed, and then divided. Beside it stand the mean of the
  folds' rates and their standard deviation.
- Seeds: the mean, and the standard deviation.
- The interval is a bootstrap over the utterances (or speakers) of all folds, where an utterance
  counts with its errors averaged over seeds. It tells how sure the test set is; how much another
  training would differ, the deviation over seeds tells.

Deviations are those of a sample (n - 1 in the denominator).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from statistics import fmean, stdev
from typing import Any, Literal

from stages.acoustic import bootstrap
from stages.acoustic.bootstrap import Interval
from stages.acoustic.counts_file import Key, UtteranceCounts
from stages.acoustic.results import Results, Row

Metric = Literal["wer", "cer"]
SAMPLES = 10_000  # where a row does not tell it, as results of older versions
CONFIDENCE = 0.95  # where a row does not tell it
LENGTHS = {"wer": "reference_words", "cer": "reference_chars"}


@dataclass(frozen=True)
class System:
    """The rows of one recipe, budget and decoder on one test set, and their counts.

    `counts` belong to the rows, in their order; None where results.json lies alone.
    """

    rows: Sequence[Row]
    counts: Sequence[UtteranceCounts] | None

    @property
    def first(self) -> Row:
        """The row whose name and language model stand for all."""
        return self.rows[0]

    @property
    def folds(self) -> list[str | None]:
        """The folds, each once."""
        return list(dict.fromkeys(row["fold"] for row in self.rows))

    @property
    def seeds(self) -> list[int | str]:
        """The seeds, each once; texts where `pipeline.comparison` has joined runs."""
        return list(dict.fromkeys(row["seed"] for row in self.rows))

    @property
    def confidence(self) -> float:
        """Of the intervals."""
        return float(self.first.get("confidence", CONFIDENCE))

    @property
    def samples(self) -> int:
        """Test sets to be drawn for an interval: the most that one of its rows tells."""
        return max(row.get("bootstrap_samples") or SAMPLES for row in self.rows)

    def rate(self, metric: Metric) -> float | None:
        """Errors of all folds over their words, each fold the mean of its seeds.

        None where rows of several folds do not tell their characters.
        """
        return _pooled(self.rows, metric)

    @property
    def reference_words(self) -> int:
        """Of the speech that was scored: what several folds share counts once."""
        if self.counts is None:
            sets = {r.get("test_split") or r["fold"]: r["reference_words"] for r in self.rows}
            return sum(sets.values())
        each = {key[1:]: length for key, (_, length) in self.utterances("wer").items()}
        return sum(each.values())

    def utterances(self, metric: Metric) -> dict[Utterance, Errors]:
        """Errors and length of each utterance of each fold, errors averaged over seeds."""
        assert self.counts is not None
        found: dict[Utterance, list[tuple[int, int]]] = {}
        for row, counts in zip(self.rows, self.counts, strict=True):
            ids = zip(counts.on.speakers, counts.on.utterances, strict=True)
            each = zip(counts.errors(metric), counts.lengths(metric), strict=True)
            for (speaker, name), values in zip(ids, each, strict=True):
                found.setdefault((row["fold"], speaker, name), []).append(values)
        return {
            key: (fmean(errors for errors, _ in seen), seen[0][1]) for key, seen in found.items()
        }


Utterance = tuple[str | None, str, str]  # fold, speaker, id
Errors = tuple[float, int]  # mean over seeds, and the length


def systems(results: Iterable[Results]) -> list[System]:
    """The systems of several recipes: by test set, hours of labels, recipe, decoder."""
    grouped: dict[tuple[str, ...], list[tuple[Row, UtteranceCounts | None]]] = {}
    for source in results:
        for row in source.rows:
            counts = None if source.counts is None else source.counts.get(Key.of(row))
            named = row["test_set"], row["budget"], row["recipe"], row["decoder"]
            grouped.setdefault(named, []).append((row, counts))
    found = []
    for members in grouped.values():
        counted = [counts for _, counts in members if counts is not None]
        complete = counted if len(counted) == len(members) else None
        found.append(System([row for row, _ in members], complete))
    return sorted(found, key=_order)


def _order(system: System) -> tuple[Any, ...]:
    row = system.first
    seconds = fmean(r["budget_seconds"] for r in system.rows)
    decoder = row["decoder"] != "greedy", row["decoder"]
    return row["test_set"], seconds, row["budget"], row["recipe"], *decoder


def _pooled(rows: Sequence[Row], metric: Metric) -> float | None:
    folds: dict[str | None, list[Row]] = {}
    for row in rows:
        folds.setdefault(row["fold"], []).append(row)
    if len(folds) == 1:
        return fmean(float(r[metric]) for r in rows)
    length = LENGTHS[metric]
    if any(length not in r for r in rows):
        return None
    errors = sum(fmean(r[metric] * r[length] for r in same) for same in folds.values())
    return float(errors / sum(same[0][length] for same in folds.values()))


def summarise(system: System) -> Row:
    """One line of a comparison; `seed` and `fold` are None where there are several."""
    row, rows = system.first, system.rows
    told: Row = {key: row[key] for key in ("test_set", "budget")}
    told["budget_seconds"] = fmean(r["budget_seconds"] for r in rows)
    told |= {key: row[key] for key in ("recipe", "frontend", "decoder")}
    told |= {"seed": row["seed"] if len(system.seeds) == 1 else None, "seeds": system.seeds}
    told |= {"fold": row["fold"] if len(system.folds) == 1 else None, "folds": system.folds}
    words, characters = _figures(system, "wer"), _figures(system, "cer")
    told |= words | characters | {"resampled": words["resampled"]}
    # Of one row the interval is what it tells; of several it is drawn here.
    told["confidence"] = row.get("confidence") if len(rows) == 1 else system.confidence
    told["reference_words"] = system.reference_words
    told |= {key: row.get(key) for key in ("corpus", "lm_text", "lm_perplexity", "dev_seconds")}
    told["precisions"] = sorted({r["precision"] for r in rows if r.get("precision")})
    return told


def _figures(system: System, metric: Metric) -> Row:
    interval = _interval(system, metric)
    rows = system.rows
    by_seed = [[r for r in rows if r["seed"] == seed] for seed in system.seeds]
    # A seed that lacks folds is another mixture of test speakers, not another draw.
    whole = [same for same in by_seed if len(same) == len(system.folds)]
    pooled = [_pooled(same, metric) for same in whole] if len(by_seed) > 1 else []
    seeds = [rate for rate in pooled if rate is not None]
    folds = [fmean(r[metric] for r in rows if r["fold"] == fold) for fold in system.folds]
    several = len(folds) > 1
    return {
        metric: system.rate(metric),
        f"{metric}_low": interval.low if interval else None,
        f"{metric}_high": interval.high if interval else None,
        "resampled": interval.resampled if interval else None,
        f"{metric}_sd_of_seeds": stdev(seeds) if len(seeds) > 1 else None,
        f"{metric}_mean_of_folds": fmean(folds) if several else None,
        f"{metric}_sd_of_folds": stdev(folds) if several else None,
    }


def _interval(system: System, metric: Metric) -> Interval | None:
    """None where a single row has none, or several have no counts to draw from."""
    row = system.first
    if len(system.rows) == 1:
        low, high = row.get(f"{metric}_low"), row.get(f"{metric}_high")
        if low is None or high is None:
            return None
        return bootstrap.Interval(low, high, row.get("resampled", "not told"))
    if system.counts is None:
        return None
    errors, lengths, speakers = by_voice(system.utterances(metric))
    drawn = tuple(errors), tuple(lengths), tuple(speakers)
    return _bootstrapped(*drawn, system.samples, system.confidence)


@lru_cache(maxsize=1024)  # the table, RESULTS.md and the picture all ask
def _bootstrapped(
    errors: tuple[float, ...],
    lengths: tuple[int, ...],
    speakers: tuple[str, ...],
    samples: int,
    confidence: float,
) -> Interval:
    return bootstrap.interval(errors, lengths, speakers, samples, confidence)


def by_voice(
    utterances: Mapping[Utterance, Errors],
) -> tuple[list[float], list[int], list[str]]:
    """Errors, lengths and speakers for a bootstrap, sorted by speaker and id.

    An utterance that several folds hold (where they cut the training set) is drawn for all of
    them at once.
    """
    sums: dict[tuple[str, str], tuple[float, int]] = {}
    for (_, speaker, name), (errors, length) in utterances.items():
        before = sums.get((speaker, name), (0.0, 0))
        sums[speaker, name] = before[0] + errors, before[1] + length
    keys = sorted(sums)
    return [sums[k][0] for k in keys], [sums[k][1] for k in keys], [k[0] for k in keys]
