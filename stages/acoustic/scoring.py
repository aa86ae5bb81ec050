"""Word and character errors of a whole corpus, and how sure they are.

Counts come from jiwer's Levenshtein alignment and are summed over utterances before they are
divided: the mean of the utterances' rates is another figure. Characters include the single
spaces between words.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import jiwer
import numpy as np

from pipeline.errors import UserError

if TYPE_CHECKING:
    from numpy.typing import NDArray

SPEAKERS_TO_RESAMPLE = 10  # with fewer, utterances are resampled within speakers
BOOTSTRAP_SEED = 20191108


@dataclass(frozen=True, slots=True)
class Counts:
    """Edit operations that make the hypothesis of the reference, and the reference's length."""

    substitutions: int
    deletions: int
    insertions: int
    reference: int

    @property
    def errors(self) -> int:
        """Substitutions, deletions and insertions together."""
        return self.substitutions + self.deletions + self.insertions

    @property
    def rate(self) -> float:
        """Errors as a fraction of the reference; may exceed 1."""
        return self.errors / self.reference

    def __add__(self, other: Counts) -> Counts:
        return Counts(
            self.substitutions + other.substitutions,
            self.deletions + other.deletions,
            self.insertions + other.insertions,
            self.reference + other.reference,
        )


NOTHING = Counts(0, 0, 0, 0)


def check_references(references: Mapping[str, str | None]) -> dict[str, str]:
    """The references, once none is found missing or empty.

    Raises:
        UserError: there are none, or an utterance has none; it is named.
    """
    empty = sorted(i for i, text in references.items() if not (text or "").strip())
    if empty or not references:
        raise UserError(
            "Errors cannot be counted without references.",
            constraint="a transcript with at least one word for every dev and test utterance",
            found=f"{len(empty)} without, such as {empty[0]}" if empty else "no utterances",
            remedy="remove such utterances from the corpus' dev and test lists",
        )
    return {i: text for i, text in references.items() if text}


def align(references: Mapping[str, str], hypotheses: Mapping[str, str]) -> jiwer.WordOutput:
    """jiwer's word alignment of all utterances, in the order of `references`."""
    return jiwer.process_words(list(references.values()), [hypotheses[i] for i in references])


def count_words(references: Mapping[str, str], hypotheses: Mapping[str, str]) -> Counts:
    """Word errors summed over all utterances. References as from `check_references`."""
    return _counts(align(references, hypotheses))


def count_characters(references: Mapping[str, str], hypotheses: Mapping[str, str]) -> Counts:
    """Character errors summed over all utterances."""
    texts = list(references.values()), [hypotheses[i] for i in references]
    return _counts(jiwer.process_characters(*texts))


def _counts(output: Any) -> Counts:
    length = output.hits + output.substitutions + output.deletions
    return Counts(output.substitutions, output.deletions, output.insertions, length)


def operations(output: jiwer.WordOutput, index: int) -> list[tuple[str, str, str]]:
    """One utterance's alignment: (operation, reference words, hypothesis words) in order."""
    reference, hypothesis = output.references[index], output.hypotheses[index]
    return [
        (
            chunk.type,
            " ".join(reference[chunk.ref_start_idx : chunk.ref_end_idx]),
            " ".join(hypothesis[chunk.hyp_start_idx : chunk.hyp_end_idx]),
        )
        for chunk in output.alignments[index]
    ]


def utterance_counts(output: jiwer.WordOutput, index: int) -> Counts:
    """One utterance's word errors."""
    tally = {"equal": 0, "substitute": 0, "delete": 0, "insert": 0}
    for chunk in output.alignments[index]:
        reference = chunk.ref_end_idx - chunk.ref_start_idx
        hypothesis = chunk.hyp_end_idx - chunk.hyp_start_idx
        tally[chunk.type] += hypothesis if chunk.type == "insert" else reference
    reference = len(output.references[index])
    return Counts(tally["substitute"], tally["delete"], tally["insert"], reference)


@dataclass(frozen=True, slots=True)
class Interval:
    """A bootstrap interval of the WER, and what was resampled for it."""

    low: float
    high: float
    resampled: str


def bootstrap(
    counts: Sequence[Counts], speakers: Sequence[str], samples: int, confidence: float
) -> Interval:
    """The percentile interval of the corpus' WER (Bisani & Ney 2004), the same every time.

    Args:
        counts, speakers: of each utterance.
        samples: how many corpora are drawn.
        confidence: share of them that lies within the interval.
    """
    errors_B = np.array([c.errors for c in counts], np.int64)
    words_B = np.array([c.reference for c in counts], np.int64)
    names, speaker_B = np.unique(np.array(speakers), return_inverse=True)
    random = np.random.Generator(np.random.PCG64(BOOTSTRAP_SEED))
    if len(names) >= SPEAKERS_TO_RESAMPLE:
        resampled = f"{len(names)} speakers"
        errors = _drawn(random, np.bincount(speaker_B, errors_B), samples, words_B, speaker_B)
    else:
        within = "speaker" if len(names) == 1 else f"{len(names)} speakers"
        resampled = f"utterances within {within}"
        errors = np.zeros((samples, 2))
        for speaker in range(len(names)):
            mine = speaker_B == speaker
            own = np.arange(int(mine.sum()))
            errors += _drawn(random, errors_B[mine], samples, words_B[mine], own)
    rates = errors[:, 0] / errors[:, 1]
    low, high = np.quantile(rates, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Interval(float(low), float(high), resampled)


def _drawn(
    random: np.random.Generator,
    errors: NDArray[Any],
    samples: int,
    words_B: NDArray[Any],
    unit_B: NDArray[Any],
) -> NDArray[np.float64]:
    """(samples, 2): errors and words of as many units as there are, drawn with replacement."""
    units = len(errors)
    words = np.bincount(unit_B, words_B, minlength=units)
    both = np.stack([errors, words], axis=1).astype(np.float64)
    sums = np.empty((samples, 2))
    for sample in range(samples):  # one at a time: all at once takes samples x units of memory
        sums[sample] = both[random.integers(0, units, units)].sum(axis=0)
    return sums
