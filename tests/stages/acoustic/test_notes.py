"""What the notes say of several folds, seeds and runs."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.comparison import read
from pipeline.recipe import Recipe
from pipeline.stage import Step
from pipeline.store import Store
from stages.acoustic import publish
from stages.acoustic.notes import notes, overlap

Row = dict[str, Any]


def row(**changes: Any) -> Row:
    told: Row = {"recipe": "digits", "frontend": "unit_bert", "budget": "all", "decoder": "greedy"}
    told |= {"budget_seconds": 60.0, "seed": 1, "test_set": "test", "fold": None}
    told |= {"wer": 0.5, "cer": 0.2, "wer_low": 0.4, "wer_high": 0.6, "confidence": 0.95}
    told |= dict.fromkeys(("substitutions", "deletions", "insertions", "reference_words"), 4)
    told |= {"alphabet": "abc", "empty_share": 0.0, "dev_seconds": 30.0, "lm_text": "its own text"}
    told |= {"lm_order": 3, "lm_perplexity": 12.5, "lm_sentences": 99, "lm_vocabulary": 150}
    told |= {"dev_utterances": 10, "dev_in_lm_text": 2, "test_utterances": 4, "test_in_lm_text": 1}
    return told | changes


def note(rows: list[Row], start: str) -> list[str]:
    return [x[2:] for x in notes(rows, []).splitlines() if x[2:].startswith(start)]


def test_pretraining_is_the_same_for_the_seeds_of_a_run_and_not_of_joined_runs(
    tmp_path: Path,
) -> None:
    (told,) = note([row(), row(seed=2)], "2 seeds")
    assert "Pretraining is the same for all." in told
    for name in ("digits", "again"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "results.json").write_text(json.dumps([row(recipe=name)]))
    rows = list(read("digits+again", tmp_path).rows)
    (told,) = note(rows, "2 runs of one system are joined: digits:1, again:1.")
    assert "Each run has its own pretraining" in told
    assert not note(rows, "2 seeds") and not note(rows, "One seed")
    assert "Pretraining is the same" not in notes(rows, [])


def test_the_budget_that_alone_has_folds_is_named() -> None:
    folds = [row(fold=str(n), budget="10min") for n in range(6)]
    summed = "errors and words of all are summed."
    assert note([*folds, row(budget="1h")], "6 folds") == [f"6 folds of 10min: {summed}"]
    assert note(folds, "6 folds") == [f"6 folds: {summed}"]


def test_the_language_models_of_all_folds_are_told() -> None:
    one = "Language model: 3-gram, perplexity 12.5 on dev, 150 words, from 99 sentences: "
    (told,) = note([row(), row(budget="1min")], "Language model")
    assert told.startswith(f"{one}its own text. ")
    folds = [
        row(fold="anna", lm_perplexity=12.5, lm_sentences=99),
        row(fold="bert", lm_perplexity=9.25, lm_sentences=120, lm_vocabulary=150),
        row(fold="carl", lm_perplexity=30.0, lm_sentences=80, lm_text="another"),
    ]
    (told,) = note(folds, "Language model")
    assert told.startswith(
        "Language model: 3-gram, perplexity 9.2 to 30.0 on dev, 150 words, from 80 to 120 "
        "sentences (by fold): its own text; another. "
    )
    (told,) = note([row(lm_perplexity=None)], "Language model")
    assert "perplexity on dev unknown" in told
    (told,) = note([row(seed="a:1"), row(seed="b:1", lm_sentences=7)], "Language model")
    assert "from 7 to 99 sentences (by run)" in told


def test_a_language_model_that_was_given_tells_not_what_it_has_read() -> None:
    rows = [row(lm_sentences=None, dev_in_lm_text=None, test_in_lm_text=None)]
    (told,) = note(rows, "Language model")
    assert "150 words, given, not trained here: its own text." in told
    line, total = overlap(rows)
    assert "is not known here" in line and total == 0


@pytest.mark.parametrize(
    ("heard", "expected", "count"),
    [
        ((0, 0), "0 of 4 in blind (0.0 %)", 0),
        ((1, 1), "1 of 4 in blind (25.0 %)", 1),
        ((1, 3), "1 to 3 of 4 in blind (25.0 to 75.0 %, by fold)", 3),
    ],
)
def test_a_test_set_that_folds_share_counts_once(
    heard: tuple[int, int], expected: str, count: int
) -> None:
    folds = [
        row(
            fold=fold,
            decoder=decoder,
            test_set=name,
            test_split="same" if name == "blind" else fold,
            dev_split=f"{fold} dev",
            test_in_lm_text=each if name == "blind" else 1,
        )
        for fold, each in zip(("anna", "bert"), heard, strict=True)
        for name in ("test", "blind")
        for decoder in ("greedy", "lexicon_beam")
    ]
    line, total = overlap(folds)
    assert line.endswith(f"4 of 20 in dev (20.0 %), 2 of 8 in test (25.0 %), {expected}")
    assert total == 4 + 2 + count


def test_rows_name_the_splits_that_folds_share(
    digits_recipe: Callable[..., Recipe],
    make_plan: Callable[..., list[Step]],
    digits_corpus: Path,
    tmp_path: Path,
) -> None:
    header = "utt_id\tspeaker\tpath\ttranscript\n"
    (digits_corpus / "blind.tsv").write_text(f"{header}0\tfred\taudio/0_eve.wav\tone\n")
    (digits_corpus / "more.tsv").write_text(f"{header}1\teve\taudio/1_eve.wav\tone\n")
    recipe = digits_recipe("folds=[anna, carl]", "corpus.test={blind: blind.tsv}")
    steps, store = make_plan(recipe), Store(tmp_path / "exp" / "store")
    for step in steps:
        if step.stage == "prepare":
            store.path(step).mkdir(parents=True)
            facts = {"speech_seconds": 2.0, "rejected": 0}
            (store.path(step) / "summary.json").write_text(json.dumps(facts))
    told = [publish.scored(recipe, s, store) for s in steps if s.stage == "score"]
    for name, different in (("blind", 1), ("test", 2)):
        mine = [t for t in told if t.test_set == name]
        assert len({t.test_split for t in mine}) == different
        assert len({t.dev_split for t in mine}) == 2


def test_weights_at_the_edge_of_the_grid_are_told_in_one_line() -> None:
    start = "The best value on dev"

    def beam(fold: str | None, budget: str, edges: list[str] | None, **changes: Any) -> Row:
        told = {"lm_weight": 4.0, "word_score": 1.0, "dev_wer": 0.5, "decoder": "lexicon_beam"}
        return row(fold=fold, budget=budget, at_edge=edges, **told, **changes)

    assert note([row(at_edge=[]), beam(None, "all", [])], start) == []
    assert note([row(), beam(None, "all", None)], start) == []  # not known
    (told,) = note([beam(None, "2min", ["beam"])], start)
    assert told.endswith("fewer errors: decode.beam of lexicon_beam with 2min.")
    (told,) = note([beam(None, "2min", ["lm_weights"]), beam(None, "all", [])], start)
    assert told.endswith("fewer errors: decode.lm_weights of lexicon_beam with 2min.")
    folds = [
        beam(fold, budget, edges, test_set=test_set)
        for test_set in ("test", "blind")  # tuned once for both
        for budget, each in (
            ("2min", {"anna": ["lm_weights"], "bert": [], "carl": ["lm_weights", "word_scores"]}),
            ("all", {"anna": ["lm_weights"], "bert": ["lm_weights"], "carl": ["lm_weights"]}),
        )
        for fold, edges in each.items()
    ]
    (told,) = note(folds, start)
    assert told.endswith(
        "decode.lm_weights of lexicon_beam with 2min (anna, carl), all; "
        "decode.word_scores of lexicon_beam with 2min (carl)."
    )
    many = [
        beam(str(n), "1h", ["word_scores"] if n < 6 else [], seed=s)
        for n in range(8)
        for s in (1, 2)
    ]
    (told,) = note(many, start)
    assert told.endswith("decode.word_scores of lexicon_beam with 1h (12 of 16).")


def tuned(budget: str, lm_weight: float, dev_wer: float, **changes: Any) -> Row:
    told = {"lm_weight": lm_weight, "word_score": 0.0, "dev_wer": dev_wer}
    return row(budget=budget, decoder="lexicon_beam", **told, **changes)


START = "Greedy uses no language model."


def test_weights_name_the_folds_that_they_were_tuned_for() -> None:
    """Those of equal weights together; each once, for the test sets share them."""
    found = {"george": (1.0, 0.121), "jackson": (0.5, 0.2), "lucas": (1.0, 0.121)}
    rows = [
        tuned(budget, *weights, fold=fold, test_set=test_set)
        for test_set in ("test", "blind")
        for budget in ("2min", "5min")
        for fold, weights in found.items()
    ]
    each = (
        "lexicon_beam lm_weight 1, word_score 0 (george: 12.1, lucas: 12.1 %) or "
        "lm_weight 0.5, word_score 0 (jackson: 20.0 %)"
    )
    assert note(rows, START) == [
        f"{START} Weights of the other decoders are tuned on dev: 2min {each}; 5min {each}."
    ]


def test_weights_of_one_model_and_of_several_seeds() -> None:
    (told,) = note([row(), tuned("all", 0.5, 0.125)], START)
    assert told.endswith("on dev: all lexicon_beam lm_weight 0.5, word_score 0 (dev 12.5 %).")
    (told,) = note([tuned("all", 0.5, w, seed=s, fold="x") for s, w in ((1, 0.1), (2, 0.2))], START)
    assert told.endswith("word_score 0 (seed 1: 10.0, seed 2: 20.0 %).")
    assert note([row()], START) == [START]


def test_weights_of_many_models_are_counted() -> None:
    rows = [tuned("1h", 0.5, 0.1 + n / 100, fold=str(n), seed=s) for n in range(5) for s in (1, 2)]
    (told,) = note([*rows, tuned("1h", 4.0, 0.5, fold="5", seed=1)], START)
    assert told.endswith(
        "1h lexicon_beam lm_weight 0.5, word_score 0 (10 models, 10.0 to 14.0 %) or "
        "lm_weight 4, word_score 0 (5 seed 1: 50.0 %)."
    )


def test_the_beam_is_told_where_it_was_tuned() -> None:
    beams = [
        tuned("all", 0.5, 0.1, fold=f, beam=b, beam_tuned=True) for f, b in (("x", 8), ("y", 16))
    ]
    (told,) = note(beams, START)
    assert told.endswith(
        "lm_weight 0.5, word_score 0, beam 8 (x: 10.0 %) or "
        "lm_weight 0.5, word_score 0, beam 16 (y: 10.0 %)."
    )
    for untuned in ({"beam": 8, "beam_tuned": False}, {"beam": 8}, {"beam": None}):
        (told,) = note([tuned("all", 0.5, 0.1, **untuned)], START)
        assert "beam 8" not in told and told.endswith("word_score 0 (dev 10.0 %).")
