"""Which word was heard as which: the alignment that NIST's sclite makes, which counts errors.

The cheapest way from the reference to the hypothesis, where a substitution costs 4 and a deletion
or an insertion 3. Several ways may cost the same, and then differ in their counts; of these
sclite's is taken, so that the counts equal sclite's, utterance by utterance.

It is not always the way with the fewest errors: three more correct words are worth four more
pairs of a deletion and an insertion, so that the total exceeds the plain edit distance now and
then: on random texts of up to 60 words from 17 by 0.5 % of the errors, where words are mostly right
by nothing. What the weights buy are alignments that find more of the correct words.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

Operation = Literal["equal", "substitute", "delete", "insert"]

# sclite's weights: SCTK, doc/sclite.htm, "String Alignments via Dynamic Programming".
SUBSTITUTION, DELETION, INSERTION = 4, 3, 3


class Aligned(NamedTuple):
    """One step of an alignment; the word that is not there is an empty string."""

    operation: Operation
    reference: str
    hypothesis: str


def align(reference: Sequence[str], hypothesis: Sequence[str]) -> list[Aligned]:
    """The alignment of two sequences of words, in order; both may be empty."""
    if list(reference) == list(hypothesis):
        return [Aligned("equal", word, word) for word in reference]
    came_from = _fill(reference, hypothesis)
    i, j = len(reference), len(hypothesis)
    steps: list[Aligned] = []
    while i or j:
        operation = came_from[i][j]
        i -= operation != "insert"
        j -= operation != "delete"
        heard = "" if operation == "delete" else hypothesis[j]
        steps.append(Aligned(operation, "" if operation == "insert" else reference[i], heard))
    return steps[::-1]


def _fill(reference: Sequence[str], hypothesis: Sequence[str]) -> list[list[Operation]]:
    """For each pair of prefixes (words of the reference, of the hypothesis) its last step.

    Where steps cost the same, sclite takes the pair of words first, then the insertion.
    """
    row = [INSERTION * j for j in range(len(hypothesis) + 1)]
    came_from: list[list[Operation]] = [["insert"] * len(row)]
    for said in reference:
        above, row = row, [row[0] + DELETION]
        steps: list[Operation] = ["delete"]
        for j, heard in enumerate(hypothesis):
            pair = above[j] if said == heard else above[j] + SUBSTITUTION
            deletion, insertion = above[j + 1] + DELETION, row[j] + INSERTION
            if pair <= deletion and pair <= insertion:
                row.append(pair)
                steps.append("equal" if said == heard else "substitute")
            elif insertion <= deletion:
                row.append(insertion)
                steps.append("insert")
            else:
                row.append(deletion)
                steps.append("delete")
        came_from.append(steps)
    return came_from


def readable(utterance_id: str, steps: Sequence[Aligned]) -> str:
    """The alignment for people: the reference above the hypothesis, errors marked below.

    Missing words are shown as asterisks, as in sclite's reports.
    """
    lines = {"REF": "", "HYP": "", "": ""}
    marks = {"equal": "", "substitute": "S", "delete": "D", "insert": "I"}
    for operation, said, heard in steps:
        width = max(len(said), len(heard))
        cells = said or "*" * width, heard or "*" * width, marks[operation]
        for name, cell in zip(lines, cells, strict=True):
            lines[name] += f" {cell:{width}}"
    shown = [f"{name + ':' if name else '':4}{line}".rstrip() for name, line in lines.items()]
    return "\n".join([f"id: {utterance_id}", *(line for line in shown if line)]) + "\n"
