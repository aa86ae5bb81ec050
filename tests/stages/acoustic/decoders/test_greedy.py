from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.recipe import TextSettings
from stages.acoustic.decoders.greedy import Greedy, collapse
from stages.acoustic.targets import Targets, make


@pytest.mark.parametrize(
    ("path", "ids"),
    [([], []), ([0, 0], []), ([1, 1, 0, 1, 2, 2], [1, 1, 2]), ([0, 3, 3, 0, 0, 3], [3, 3])],
)
def test_runs_collapse_before_blanks_fall_away(path: list[int], ids: list[int]) -> None:
    assert collapse(path, 0) == ids


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ([2, 2, 1, 3, 0, 3], ["a", "bb"]),
        ([1, 1, 2, 0, 1, 0, 1], ["a"]),  # boundaries at the ends and twice in a row
        ([0, 0], []),
        ([], []),
    ],
)
def test_the_likeliest_targets_become_words(path: list[int], words: list[str]) -> None:
    decoder = Greedy(Targets("letters", ["<blank>", "|", "a", "b"]))
    assert decoder.decode(np.eye(4, dtype=np.float32)[path].reshape(-1, 4)) == words


@pytest.fixture(scope="module")
def all_targets(tmp_path_factory: pytest.TempPathFactory) -> list[Targets]:
    text = ["turn left now", "turn right", "the lamp is left of the robot", "now go"]
    kinds = [
        TextSettings(),
        TextSettings(units="words"),
        TextSettings(units="sentencepiece", pieces=40),
        TextSettings(units="sentencepiece", pieces=40, piece_type="bpe"),
    ]
    return [make(tmp_path_factory.mktemp("targets"), kind, text) for kind in kinds]


@given(data=st.data(), kind=st.integers(0, 3))
def test_any_path_has_its_words_where_their_targets_stand(
    all_targets: list[Targets], data: st.DataObject, kind: int
) -> None:
    """Cut off at the end of a word, the path still writes all the words so far."""
    targets = all_targets[kind]
    decoder = Greedy(targets)
    path = data.draw(st.lists(st.integers(0, len(targets) - 1), min_size=1, max_size=20))
    log_probs_TV = np.log(np.full((len(path), len(targets)), 0.01, np.float32))
    log_probs_TV[np.arange(len(path)), path] = np.log(0.5)
    [found] = decoder.nbest(log_probs_TV)
    assert list(found.words) == decoder.decode(log_probs_TV)
    assert found.path == tuple(path)
    assert found.acoustic == found.total == pytest.approx(len(path) * np.log(0.5), rel=1e-5)
    for n, end in enumerate(found.ends):
        assert decoder.decode(log_probs_TV[: end + 1]) == list(found.words[: n + 1])


def test_no_frames_hold_no_words() -> None:
    [found] = Greedy(Targets("letters", ["<blank>", "|", "a"])).nbest(np.zeros((0, 3)))
    assert (found.words, found.lm, found.total) == ((), None, 0.0)


def test_the_one_hypothesis_is_all_there_is() -> None:
    decoder = Greedy(Targets("letters", ["<blank>", "|", "a"]))
    assert len(decoder.nbest(np.zeros((3, 3), np.float32), count=5)) == 1
