"""Word error rates that others have published, to stand beside ours. Never a part of our results.

They lie in `data/published_wer.yaml`, which tells their sources. A figure is shown where a row of
ours is of the same corpus, test set and label budget.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

FILE = Path(__file__).parents[2] / "data" / "published_wer.yaml"
HEADING = "Published, not measured here"


@dataclass(frozen=True)
class Published:
    """A system of others on one test set.

    Attributes:
        decoder: with which language model, as the source names it.
        pretrained_on: the speech without transcripts.
        source: the paper and the table.
        corpora: kinds of corpus whose test sets bear this name.
        wer: by budget, as fractions.
        note: what else is to be known of it, maybe nothing.
    """

    system: str
    decoder: str
    pretrained_on: str
    source: str
    corpora: frozenset[str]
    test_set: str
    wer: Mapping[str, float]
    note: str = ""

    @property
    def told(self) -> str:
        """What it is, but for its name."""
        return f"published: {self.decoder}, pretrained on {self.pretrained_on}"


@cache
def known() -> tuple[Published, ...]:
    """All that `data/published_wer.yaml` holds, in its order."""
    told = yaml.safe_load(FILE.read_text("utf-8"))
    corpora = frozenset(told["corpora"])
    return tuple(
        Published(
            system=system["system"],
            decoder=system["decoder"],
            pretrained_on=system["pretrained_on"],
            source=told["sources"][system["source"]],
            corpora=corpora,
            test_set=test_set,
            wer={budget: round(wer / 100, 6) for budget, wer in by_budget.items()},
            note=system.get("note", ""),
        )
        for system in told["systems"]
        for test_set, by_budget in system["wer_percent"].items()
    )


def beside(rows: Iterable[Mapping[str, Any]], test_set: str) -> list[Published]:
    """The published systems with a figure for one of `rows` of that test set.

    Args:
        rows: of results.json or a comparison. Those that do not name their corpus, as older
            versions wrote them, match nothing.
    """
    places = {(row.get("corpus"), row["budget"]) for row in rows if row["test_set"] == test_set}
    return [
        published
        for published in known()
        if published.test_set == test_set
        and any(corpus in published.corpora and b in published.wer for corpus, b in places)
    ]


def sources(published: Sequence[Published]) -> list[str]:
    """A line for each source, and one for each note, to stand below the figures."""
    told = [f"Source: {source}." for source in dict.fromkeys(p.source for p in published)]
    notes = dict.fromkeys(f"{p.system}: {p.note}." for p in published if p.note)
    return [*told, *notes]
