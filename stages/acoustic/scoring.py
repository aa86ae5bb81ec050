"""Word and character errors of a whole corpus.

Reference and hypothesis hold text as `stages.prepare.text` makes it, and words lie between
spaces. Word errors are those of sclite's alignment (see `alignment`). Character errors are the
plain edit distance, single spaces between words included. Both are summed over utterances before
they are divided: the mean of the utterances' rates is another figure.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.errors import UserError
from stages.acoustic.alignment import Aligned, align


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
KINDS = {"substitute": "substitutions", "delete": "deletions", "insert": "insertions"}


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


def align_all(
    references: Mapping[str, str], hypotheses: Mapping[str, str]
) -> dict[str, list[Aligned]]:
    """The word alignment of each utterance, in the order of `references`."""
    return {i: align(text.split(), hypotheses[i].split()) for i, text in references.items()}


def counts_of(steps: Iterable[Aligned]) -> Counts:
    """The word errors of an alignment."""
    tally = Counter(step.operation for step in steps)
    substitutions, deletions = tally["substitute"], tally["delete"]
    words = tally["equal"] + substitutions + deletions
    return Counts(substitutions, deletions, tally["insert"], words)


def count_words(references: Mapping[str, str], hypotheses: Mapping[str, str]) -> Counts:
    """Word errors summed over all utterances. References as from `check_references`."""
    aligned = align_all(references, hypotheses)
    return sum((counts_of(steps) for steps in aligned.values()), NOTHING)


def count_characters(
    references: Mapping[str, str], hypotheses: Mapping[str, str]
) -> dict[str, Counts]:
    """Character errors of each utterance, in the order of `references`."""
    import jiwer

    texts = [" ".join(text.split()) for text in references.values()]
    heard = [" ".join(hypotheses[i].split()) for i in references]
    output: Any = jiwer.process_characters(texts, heard)
    return {i: _counts(output, at) for at, i in enumerate(references)}


def _counts(output: Any, index: int) -> Counts:
    tally = {"equal": 0, "substitute": 0, "delete": 0, "insert": 0}
    for chunk in output.alignments[index]:
        reference = chunk.ref_end_idx - chunk.ref_start_idx
        hypothesis = chunk.hyp_end_idx - chunk.hyp_start_idx
        tally[chunk.type] += hypothesis if chunk.type == "insert" else reference
    length = len(output.references[index])
    return Counts(tally["substitute"], tally["delete"], tally["insert"], length)


def confusions(aligned: Iterable[Sequence[Aligned]]) -> dict[str, list[list[Any]]]:
    """How often what was taken for what, the most frequent first, equals by the alphabet.

    Returns `substitutions`, [said, heard, times] each, `deletions` and `insertions`, [word, times].
    """
    pairs = Counter(step for steps in aligned for step in steps if step.operation != "equal")
    told: dict[str, list[list[Any]]] = {kind: [] for kind in KINDS.values()}
    for step, times in sorted(pairs.items(), key=lambda item: (-item[1], item[0])):
        words = [word for word in (step.reference, step.hypothesis) if word]
        told[KINDS[step.operation]].append([*words, times])
    return told
