"""The health of every codebook: what stage 1 wrote of it, as charts and as a table."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stages.quantizer.stage import CODEBOOK, HISTORY
from stages.report.charts import Chart, Line, Rule
from stages.report.collect import Source
from stages.report.curves import Record, at_work, by_folder, chart, points, read_json
from stages.report.tables import Cell, Table, head

MOST_GROUPS = 8


@dataclass(frozen=True)
class Codebook:
    """One quantizer.

    Attributes:
        name: the recipes that it belongs to.
        told: its state in a sentence or two.
        warning: a collapse, in words; empty where there is none.
    """

    name: str
    told: str
    warning: str
    charts: Sequence[Chart]
    table: Table | None


def codebooks(sources: Sequence[Source]) -> list[Codebook]:
    """The quantizers of all sources, each once."""
    found = []
    for name, piece in by_folder(sources, "quantizer"):
        assert piece.folder is not None  # it is done
        told = read_json(piece.folder / CODEBOOK)
        found.append(_codebook(name, told, _records(piece.folder / HISTORY)))
    for name, records in at_work(sources, "quantizer"):
        figure = chart("Contrastive loss", "bits", [_loss(records)])
        charts = [*_groups_over_updates(records), *([figure] if figure else [])]
        found.append(Codebook(name, "As far as its training has come.", "", charts, None))
    return found


def _codebook(name: str, told: Mapping[str, Any], records: Sequence[Record]) -> Codebook:
    from stages.quantizer.health import figures, in_words

    words = [f"Type: {told.get('quantizer', 'unknown')}."]
    warning = ""
    if "groups" in told:
        words.append(_sentence(figures(dict(told))))
        warning = _sentence(in_words(dict(told))) if told["collapsed"] else ""
    loss, chance = told.get("loss_bits"), told.get("chance_bits")
    if loss is not None and chance is not None:
        words.append(
            f"Contrastive loss {loss:.2f} bits at the end of {told['updates']:,} updates; chance "
            f"is {chance:.2f}."
        )
    if repairs := told.get("repairs"):
        at = ", ".join(f"{repair['update']:,}" for repair in repairs)
        words.append(f"Repaired after a collapse at update {at} (dashed lines).")
    charts = _charts(told, records)
    if not charts:
        words.append("No training of it is known (it was fitted or imported).")
    table = _groups(told) if "groups" in told else None
    return Codebook(name, " ".join(words), warning, charts, table)


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:].rstrip('.')}."


def _charts(told: Mapping[str, Any], records: Sequence[Record]) -> list[Chart]:
    """Perplexity, codes in use and loss over the training, as far as they are there."""
    from stages.quantizer.health import collapsed_below

    history: Mapping[str, Any] = told.get("history", {})
    repaired = [float(repair["update"]) for repair in told.get("repairs", [])]
    charts: list[Chart | None] = []
    if codes := told.get("codes"):
        floor = Rule(collapsed_below(codes), "collapsed below")
        lines = _by_group(history, "perplexity")
        charts.append(chart(f"Perplexity, of {codes}", "codes", lines, [floor], 0, repaired))
        lines = _by_group(history, "codes_in_use")
        charts.append(chart(f"Codes in use, of {codes}", "codes", lines, (), 0, repaired))
    rules = [Rule(c, f"chance {c:.2f}")] if (c := told.get("chance_bits")) is not None else []
    charts.append(chart("Contrastive loss", "bits", [_loss(records)], rules, None, repaired))
    return [c for c in charts if c is not None]


def _loss(records: Sequence[Record]) -> Line:
    return Line("contrastive loss", 3, points(records, "loss_bits"))


def _groups_over_updates(records: Sequence[Record]) -> list[Chart]:
    """Perplexity and codes in use from windows that have a figure per group."""
    charts = []
    for name, title in (("perplexity", "Perplexity"), ("codes_in_use", "Codes in use")):
        lines = [Line(f"group {g}", g, points(records, f"{name}_{g}")) for g in range(MOST_GROUPS)]
        if made := chart(title, "codes", lines, low=0):
            charts.append(made)
    return charts


def _by_group(history: Mapping[str, Any], name: str) -> list[Line]:
    lines = []
    for group, values in enumerate(history.get(name, [])):
        records = [{"update": u, name: v} for u, v in zip(history["update"], values, strict=True)]
        lines.append(Line(f"group {group}", group, points(records, name)))
    return lines


def _records(path: Path) -> list[dict[str, Any]]:
    if not path.is_file():
        return []
    with open(path, encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def _groups(told: Mapping[str, Any]) -> Table:
    header = [head("Group", figure=False), head("Perplexity"), head("Codes in use"), head("Dead")]
    body = [
        [
            head(str(number), figure=False),
            Cell(f"{group['perplexity']:.1f}"),
            Cell(f"{group['codes_in_use']} of {told['codes']}"),
            Cell(str(len(group["dead_codes"]))),
        ]
        for number, group in enumerate(told["groups"])
    ]
    caption = f"On {told['frames']:,} frames of the pretraining speech, by group."
    return Table(caption, header, body)
