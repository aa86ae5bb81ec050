"""A page of CER: what its figures are, and that it says which metric they are of."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jiwer
import pytest
from click.testing import CliRunner

from pipeline.cli import cli

Parse = Callable[[str], Any]
Heard = dict[str, dict[str, str]]  # by decoder, by utterance
NAMES = {"greedy": "greedy", "lexicon_beam": "with LM (lexicon_beam)"}


def per_cent(share: float) -> str:
    return f"{100 * share:.1f}"


def test_character_error_rates_by_speaker_are_those_of_another_scorer(
    whole: Any, parse: Parse, references: dict[str, tuple[str, str]], heard: Heard
) -> None:
    page = parse(whole.page(metric="cer"))
    assert not any(caption.startswith("WER in % by speaker") for caption in page.tables)
    for decoder, texts in heard.items():
        lines = page.table(f"CER in % by speaker: all, {NAMES[decoder]}")[1:]
        told = {}
        for speaker in dict.fromkeys(speaker for speaker, _ in references.values()):
            mine = [i for i, (whose, _) in references.items() if whose == speaker]
            told[speaker] = jiwer.cer([references[i][1] for i in mine], [texts[i] for i in mine])
        told["all"] = jiwer.cer([text for _, text in references.values()], list(texts.values()))
        assert dict(lines) == {who: per_cent(rate) for who, rate in told.items()}


def test_a_page_of_characters_says_so_everywhere(whole: Any, parse: Parse) -> None:
    text = whole.page(metric="cer")
    page = parse(text)
    assert "Character error rate by label budget" in page.text
    assert "<title>Character error rate by label budget" in text
    assert "Word error rate" not in text and "word error rate" not in text
    assert text.count("<span>CER, %</span>") == 2  # a chart for each decoder
    assert "WER, %" not in text and "WER over labelled speech" not in text
    for row in whole.rows:
        chart = f"CER over labelled speech, {NAMES[row['decoder']]}. "
        seconds = {"2s": "2 s", "all": "6 s"}[row["budget"]]
        figure = f"{row['recipe']} {seconds}: {per_cent(row['cer'])} ["
        assert any(chart in line and figure in line for line in text.split("\n"))


@pytest.mark.parametrize("metric", ["wer", "cer"])
def test_pairs_are_those_of_compare(whole: Any, parse: Parse, metric: str, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(whole.folder, other, ignore=shutil.ignore_patterns("[0-9]-*", "tensorboard"))
    rows = [row | {"recipe": "other"} for row in whole.rows]
    (other / "results.json").write_text(json.dumps(rows))
    page = parse(whole.page(whole.folder, other, metric=metric))
    args = ["compare", whole.folder, other, "--metric", metric, "--pairs", "--format", "json"]
    told = json.loads(CliRunner().invoke(cli, list(map(str, args))).output)
    assert {row["metric"] for row in told} == {metric}
    kinds = {"system": "Systems against tiny", "decoder": "Decoders", "budget": "Budgets"}
    for kind, start in kinds.items():
        header, *body = page.table(start)
        assert f"{metric.upper()} %" in header
        shown = [dict(zip(header, line, strict=True)) for line in body]
        mine = [row for row in told if row["kind"] == kind]
        assert len(shown) == len(mine) > 0
        for line, row in zip(shown, mine, strict=True):
            assert line[f"{metric.upper()} %"] == per_cent(row["rate"])
            low, high, difference = (f"{100 * row[k]:+.1f}" for k in ("low", "high", "difference"))
            assert line["Difference"] == f"{difference} [{low}, {high}]"
    people = CliRunner().invoke(cli, list(map(str, [*args[:-2], "--format", "md"]))).output
    (note,) = [line for line in people.splitlines() if line.startswith("Differences of")]
    assert f"Differences of {metric.upper()} in percentage points" in note
    assert "utterances within 3 speakers. Speakers better: of how many" in note
    assert note in page.text


def test_folds_that_do_not_tell_their_characters_have_no_chart(
    whole: Any, parse: Parse, tmp_path: Path
) -> None:
    """As results of an older version: the rest of the page is there."""
    rows = [row | {"fold": fold} for fold in ("ann", "bob") for row in whole.rows]
    for row in rows:
        del row["reference_chars"]
    old = tmp_path / "old.json"
    old.write_text(json.dumps(rows))
    page = parse(whole.page(old, metric="cer"))
    assert "No character error rate of all folds together" in page.text
    assert {cell for line in page.table("CER in %, with its")[1:] for cell in line[1:]} == {"-"}
    assert page.table("Errors over the whole test set")
    assert "No character error rates by speaker are there." in page.text
