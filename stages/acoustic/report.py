"""RESULTS.md: the table by budget, and beside it all that is needed to judge the figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from stages.acoustic.decoding import BLANK_SHARE
from stages.acoustic.results import duration, interval

Row = Mapping[str, Any]


def page(rows: Sequence[Row], plot: str) -> str:
    """The page for the rows of one recipe; `plot` is the picture's file name."""
    if not rows:
        return "# Results\n\nNone yet.\n"
    first = rows[0]
    parts = [f"# Results of {first['recipe']} (front-end {first['frontend']})"]
    for test_set in dict.fromkeys(row["test_set"] for row in rows):
        mine = [row for row in rows if row["test_set"] == test_set]
        parts += [f"## Test set {test_set}", _sizes(mine[0]), _table(mine)]
    parts += [f"![WER over hours of labels]({plot})", "## How to read this", _notes(rows)]
    return "\n\n".join(parts) + "\n"


def _sizes(row: Row) -> str:
    return (
        f"Test: {row['test_utterances']} utterances, {row['reference_words']} words, "
        f"{duration(row['test_seconds'])}, {row['test_speakers']} speakers; "
        f"{row['test_rejected']} more were rejected and are not scored. "
        f"Dev: {row['dev_utterances']} utterances, {duration(row['dev_seconds'])}; "
        f"{row['dev_rejected']} more were rejected."
    )


def _table(rows: Sequence[Row]) -> str:
    """A line per budget and seed; for every decoder WER with interval, and CER."""
    from tabulate import tabulate

    decoders = list(dict.fromkeys(row["decoder"] for row in rows))
    seeds = len({row["seed"] for row in rows}) > 1
    header = ["budget", "labels", *(["seed"] if seeds else [])]
    for decoder in decoders:
        header += [f"{decoder} WER %", f"{decoder} CER %"]
    lines: dict[tuple[str, float, int], dict[str, Row]] = {}
    for row in rows:
        key = row["budget"], row["budget_seconds"], row["seed"]
        lines.setdefault(key, {})[row["decoder"]] = row
    body = []
    for (budget, seconds, seed), found in lines.items():
        line = [budget, duration(seconds), *([str(seed)] if seeds else [])]
        for decoder in decoders:
            has = found.get(decoder)
            line += [interval(has), f"{100 * has['cer']:.1f}"] if has else ["-", "-"]
        body.append(line)
    return tabulate(body, header, tablefmt="github", disable_numparse=True)


def _notes(rows: Sequence[Row]) -> str:
    first = rows[0]
    unit = "; ".join(dict.fromkeys(f"{r['resampled']} ({r['test_set']})" for r in rows))
    notes = [
        "Errors are summed over the corpus and divided by its words (WER) or characters, spaces "
        "included (CER).",
        f"Intervals: {100 * first['confidence']:g} %, bootstrap over {unit}. They tell how sure "
        "the test set is, not how much another training would differ.",
        _language_model(first),
        _tuning(rows),
        *_dev_note(rows),
        *_blank_notes(rows),
        *_speaker_notes(rows),
    ]
    return "\n".join(f"- {note}" for note in dict.fromkeys(notes))


def _language_model(row: Row) -> str:
    perplexity = row["lm_perplexity"]
    told = f"perplexity {perplexity:.1f} on dev" if perplexity else "perplexity on dev unknown"
    return (
        f"Language model: {row['lm_order']}-gram, {told}, {row['lm_vocabulary']} words, from "
        f"{row['lm_sentences']} sentences: {row['lm_text']}. The same for every budget; it may "
        "hold training transcripts from outside of a budget."
    )


def _tuning(rows: Sequence[Row]) -> str:
    seeds = len({row["seed"] for row in rows}) > 1
    tuned = [_weights(row, seeds) for row in rows if row["decoder"] != "greedy"]
    tuned = list(dict.fromkeys(tuned))  # the same for every test set
    rest = f" Weights of the other decoders are tuned on dev: {', '.join(tuned)}." if tuned else ""
    return "Greedy uses no language model." + rest


def _weights(row: Row, with_seed: bool) -> str:
    seed = f" (seed {row['seed']})" if with_seed else ""
    return (
        f"{row['budget']}{seed} {row['decoder']} lm_weight {row['lm_weight']:g}, word_score "
        f"{row['word_score']:g} (dev {100 * row['dev_wer']:.1f} %)"
    )


def _dev_note(rows: Sequence[Row]) -> list[str]:
    smaller = {r["budget"] for r in rows if r["budget_seconds"] < r["dev_seconds"]}
    names = [b for b in dict.fromkeys(r["budget"] for r in rows) if b in smaller]
    if not names:
        return []
    return [f"Dev is larger than the budget {', '.join(names)}, and it is labelled speech too."]


def _blank_notes(rows: Sequence[Row]) -> list[str]:
    return [
        f"**The model of {row['budget']} (seed {row['seed']}) emits only blanks**: "
        f"{row['empty_share']:.0%} of its {row['decoder']} hypotheses on {row['test_set']} are "
        "empty."
        for row in rows
        if row["empty_share"] > BLANK_SHARE
    ]


def _speaker_notes(rows: Sequence[Row]) -> list[str]:
    """WER per speaker where they are too few to be resampled."""
    notes = []
    for row in rows:
        speakers = row["per_speaker"]
        if 1 < len(speakers) < 10:
            each = ", ".join(f"{name} {100 * wer:.1f}" for name, wer in speakers.items())
            named = f"{row['test_set']}, {row['budget']}, {row['decoder']}"
            if len({r["seed"] for r in rows}) > 1:
                named += f", seed {row['seed']}"
            notes.append(f"WER % per speaker ({named}): {each}.")
    return notes
