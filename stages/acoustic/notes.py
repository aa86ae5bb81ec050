"""What a reader of RESULTS.md must know to judge its figures, a line each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from stages.acoustic.decoding import BLANK_SHARE
from stages.prepare.text import RULE

Row = Mapping[str, Any]
MOST_MODELS = 5  # of a budget, that are named and not counted


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
        _tuning(rows),
        *at_edge(rows),
        *_chosen(rows),
        *_dev_note(rows),
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
        _range([row[f"lm_{key}"] for row in rows if row[f"lm_{key}"] is not None], "d")
        for key in ("order", "vocabulary", "sentences")
    )
    source = f"from {sentences} sentences" if sentences else "given, not trained here"
    known = f"perplexity {_range(perplexities, '.1f')} on dev" if perplexities else ""
    told = f"{order}-gram, {known or 'perplexity on dev unknown'}, {vocabulary} words, {source}"
    differ = f" ({_by(rows)})" if " to " in told else ""
    texts = "; ".join(dict.fromkeys(row["lm_text"] for row in rows))
    return (
        f"Language model: {told}{differ}: {texts}. The same for every budget; it may "
        "hold training transcripts from outside of a budget."
    )


def _range(values: Sequence[float], form: str) -> str:
    """`10.2 to 13.1`, or one figure where all are written alike; nothing of no values."""
    if not values:
        return ""
    return " to ".join(dict.fromkeys(f"{v:{form}}" for v in (min(values), max(values))))


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
    if any(row["test_in_lm_text"] is None for row in rows):
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
        share = _range([100 * count / utterances for count in ends], ".1f")
        by = f", {_by(rows)}" if ends[0] != ends[1] else ""
        told.append(f"{_range(ends, 'd')} of {utterances} in {split} ({share} %{by})")
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


def at_edge(rows: Sequence[Row]) -> list[str]:
    """One line on the weights whose best value ends the grid, with where; else none."""
    several = {key: len({row[key] for row in rows}) > 1 for key in ("fold", "seed")}
    # (setting, decoder) -> budget -> whether it is so, of each model; the same for every test set.
    found: dict[tuple[str, str], dict[str, dict[str, bool]]] = {}
    for key in ("lm_weights", "word_scores"):
        for row in rows:
            if row.get("at_edge") is not None:
                names = [str(row["fold"])] if several["fold"] else []
                names += [f"seed {row['seed']}"] if several["seed"] else []
                of_budget = found.setdefault((key, row["decoder"]), {})
                models = of_budget.setdefault(row["budget"], {})
                models[" ".join(names)] = key in row["at_edge"]
    told = []
    for (key, decoder), budgets in found.items():
        where = [_which(budget, models) for budget, models in budgets.items()]
        if any(where):
            told.append(f"decode.{key} of {decoder} with {', '.join(filter(None, where))}")
    if not told:
        return []
    return [
        "The best weight on dev was the first or last of its grid, so that a wider grid might give "
        f"fewer errors: {'; '.join(told)}."
    ]


def _which(budget: str, models: Mapping[str, bool]) -> str:
    """`2min`, `2min (lucas, theo)` or `2min (7 of 10)`; nothing where it is so of no model."""
    names = [name for name, is_so in models.items() if is_so]
    if len(names) in (0, len(models)):
        return budget if names else ""
    few = len(names) <= MOST_MODELS
    return f"{budget} ({', '.join(names) if few else f'{len(names)} of {len(models)}'})"


def _chosen(rows: Sequence[Row]) -> list[str]:
    """That dev chose among the weights of a training, where it did."""
    seeds = len({row["seed"] for row in rows}) > 1
    told, by = [], "wer"
    for row in rows:
        if best := row.get("best"):
            by = "cer" if "dev_cer" in best else "wer"
            names = [row["fold"]] if row["fold"] is not None else []
            names += [f"seed {row['seed']}"] if seeds else []
            which = f" ({', '.join(names)})" if names else ""
            of_all = f" of {row['updates']}" if row.get("updates") else ""
            told.append(
                f"{row['budget']}{which} those after {best['update']}{of_all} updates, "
                f"the best of {best['evaluations']} evaluations ({100 * best[f'dev_{by}']:.1f} %)"
            )
    if not told:
        return []
    return [f"Dev chose the weights, by greedy {by.upper()}: {'; '.join(dict.fromkeys(told))}."]


def _dev_note(rows: Sequence[Row]) -> list[str]:
    smaller = {r["budget"] for r in rows if r["budget_seconds"] < r["dev_seconds"]}
    names = [b for b in dict.fromkeys(r["budget"] for r in rows) if b in smaller]
    if not names:
        return []
    return [f"Dev is larger than the budget {', '.join(names)}, and it is labelled speech too."]


def only_blanks(rows: Sequence[Row]) -> list[str]:
    """What stands beside a WER of 100 %: a sentence a row without its full stop."""
    return [
        f"The model of {row['budget']} (seed {row['seed']}) emits only blanks: "
        f"{row['empty_share']:.0%} of its {row['decoder']} hypotheses on {row['test_set']} are "
        "empty"
        for row in rows
        if row["empty_share"] > BLANK_SHARE
    ]
