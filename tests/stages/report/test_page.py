"""The page shows what the files say, needs nothing but itself, and runs nothing that it shows."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from torch.utils.tensorboard import SummaryWriter

from pipeline.curves import open_curves

Make = Callable[..., Any]
Parse = Callable[[str], Any]


def per_cent(share: float) -> str:
    return f"{100 * share:.1f}"


@pytest.mark.parametrize("metric", ["wer", "cer"])
def test_every_rate_and_interval_is_that_of_results_json(
    whole: Any, parse: Parse, metric: str
) -> None:
    made = whole
    page = parse(made.page(metric=metric))
    header, *body = page.table(f"{metric.upper()} in %, with its 95 % interval")
    assert header == ["System decoder", "2s 2 s", "all 6 s"]
    shown = {
        (line[0].partition(" ")[2], budget.partition(" ")[0]): cell
        for line in body
        for budget, cell in zip(header[1:], line[1:], strict=True)
    }
    assert len(made.rows) == len(shown) == 4
    for row in made.rows:
        name = {"greedy": "greedy", "lexicon_beam": "with LM (lexicon_beam)"}[row["decoder"]]
        rate, low, high = (per_cent(row[f"{metric}{end}"]) for end in ("", "_low", "_high"))
        assert shown[name, row["budget"]] == f"{rate} [{low}, {high}]"


@pytest.mark.parametrize("metric", ["wer", "cer"])
def test_every_count_is_that_of_results_json(whole: Any, parse: Parse, metric: str) -> None:
    """Of words and of characters, whichever the page is of."""
    made = whole
    header, *body = parse(made.page(metric=metric)).table("Errors over the whole test set")
    lines = [dict(zip(header, line, strict=True)) for line in body]
    assert len(lines) == len(made.rows)
    for row, line in zip(made.rows, lines, strict=True):
        name = {"greedy": "greedy", "lexicon_beam": "with LM (lexicon_beam)"}[row["decoder"]]
        assert line["System decoder"] == f"tiny {name}"
        assert line["Budget"] == {"2s": "2s 2 s", "all": "all 6 s"}[row["budget"]]
        for metric in ("wer", "cer"):
            figure, low, high = (per_cent(row[f"{metric}{end}"]) for end in ("", "_low", "_high"))
            assert line[f"{metric.upper()} %"] == f"{figure} [{low}, {high}]"
        names = ("substitutions", "deletions", "insertions", "reference_words")
        counts = [line[key] for key in ("Sub.", "Del.", "Ins.", "Words")]
        assert counts == [str(row[name]) for name in names]
        assert (line["LM weight"], line["Word score"]) == ("1.5", "-0.5")
        assert line["Beam"] == {"greedy": "-", "lexicon_beam": "50"}[row["decoder"]]
        assert line["Dev WER %"] == "25.0"


def test_rates_by_speaker_are_those_of_results_json(whole: Any, parse: Parse) -> None:
    made = whole
    page = parse(made.page())
    for row in made.rows:
        decoder = "greedy" if row["decoder"] == "greedy" else "with LM (lexicon_beam)"
        lines = page.table(f"WER in % by speaker: {row['budget']}, {decoder}")
        assert lines[1:-1] == [[n, per_cent(w)] for n, w in row["per_speaker"].items()]
        assert lines[-1] == ["all", per_cent(row["wer"])]


def test_health_and_curves_are_those_of_the_artifacts(whole: Any, parse: Parse) -> None:
    made = whole
    page = parse(made.page())
    told = json.loads((made.folder / "1-quantizer" / "codebook.json").read_text())
    for group, line in zip(told["groups"], page.table("On 500 frames")[1:], strict=True):
        assert line[1:3] == [f"{group['perplexity']:.1f}", f"{group['codes_in_use']} of 8"]
    curve = page.table("Perplexity, of 8")
    assert [line[0] for line in curve[1:]] == ["25", "50", "75", "100"]
    for group, values in enumerate(told["history"]["perplexity"], 1):
        assert [line[group] for line in curve[1:]] == [f"{v:.4g}" for v in values]
    assert f"Contrastive loss {told['loss_bits']:.2f} bits at the end of 100 updates" in page.text
    assert "Repaired after a collapse at update 50 (dashed" in page.text
    assert page.table("Hidden units of speech")[1][1:5] == ["31.2", "25.0", "6.2", "2.125"]
    loss = page.table("CTC loss")
    assert loss[0] == ["updates", "2s", "all"]
    assert loss[-1] == ["100", "0.4", "0.4"]
    assert page.table("WER on dev")[-1] == ["100", "9", "9"]


def test_what_was_heard_stands_beside_what_was_said(whole: Any) -> None:
    text = re.sub(r"\s+", " ", whole.page())
    substituted = '<span class="p s"><b>S</b><i>turn</i><i>tun</i></span>'
    deleted = '<span class="p d"><b>D</b><i>right</i><i>–</i></span>'
    inserted = '<span class="p i"><b>I</b><i>–</i><i>it</i></span>'
    same = '<span class="p"><i>left</i><i>left</i></span>'
    for pair in (substituted, deleted, inserted, same):
        assert pair in text
    assert "greedy: 1 error in 2 words" in text


def test_text_of_others_is_shown_and_not_run(whole: Any, parse: Parse, tmp_path: Path) -> None:
    made = whole
    rows = [row | {"recipe": "<script>alert('name')</script>"} for row in made.rows]
    other = tmp_path / "other<i>.json"
    other.write_text(json.dumps(rows))
    page = parse(made.page(made.file, other))
    assert {tag for tag, _ in page.elements} & {"script", "img", "iframe", "object"} == set()
    assert not any(key.startswith("on") for _, told in page.elements for key in told)
    assert "<script>alert('said')</script>&amp;\"x\"" in page.text
    assert "<img" in page.text and "onerror=alert(1)>" in page.text
    assert "<b>eve</b>" in page.text
    assert "<script>alert('name')</script>" in page.text


def test_the_page_needs_nothing_but_itself(whole: Any, parse: Parse) -> None:
    text = whole.page()
    page = parse(text)
    assert "http:" not in text and "https:" not in text and "url(" not in text
    assert "@import" not in text
    for tag, told in page.elements:
        assert tag not in ("script", "link", "img", "iframe", "base")
        assert "src" not in told
        if "href" in told:
            assert told["href"] in {f"#{t.get('id')}" for _, t in page.elements}
    policy = next(t["content"] for _, t in page.elements if "http-equiv" in t)
    assert policy.startswith("default-src 'none'")


def test_charts_have_names_and_descriptions_of_their_own(whole: Any, parse: Parse) -> None:
    page = parse(whole.page())
    ids = [told["id"] for _, told in page.elements if "id" in told]
    assert len(ids) == len(set(ids))
    charts = [told for tag, told in page.elements if tag == "svg" and "role" in told]
    assert len(charts) == 2 + 3 + 2 + 2  # WER, codebook, BERT, CTC
    for told in charts:
        assert set(told["aria-labelledby"].split()) <= set(ids)


def test_the_same_files_give_the_same_page(whole: Any) -> None:
    made = whole
    assert made.page() == made.page()


def test_what_is_not_done_is_said_and_the_rest_is_shown(make: Make, parse: Parse) -> None:
    made = make(last=5)
    page = parse(made.page())
    assert "tiny is not finished" in page.text
    assert (
        "Missing: 6 decode log_probs/dev/2s, 6 decode dev/2s, 6 decode log_probs/test/2s"
        in page.text
    )
    assert "tiny has no word error rate yet." in page.text
    assert "no score step of these recipes is done" in page.text
    assert "No alignments are shown" in page.text
    assert page.table("CTC loss")
    steps = page.table("Steps of tiny")
    assert {line[1] for line in steps[1:]} == {"done", "missing"}


def test_a_budget_that_is_not_scored_leaves_the_others(make: Make, parse: Parse) -> None:
    made = make()
    shutil.rmtree((made.folder / "7-score-test-all").resolve())
    page = parse(made.page())
    header, *_ = page.table("WER in %")
    assert header == ["System decoder", "2s 2 s"]
    assert "Missing: 7 score test/all." in page.text


def test_figures_of_the_recipe_as_it_was_are_not_shown(whole: Any, parse: Parse) -> None:
    made = whole
    page = parse(made.page(changes=["finetune.updates=7"]))
    assert "tiny is not finished" in page.text
    assert "Stale: 5 finetune 2s" in page.text
    assert not any(caption.startswith("WER in %") for caption in page.tables)
    assert page.table("On 500 frames")  # stage 1 is what it was


def test_a_front_end_without_units_says_that_there_is_no_codebook(make: Make, parse: Parse) -> None:
    page = parse(make("frontend=log_mel", last=5).page())
    assert "No quantizer is shown" in page.text
    assert "No BERT is shown" in page.text
    assert page.table("CTC loss")


def test_recipes_share_a_chart_and_what_they_share_is_shown_once(make: Make, parse: Parse) -> None:
    one, two = make(), make("name=other", "finetune.updates=7")
    page = parse(one.page("tiny", "other"))
    lines = page.table("WER in %, with its")[1:]
    assert [line[0].split(" ")[0] for line in lines] == ["tiny", "tiny", "other", "other"]
    assert sum(c.startswith("On 500 frames") for c in page.tables) == 1
    assert "tiny, other" in page.text
    assert {row["recipe"] for row in two.rows} == {"other"}


def test_a_training_that_was_interrupted_is_shown_as_far_as_it_came(
    make: Make, parse: Parse
) -> None:
    made = make(last=0)
    for stage, tags in (
        ("1-quantizer", {"quantizer/loss_bits": 3.25, "quantizer/perplexity_0": 6.5}),
        ("3-bert", {"loss": 2.75}),
        ("5-finetune-all", {"loss": 1.5}),
    ):
        step = stage.partition("-")[2].partition("-")[0]
        (state,) = (s for s in made.states() if s.step.link_name == stage)
        writer = SummaryWriter(str(open_curves(made.folder, state.step, resumed=False)))
        for update in (25, 50):
            for tag, value in tags.items():
                writer.add_scalar(tag, value + 1 / update, update)
        writer.close()
        assert state.step.stage == step
        (made.exp / "store" / f"{state.step.artifact_name}.partial").mkdir()
    page = parse(made.page())
    assert "Interrupted: 1 quantizer, 3 bert, 5 finetune all." in page.text
    assert page.table("Contrastive loss")[1:] == [["25", "3.29"], ["50", "3.27"]]
    assert page.table("Perplexity")[-1] == ["50", "6.52"]
    assert page.table("Loss on hidden units")[-1] == ["50", "2.77"]
    assert page.table("CTC loss")[0] == ["updates", "tiny all, not finished"]


def test_a_curve_of_one_point_can_be_seen(make: Make, restamp: Callable[[Path], None]) -> None:
    """An evaluation at the end of a short training, say."""
    made = make()
    path = made.folder / "3-bert" / "pretraining.json"
    told = json.loads(path.read_text())
    told["history"][-1]["kept_back_loss"] = 2.5
    assert 'class="alone"' not in made.page()
    path.write_text(json.dumps(told))
    restamp(path.parent)
    assert made.page().count('class="alone"') == 1


def test_a_curve_of_other_settings_is_not_that_of_an_interrupted_training(
    make: Make, parse: Parse
) -> None:
    made = make(last=0)
    for changed in (False, True):
        (step,) = (s for s in made.steps if s.link_name == "5-finetune-all")
        drawn = replace(step, settings={"updates": 7}) if changed else step
        writer = SummaryWriter(str(open_curves(made.folder, drawn, resumed=False)))
        writer.add_scalar("loss", 1.5, 25)
        writer.close()
        (made.exp / "store" / f"{step.artifact_name}.partial").mkdir(exist_ok=True)
        page = parse(made.page())
        assert "Interrupted: 5 finetune all" in page.text
        assert ("CTC loss" in page.text) is not changed


def written(path: Path, rows: list[dict[str, Any]], **changes: Any) -> Path:
    """A results.json of these rows with changes."""
    path.write_text(json.dumps([row | changes for row in rows]))
    return path


def parts(text: str) -> dict[str, str]:
    """By heading, the HTML of each section."""
    found = re.findall(r"<section[^>]*>\s*<h2[^>]*>(.*?)</h2>(.*?)</section>", text, re.S)
    return {re.sub("<[^>]*>", "", heading): content for heading, content in found}


def test_systems_on_other_folds_are_told_in_their_test_set(
    whole: Any, parse: Parse, tmp_path: Path
) -> None:
    """As `vqasr compare` tells them."""
    folds = [row | {"fold": fold} for fold in ("x", "y") for row in whole.rows]
    two = written(tmp_path / "two.json", folds, recipe="two")
    one = written(tmp_path / "one.json", whole.rows, recipe="one", fold="x")
    told = "Not on the same folds of test: one 2s, one all: x; two 2s, two all: x, y."
    assert told in parse(whole.page(two, one)).text
    assert "Not on the same folds" not in parse(whole.page(two)).text


def test_each_corpus_has_a_part_of_its_own(whole: Any, parse: Parse, tmp_path: Path) -> None:
    """Also where their test sets have one name, as budgets and recipes' figures may."""
    other = written(tmp_path / "b.json", whole.rows, recipe="b", corpus="digits", wer=0.125)
    alike = written(tmp_path / "c.json", whole.rows, recipe="c", corpus="digits")
    text = whole.page(whole.file, other, alike)
    found = parts(text)
    own, digits = (found[f"Corpus {kind}: results on test set test"] for kind in ("tsv", "digits"))
    systems = [set(re.findall(r"<th scope=\"row\">(\w+)<small>", each)) for each in (own, digits)]
    assert systems == [{"tiny"}, {"b", "c"}]
    assert "12.5" in digits and "12.5" not in own
    assert "Not on the same folds" not in text
    legends = [
        re.search(r'<ul class="legend" .*?</ul>', each, re.S) for each in (own, digits)
    ]  # of those that are drawn, and no others
    names = [re.findall(r"<span>(\w+)</span>", str(each and each[0])) for each in legends]
    assert names == [["tiny"], ["b", "c"]]
    assert ">Corpus digits, test set test</a>" in text
    heard = found["What was heard"]
    assert "<h3>Corpus tsv, test set test</h3>" in heard and "digits" not in heard


def test_corpora_of_one_kind_are_told_apart_by_their_recipes(
    whole: Any, parse: Parse, tmp_path: Path
) -> None:
    other = written(tmp_path / "b.json", whole.rows, recipe="b", reference_words=999)
    found = parts(whole.page(whole.file, other))
    headings = [heading for heading in found if "results on" in heading]
    assert headings == [f"Corpus tsv ({name}): results on test set test" for name in ("b", "tiny")]


def test_a_system_without_a_rate_is_not_in_the_legend_of_the_chart(
    whole: Any, tmp_path: Path
) -> None:
    folds = [row | {"fold": fold} for fold in ("x", "y") for row in whole.rows]
    for row in folds:
        del row["reference_chars"]  # as results of an older version
    old = written(tmp_path / "old.json", folds, recipe="old")
    legend = re.search(
        r'<ul class="legend" .*?</ul>', whole.page(whole.file, old, metric="cer"), re.S
    )
    assert re.findall(r"<span>(\w+)</span>", str(legend and legend[0])) == ["tiny"]
