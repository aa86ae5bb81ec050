"""Header and lines as text: for people, or for programs."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from typing import Literal

from stages.acoustic.results import Row

Format = Literal["table", "md", "csv", "json"]


def for_programs(rows: Sequence[Row], fmt: Format, fields: Sequence[str]) -> str:
    """The rows whole, as json or csv with a column for each of `fields`."""
    if fmt == "json":
        return json.dumps(rows, ensure_ascii=False, indent=1)
    text = io.StringIO()
    writer = csv.DictWriter(text, fields, lineterminator="\n")
    writer.writeheader()
    lists = ("seeds", "folds", "precisions")
    for row in rows:
        joined = {k: " ".join(map(str, v)) for k, v in row.items() if k in lists}
        writer.writerow({**row, **joined})
    return text.getvalue().rstrip("\n")


def for_people(header: Sequence[str], body: Sequence[Sequence[str]], fmt: Format) -> str:
    """A table of texts, as Markdown or plain."""
    from tabulate import tabulate

    style = "github" if fmt == "md" else "simple"
    return tabulate(body, header, tablefmt=style, disable_numparse=True)
