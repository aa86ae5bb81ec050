"""The errors of every utterance, as they lie beside results.json."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.errors import RunError, UserError
from stages.acoustic import counts_file
from stages.acoustic.counts_file import Key, UtteranceCounts, UtteranceSet

ON = UtteranceSet(["u1", "u2", "u3"], ["bob", "ann", "bob"], [2, 3, 1], [9, 12, 4])
COUNTS = UtteranceCounts(ON, [1, 0, 0], [0, 2, 0], [0, 0, 3], [4, 8, 7])
KEY = Key("test", None, "1min", 1, "greedy")


def test_what_is_written_is_read(tmp_path: Path) -> None:
    other = replace(ON, utterances=["ä1", "ä2", "ä3"])
    counted = {
        KEY: COUNTS,
        KEY._replace(seed=2): replace(COUNTS, insertions=[0, 0, 0]),
        KEY._replace(fold="theo"): replace(COUNTS, on=other),
    }
    path = tmp_path / "counts.jsonl"
    path.write_text(counts_file.text(counted), "utf-8")
    assert counts_file.read(path) == counted
    assert path.read_text("utf-8").count("u1") == 1  # ids stand once, however many systems


def test_errors_and_lengths_are_of_words_or_of_characters() -> None:
    assert COUNTS.errors("wer") == [1, 2, 3]
    assert COUNTS.errors("cer") == [4, 8, 7]
    assert (list(COUNTS.lengths("wer")), list(COUNTS.lengths("cer"))) == ([2, 3, 1], [9, 12, 4])


def test_scores_of_one_test_set_on_other_utterances_are_refused() -> None:
    other = replace(COUNTS, on=replace(ON, utterances=["u1", "u2", "u4"]))
    with pytest.raises(RunError, match="different utterances"):
        counts_file.text({KEY: COUNTS, KEY._replace(budget="all"): other})


@pytest.mark.parametrize(
    "content",
    ["{", "[1]\n", '{"test_set": "test", "fold": null}\n', '{"utterances": ["u1"]}\n'],
)
def test_a_file_of_something_else_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "counts.jsonl"
    path.write_text(content)
    with pytest.raises(UserError, match="holds no counts"):
        counts_file.read(path)


def test_a_line_that_lacks_utterances_is_refused(tmp_path: Path) -> None:
    text = counts_file.text({KEY: replace(COUNTS, deletions=[0, 2])})
    (tmp_path / "counts.jsonl").write_text(text)
    with pytest.raises(UserError, match="3 utterances has another length"):
        counts_file.read(tmp_path / "counts.jsonl")
