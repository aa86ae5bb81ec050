from __future__ import annotations

import numpy as np
import pytest

from stages.acoustic.decoders.greedy import Greedy, collapse
from stages.acoustic.targets import Targets


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
