"""The curves of the BERT and of the CTC models, and how well the BERT guesses hidden units."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from stages.acoustic.finetune import TRAINING
from stages.acoustic.tables import percent
from stages.report.charts import Chart, Line
from stages.report.collect import PRETRAINING, Source
from stages.report.curves import at_work, by_folder, chart, points, read_json
from stages.report.tables import Cell, Table, head

# Figures of a history: name, title, axis, factor.
BERT_FIGURES = (
    ("loss", "Loss on hidden units", "nats", 1.0),
    ("accuracy", "Hidden units guessed right", "%", 100.0),
    ("kept_back_loss", "Loss on speech kept back", "nats", 1.0),
    ("kept_back_accuracy", "Guessed right, speech kept back", "%", 100.0),
)
CTC_FIGURES = (
    ("loss", "CTC loss", "nats per label", 1.0),
    ("dev_loss", "CTC loss on dev", "nats per label", 1.0),
    ("dev_wer", "WER on dev, greedy", "%", 100.0),
    ("dev_cer", "CER on dev, greedy", "%", 100.0),
)
GUESSES = (
    ("kept_back_accuracy", "This BERT"),
    ("kept_back_accuracy_nearest", "Nearest unit that is seen"),
    ("kept_back_accuracy_most_frequent", "Most frequent unit"),
)


@dataclass(frozen=True)
class Curves:
    """The charts of one training or of several on the same axes."""

    name: str
    charts: Sequence[Chart]
    table: Table | None = None


def berts(sources: Sequence[Source]) -> Curves | None:
    """All BERTs together; None where no source has one that was trained here."""
    told = []
    for name, piece in by_folder(sources, "bert"):
        assert piece.folder is not None  # it is done
        told.append((name, _named(read_json(piece.folder / PRETRAINING))))
    trained = [(name, facts) for name, facts in told if facts.get("history")]
    drawn = [(name, facts["history"]) for name, facts in trained] + [
        (name, [_renamed(row) for row in rows]) for name, rows in at_work(sources, "bert")
    ]
    if not drawn:
        return None
    charts = []
    for figure, title, unit, factor in BERT_FIGURES:
        lines = [
            Line(name, style, points(history, figure, factor))
            for style, (name, history) in enumerate(drawn)
        ]
        if made := chart(title, unit, lines):
            charts.append(made)
    return Curves("BERT", charts, _guesses(trained) if trained else None)


def _named(facts: dict[str, Any]) -> dict[str, Any]:
    """Facts of a pretraining under today's names; they were told as those of dev once."""
    if "validation_utterances" not in facts:
        return facts
    history = facts["history"]
    if not facts["validation_utterances"]:  # they were of speech trained on
        return {"history": [row for row in history if "dev_loss" not in row]}
    told = {f"kept_back_{k}": v for k, v in facts.items() if k.startswith(("loss", "accuracy"))}
    return told | {"history": [_renamed(row) for row in history]}


def _renamed(row: dict[str, float]) -> dict[str, float]:
    return {
        f"kept_back_{k.removeprefix('dev_')}" if k.startswith("dev_") else k: v
        for k, v in row.items()
    }


def _guesses(trained: Sequence[tuple[str, dict[str, Any]]]) -> Table:
    header = [head("BERT", figure=False), *(head(name) for _, name in GUESSES), head("Loss, nats")]
    body = [
        [
            head(name, figure=False),
            *(Cell(percent(facts.get(key))) for key, _ in GUESSES),
            Cell(f"{facts['kept_back_loss']:.3f}" if "kept_back_loss" in facts else "-"),
        ]
        for name, facts in trained
    ]
    caption = (
        "Hidden units of speech kept back that are guessed right, in %, beside two guesses. Its "
        "speakers are heard in training, and it chose the weights of each BERT."
    )
    return Table(caption, header, body)


def ctc(sources: Sequence[Source]) -> list[Curves]:
    """The CTC trainings of each source, a line per budget and seed."""
    found = []
    for source in sources:
        trained = []
        for piece in source.done("finetune"):
            assert piece.folder is not None  # it is done
            history = read_json(piece.folder / TRAINING).get("history", [])
            trained.append((piece.label, history))
        trained += at_work([source], "finetune")
        charts = []
        for figure, title, unit, factor in CTC_FIGURES:
            lines = [
                Line(label, style, points(history, figure, factor))
                for style, (label, history) in enumerate(trained)
            ]
            if made := chart(title, unit, lines, low=0):
                charts.append(made)
        if charts:
            found.append(Curves(source.name, charts))
    return found
