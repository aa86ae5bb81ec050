"""Seeds and folds as one figure, pairs of systems, and the tables of both."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from statistics import fmean, stdev
from typing import Any

import pytest

from pipeline.errors import UserError
from stages.acoustic import bootstrap, tables
from stages.acoustic.counts_file import Key, UtteranceCounts, UtteranceSet
from stages.acoustic.pair_tables import format_pairs
from stages.acoustic.pairs import FIELDS, compare_pairs, without_partner
from stages.acoustic.report import by_speaker
from stages.acoustic.results import Results, Row
from stages.acoustic.summary import systems
from tests.stages.acoustic.made_results import WORDS, made, together

PRECISIONS = {"a": "fp32", "b": "bf16", "c": "fp32", "older": None}


def test_folds_are_summed_before_they_are_divided() -> None:
    (row,) = tables.compare([made("a", ("theo", 1, [5, 5, 5]), ("lucas", 1, [1]))])
    assert row["wer"] == pytest.approx(16 / 40)
    assert row["cer"] == pytest.approx(16 / 120)
    assert row["wer_mean_of_folds"] == pytest.approx(fmean([0.5, 0.1]))
    assert row["wer_sd_of_folds"] == pytest.approx(stdev([0.5, 0.1]))
    assert (row["fold"], row["folds"], row["seed"]) == (None, ["theo", "lucas"], 1)
    assert row["wer_sd_of_seeds"] is None
    assert row["reference_words"] == 40


def test_seeds_are_averaged_and_their_deviation_told() -> None:
    (row,) = tables.compare([made("a", (None, 1, [2, 4]), (None, 2, [4, 4]), (None, 3, [0, 1]))])
    assert row["wer"] == pytest.approx(fmean([0.3, 0.4, 0.05]))
    assert row["wer_sd_of_seeds"] == pytest.approx(stdev([0.3, 0.4, 0.05]))
    assert (row["seed"], row["seeds"]) == (None, [1, 2, 3])
    assert row["wer_sd_of_folds"] is None
    assert row["reference_words"] == 20


def test_a_seed_that_lacks_a_fold_is_no_other_draw_of_the_training() -> None:
    runs = [("theo", 1, [5]), ("lucas", 1, [1]), ("theo", 2, [7]), ("lucas", 2, [1])]
    whole = tables.compare([made("a", *runs)])[0]
    (row,) = tables.compare([made("a", *runs, ("theo", 3, [6]))])
    assert row["wer_sd_of_seeds"] == whole["wer_sd_of_seeds"] == pytest.approx(stdev([0.3, 0.4]))
    assert row["wer"] == pytest.approx((fmean([5, 7, 6]) + 1) / 20)


def test_the_interval_is_of_utterances_whose_errors_are_averaged_over_seeds() -> None:
    first, second = [0, 3, 5, 9, 2, 2], [1, 4, 4, 7, 2, 0]
    (row,) = tables.compare([made("a", (None, 1, first), (None, 2, second))])
    means = [(a + b) / 2 for a, b in zip(first, second, strict=True)]
    expected = bootstrap.interval(means, [WORDS] * 6, ["ann"] * 6, 10_000, 0.9)
    assert (row["wer_low"], row["wer_high"]) == (expected.low, expected.high)
    assert row["wer_low"] < row["wer"] < row["wer_high"]


def test_as_many_sets_are_drawn_for_seeds_and_pairs_as_the_recipe_says() -> None:
    first, second = [0, 3, 5, 9, 2, 7, 1, 8], [1, 3, 4, 9, 3, 7, 0, 6]
    a = made("a", (None, 1, first), (None, 2, first), bootstrap_samples=150)
    b = made("b", (None, 1, second), bootstrap_samples=300)
    row = tables.compare([a])[0]
    lengths, names = [WORDS] * 8, ["ann"] * 8
    expected = bootstrap.interval(first, lengths, names, 150, 0.9)
    assert (row["wer_low"], row["wer_high"]) == (expected.low, expected.high)
    assert expected != bootstrap.interval(first, lengths, names, 10_000, 0.9)
    (pair,) = paired(a, b)
    told = bootstrap.compare(second, first, lengths, names, 300, 0.9)  # the more of both
    assert pair["probability_of_improvement"] == told.probability
    other = bootstrap.compare(second, first, lengths, names, 10_000, 0.9)
    assert told.probability != other.probability


def shared(recipe: str, *runs: tuple[str, int, Sequence[int]]) -> Results:
    """Results of folds that have one test set."""
    told = made(recipe, *runs)
    on = next(iter((made("a", (None, 1, runs[0][2])).counts or {}).values())).on
    counts = {k: UtteranceCounts(on, c.substitutions, c.deletions, c.insertions, c.char_errors)
              for k, c in (told.counts or {}).items()}  # fmt: skip
    return Results([{**row, "test_split": "one"} for row in told.rows], counts)


def test_an_utterance_that_several_folds_test_is_drawn_once_for_all() -> None:
    """Folds of the training speech: one test set. It is no larger for that."""
    (row,) = tables.compare([shared("a", ("x", 1, [0, 3, 5, 9]), ("y", 1, [0, 3, 5, 9]))])
    expected = bootstrap.interval([0, 3, 5, 9], [WORDS] * 4, ["ann"] * 4, 10_000, 0.9)
    assert (row["wer_low"], row["wer_high"]) == (expected.low, expected.high)


def test_an_interval_is_drawn_once_for_all_who_ask(monkeypatch: pytest.MonkeyPatch) -> None:
    told, drawn = made("a", (None, 1, [0, 3, 7]), (None, 2, [1, 3, 9])), []
    interval = bootstrap.interval

    def counted(*args: Any) -> bootstrap.Interval:
        drawn.append(args)
        return interval(*args)

    monkeypatch.setattr(bootstrap, "interval", counted)
    first = tables.compare([told])
    assert tables.compare([told]) == first
    assert len(drawn) == 2  # of words and of characters


def test_a_test_set_that_folds_share_is_no_larger_for_that() -> None:
    a = shared("a", ("x", 1, [0, 3, 5]), ("y", 1, [2, 3, 5]))
    b = shared("b", ("x", 1, [0, 3, 5]), ("y", 1, [0, 3, 5]))
    for told in (a, Results(a.rows)):  # without counts too
        (row,) = tables.compare([told])
        assert row["reference_words"] == 3 * WORDS
        assert row["wer"] == pytest.approx(18 / 60)
    (pair,) = paired(a, b)
    assert (pair["utterances"], pair["left_out"]) == (3, 0)
    assert pair["rate"] == pytest.approx(16 / 60)
    assert by_speaker(systems([a])[0]) == {"ann": (3, 3 * WORDS, 9.0)}


def test_results_with_no_more_than_the_contract_are_summarised() -> None:
    """Characters of several folds cannot be summed then; all else can."""
    told = made("a", ("x", 1, [2]), ("y", 1, [4]), ("x", 2, [2]), ("y", 2, [4]))
    beyond = ("reference_chars", "confidence", "resampled", "lm_perplexity")
    bare = [{k: v for k, v in row.items() if k not in beyond} for row in told.rows]
    (row,) = tables.compare([Results(bare, told.counts)])
    assert (row["wer"], row["cer"]) == (pytest.approx(0.3), None)
    assert row["cer_mean_of_folds"] == pytest.approx(0.1)
    whole = [row | {"confidence": 0.95} for row in told.rows]
    (expected,) = tables.compare([Results(whole, told.counts)])
    assert (row["wer_low"], row["wer_high"]) == (expected["wer_low"], expected["wer_high"])
    assert "| - " in tables.format_table([row], "md", "cer")
    (row,) = tables.compare([Results([r for r in bare if r["fold"] == "x"])])
    assert row["cer"] == pytest.approx(2 / 30)  # of one fold the rates say enough


def test_systems_on_other_folds_are_told_below_the_table() -> None:
    a, b = made("a", ("x", 1, [2]), ("y", 1, [4])), made("b", ("x", 1, [2]))
    text = tables.format_table(tables.compare([a, b]), "table")
    assert "Not on the same folds of test: a 1min: x, y; b 1min: x." in text
    assert "Not on the same folds" not in tables.format_table(tables.compare([a]), "table")


def test_systems_trained_in_another_precision_are_told_below_the_table() -> None:
    told = {name: made(name, (None, 1, [2]), precision=p) for name, p in PRECISIONS.items()}
    text = tables.format_table(tables.compare(told.values()), "table")
    line = "Not fine-tuned in the same precision: a 1min, c 1min in fp32; b 1min in bf16."
    assert line in text
    seeds = made("d", (None, 1, [2]), precision="fp32")
    other = made("d", (None, 2, [4]), precision="bf16")
    text = tables.format_table(tables.compare([together(seeds, other)]), "table")
    assert "Not fine-tuned in the same precision: d 1min in bf16 and fp32." in text
    alike = tables.format_table(tables.compare([told["a"], told["c"], told["older"]]), "table")
    assert "precision" not in alike


def test_what_the_brackets_are_stands_below_the_table() -> None:
    def told(*several: Results) -> str:
        text = tables.format_table(tables.compare(several), "table")
        (line,) = [line for line in text.splitlines() if "ntervals" in line]
        return line

    a = made("a", (None, 1, [2]))
    of_one = "90 % intervals: bootstrap over utterances within speaker."
    assert told(a) == told(a, made("b", (None, 1, [3]))) == of_one
    folds = made("b", ("x", 1, [2]), ("y", 1, [4]))  # drawn by `compare` itself
    assert told(folds) == "90 % intervals: bootstrap over utterances within 2 speakers."
    assert told(a, folds) == (
        "90 % intervals (a): bootstrap over utterances within speaker; "
        "90 % intervals (b): bootstrap over utterances within 2 speakers."
    )
    other = made("b", (None, 1, [2]), confidence=0.95)
    assert told(a, other) == (
        "90 % intervals (a): bootstrap over utterances within speaker; "
        "95 % intervals (b): bootstrap over utterances within speaker."
    )
    larger = made("a", (None, 1, [2]), budget="all", confidence=0.95)
    assert "90 % intervals (a 1min):" in told(a, larger)
    blind = made("a", (None, 1, [2]), test_set="blind", resampled="12 speakers")
    assert told(a, blind) == (
        "90 % intervals (blind): bootstrap over 12 speakers; "
        "90 % intervals (test): bootstrap over utterances within speaker."
    )
    silent = Results([{k: v for k, v in r.items() if k != "confidence"} for r in a.rows])
    assert told(silent).startswith("Intervals of unknown confidence: bootstrap over")
    bare = Results([row | {"wer_low": None} for row in a.rows])
    assert "ntervals" not in tables.format_table(tables.compare([bare]), "table")


def test_one_seed_and_fold_keep_the_interval_of_their_row() -> None:
    (row,) = tables.compare([made("a", (None, 4, [1, 2]))])
    assert (row["wer_low"], row["wer_high"], row["seed"]) == (0.1, 0.9, 4)
    assert (row["cer_low"], row["cer_high"]) == (0.0, 0.5)


def test_without_counts_several_seeds_have_no_interval() -> None:
    told = Results(made("a", (None, 1, [2]), (None, 2, [4])).rows)
    (row,) = tables.compare([told])
    assert (row["wer"], row["wer_low"]) == (pytest.approx(0.3), None)
    assert "30.0 " in tables.format_table([row], "table")


def paired(*several: Results, against: str = "a") -> list[Row]:
    return compare_pairs(systems(several), "wer", against)


def test_each_system_is_compared_with_the_one_named() -> None:
    a, b, c = (made(n, (None, 1, e)) for n, e in (("a", [5, 5]), ("b", [4, 4]), ("c", [6, 5])))
    rows = paired(a, b, c)
    assert [(r["kind"], r["recipe"], r["against"]) for r in rows] == [
        ("system", "b", "a"),
        ("system", "c", "a"),
    ]
    assert rows[0]["difference"] == pytest.approx(-0.1)
    assert rows[0]["probability_of_improvement"] == 1
    assert (rows[0]["rate"], rows[0]["rate_against"]) == (pytest.approx(0.4), pytest.approx(0.5))
    assert (rows[0]["utterances"], rows[0]["left_out"]) == (2, 0)
    assert set(rows[0]) == set(FIELDS)
    assert [r["recipe"] for r in paired(a, b, c, against="b")] == ["a", "c"]


def test_a_pair_is_the_paired_bootstrap_of_means_over_seeds() -> None:
    a = made("a", (None, 1, [5, 3, 1, 7]), (None, 2, [4, 3, 1, 8]))
    b = made("b", (None, 1, [4, 4, 0, 8]))
    (row,) = paired(a, b)
    ours, theirs = [4, 4, 0, 8], [4.5, 3, 1, 7.5]
    told = bootstrap.compare(ours, theirs, [WORDS] * 4, ["ann"] * 4, 10_000, 0.9)
    assert (row["difference"], row["low"], row["high"]) == (told.difference, told.low, told.high)
    assert row["probability_of_improvement"] == told.probability


def of_speakers(recipe: str, *errors: int) -> Results:
    """Two utterances of each of several speakers, the second without errors."""
    return made(recipe, *((f"f{n}", 1, [e, 0]) for n, e in enumerate(errors)))


def test_of_few_speakers_it_is_told_for_how_many_the_first_is_better() -> None:
    a, b = of_speakers("a", 5, 5, 5, 5, 5), of_speakers("b", 1, 4, 5, 6, 4)
    (row,) = paired(a, b)
    assert (row["speakers"], row["speakers_better"]) == (5, 3)  # level with one, worse in one
    shown = format_pairs([row], "md")
    assert "| speakers better   |" in shown and "| 3 of 5 " in shown
    assert "drawn within a few speakers say nothing of other speakers." in shown
    (reverse,) = paired(a, b, against="b")
    assert reverse["speakers_better"] == 1
    (row,) = paired(of_speakers("a", *[5] * 10), of_speakers("b", *[4] * 10))
    assert (row["speakers"], row["speakers_better"]) == (10, 10)  # they are drawn themselves
    assert "peakers better" not in format_pairs([row], "md")


def test_decoders_and_budgets_of_one_system_are_paired_too() -> None:
    small = [made("a", (None, 1, [8]), budget="1min"), made("a", (None, 1, [6]), decoder="beam")]
    large = {"budget": "all", "budget_seconds": 600.0}
    all_ = [made("a", (None, 1, [4]), **large), made("a", (None, 1, [3]), decoder="beam", **large)]
    rows = paired(together(*small, *all_))
    assert [(r["kind"], r["budget"], r["decoder"], r["against"]) for r in rows] == [
        ("decoder", "1min", "beam", "greedy"),
        ("decoder", "all", "beam", "greedy"),
        ("budget", "all", "beam", "1min"),
        ("budget", "all", "greedy", "1min"),
    ]
    assert [round(10 * r["difference"]) for r in rows] == [-2, -1, -3, -4]


def test_only_common_utterances_are_compared_and_the_others_told() -> None:
    a, b = made("a", (None, 1, [5, 5, 9])), made("b", (None, 1, [4, 4]))
    (row,) = paired(a, b)
    assert (row["utterances"], row["left_out"]) == (2, 1)
    assert row["rate_against"] == pytest.approx(0.5)
    assert "Up to 1 utterances" in format_pairs([row], "table")


def test_folds_are_paired_by_their_names() -> None:
    a = made("a", ("theo", 1, [5, 5]), ("lucas", 1, [1, 1]))
    b = made("b", ("lucas", 1, [0, 1]), ("theo", 1, [5, 4]))
    (row,) = paired(a, b)
    assert (row["difference"], row["utterances"]) == (pytest.approx(-2 / 40), 4)
    assert paired(a, made("b", ("jackson", 1, [1]))) == []
    assert "no two systems" in format_pairs([], "table").lower()


def alone(*several: Results) -> list[str]:
    return without_partner(systems(several), "a")


def test_what_has_no_partner_is_told() -> None:
    a = made("a", (None, 1, [5]))
    assert alone(a) == alone(a, made("b", (None, 1, [5]))) == []
    assert alone(a, made("b", (None, 1, [5]), budget="60s")) == [
        "b (test, 60s, greedy) has no partner: no budget 60s of a there, but 1min.",
        "a (test, 1min, greedy) has no partner: no budget 1min of any other there, but 60s.",
    ]
    assert alone(together(a, made("a", (None, 1, [5]), decoder="beam")), made("b", (None, 1, [5])))[
        0
    ].startswith("a (test, 1min, beam) has no partner: no decoder beam of any other")
    folds = made("a", ("x", 1, [5])), made("b", ("y", 1, [5]))
    (line,) = alone(*folds)
    assert line == (
        "b (test, 1min, greedy) and a (test, 1min, greedy) have no utterance in common: "
        "folds y and x."
    )
    assert format_pairs(paired(*folds), "table", [line]) == line
    rows = paired(a, made("b", (None, 1, [5])))
    assert format_pairs(rows, "table", [line]).endswith(f"\n\n{line}")


def test_other_references_of_an_utterance_are_refused() -> None:
    a, b = made("a", (None, 1, [5])), made("b", (None, 1, [5]))
    counts = next(iter((b.counts or {}).values()))
    on = UtteranceSet(counts.on.utterances, counts.on.speakers, [9], [30])
    other = UtteranceCounts(on, [5], [0], [0], [5])
    with pytest.raises(UserError, match="other references of utterance u0"):
        paired(a, Results(b.rows, {Key.of(b.rows[0]): other}))


def test_pairs_need_the_errors_of_each_utterance() -> None:
    a, b = made("a", (None, 1, [5])), made("b", (None, 1, [5]))
    with pytest.raises(UserError, match="b \\(test, 1min, greedy\\) has no errors"):
        paired(a, Results(b.rows))


def test_an_unknown_system_to_compare_with_is_refused() -> None:
    with pytest.raises(UserError, match="there is no system 'digit'"):
        paired(made("digits", (None, 1, [5])), against="digit")


def test_tables_for_people_show_deviations_only_where_there_are_any() -> None:
    one = tables.compare([made("a", (None, 1, [2]))])
    assert "Over seeds" not in tables.format_table(one, "table")
    two = tables.compare([made("a", (None, 1, [2]), (None, 2, [4]))])
    text = tables.format_table(two, "md")
    assert "| a greedy | 1min     | test       | 30.0  | 2       | 14.1          |" in text


def test_tables_of_characters_show_characters() -> None:
    rows = tables.compare([made("a", (None, 1, [3]))])
    assert "10.0 [0.0, 50.0]" in tables.format_table(rows, "table", "cer")


def test_budgets_of_another_length_stand_in_one_line() -> None:
    a = made("a", (None, 1, [2]))
    b = made("b", (None, 1, [2]), budget_seconds=120.0)
    lines = tables.format_table(tables.compare([a, b]), "md").splitlines()
    assert len([line for line in lines if line.startswith("|")]) == 3
    assert "1.0 min to 2.0 min" in lines[2]


def test_systems_of_different_corpora_stand_in_tables_of_their_own() -> None:
    a = made("a", (None, 1, [2]), corpus="digits")
    b = made("b", (None, 1, [3]), corpus="tsv", budget_seconds=300.0)
    c = made("c", (None, 1, [4]), corpus="digits")
    of_old = made("d", (None, 1, [5]))  # does not tell its corpus, and is of as many words
    lines = tables.format_table(tables.compare([a, b, c, of_old]), "md").splitlines()
    assert [line for line in lines if line.startswith("Corpus")] == [
        "Corpus digits (a, c, d):",
        "Corpus tsv (b):",
    ]
    header, _, of_digits = lines[2:5]
    assert [cell.strip() for cell in header.split("|")[3:6]] == ["a greedy", "c greedy", "d greedy"]
    assert "20.0" in of_digits and "40.0" in of_digits and "30.0" not in of_digits
    assert " to " not in "".join(lines)
    alike = tables.format_table(tables.compare([a, c]), "md")
    assert "Corpus" not in alike and alike.count("\n|") == 2


def test_corpora_of_one_kind_are_told_apart_by_their_words() -> None:
    a, b = made("a", (None, 1, [2]), corpus="tsv"), made("b", (None, 1, [2, 3]), corpus="tsv")
    text = tables.format_table(tables.compare([a, b]), "table")
    assert "Corpus tsv (a):" in text and "Corpus tsv (b):" in text
    other_folds = made("b", ("x", 1, [2, 3]), corpus="tsv")  # no evidence of another corpus
    assert "Corpus" not in tables.format_table(tables.compare([a, other_folds]), "table")
    of_old = made("d", ("x", 1, [2]))  # it does not tell its corpus, and nothing shows it
    text = tables.format_table(tables.compare([a, of_old]), "table")
    assert "A corpus that is not named (d):" in text


def test_programs_get_a_row_per_system_or_pair() -> None:
    a = made("a", ("x", 1, [2]), ("y", 1, [4]))
    b = made("b", ("x", 1, [2]), ("y", 1, [3]))
    rows = tables.compare([a, b])
    read = list(csv.DictReader(tables.format_table(rows, "csv").splitlines()))
    assert [(r["recipe"], r["folds"], float(r["wer"])) for r in read] == [
        ("a", "x y", rows[0]["wer"]),
        ("b", "x y", rows[1]["wer"]),
    ]
    assert json.loads(tables.format_table(rows, "json")) == rows
    pairs = paired(a, b)
    read = list(csv.DictReader(format_pairs(pairs, "csv").splitlines()))
    assert float(read[0]["difference"]) == pairs[0]["difference"]
    assert json.loads(format_pairs(pairs, "json")) == pairs
