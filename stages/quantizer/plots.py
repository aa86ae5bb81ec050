"""How the codebook fared while it was trained, as a picture."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure  # drawn by Agg, without a display

from pipeline.store import write_atomically
from stages.quantizer.health import collapsed_below
from stages.quantizer.history import Record, by_group


def codebook(
    records: Sequence[Record],
    path: Path,
    *,
    codes: int,
    chance_bits: float,
    repairs: Sequence[Mapping[str, Any]] = (),
) -> None:
    """Draw the windows of a training over its updates; repairs are dashed lines.

    Four panels: perplexity of each group with the threshold of a collapse, codes in use of each
    group, contrastive loss with chance, and the temperature (k-means: pairs in use).
    """
    figure = Figure(figsize=(10, 6.4), layout="constrained")
    axes = figure.subplots(2, 2, sharex=True)
    updates = [record["update"] for record in records]
    _groups(axes[0, 0], records, "perplexity", codes)
    axes[0, 0].axhline(collapsed_below(codes), color="C3", lw=1, ls=":", label="collapsed below")
    _groups(axes[0, 1], records, "codes_in_use", codes)
    axes[1, 0].plot(updates, [record["loss_bits"] for record in records], color="C4")
    axes[1, 0].axhline(chance_bits, color="C3", lw=1, ls=":", label=f"chance, {chance_bits:.2f}")
    axes[1, 0].set_ylabel("contrastive loss, bits")
    last = "temperature" if "temperature" in records[-1] else "pairs_in_use"
    axes[1, 1].plot(updates, [record.get(last, math.nan) for record in records], color="C5")
    axes[1, 1].set_ylabel(last.replace("_", " "))
    axes[1, 1].set_ylim(bottom=0)
    for axis in axes.flat:
        for repair in repairs:
            axis.axvline(repair["update"], color="0.5", lw=1, ls="--")
        axis.grid(alpha=0.3)
    for axis in axes[1]:
        axis.set_xlabel("updates")
    for axis in (axes[0, 0], axes[0, 1], axes[1, 0]):
        axis.legend(frameon=False, fontsize=9)
    drawn = io.BytesIO()
    figure.savefig(drawn, format="png", dpi=110, metadata={"Software": None})
    write_atomically(path, drawn.getvalue())


def _groups(axis: Axes, records: Sequence[Record], name: str, codes: int) -> None:
    """A line per group, on an axis from 0 to what the codes allow."""
    known = [record for record in records if by_group(record, name)]  # k-means begins later
    updates = [record["update"] for record in known]
    rows = [by_group(record, name) for record in known]
    for group, values in enumerate(zip(*rows, strict=True)):
        axis.plot(updates, values, color=f"C{group}", label=f"group {group}")
    axis.set_ylim(0, 1.03 * codes)
    axis.set_ylabel(f"{name.replace('_', ' ')}, of {codes}")
