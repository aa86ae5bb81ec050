"""What is found of each argument, and what is said where it is not what one might think."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from pipeline.cli import cli
from pipeline.errors import RunError, UserError
from pipeline.recipe import Recipe
from pipeline.stage import Step
from pipeline.store import Store
from stages.report.alignments import systems
from stages.report.collect import collect

Make = Callable[..., Any]


def test_file_folder_and_results_tell_the_same_figures(whole: Any) -> None:
    named = [str(whole.file), "tiny", str(whole.folder / "results.json")]
    for name in named:
        (source,) = collect([name], whole.exp)
        assert source.rows == whole.rows
        assert source.results.counts is not None
        assert source.results.confusions.keys() == source.results.counts.keys()
    by_file, by_folder = (collect([name], whole.exp)[0] for name in named[:2])
    assert {p.title for p in by_file.done("score")} == {p.title for p in by_folder.done("score")}


def test_sources_of_one_name_are_told_apart(whole: Any) -> None:
    sources = collect([str(whole.file), "tiny"], whole.exp)
    assert [s.name for s in sources] == [f"tiny ({whole.file})", "tiny (tiny)"]
    for source in sources:
        assert {row["recipe"] for row in source.rows} == {source.name}


def test_an_argument_given_twice_is_shown_once(whole: Any) -> None:
    assert len(collect(["tiny", "tiny"], whole.exp)) == 1


def test_runs_joined_by_a_plus_are_one_system(whole: Any, tmp_path: Path) -> None:
    other = tmp_path / "again.json"
    other.write_text(json.dumps([row | {"recipe": "again"} for row in whole.rows]))
    (source,) = collect([f"tiny+{other}"], whole.exp)
    assert {row["recipe"] for row in source.rows} == {"tiny"}
    assert len(source.rows) == 2 * len(whole.rows)
    assert "Several runs joined" in source.remarks[0]
    assert "0.0" in whole.page(f"tiny+{other}")  # deviation over the two


def test_a_recipe_whose_corpus_is_elsewhere_is_shown_as_its_last_run_left_it(make: Make) -> None:
    made = make()
    corpus = Path(str(made.recipe.corpus.root))
    shutil.move(corpus, corpus.with_name("elsewhere"))
    (source,) = collect([str(made.file)], made.exp)
    assert source.rows == made.rows
    assert source.done("finetune")
    assert any("No such corpus folder" in remark for remark in source.remarks)
    with pytest.raises(UserError, match="No such corpus folder"):
        collect([str(made.file)], made.exp, ["finetune.updates=7"])


def test_what_was_made_from_something_stale_is_not_shown(make: Make) -> None:
    made = make()
    link = made.folder / "1-quantizer"
    told = json.loads((link / "stamp.json").read_text())
    (link / "stamp.json").write_text(json.dumps(told | {"digest": "another"}))
    (source,) = collect([str(made.file)], made.exp)
    assert source.rows == []
    states = {piece.title: piece.state for piece in source.pieces}
    assert states["1 quantizer"] == states["0 prepare train"] == "done"
    assert states["2 discretize train"] == states["7 score test/all"] == "stale"


def test_what_is_not_done_is_told_with_the_command_as_it_is_typed(
    make: Make, tmp_path: Path
) -> None:
    made = make(last=0)
    args = ["report", str(made.file), "--exp", str(made.exp), "-o", str(tmp_path / "page.html")]
    told = CliRunner().invoke(cli, args).output.replace("\n", " ")
    assert f"steps are not done; vqasr status {made.file} --exp {made.exp} tells which" in told


@pytest.mark.case(14)
def test_what_was_altered_is_not_shown(make: Make) -> None:
    made = make()
    for link, name in (
        ("7-score-test-all", "scores.json"),
        ("7-score-test-all", "alignments.jsonl"),
        ("5-finetune-all", "training.json"),
        ("1-quantizer", "history.jsonl"),
        ("0-prepare-dev", "summary.json"),
    ):
        path = (made.folder / link).resolve() / name
        content = path.read_text()
        path.write_text(f"{content} ")
        exp = f"--exp {made.exp}"
        again = f"--stage {link[0]} --stop-stage {link[0]} --force"
        for named, command in (
            (str(made.file), f"vqasr run {made.file} {exp} {again}"),
            (made.recipe.name, f"vqasr run RECIPE {exp} {again}"),
        ):
            with pytest.raises(RunError, match="is not what was written") as caught:
                collect([named], made.exp)
            assert str(path) in caught.value.what
            assert caught.value.remedy == command
        path.write_text(content)
    assert collect([str(made.file)], made.exp)[0].rows == made.rows


ANNA, CARL = (("folds=null", f"corpus.test_speakers=[{name}]") for name in ("anna", "carl"))
BOTH = ("folds=[anna, carl]",)


@pytest.mark.parametrize("runs", [(ANNA, CARL, BOTH), (BOTH, CARL), (BOTH, ANNA), (ANNA, BOTH)])
def test_a_step_is_what_the_link_says_whoever_made_its_artifact(
    digits_recipe: Callable[..., Recipe],
    make_plan: Callable[..., list[Step]],
    fakes: Any,
    restamp: Callable[[Path], None],
    runs: tuple[tuple[str, ...], ...],
) -> None:
    for changes in runs:
        steps = make_plan(digits_recipe(*changes))
        fakes.carry_out(fakes.steps(steps))
    store, rows = Store(fakes.exp / "store"), []
    for step in steps:
        if step.stage == "score":
            tested = step.fold or changes[-1].partition("[")[2].rstrip("]")
            counts = {"substitutions": 1, "deletions": 0, "insertions": 0, "reference_words": 2}
            line = {"decoder": "greedy", "utt_id": tested, "speaker": tested, "alignment": []}
            (store.path(step) / "alignments.jsonl").write_text(json.dumps(line | counts))
            restamp(store.path(step))
            told = {"test_set": "test", "budget": step.budget, "fold": step.fold, "seed": step.seed}
            seconds = {"2s": 2.0, "all": 9.0}[str(step.budget)]
            rates = ("wer", "wer_low", "wer_high", "cer", "dev_seconds")
            figures = dict.fromkeys(rates, 0.5) | {"recipe": "tiny", "frontend": "unit_bert"}
            figures |= {"reference_words": 2, "lm_text": "a text"}
            rows.append(figures | told | {"budget_seconds": seconds, "decoder": "greedy"})
    (fakes.exp / "tiny" / "results.json").write_text(json.dumps(rows))
    (source,) = collect(["tiny"], fakes.exp)
    shown = {system.name: [u.id for u in system.worst] for system in systems([source], "test")}
    if changes == BOTH:
        assert shown == {"tiny, fold anna": ["anna"], "tiny, fold carl": ["carl"]}
    else:
        assert shown == {"tiny": [tested]}
    titles = {piece.title.replace(" ", "-").replace("/", "-") for piece in source.pieces}
    assert titles == {step.link_name for step in steps}
