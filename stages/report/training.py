"""The curves of the BERT and of the CTC models, and how well the BERT guesses hidden units."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stages.acoustic.figures import percent
from stages.acoustic.finetune import TRAINING
from stages.report.charts import Chart, Line
from stages.report.collect import PRETRAINING, Source
from stages.report.curves import Record, at_work, by_folder, chart, points, read_json
from stages.report.tables import Cell, Table, head, word
from stages.units.kept_back import ALL_CHOSEN, AT_MASK, told
from stages.units.on_dev import GUESSES, pooled, to_compare

# Figures of a history: name, title, axis, factor.
BERT_FIGURES = (
    ("loss", "Loss on hidden units", "nats", 1.0),
    ("accuracy", f"Units guessed right {ALL_CHOSEN}", "%", 100.0),
    ("kept_back_mask_loss", f"Loss on speech kept back {AT_MASK}", "nats", 1.0),
    ("kept_back_mask_accuracy", f"Guessed right, speech kept back, {AT_MASK}", "%", 100.0),
    ("kept_back_loss", f"Loss on speech kept back {ALL_CHOSEN}", "nats", 1.0),
    ("kept_back_accuracy", f"Guessed right, speech kept back, {ALL_CHOSEN}", "%", 100.0),
)
CTC_FIGURES = (
    ("loss", "CTC loss", "nats per label", 1.0),
    ("dev_loss", "CTC loss on dev", "nats per label", 1.0),
    ("dev_wer", "WER on dev, greedy", "%", 100.0),
    ("dev_cer", "CER on dev, greedy", "%", 100.0),
)
GUESSES_OF = ("This BERT", "Nearest unit that is seen", "Most frequent unit")


@dataclass(frozen=True)
class Curves:
    """The charts of one training or of several on the same axes."""

    name: str
    charts: Sequence[Chart]
    tables: Sequence[Table] = ()


def berts(sources: Sequence[Source]) -> Curves | None:
    """All BERTs together; None where no source has one that was trained here."""
    found = []
    for name, piece in by_folder(sources, "bert"):
        assert piece.folder is not None  # it is done
        found.append((name, _named(read_json(piece.folder / PRETRAINING))))
    trained = [(name, facts) for name, facts in found if facts.get("history")]
    drawn = [(name, facts["history"]) for name, facts in trained] + [
        (name, [_renamed(row) for row in rows]) for name, rows in at_work(sources, "bert")
    ]
    if not drawn:
        return None
    charts = []
    for figure, title, unit, factor in _bert_figures([history for _, history in drawn]):
        lines = [
            Line(name, style, points(history, figure, factor))
            for style, (name, history) in enumerate(drawn)
        ]
        if made := chart(title, unit, lines):
            charts.append(made)
    tables = [_guesses(trained)] if trained else []
    return Curves("BERT", charts, [*_on_dev(sources), *tables])


def _named(facts: dict[str, Any]) -> dict[str, Any]:
    """Facts of a pretraining under today's names; they were told as those of dev once."""
    if "validation_utterances" not in facts:
        return facts
    history = facts["history"]
    if not facts["validation_utterances"]:  # they were of speech trained on
        return {"history": [row for row in history if "dev_loss" not in row]}
    now = {f"kept_back_{k}": v for k, v in facts.items() if k.startswith(("loss", "accuracy"))}
    now["kept_back_utterances"] = facts["validation_utterances"]
    return now | {"history": [_renamed(row) for row in history]}


def _renamed(row: dict[str, float]) -> dict[str, float]:
    return {
        f"kept_back_{k.removeprefix('dev_')}" if k.startswith("dev_") else k: v
        for k, v in row.items()
    }


def _bert_figures(histories: Sequence[Sequence[Record]]) -> list[tuple[str, str, str, float]]:
    """Those to draw. Accuracy over all chosen frames only beside a BERT that has no other."""
    evaluated = [[row for row in rows if "kept_back_loss" in row] for rows in histories]
    lacking = any(told(row).frames != AT_MASK for rows in evaluated for row in rows)
    return [each for each in BERT_FIGURES if each[0] != "kept_back_accuracy" or lacking]


def _guesses(trained: Sequence[tuple[str, dict[str, Any]]]) -> Table:
    header = [head("BERT", figure=False), *map(head, GUESSES_OF), head("Loss, nats")]
    header += [head("Utterances kept back"), head("Frames", figure=False)]
    body = []
    for name, facts in trained:
        found = told(facts)
        rates = (found.accuracy, found.nearest, found.most_frequent)
        known = found.loss is not None
        body.append(
            [
                head(name, figure=False),
                *(Cell(percent(rate)) for rate in rates),
                Cell("-" if found.loss is None else f"{found.loss:.3f}"),
                Cell(str(facts.get("kept_back_utterances", "-")) if known else "-"),
                word(found.frames if known else "-"),
            ]
        )
    caption = (
        "Hidden units of speech kept back that are guessed right, in %, beside two guesses, of the "
        "same frames. Its speakers are heard in training, and it chose the weights of each BERT."
    )
    if any(row[-1].text == ALL_CHOSEN for row in body):
        caption += (
            " Over all chosen frames: a tenth of them show their own unit, which the BERT may "
            "copy and the two guesses do not; figures of such a row do not compare with others."
        )
    return Table(caption, header, body)


def _on_dev(sources: Sequence[Source]) -> list[Table]:
    """The figures of stage 3 on dev, all folds of a source together; none where none has any."""
    found: dict[frozenset[Path], tuple[list[str], list[dict[str, Any]]]] = {}
    for source in sources:
        folders = [piece.folder.resolve() for piece in source.done("bert") if piece.folder]
        told = {folder: read_json(folder / GUESSES) for folder in dict.fromkeys(folders)}
        sets = {folder: facts for folder, facts in told.items() if facts.get("figures")}
        if sets:
            names, _ = found.setdefault(frozenset(sets), ([], list(sets.values())))
            names.append(source.name)
    body = []
    for names, sets_of_units in found.values():
        row, frames = to_compare(pooled(facts["figures"] for facts in sets_of_units))
        rates = ("accuracy", "accuracy_nearest", "accuracy_most_frequent")
        body.append(
            [
                head(", ".join(dict.fromkeys(names)), figure=False),
                *(Cell(percent(row[name])) for name in rates),
                Cell(f"{row['loss']:.3f}"),
                Cell(str(sum(facts["utterances"] for facts in sets_of_units))),
                word(frames),
            ]
        )
    if not body:
        return []
    header = [head("BERT of", figure=False), *map(head, GUESSES_OF), head("Loss, nats")]
    header += [head("Utterances of dev"), head("Frames", figure=False)]
    caption = (
        "Hidden units of dev, which no BERT here learnt from, that are guessed right, in %, beside "
        "two guesses, of the same frames. Several folds are taken together."
    )
    return [Table(caption, header, body)]


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
