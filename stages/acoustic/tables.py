"""Tables of a comparison, for people and for programs.

For people, budget x system: cells hold the rate in per cent with its interval, such as
`18.2 [15.0, 21.9]`. In csv and json a row per system and budget.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

from stages.acoustic import pairs, published_wer
from stages.acoustic.bootstrap import SPEAKERS_TO_RESAMPLE
from stages.acoustic.corpora import by_corpus, unequal_folds
from stages.acoustic.published_wer import Published
from stages.acoustic.results import Results, Row
from stages.acoustic.summary import Metric, summarise, systems

Format = Literal["table", "md", "csv", "json"]
COMPARED = (
    "test_set",
    "budget",
    "budget_seconds",
    "seed",
    "recipe",
    "frontend",
    "decoder",
    "fold",
    "wer",
    "wer_low",
    "wer_high",
    "cer",
    "reference_words",
    "lm_text",
    "dev_seconds",
)  # what a row of results.json must hold to be compared
DEVIATIONS = ("sd_of_seeds", "mean_of_folds", "sd_of_folds")
FEW_SPEAKERS = (
    "Speakers better: of how many the first makes fewer errors; intervals that are drawn within a "
    "few speakers say nothing of other speakers."
)
KINDS = {
    "system": "Systems against {against}",
    "decoder": "Decoders against each other",
    "budget": "Budgets against the next smaller",
}


def compare(results: Iterable[Results]) -> list[Row]:
    """The systems of several recipes' results, seeds and folds together, by hours of labels."""
    return [summarise(system) for system in systems(results)]


def format_table(rows: Sequence[Row], fmt: Format, metric: Metric = "wer") -> str:
    """`rows` from `compare`; for people with a second table where there are seeds or folds.

    For people each corpus has tables of its own: a budget of one is not that of another.
    """
    if fmt in ("csv", "json"):
        return _for_programs(rows, fmt, tuple(rows[0]) if rows else COMPARED)
    corpora = by_corpus(rows)
    if len(corpora) > 1:
        told = (f"{each.title}:\n\n{_of_corpus(each.rows, fmt, metric)}" for each in corpora)
        return "\n\n".join(told)
    return _of_corpus(rows, fmt, metric)


def _of_corpus(rows: Sequence[Row], fmt: Format, metric: Metric) -> str:
    text = "\n\n".join([_table(*_crossed(rows, metric), fmt), *unequal_folds(rows)])
    spread = deviations(rows, fmt, metric)
    if spread:
        text += f"\n\nOver seeds and folds, {metric.upper()} in %:\n\n{spread}"
    published = published_beside(rows, fmt) if metric == "wer" else []
    return "\n\n".join([text, *published])


def deviations(rows: Sequence[Row], fmt: Format, metric: Metric = "wer") -> str:
    """Means and standard deviations of those of `rows` with several seeds or folds, or nothing."""
    several = [row for row in rows if len(row["seeds"]) > 1 or len(row["folds"]) > 1]
    return _table(*deviation_lines(several, metric), fmt) if several else ""


def format_pairs(rows: Sequence[Row], fmt: Format, alone: Sequence[str] = ()) -> str:
    """`rows` from `pairs.compare_pairs`; for people a table per kind, differences in points.

    Args:
        alone: from `pairs.without_partner`; for people, the lines stand below.
    """
    if fmt in ("csv", "json"):
        return _for_programs(rows, fmt, pairs.FIELDS)
    parts = []
    for kind, title in KINDS.items():
        mine = [row for row in rows if row["kind"] == kind]
        if mine:
            parts.append(title.format(against=mine[0]["against"]) + ":")
            parts.append(_table(*paired_lines(mine), fmt))
    if not parts:
        return "\n".join(alone) or (
            "There are no two systems that differ in one thing alone (recipe, decoder or budget): "
            "nothing to pair."
        )
    drawn = "; ".join(dict.fromkeys(f"{row['resampled']} ({row['test_set']})" for row in rows))
    notes = (
        "Differences in percentage points, negative where the first is better, and the "
        "probability that it is: paired bootstrap on the same utterances of both, drawn: "
        f"{drawn}."
    )
    left = max(row["left_out"] for row in rows)
    if left:
        notes += f" Up to {left} utterances that only one of two has are left out."
    if has_few_speakers(rows):
        notes += f" {FEW_SPEAKERS}"
    return "\n\n".join([*parts, notes, *(["\n".join(alone)] if alone else [])])


def _for_programs(rows: Sequence[Row], fmt: Format, fields: Sequence[str]) -> str:
    if fmt == "json":
        return json.dumps(rows, ensure_ascii=False, indent=1)
    text = io.StringIO()
    writer = csv.DictWriter(text, fields, lineterminator="\n")
    writer.writeheader()
    lists = ("seeds", "folds")
    for row in rows:
        joined = {k: " ".join(map(str, v)) for k, v in row.items() if k in lists}
        writer.writerow({**row, **joined})
    return text.getvalue().rstrip("\n")


def _table(header: Sequence[str], body: Sequence[Sequence[str]], fmt: Format) -> str:
    from tabulate import tabulate

    style = "github" if fmt == "md" else "simple"
    return tabulate(body, header, tablefmt=style, disable_numparse=True)


