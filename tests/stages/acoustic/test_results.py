"""From hypotheses on disk to the tables that people and scripts read."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import RunError
from pipeline.recipe import ScoreSettings
from pipeline.stage import StepContext
from stages.acoustic import counts_file, results, score_stage
from stages.acoustic.notes import overlap
from stages.acoustic.publish import _warning
from stages.acoustic.report import page
from stages.acoustic.results import Scored

REFERENCES = {"u1": "turn left", "u2": "go right now", "u3": "stop", "u4": "turn right"}
GREEDY = {"u1": "tun left", "u2": "go now", "u3": "stop it", "u4": "turn right"}
BEAM = {"u1": "turn left", "u2": "go now", "u3": "stop", "u4": "turn right"}
FILES = ["RESULTS.md", "confusions.json", "counts.jsonl", "results.json", "wer_over_hours.png"]
CONTRACT = [
    "recipe",
    "frontend",
    "budget",
    "budget_seconds",
    "seed",
    "test_set",
    "decoder",
    "wer",
    "cer",
    "substitutions",
    "deletions",
    "insertions",
    "reference_words",
    "wer_low",
    "wer_high",
    "fold",
    "lm_text",
    "dev_seconds",
]


def decoded(folder: Path, **decoders: dict[str, str]) -> Path:
    """A folder as stage 6 leaves it."""
    folder.mkdir(parents=True)
    weights = {"lm_weight": 1.0, "word_score": -0.5, "dev_wer": 0.2}
    told = {"dev_seconds": 90.0, "dev_utterances": 30, "decoders": dict.fromkeys(decoders, weights)}
    told |= {"dev_in_lm_text": 6, "test_in_lm_text": 0}
    (folder / "weights.json").write_text(json.dumps(told))
    for name, texts in decoders.items():
        lines = [
            json.dumps(
                {"utt_id": i, "speaker": s, "seconds": 1.5, "ref": REFERENCES[i], "hyp": texts[i]}
            )
            for i, s in zip(texts, ["ann", "ann", "bob", "bob"], strict=True)
        ]
        (folder / f"{name}.jsonl").write_text("\n".join(lines) + "\n")
    return folder


def scored(tmp_path: Path, name: str = "one", **decoders: dict[str, str]) -> Path:
    source = decoded(tmp_path / f"{name}-decoded", **(decoders or {"greedy": GREEDY, "beam": BEAM}))
    folder = tmp_path / name
    folder.mkdir()
    ctx = StepContext(folder, {"hypotheses": source}, "cpu", folder)
    score_stage.run(ctx, ScoreSettings(bootstrap_samples=200))
    return folder


def finished(tmp_path: Path, scores: Path, **changes: Any) -> Scored:
    lm = tmp_path / "lm"
    lm.mkdir(exist_ok=True)
    facts = {"lm_text": "the grammar", "order": 3, "dev_perplexity": 12.5, "sentences": 99}
    (lm / "lm.json").write_text(json.dumps({**facts, "vocabulary": 150}))
    values = {"recipe": "demo", "frontend": "unit_bert", "budget": "1min", "budget_seconds": 58.0}
    values |= {"seed": 1, "test_set": "test", "test_rejected": 7, "dev_rejected": 3, **changes}
    return Scored(scores=scores, lm=lm, **values)


def test_scores_are_those_counted_by_hand(tmp_path: Path) -> None:
    told = json.loads((scored(tmp_path) / "scores.json").read_text())
    greedy, beam = told["scores"]
    counts = ("substitutions", "deletions", "insertions", "reference_words")
    assert tuple(greedy[k] for k in counts) == (1, 1, 1, 8)
    assert greedy["wer"] == pytest.approx(3 / 8)
    assert greedy["cer"] == pytest.approx((1 + 6 + 3) / 35)  # r; "right "; " it"
    assert greedy["reference_chars"] == 35
    assert greedy["per_speaker"] == {"ann": pytest.approx(2 / 5), "bob": pytest.approx(1 / 3)}
    assert greedy["resampled"] == "utterances within 2 speakers"
    assert greedy["wer_low"] <= greedy["wer"] <= greedy["wer_high"]
    assert (beam["wer"], beam["deletions"]) == (pytest.approx(1 / 8), 1)
    assert greedy["cer_low"] <= greedy["cer"] <= greedy["cer_high"]
    assert told["test"] == {"utterances": 4, "seconds": 6.0, "speakers": 2}


def test_alignments_sum_to_the_scores(tmp_path: Path) -> None:
    folder = scored(tmp_path)
    lines = [json.loads(x) for x in (folder / "alignments.jsonl").read_text().splitlines()]
    greedy = [x for x in lines if x["decoder"] == "greedy"]
    assert sum(x["deletions"] for x in greedy) == 1
    assert greedy[1]["alignment"] == [
        ["equal", "go", "go"],
        ["delete", "right", ""],
        ["equal", "now", "now"],
    ]
    assert "id: u1\nREF: turn left\nHYP: tun  left\n" in (folder / "greedy.txt").read_text()


def test_errors_of_utterances_and_confusions_sum_to_the_scores(tmp_path: Path) -> None:
    folder = scored(tmp_path)
    told = json.loads((folder / "counts.json").read_text())
    assert told["utterances"] == ["u1", "u2", "u3", "u4"]
    assert told["speakers"] == ["ann", "ann", "bob", "bob"]
    assert told["reference_words"] == [2, 3, 1, 2]
    greedy = told["decoders"]["greedy"]
    assert greedy["deletions"] == [0, 1, 0, 0]
    assert greedy["char_errors"] == [1, 6, 3, 0]
    assert json.loads((folder / "confusions.json").read_text())["greedy"] == {
        "substitutions": [["turn", "tun", 1]],
        "deletions": [["right", 1]],
        "insertions": [["it", 1]],
    }


def test_scoring_again_gives_the_same_bytes(tmp_path: Path) -> None:
    first, second = scored(tmp_path, "first"), scored(tmp_path, "second")
    for path in first.iterdir():
        assert path.read_bytes() == (second / path.name).read_bytes()


def test_missing_hypotheses_are_named(tmp_path: Path) -> None:
    source = decoded(tmp_path / "decoded", greedy=GREEDY)
    (source / "greedy.jsonl").unlink()
    ctx = StepContext(tmp_path, {"hypotheses": source}, "cpu", tmp_path)
    with pytest.raises(RunError, match=r"greedy\.jsonl"):
        score_stage.run(ctx, ScoreSettings())


def test_rows_hold_what_the_contract_names(tmp_path: Path) -> None:
    rows = results.merge([finished(tmp_path, scored(tmp_path))])
    assert [row["decoder"] for row in rows] == ["greedy", "beam"]
    assert set(CONTRACT) <= set(rows[0])
    assert rows[0]["lm_text"] == "the grammar"
    assert rows[0]["lm_perplexity"] == 12.5
    assert rows[0]["dev_seconds"] == 90.0
    assert rows[0]["fold"] is None
    assert (rows[0]["test_rejected"], rows[0]["dev_rejected"]) == (7, 3)


def test_rows_tell_which_weights_lie_at_the_edge_of_the_grid(tmp_path: Path) -> None:
    source = decoded(tmp_path / "decoded", greedy=GREEDY, beam=BEAM)
    told = json.loads((source / "weights.json").read_text())
    told["decoders"]["beam"] = told["decoders"]["beam"] | {"at_edge": ["lm_weights"]}
    (source / "weights.json").write_text(json.dumps(told))
    folder = tmp_path / "scores"
    folder.mkdir()
    ctx = StepContext(folder, {"hypotheses": source}, "cpu", folder)
    score_stage.run(ctx, ScoreSettings(bootstrap_samples=200))
    rows = results.merge([finished(tmp_path, folder, bootstrap_samples=200)])
    assert [row["at_edge"] for row in rows] == [None, ["lm_weights"]]
    assert {row["bootstrap_samples"] for row in rows} == {200}


def test_rows_are_sorted_by_hours_of_labels(tmp_path: Path) -> None:
    scores = scored(tmp_path)
    runs = [
        finished(tmp_path, scores, budget=b, budget_seconds=s)
        for b, s in (("all", 900.0), ("1min", 58.0), ("10min", 599.0))
    ]
    rows = results.merge(runs)
    assert [r["budget"] for r in rows[::2]] == ["1min", "10min", "all"]


@pytest.mark.case(29)
def test_results_page_tells_the_figures_and_their_limits(tmp_path: Path) -> None:
    blank = scored(tmp_path, "blank", greedy=dict.fromkeys(GREEDY, ""), beam=BEAM)
    runs = [
        finished(tmp_path, blank),
        finished(tmp_path, scored(tmp_path), budget="all", budget_seconds=600.0),
    ]
    out = tmp_path / "exp" / "demo"
    results.write_results(out, results.gather(runs))
    page = (out / "RESULTS.md").read_text()
    assert "| 1min" in page
    assert "58 s" in page
    assert "100.0 [100.0, 100.0]" in page
    told = "The model of 1min (seed 1) emits only blanks: 100% of its greedy hypotheses on test"
    assert f"**{told} are empty.**" in page
    assert "The model of all" not in page
    assert f"\nWARNING: {told} are empty.\n" in _warning(results.gather(runs))
    assert "Dev is larger than the budget 1min" in page
    assert "perplexity 12.5 on dev" in page
    assert "the grammar" in page
    assert "2 speakers; 7 more were rejected and are not scored. Dev: " in page
    assert "; 3 more were rejected." in page
    assert "One seed" in page
    assert "NFKC" in page
    cells = [[c.strip() for c in line.strip("|").split("|")] for line in page.splitlines()]
    assert ["ann", "2", "5", "100.0", "20.0", "40.0", "20.0"] in cells
    assert ["bob", "2", "3", "100.0", "0.0", "33.3", "0.0"] in cells
    assert (
        "confusions, all greedy\n\n- substitutions: turn → tun (1).\n- deletions: right (1)."
        in page
    )
    assert (out / "wer_over_hours.png").read_bytes()[:4] == b"\x89PNG"
    assert json.loads((out / "results.json").read_text()) == results.merge(runs)
    assert sorted(p.name for p in out.iterdir()) == FILES


def test_folds_are_listed_by_name_though_a_budget_is_not_as_long_in_each(tmp_path: Path) -> None:
    folder = scored(tmp_path)
    lengths = {"b": 50.0, "c": 60.0, "a": 70.0}
    runs = [finished(tmp_path, folder, fold=f, budget_seconds=s) for f, s in lengths.items()]
    told = page(results.gather(runs), "x.png")
    each = told[told.index("### Each fold") :]
    cells = [[c.strip() for c in line.strip("|").split("|")] for line in each.splitlines()]
    greedy = [row[2] for row in cells if row[:2] == ["1min", "greedy"] and row[2] in lengths]
    assert greedy == ["a", "b", "c"]


def test_rows_tell_how_the_model_was_trained_and_that_dev_chose_it(tmp_path: Path) -> None:
    model, removed = tmp_path / "model", tmp_path / "removed"
    model.mkdir()
    history = [{"update": 25, "loss": 1.0}]
    history += [{"update": n, "dev_wer": wer, "dev_loss": 1.0} for n, wer in ((50, 0.4), (99, 0.5))]
    facts = {"parameters": 1234, "updates": 99, "history": history, "best": history[1]}
    (model / "training.json").write_text(json.dumps(facts))
    scores = scored(tmp_path)
    told = results.gather(
        [
            finished(tmp_path, scores, model=model),
            finished(tmp_path, scores, seed=2, model=removed),
            finished(tmp_path, scores, seed=3),
        ]
    )
    names = ["parameters", "updates", "precision", "left_out", "best"]
    assert list(told.rows[0])[-5:] == names
    best = {"update": 50, "dev_wer": 0.4, "evaluations": 2}
    assert [(r["parameters"], r["updates"], r["best"]) for r in told.rows[::2]] == [
        (1234, 99, best),
        (None, None, None),
        (None, None, None),
    ]
    line = (
        "- Dev chose the weights, by greedy WER: 1min (seed 1) those after 50 of 99 updates, the "
        "best of 2 evaluations (40.0 %).\n"
    )
    assert page(told, "x.png").count(line) == 1
    by_characters = facts | {"best": history[1] | {"dev_cer": 0.2}}
    (model / "training.json").write_text(json.dumps(by_characters))
    chosen = results.gather([finished(tmp_path, scores, model=model)])
    by_cer = page(chosen, "x.png")
    assert "by greedy CER: 1min those after 50 of 99 updates, the best of 2" in by_cer
    assert "evaluations (20.0 %)" in by_cer
    del facts["updates"]  # trained by code that did not tell them yet
    (model / "training.json").write_text(json.dumps(facts))
    older = results.gather([finished(tmp_path, scores, model=model)])
    assert "1min those after 50 updates, the best of 2" in page(older, "x.png")
    del facts["best"]
    (model / "training.json").write_text(json.dumps(facts))
    plain = results.gather([finished(tmp_path, scores, model=model)])
    assert plain.rows[0]["best"] is None
    assert "Dev chose" not in page(plain, "x.png")


@pytest.mark.case(24)
def test_transcripts_that_the_language_model_has_read_are_told(tmp_path: Path) -> None:
    runs = [
        finished(tmp_path, scored(tmp_path)),
        finished(tmp_path, scored(tmp_path, "other"), budget="all", budget_seconds=600.0),
    ]
    told = results.gather(runs)
    assert {(r["dev_in_lm_text"], r["test_in_lm_text"]) for r in told.rows} == {(6, 0)}
    line = "language model's text: 6 of 30 in dev (20.0 %), 0 of 4 in test (0.0 %)"
    assert f"{line}.\n" in page(told, "x.png")
    assert f"WARNING: Transcripts that stand word for word in the {line}." in _warning(told)
    folds = [{**row, "fold": fold} for row in told.rows for fold in "ab"]
    line, count = overlap(folds)
    assert count == 12 and line.endswith("12 of 60 in dev (20.0 %), 0 of 8 in test (0.0 %)")
    nothing = replace(told, rows=[{**row, "dev_in_lm_text": 0} for row in told.rows])
    assert _warning(nothing) == ""


@pytest.mark.case(24)
def test_sentences_of_a_grammar_declared_closed_are_counted_and_not_warned_of(
    tmp_path: Path,
) -> None:
    run = finished(tmp_path, scored(tmp_path), closed_grammar=True)
    closed = results.gather([run])
    assert _warning(closed) == ""
    noted = "text: 6 of 30 in dev (20.0 %), 0 of 4 in test (0.0 %). The recipe says that all sent"
    assert noted in page(closed, "x.png")
    open_too = results.gather([run, finished(tmp_path, scored(tmp_path, "other"), budget="all")])
    assert "WARNING: Transcripts that stand word for word" in _warning(open_too)
    assert "closed grammar" not in page(open_too, "x.png")


def test_the_picture_is_the_same_every_time(tmp_path: Path) -> None:
    told = results.gather([finished(tmp_path, scored(tmp_path))])
    for name in ("first", "second"):
        results.write_results(tmp_path / name, told)
    picture = "wer_over_hours.png"
    assert (tmp_path / "first" / picture).read_bytes() == (
        tmp_path / "second" / picture
    ).read_bytes()


def test_two_runs_may_write_the_results_of_one_recipe_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other process writes everything between each of our writings and its renaming."""
    told = results.gather([finished(tmp_path, scored(tmp_path))])
    out, replace_it = tmp_path / "out", Path.replace

    def late(beside: Path, target: Path) -> Path:
        with monkeypatch.context() as other:
            other.setattr(Path, "replace", replace_it)
            results.write_results(out, told)
        return replace_it(beside, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", late)
        results.write_results(out, told)
    assert json.loads((out / "results.json").read_text()) == told.rows
    assert sorted(p.name for p in out.iterdir()) == FILES


def test_counts_beside_the_results_are_read_as_they_were(tmp_path: Path) -> None:
    told = results.gather([finished(tmp_path, scored(tmp_path), fold="theo")])
    results.write_results(tmp_path / "out", told)
    assert counts_file.read(tmp_path / "out" / "counts.jsonl") == told.counts
    lines = json.loads((tmp_path / "out" / "confusions.json").read_text())
    assert [line["decoder"] for line in lines] == ["greedy", "beam"]
    assert lines[0]["substitutions"] == [["turn", "tun", 1]]


def test_the_most_frequent_confusions_of_a_system_are_kept_whole_in_every_row() -> None:
    """What is rare in one fold and frequent in another keeps its sum; other systems have theirs."""
    most = results.MOST_CONFUSIONS
    common = [[f"w{n:02}", "x", 9] for n in range(most)]
    rare = [["w99", "x", 1]]
    confusions: dict[counts_file.Key, results.Confusions] = {
        counts_file.Key("test", "theo", "1min", 1, "greedy"): {"substitutions": common + rare},
        counts_file.Key("test", "lucas", "1min", 1, "greedy"): {"substitutions": [["w99", "x", 9]]},
        counts_file.Key("test", "theo", "all", 1, "greedy"): {"substitutions": rare},
    }
    text = results.files(results.Results([], {}, confusions))["confusions.json"]
    kept = [line["substitutions"] for line in json.loads(text)]
    assert kept == [common[: most - 1] + rare, [["w99", "x", 9]], rare]


def test_rows_tell_the_precision_and_what_was_left_out_of_a_training(tmp_path: Path) -> None:
    model = tmp_path / "model"
    model.mkdir()
    facts = {"parameters": 12, "updates": 9, "left_out": 3, "precision": "bf16", "history": []}
    (model / "training.json").write_text(json.dumps(facts))
    scores = scored(tmp_path)
    told = results.gather([finished(tmp_path, scores, model=model)])
    assert {(row["precision"], row["left_out"]) for row in told.rows} == {("bf16", 3)}
    line = "counts them: 3 of the budget 1min (dropped.tsv of each model lists them)."
    assert line in page(told, "x.png")
    facts["left_out"] = 0
    other = tmp_path / "other"
    other.mkdir()
    (other / "training.json").write_text(json.dumps(facts))
    seeds = [finished(tmp_path, scores, model=m, seed=n) for n, m in ((1, model), (2, other))]
    assert "them: 0 to 3 of the budget 1min" in page(results.gather(seeds), "x.png")
    (model / "training.json").write_text(json.dumps(facts))
    assert "dropped.tsv" not in page(
        results.gather([finished(tmp_path, scores, model=model)]), "x.png"
    )


def test_dev_is_compared_with_budgets_as_they_are_counted_and_the_folds_are_named(
    tmp_path: Path,
) -> None:
    """Of 90 s of audio, pauses put in, the budget of 58 s counts the speech alone."""
    scores = scored(tmp_path)
    runs = [
        finished(tmp_path, scores, fold=fold, dev_speech_seconds=seconds)
        for fold, seconds in (("lucas", 57.0), ("theo", 59.0), ("anna", None))
    ]
    told = page(results.gather(runs[:2]), "x.png")
    assert "Dev is larger than the budget 1min (theo), and it is labelled speech too." in told
    assert "Dev: 30 utterances, 1.5 min (57 s without the pauses put in); 3 more" in told
    assert "Dev is larger" not in page(results.gather(runs[:1]), "x.png")
    assert "Dev is larger than the budget 1min, and" in page(results.gather(runs[1:]), "x.png")


def test_seeds_and_folds_are_told_each_and_together(tmp_path: Path) -> None:
    greedy, beam = (scored(tmp_path, n, greedy=t) for n, t in (("a", GREEDY), ("b", BEAM)))
    runs = [
        finished(tmp_path, greedy, fold="theo"),
        finished(tmp_path, beam, fold="theo", seed=2),
        finished(tmp_path, greedy, fold="lucas"),
        finished(tmp_path, greedy, fold="lucas", seed=2),
    ]
    results.write_results(tmp_path / "out", results.gather(runs))
    page = (tmp_path / "out" / "RESULTS.md").read_text()
    cells = [[c.strip() for c in line.strip("|").split("|")] for line in page.splitlines()]
    assert next(c[2] for c in cells if c[0] == "1min" and c[1] == "58 s").startswith("31.2 [")
    each = [c[:4] for c in cells if len(c) == 6]
    assert ["1min", "greedy", "theo", "2"] in each and ["1min", "greedy", "lucas", "1"] in each
    # Folds 25.0 and 37.5; seeds 37.5 and 25.0.
    assert ["31.2", "2", "8.8", "2", "31.2", "8.8"] in [c[3:] for c in cells]
    assert "2 folds: errors and words of all are summed." in page
    assert "Fold theo. Test: 4 utterances" in page


def test_no_results_make_an_empty_page(tmp_path: Path) -> None:
    results.write_results(tmp_path, results.Results([]))
    assert json.loads((tmp_path / "results.json").read_text()) == []
    assert json.loads((tmp_path / "confusions.json").read_text()) == []
