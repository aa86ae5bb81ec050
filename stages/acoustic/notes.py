"""What a reader of RESULTS.md must know to judge its figures, a line each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from stages.acoustic.decoding import BLANK_SHARE
from stages.acoustic.dev_notes import at_edge, chosen, smaller_than_dev, tuned_weights
from stages.acoustic.figures import range_of
from stages.prepare.text import RULE

Row = Mapping[str, Any]


def notes(rows: Sequence[Row], summaries: Sequence[Row]) -> str:
    """The notes on the rows of one recipe, and their summaries, as a list in Markdown."""
    first = rows[0]
    unit = "; ".join(dict.fromkeys(f"{s['resampled']} ({s['test_set']})" for s in summaries))
    told = [
        "Errors are summed over the corpus and divided by its words (WER) or characters, spaces "
        "included (CER). Words are aligned as sclite does, a substitution costing 4, a deletion or "
        "an insertion 3; characters with as few errors as possible.",
        "One rule of text for transcripts, language model and scoring: "
        f"{RULE}. The alphabet: `{first['alphabet']}`.",
        f"Intervals: {100 * first['confidence']:g} %, bootstrap over {unit}. They tell how sure "
        "the test set is, not how much another training would differ.",
        *_several(rows),
        _language_model(rows),
        _overlap_note(rows),
        tuned_weights(rows),
        *at_edge(rows),
        *chosen(rows),
        *smaller_than_dev(rows),
        *_left_out(rows),
        *(f"**{line}.**" for line in only_blanks(rows)),
    ]
    return "\n".join(f"- {note}" for note in dict.fromkeys(told))


def _several(rows: Sequence[Row]) -> list[str]:
    """How seeds and folds are put together, and that there is one seed where there is."""
    seeds = list(dict.fromkeys(row["seed"] for row in rows))
    folds = {row["fold"] for row in rows if row["fold"] is not None}
    told = []
    if len(folds) > 1:
        whole = {row["budget"] for row in rows if row["fold"] is None}
        budgets = dict.fromkeys(row["budget"] for row in rows if row["fold"] is not None)
        of = f" of {', '.join(b for b in budgets if b not in whole)}" if whole else ""
        told.append(f"{len(folds)} folds{of}: errors and words of all are summed.")
    if len(seeds) == 1:
        told.append("One seed: how much another training would differ is not shown.")
    elif runs := _joined(seeds):
        told.append(
            f"{len(runs)} runs of one system are joined: {', '.join(map(str, seeds))}. The figures "
            "are their mean; its interval takes an utterance's errors averaged over them. Each "
            "run has its own pretraining, so deviations over seeds hold that of pretraining too "
            "(unless the runs agree in all of its settings)."
        )
    else:
        told.append(
            f"{len(seeds)} seeds of the fine-tuning: the mean; its interval takes an utterance's "
            "errors averaged over seeds. Pretraining is the same for all."
        )
    return told


def _joined(seeds: Sequence[int | str]) -> list[str]:
    """The runs that `pipeline.comparison` has joined, by name: there a seed is `run:seed`."""
    return list(dict.fromkeys(s.rpartition(":")[0] for s in seeds if isinstance(s, str)))


def _language_model(rows: Sequence[Row]) -> str:
    """Of all language models: folds, and runs that are joined, may have one each."""
    perplexities = [row["lm_perplexity"] for row in rows if row["lm_perplexity"]]
    order, vocabulary, sentences = (
        range_of([row[f"lm_{key}"] for row in rows if row[f"lm_{key}"] is not None], "d")
        for key in ("order", "vocabulary", "sentences")
    )
    source = f"from {sentences} sentences" if sentences else "given, not trained here"
    known = f"perplexity {range_of(perplexities, '.1f')} on dev" if perplexities else ""
    told = f"{order}-gram, {known or 'perplexity on dev unknown'}, {vocabulary} words, {source}"
    differ = f" ({_by(rows)})" if " to " in told else ""
    texts = "; ".join(dict.fromkeys(row["lm_text"] for row in rows))
    return (
        f"Language model: {told}{differ}: {texts}. The same for every budget; it may "
        "hold training transcripts from outside of a budget."
    )


def _by(rows: Sequence[Row]) -> str:
    """What figures differ by that are the same for every budget and decoder."""
    names = ["fold"] if len({row["fold"] for row in rows}) > 1 else []
    names += ["run"] if _joined([row["seed"] for row in rows]) else []
    return f"by {' and '.join(names)}"


def overlap(rows: Sequence[Row]) -> tuple[str, int]:
    """How many transcripts of dev and test the language model has read, told and summed up.

    A set that several folds share counts once. Their texts may hold more or less of it: then
    both ends are told, and the sum takes the upper one. A language model that was given as a file
    (counts of None) does not tell what it has read.
    """
    if any(row[f"{key}_in_lm_text"] is None for row in rows for key in ("dev", "test")):
        return (
            "Whether the language model has read transcripts of dev or test is not known here: it "
            "was given as a file, without its text",
            0,
        )
    found: dict[str, dict[Any, list[tuple[int, int]]]] = {}
    for row in rows:
        for split, key in (("dev", "dev"), (row["test_set"], "test")):
            which = row.get(f"{key}_split") or row["fold"]  # results of an older version
            counts = row[f"{key}_in_lm_text"], row[f"{key}_utterances"]
            found.setdefault(split, {}).setdefault(which, []).append(counts)
    told, total = [], 0
    for split, sets in found.items():
        utterances = sum(seen[0][1] for seen in sets.values())
        ends = [sum(end(seen)[0] for seen in sets.values()) for end in (min, max)]
        share = range_of([100 * count / utterances for count in ends], ".1f")
        by = f", {_by(rows)}" if ends[0] != ends[1] else ""
        told.append(f"{range_of(ends, 'd')} of {utterances} in {split} ({share} %{by})")
        total += ends[1]
    return (
        "Transcripts that stand word for word in the language model's text: " + ", ".join(told),
        total,
    )


def is_closed(rows: Sequence[Row]) -> bool:
    """Whether all of them are of corpora whose sentences come of a closed grammar."""
    return all(row.get("closed_grammar") for row in rows)


def _overlap_note(rows: Sequence[Row]) -> str:
    line, count = overlap(rows)
    if count and is_closed(rows):
        line += ". The recipe says that all sentences come of a closed grammar, so this is no leak"
    return f"{line}."


def _left_out(rows: Sequence[Row]) -> list[str]:
    """Labelled utterances that a training did not hear, though the budget counts them."""
    models: dict[str, list[int]] = {}
    for row in rows:
        if row.get("left_out") is not None:  # results of an older version do not tell
            models.setdefault(row["budget"], []).append(row["left_out"])
    told = [
        f"{range_of(counts, 'd')} of the budget {budget}"
        for budget, counts in models.items()
        if any(counts)
    ]
    if not told:
        return []
    return [
        f"Labelled utterances that the training could not use, though their budget counts them: "
        f"{', '.join(told)} (dropped.tsv of each model lists them)."
    ]


def only_blanks(rows: Sequence[Row]) -> list[str]:
    """What stands beside a WER of 100 %: a sentence a row without its full stop."""
    return [
        f"The model of {row['budget']} (seed {row['seed']}) emits only blanks: "
        f"{row['empty_share']:.0%} of its {row['decoder']} hypotheses on {row['test_set']} are "
        "empty"
        for row in rows
        if row["empty_share"] > BLANK_SHARE
    ]
