"""Decoding in processes: the same as alone, and told where one dies."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from pipeline.errors import RunError
from pipeline.recipe import DecodeSettings
from stages.acoustic import decoding, search, tuning
from stages.acoustic.decoding import NO_WEIGHTS, Weights
from stages.acoustic.search import Desk, Job, Search, Utterances, decode_split
from stages.acoustic.search_ahead import SearchAhead

LETTERS = '{"units": "letters", "blank": 0, "symbols": ["<blank>", "|", "a", "b"]}'
LEXICON = "a\ta |\nab\ta b |\nbb\tb b |\n"
ARPA = """\\data\\
ngram 1=6
ngram 2=2

\\1-grams:
-4\t<unk>
-99\t<s>\t-0.2
-0.9\t</s>
-0.5\ta\t-0.3
-0.7\tab\t-0.1
-1.1\tbb\t-0.4

\\2-grams:
-0.3\t<s> a
-0.4\ta ab

\\end\\
"""
GRID = [Weights(lm, word, 50) for lm in (0.0, 0.5, 1.5) for word in (-20.0, 0.0, 1.0)]


@pytest.fixture
def job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Job:
    """Ten noisy utterances, of which a part holds three."""
    (tmp_path / "targets.json").write_text(LETTERS)
    (tmp_path / "lexicon.txt").write_text(LEXICON)
    (tmp_path / "lm.bin").write_text(ARPA)  # KenLM reads either form
    draw = np.random.default_rng(5)
    logits = {f"u{n}": draw.normal(size=(8 + n, 4)) * 2 for n in range(10)}
    arrays = {i: x - np.log(np.exp(x).sum(1, keepdims=True)) for i, x in logits.items()}
    decoding.write_log_probs(tmp_path / "cache", decoding.Outputs(arrays, {}))
    monkeypatch.setattr(search, "UTTERANCES", 3)
    return Job("lexicon_beam", tmp_path, DecodeSettings(), tmp_path / "cache")


def opened(job: Job, workers: int) -> Search:
    return Search(job, decoding.read_log_probs(job.log_probs), workers)


def test_processes_change_no_result(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    references = {f"u{n}": ("a bb ab", "ab a")[n % 2] for n in range(10)}
    told: list[int] = []
    found = []
    for workers, from_seconds in ((1, 0.0), (2, 1e9), (2, 0.0), (3, 0.0)):
        monkeypatch.setattr(search, "PARALLEL_FROM_SECONDS", from_seconds)
        with opened(job, workers) as one:
            trials = tuning.tune(one, references, GRID, told.append)
            decoded = decode_split(one, Weights(0.5, 1.0), 4, told.append)
            assert (one.pool is not None) == (workers > 1 and not from_seconds)
        found.append((trials, decoded))
    assert all(each == found[0] for each in found[1:])
    trials, decoded = found[0]
    assert [t.weights for t in trials] == GRID
    assert len({t.errors for t in trials}) > 2  # the grid makes a difference here
    assert list(decoded) == [f"u{n}" for n in range(10)]
    assert len(told) == 4 * (4 * len(GRID) + 4)


def test_a_split_is_decoded_as_utterances_alone(job: Job) -> None:
    with opened(job, 1) as one:
        decoded = decode_split(one, Weights(0.5, 1.0), 2, lambda _: None)
        desk = one.desk
        for name, found in decoded.items():
            words = desk.decoder.decode(desk.log_probs[name], Weights(0.5, 1.0))
            assert found.text.split() == words == [t.word for t in found.times]
            assert len(found.nbest) == 2


@pytest.mark.parametrize("workers", [1, 3])
def test_what_is_searched_ahead_is_found_as_stage_6_finds_it(
    job: Job, monkeypatch: pytest.MonkeyPatch, workers: int
) -> None:
    monkeypatch.setattr(search, "PARALLEL_FROM_SECONDS", 1e-9)  # after the first
    with opened(job, 1) as one:
        expected = decode_split(one, Weights(0.5, 1.0), 1, lambda _: None)
        decoder, log_probs = one.desk.decoder, one.desk.log_probs
    alone = Job(job.decoder, job.folder_lm, job.settings)
    with SearchAhead(alone, decoder, Weights(0.5, 1.0), workers) as ahead:
        assert ahead.waiting == 0
        begun = {name: ahead.begin(log_probs[name]) for name in sorted(log_probs)}
        assert (ahead.pool is not None) == (workers > 1)
        assert ahead.waiting == (12 if workers > 1 else 0)
        assert {name: result() for name, result in begun.items()} == expected


def test_a_process_that_cannot_open_the_folder_is_told_where_its_result_is_asked_for(
    job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search, "PARALLEL_FROM_SECONDS", 0.0)
    desk = Desk(job)
    (job.folder_lm / "targets.json").unlink()
    alone = Job(job.decoder, job.folder_lm, job.settings)
    with SearchAhead(alone, desk.decoder, Weights(0.5, 1.0), 2) as ahead:
        result = ahead.begin(desk.log_probs["u1"])
        with pytest.raises(RunError, match="could not start to decode"):
            result()


def dies(desk: Desk, part: Utterances) -> None:
    if part.ids == ("u1",):
        os._exit(9)


def test_a_process_that_dies_is_told(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "PARALLEL_FROM_SECONDS", 0.0)
    parts = [Utterances((f"u{n}",), NO_WEIGHTS) for n in range(3)]
    with (
        pytest.raises(RunError, match=r"(?s)stopped early.*decode\.beam"),
        opened(job, 2) as one,
    ):
        one.map(dies, parts, lambda _: None)


def where(desk: Desk, part: Utterances) -> tuple[int, str]:
    """The process, and how it holds the log-probabilities."""
    return os.getpid(), type(desk.log_probs).__name__


def test_processes_read_log_probabilities_utterance_by_utterance(
    job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search, "PARALLEL_FROM_SECONDS", 0.0)
    parts = [Utterances((f"u{n}",), NO_WEIGHTS) for n in range(3)]
    with opened(job, 2) as one:
        told = one.map(where, parts, lambda _: None)
    assert told[0] == (os.getpid(), "dict")
    assert {kind for pid, kind in told[1:] if pid != os.getpid()} == {"LogProbsOnDisk"}
    lazy, whole = decoding.LogProbsOnDisk(job.log_probs), decoding.read_log_probs(job.log_probs)
    assert list(lazy) == list(whole) and len(lazy) == 10
    assert all(np.array_equal(lazy[name], whole[name]) for name in whole)


def test_a_process_that_cannot_start_is_not_told_as_out_of_memory(
    job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search, "PARALLEL_FROM_SECONDS", 0.0)
    parts = [Utterances((f"u{n}",), NO_WEIGHTS) for n in range(3)]
    with opened(job, 2) as one:
        (job.folder_lm / "targets.json").unlink()
        with pytest.raises(RunError, match="could not start to decode") as caught:
            one.map(where, parts, lambda _: None)
    assert "targets.json" in caught.value.found
    assert "memory" not in str(caught.value)