def _crossed(rows: Sequence[Row], metric: Metric) -> tuple[list[str], list[list[str]]]:
    """Header and lines of budget x system; the test set only where there are several."""
    names = list(dict.fromkeys((r["recipe"], r["decoder"]) for r in rows))
    names.sort(key=lambda s: (s[0], s[1] != "greedy", s[1]))
    lead = ["test_set"] if len({r["test_set"] for r in rows}) > 1 else []
    cells: dict[tuple[str, ...], dict[tuple[str, str], str]] = {}
    seconds: dict[tuple[str, ...], list[float]] = {}
    for row in rows:
        key = (*(row[k] for k in lead), row["budget"])
        seconds.setdefault(key, []).append(row["budget_seconds"])
        cells.setdefault(key, {})[row["recipe"], row["decoder"]] = interval(row, metric)
    header = [k.replace("_", " ") for k in lead] + ["budget", "labels"]
    header += [f"{recipe} {decoder}" for recipe, decoder in names]
    body = [
        [*key, durations(seconds[key]), *(found.get(name, "-") for name in names)]
        for key, found in cells.items()
    ]
    return header, body


def published_beside(rows: Sequence[Row], fmt: Format) -> list[str]:
    """For each test set that others have published figures of: a title, a table, the sources."""
    told = []
    for test_set in dict.fromkeys(row["test_set"] for row in rows):
        mine = [row for row in rows if row["test_set"] == test_set]
        found = published_wer.beside(mine, test_set)
        if found:
            told.append(f"{published_wer.HEADING}: {test_set}, WER in %, below ours.")
            told.append(_table(*published_lines(mine, found), fmt))
            told.append("\n".join(published_wer.sources(found)))
    return told


def published_lines(
    rows: Sequence[Row], published: Sequence[Published]
) -> tuple[list[str], list[list[str]]]:
    """Header and lines of one test set: ours, then what others published, a column per budget."""
    seconds = {row["budget"]: row["budget_seconds"] for row in rows}
    told = {budget for each in published for budget in each.wer}
    budgets = [budget for budget in sorted(seconds, key=lambda b: seconds[b]) if budget in told]
    ours: dict[tuple[str, str], dict[str, str]] = {}
    for row in rows:
        if row["budget"] in told:
            ours.setdefault((row["recipe"], row["decoder"]), {})[row["budget"]] = interval(row)
    body = [
        [f"{recipe} {decoder}", "ours", *(cells.get(budget, "-") for budget in budgets)]
        for (recipe, decoder), cells in ours.items()
    ]
    body += [
        [each.system, each.told, *(percent(each.wer.get(budget)) for budget in budgets)]
        for each in published
    ]
    return ["system", "whose", *budgets], body


def deviation_lines(rows: Sequence[Row], metric: Metric) -> tuple[list[str], list[list[str]]]:
    """Header and lines of the table of seeds and folds."""
    header = ["system", "budget", "test set", "all", "seeds", "sd of seeds"]
    header += ["folds", "mean of folds", "sd of folds"]
    body = []
    for row in rows:
        of_seeds, mean, of_folds = (percent(row[f"{metric}_{name}"]) for name in DEVIATIONS)
        line = [f"{row['recipe']} {row['decoder']}", row["budget"], row["test_set"]]
        line += [percent(row[metric]), str(len(row["seeds"])), of_seeds]
        body.append([*line, str(len(row["folds"])), mean, of_folds])
    return header, body


def paired_lines(rows: Sequence[Row]) -> tuple[list[str], list[list[str]]]:
    """Header and lines of the table of one kind of pairs."""
    metric = rows[0]["metric"].upper()
    header = ["system", "budget", "decoder", "test set", "against", f"{metric} %", "against's"]
    header += ["difference", "P(better)", "utterances"]
    few = has_few_speakers(rows)
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


def has_few_speakers(pairs: Sequence[Row]) -> bool:
    """Whether some of the pairs are of so few that utterances are drawn within speakers."""
    return any(row["speakers"] < SPEAKERS_TO_RESAMPLE for row in pairs)


def percent(rate: float | None) -> str:
    """A fraction in per cent; `-` for None."""
    return "-" if rate is None else f"{100 * rate:.1f}"


def interval(row: Mapping[str, Any], metric: Metric = "wer") -> str:
    """A rate in per cent with its interval, if it has one: `18.2 [15.0, 21.9]`."""
    low, high = row.get(f"{metric}_low"), row.get(f"{metric}_high")
    if low is None or row[metric] is None:
        return percent(row[metric])
    return f"{percent(row[metric])} [{percent(low)}, {percent(high)}]"


def duration(seconds: float) -> str:
    """A length for people: `48 s`, `9.9 min`, `1.5 h`."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    if seconds < 3600:
        return f"{seconds / 60:.1f} min"
    return f"{seconds / 3600:.1f} h"


def durations(seconds: Sequence[float]) -> str:
    """One length, or the shortest and the longest where they read differently."""
    ends = duration(min(seconds)), duration(max(seconds))
    return ends[0] if ends[0] == ends[1] else f"{ends[0]} to {ends[1]}"
