"""Label budgets: nested, balanced over speakers, the same everywhere."""

from __future__ import annotations

import itertools
import random
from collections import Counter
from collections.abc import Iterable

import pytest

from pipeline.errors import UserError
from pipeline.manifest import Utterance
from stages.prepare.budgets import choose, labelling_order


def speech(counts: dict[str, int], seconds: float = 2.0) -> list[Utterance]:
    return [
        Utterance(f"{speaker}-{n:03d}", speaker, "x", True, 32_000, seconds + 0.1 * (n % 5), "a")
        for speaker, count in counts.items()
        for n in range(count)
    ]


TRAIN = speech({"anna": 40, "bert": 40, "carl": 40, "dora": 10})


def names(utterances: Iterable[Utterance]) -> set[str]:
    return {u.id for u in utterances}


def test_smaller_budgets_lie_inside_larger_ones() -> None:
    chosen = [names(choose(TRAIN, b)) for b in ("10s", "30s", "1min", "2min", "all")]
    for smaller, larger in itertools.pairwise(chosen):
        assert smaller < larger
    assert chosen[-1] == names(TRAIN)


@pytest.mark.parametrize("budget", ["10s", "30s", "1min", "200s"])
def test_a_budget_is_filled_and_not_exceeded(budget: str) -> None:
    seconds = {"10s": 10, "30s": 30, "1min": 60, "200s": 200}[budget]
    spoken = sum(u.speech_seconds for u in choose(TRAIN, budget))
    assert seconds - 2.5 < spoken <= seconds


def test_speakers_have_equal_shares_as_long_as_they_have_speech() -> None:
    sums: Counter[str] = Counter()
    for utterance in choose(TRAIN, "1min"):
        sums[utterance.speaker] += utterance.speech_seconds  # type: ignore[assignment]
    assert set(sums) == {"anna", "bert", "carl", "dora"}
    assert max(sums.values()) - min(sums.values()) <= 2.5


def test_the_order_of_the_list_does_not_matter() -> None:
    shuffled = TRAIN[:]
    random.Random(1).shuffle(shuffled)
    assert list(choose(shuffled, "1min")) == list(choose(TRAIN, "1min"))


def test_the_choice_is_the_same_on_every_machine() -> None:
    first = [u.id for u in labelling_order(TRAIN)][:6]
    assert first == ["anna-005", "bert-000", "carl-006", "dora-003", "anna-038", "bert-025"]


def test_other_speakers_do_not_change_who_of_a_speaker_comes_first() -> None:
    order = [u.id for u in labelling_order(TRAIN) if u.speaker == "anna"]
    alone = [u.id for u in labelling_order(TRAIN[:40])]
    assert order == alone


def test_speech_without_transcripts_is_in_no_budget() -> None:
    silent = [Utterance("x", "anna", "x", True, 16_000, 1.0, None)]
    assert "x" not in names(choose(TRAIN + silent, "all"))
    with pytest.raises(UserError, match="no transcripts"):
        choose(silent, "all")


def test_a_budget_larger_than_the_corpus_tells_what_there_is() -> None:
    total = sum(u.speech_seconds for u in TRAIN) / 60
    with pytest.raises(UserError, match=f"(?s)1h is larger.*at most {total:.1f} minutes.*60.0"):
        choose(TRAIN, "1h")


def test_a_budget_that_no_utterance_fits_is_named() -> None:
    with pytest.raises(UserError, match=r"(?s)No utterance fits budget 1s.*2\.\d s long"):
        choose(TRAIN, "1s")
