"""Tables of a comparison, for people and for programs.

For people, budget x system: cells hold the rate in per cent with its interval, such as
`18.2 [15.0, 21.9]`. In csv and json a row per system and budget.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from stages.acoustic import published_wer
from stages.acoustic.corpora import by_corpus, unequal
from stages.acoustic.figures import durations, interval, percent
from stages.acoustic.published_wer import Published
from stages.acoustic.results import Results, Row
from stages.acoustic.row_fields import REQUIRED
from stages.acoustic.summary import Metric, summarise, systems
from stages.acoustic.text_tables import Format, for_people, for_programs

DEVIATIONS = ("sd_of_seeds", "mean_of_folds", "sd_of_folds")


def compare(results: Iterable[Results]) -> list[Row]:
    """The systems of several recipes' results, seeds and folds together, by hours of labels."""
    return [summarise(system) for system in systems(results)]


def format_table(rows: Sequence[Row], fmt: Format, metric: Metric = "wer") -> str:
    """`rows` from `compare`; for people with a second table where there are seeds or folds.

    For people each corpus has tables of its own: a budget of one is not that of another.
    """
    if fmt in ("csv", "json"):
        return for_programs(rows, fmt, tuple(rows[0]) if rows else REQUIRED)
    corpora = by_corpus(rows)
    if len(corpora) > 1:
        told = (f"{each.title}:\n\n{_of_corpus(each.rows, fmt, metric)}" for each in corpora)
        return "\n\n".join(told)
    return _of_corpus(rows, fmt, metric)


def _of_corpus(rows: Sequence[Row], fmt: Format, metric: Metric) -> str:
    beside = [*intervals(rows), *unequal(rows)]
    text = "\n\n".join([for_people(*_crossed(rows, metric), fmt), *beside])
    spread = deviations(rows, fmt, metric)
    if spread:
        text += f"\n\nOver seeds and folds, {metric.upper()} in %:\n\n{spread}"
    published = published_beside(rows, fmt) if metric == "wer" else []
    return "\n\n".join([text, *published])


def intervals(rows: Sequence[Row]) -> list[str]:
    """A line on the intervals of `rows`: how sure, and what was drawn; none without any."""
    drawn: dict[tuple[float | None, str], list[Row]] = {}
    for row in rows:
        if row["resampled"] is not None:
            drawn.setdefault((row["confidence"], row["resampled"]), []).append(row)
    told = []
    for (confidence, unit), mine in drawn.items():
        others = [row for row in rows if row["resampled"] and row not in mine]
        where = f" ({_where(mine, others)})" if others else ""
        sure = (
            f"{100 * confidence:g} % intervals" if confidence else "Intervals of unknown confidence"
        )
        told.append(f"{sure}{where}: bootstrap over {unit}")
    return [f"{'; '.join(told)}."] if told else []


def _where(mine: Sequence[Row], others: Sequence[Row]) -> str:
    """What tells some rows from others, in few words: test sets, recipes, budgets, decoders."""
    all_ = ("recipe", "budget", "decoder", "test_set")
    for keys in (("test_set",), ("recipe",), all_[:2], all_[:3]):
        ours, theirs = ([" ".join(row[k] for k in keys) for row in x] for x in (mine, others))
        if not set(ours) & set(theirs):
            return ", ".join(dict.fromkeys(ours))
    return ", ".join(" ".join(row[k] for k in all_) for row in mine)


def deviations(rows: Sequence[Row], fmt: Format, metric: Metric = "wer") -> str:
    """Means and standard deviations of those of `rows` with several seeds or folds, or nothing."""
    several = [row for row in rows if len(row["seeds"]) > 1 or len(row["folds"]) > 1]
    return for_people(*deviation_lines(several, metric), fmt) if several else ""


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
            told.append(for_people(*published_lines(mine, found), fmt))
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
