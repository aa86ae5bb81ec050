"""Tables of pairs of systems, and how to read them."""

from __future__ import annotations

from collections.abc import Sequence

from stages.acoustic import pairs
from stages.acoustic.bootstrap import SPEAKERS_TO_RESAMPLE
from stages.acoustic.figures import percent
from stages.acoustic.results import Row
from stages.acoustic.text_tables import Format, for_people, for_programs

FEW_SPEAKERS = (
    "Speakers better: of how many the first makes fewer errors; intervals that are drawn within a "
    "few speakers say nothing of other speakers."
)
KINDS = {
    "system": "Systems against {against}",
    "decoder": "Decoders against each other",
    "budget": "Budgets against the next smaller",
}


def format_pairs(rows: Sequence[Row], fmt: Format, alone: Sequence[str] = ()) -> str:
    """`rows` from `pairs.compare_pairs`; for people a table per kind, differences in points.

    Args:
        alone: from `pairs.without_partner`; for people, the lines stand below.
    """
    if fmt in ("csv", "json"):
        return for_programs(rows, fmt, pairs.FIELDS)
    parts = []
    for kind, title in KINDS.items():
        mine = [row for row in rows if row["kind"] == kind]
        if mine:
            parts.append(title.format(against=mine[0]["against"]) + ":")
            parts.append(for_people(*paired_lines(mine), fmt))
    if not parts:
        return "\n".join(alone) or (
            "There are no two systems that differ in one thing alone (recipe, decoder or budget): "
            "nothing to pair."
        )
    return "\n\n".join([*parts, how_paired(rows), *(["\n".join(alone)] if alone else [])])


def how_paired(rows: Sequence[Row]) -> str:
    """How to read the pairs `rows`, of which there are some: a few sentences."""
    of_several = len({row["test_set"] for row in rows}) > 1
    drawn = (
        f"{row['resampled']} ({row['test_set']})" if of_several else row["resampled"]
        for row in rows
    )
    told = (
        f"Differences of {rows[0]['metric'].upper()} in percentage points with their intervals, "
        "negative where the first is better, and the probability that it is: paired bootstrap on "
        f"the same utterances of both, over {'; '.join(dict.fromkeys(drawn))}."
    )
    left = max(row["left_out"] for row in rows)
    if left:
        told += f" Up to {left} utterances that only one of two has are left out."
    return f"{told} {FEW_SPEAKERS}" if _has_few_speakers(rows) else told


def paired_lines(rows: Sequence[Row]) -> tuple[list[str], list[list[str]]]:
    """Header and lines of the table of one kind of pairs."""
    metric = rows[0]["metric"].upper()
    header = ["system", "budget", "decoder", "test set", "against", f"{metric} %", "against's"]
    header += ["difference", "P(better)", "utterances"]
    few = _has_few_speakers(rows)
    header += ["speakers better"] if few else []
    body = []
    for row in rows:
        line = [row[name] for name in ("recipe", "budget", "decoder", "test_set", "against")]
        line += [percent(row["rate"]), percent(row["rate_against"])]
        low, high = 100 * row["low"], 100 * row["high"]
        line.append(f"{100 * row['difference']:+.1f} [{low:+.1f}, {high:+.1f}]")
        line.append(f"{row['probability_of_improvement']:.3f}")
        line.append(str(row["utterances"]))
        line += [f"{row['speakers_better']} of {row['speakers']}"] if few else []
        body.append(line)
    return header, body


def _has_few_speakers(rows: Sequence[Row]) -> bool:
    """Whether some of the pairs are of so few that utterances are drawn within speakers."""
    return any(row["speakers"] < SPEAKERS_TO_RESAMPLE for row in rows)
