"""What a recipe came to: results.json, counts.jsonl, confusions.json, RESULTS.md and the plot.

A row of results.json is one (budget, seed, test set, fold, decoder). `wer`, `cer` and their
intervals are fractions, lengths are seconds.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline.store import write_atomically
from stages.acoustic import counts_file, score_stage
from stages.acoustic.counts_file import COUNTS, Counted, Key
from stages.acoustic.finetune import TRAINING
from stages.acoustic.lm_stage import LM_FACTS
from stages.acoustic.score_stage import SCORES

RESULTS = "results.json"
CONFUSIONS = "confusions.json"
PAGE = "RESULTS.md"
PLOT = "wer_over_hours.png"
MOST_CONFUSIONS = 20  # of each kind, of all seeds and folds of a system together

Row = dict[str, Any]
Confusions = dict[str, list[list[Any]]]


@dataclass(frozen=True)
class Scored:
    """A finished score step and what it belongs to.

    Attributes:
        scores, lm: the artifacts of stages 7 and 4.
        budget_seconds: the labelled speech that the budget really holds.
        dev_speech_seconds: of dev, counted as a budget's.
        test_rejected, dev_rejected: utterances that stage 0 could not use: they count nowhere.
        fold: which of several cuts of the corpus, or None where there is one.
        alphabet: the letters that the rule of text keeps.
        test_split, dev_split: signatures of stage 0's splits: equal ones are the same speech,
            though several folds may be scored on it.
        model: the artifact of stage 5, which need not be there any more.
        corpus: its kind.
        closed_grammar: whether the recipe says that the corpus' sentences come of one.
        settings: what the model was trained with, as `trained_with` hashes it.
        bootstrap_samples: the recipe's, which the score step has drawn as well.
    """

    scores: Path
    lm: Path
    recipe: str
    frontend: str
    budget: str
    budget_seconds: float
    seed: int
    test_set: str
    test_rejected: int
    dev_rejected: int
    fold: str | None = None
    alphabet: str = ""
    test_split: str = ""
    dev_split: str = ""
    model: Path | None = None
    corpus: str = ""
    closed_grammar: bool = False
    settings: Mapping[str, str] | None = None
    bootstrap_samples: int | None = None
    dev_speech_seconds: float | None = None


@dataclass(frozen=True)
class Results:
    """A recipe's rows, and beside each, under its key, the errors of every utterance.

    `counts` is None where only results.json is at hand. `confusions` holds for each row's key what
    `scoring.confusions` tells. `remarks` are what a reader of joined runs is to know.
    """

    rows: Sequence[Row]
    counts: Counted | None = None
    confusions: Mapping[Key, Confusions] = field(default_factory=dict)
    remarks: Sequence[str] = ()


def gather(finished: Iterable[Scored]) -> Results:
    """All that is published of finished score steps.

    Raises:
        pipeline.errors.RunError: scores of one test set are of different utterances.
    """
    finished = list(finished)
    rows = merge(finished)
    counts, confused = {}, {}
    for scored in finished:
        each = counts_file.of_scores(_read(scored.scores / score_stage.COUNTS))
        pairs = _read(scored.scores / score_stage.CONFUSIONS)
        named = (scored.test_set, scored.fold, scored.budget, scored.seed)
        for decoder in each:
            counts[Key(*named, decoder)] = each[decoder]
            confused[Key(*named, decoder)] = pairs[decoder]
    keys = [Key.of(row) for row in rows]
    return Results(rows, {key: counts[key] for key in keys}, {key: confused[key] for key in keys})


def merge(finished: Iterable[Scored]) -> list[Row]:
    """One row per score step and decoder: by test set, hours of labels, seed, decoder."""
    rows = []
    for scored in finished:
        told, lm = _read(scored.scores / SCORES), _read(scored.lm / LM_FACTS)
        rows += [_row(scored, told, score, lm) for score in told["scores"]]
    return sorted(rows, key=order)


def _read(path: Path) -> dict[str, Any]:
    told: dict[str, Any] = json.loads(path.read_text("utf-8"))
    return told


def order(row: Mapping[str, Any]) -> tuple[Any, ...]:
    """The order of rows, for `sorted`: by test set, hours of labels, seed, recipe, decoder."""
    keys = ("test_set", "budget_seconds", "budget", "seed", "recipe")
    fold, decoder = str(row["fold"]), row["decoder"]
    return (*(row[k] for k in keys), fold, decoder != "greedy", decoder)


def _row(scored: Scored, told: Row, score: Row, lm: Row) -> Row:
    names = ("recipe", "frontend", "budget", "budget_seconds", "seed", "test_set")
    counts = ("substitutions", "deletions", "insertions", "reference_words")
    rates = ("wer", "cer", *counts, "wer_low", "wer_high")
    beside = ("cer_low", "cer_high", "reference_chars", "resampled", "empty_share", "per_speaker")
    weights = ("lm_weight", "word_score", "dev_wer")
    return {
        **{name: getattr(scored, name) for name in names},
        "decoder": score["decoder"],
        **{key: score[key] for key in rates},
        "fold": scored.fold,
        "corpus": scored.corpus,
        "alphabet": scored.alphabet,
        "lm_text": lm["lm_text"],
        "closed_grammar": scored.closed_grammar,
        "dev_seconds": told["dev_seconds"],
        "dev_speech_seconds": scored.dev_speech_seconds,
        "dev_utterances": told["dev_utterances"],
        "dev_rejected": scored.dev_rejected,
        "dev_split": scored.dev_split,
        "dev_in_lm_text": told["dev_in_lm_text"],
        "test_seconds": told["test"]["seconds"],
        "test_utterances": told["test"]["utterances"],
        "test_speakers": told["test"]["speakers"],
        "test_rejected": scored.test_rejected,
        "test_split": scored.test_split,
        "test_in_lm_text": told["test_in_lm_text"],
        "lm_order": lm["order"],
        "lm_perplexity": lm["dev_perplexity"],
        "lm_sentences": lm["sentences"],
        "lm_vocabulary": lm["vocabulary"],
        "confidence": told["confidence"],
        **{key: score[key] for key in (*beside, *weights)},
        **{key: score.get(key) for key in ("beam", "beam_tuned", "at_edge")},
        "bootstrap_samples": scored.bootstrap_samples,
        "settings": scored.settings,
        **_trained(scored.model),
    }


def _trained(model: Path | None) -> Row:
    """Of the training, and which weights dev chose; None for what is not known."""
    path = None if model is None else model / TRAINING
    told = _read(path) if path is not None and path.is_file() else {}
    best = told.get("best")
    if best is not None:
        evaluations = sum("dev_wer" in row for row in told["history"])
        by = "dev_cer" if "dev_cer" in best else "dev_wer"  # what chose
        best = {"update": int(best["update"]), by: best[by]}
        best["evaluations"] = evaluations
    names = ("parameters", "updates", "precision", "left_out")
    return {**{name: told.get(name) for name in names}, "best": best}


def files(results: Results) -> dict[str, str]:
    """The files for programs: their names and content. Of confusions only the most frequent."""
    confused = ",\n".join(
        json.dumps(key._asdict() | pairs, ensure_ascii=False)
        for key, pairs in _most_frequent(results.confusions).items()
    )
    return {
        RESULTS: json.dumps(results.rows, ensure_ascii=False, indent=1) + "\n",
        COUNTS: counts_file.text(results.counts or {}),
        CONFUSIONS: f"[\n{confused}\n]\n",
    }


def _most_frequent(confusions: Mapping[Key, Confusions]) -> dict[Key, Confusions]:
    """Each row's counts of its system's most frequent confusions: sums over rows are whole."""
    sums: dict[tuple[str, ...], Counter[tuple[str, ...]]] = {}
    for key, pairs in confusions.items():
        for kind, found in pairs.items():
            of_system = sums.setdefault(_system(key, kind), Counter())
            for *words, times in found:
                of_system[tuple(words)] += times
    kept = {
        which: {words for words, _ in sorted(of.items(), key=_rank)[:MOST_CONFUSIONS]}
        for which, of in sums.items()
    }
    return {
        key: {
            kind: [each for each in found if tuple(each[:-1]) in kept[_system(key, kind)]]
            for kind, found in pairs.items()
        }
        for key, pairs in confusions.items()
    }


def _system(key: Key, kind: str) -> tuple[str, ...]:
    return key.test_set, key.budget, key.decoder, kind


def _rank(counted: tuple[tuple[str, ...], int]) -> tuple[int, tuple[str, ...]]:
    words, times = counted
    return -times, words


def write_results(folder: Path, results: Results) -> None:
    """Write all of a recipe's results into `folder`, each file whole or not at all.

    results.json comes last: where it is new, the others are.
    """
    from stages.acoustic import plots
    from stages.acoustic.report import page

    folder.mkdir(parents=True, exist_ok=True)
    plots.wer_over_hours([results], folder / PLOT)
    write_atomically(folder / PAGE, page(results, PLOT))
    for name, content in reversed(files(results).items()):
        write_atomically(folder / name, content)
