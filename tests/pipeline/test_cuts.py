"""Where long audio is cut: in pauses, and so that nothing is lost, doubled or too long."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.cuts import each_piece, pieces

RATE_HZ, STEP = 16_000, 160


def noise(samples: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(samples).astype(np.float32)


@settings(max_examples=50)
@given(length=st.integers(0, 60_000), longest=st.integers(2000, 9000), seed=st.integers(0, 99))
def test_pieces_hold_every_sample_once_and_none_is_too_long_or_short(
    length: int, longest: int, seed: int
) -> None:
    spans = pieces(noise(length, seed), longest, RATE_HZ)
    assert spans[0][0] == 0
    assert spans[-1][1] == length
    assert [end for _, end in spans[:-1]] == [start for start, _ in spans[1:]]
    sizes = [end - start for start, end in spans]
    assert max(sizes) <= longest
    assert len(sizes) == 1 or min(sizes) >= longest // 6
    assert all(size % STEP == 0 for size in sizes[:-1])


def test_audio_up_to_the_limit_stays_whole() -> None:
    assert pieces(noise(8000), 8000, RATE_HZ) == [(0, 8000)]
    assert len(pieces(noise(8001), 8000, RATE_HZ)) == 2


@pytest.mark.parametrize("pause", [7000, 7360, 7680])
def test_a_cut_lies_in_the_pause(pause: int) -> None:
    samples = noise(14_000)
    samples[pause - 200 : pause + 200] *= 0.01
    first, second = pieces(samples, 8000, RATE_HZ)
    assert abs(first[1] - pause) <= STEP / 2
    assert second == (first[1], 14_000)


def test_of_equal_pauses_the_last_is_taken() -> None:
    samples = np.zeros(20_000, np.float32)
    assert pieces(samples, 8000, RATE_HZ)[0] == (0, 8000)


def test_what_comes_after_a_piece_does_not_move_its_cut() -> None:
    samples = noise(40_000)
    spans = pieces(samples, 8000, RATE_HZ)
    start = spans[1][0]
    assert [(a + start, b + start) for a, b in pieces(samples[start:], 8000, RATE_HZ)] == spans[1:]
    assert pieces(samples[:30_000], 8000, RATE_HZ)[:2] == spans[:2]


def test_a_limit_without_room_for_a_pause_is_refused() -> None:
    with pytest.raises(ValueError, match="too short"):
        pieces(noise(5000), 1000, RATE_HZ)


@settings(max_examples=50)
@given(
    length=st.integers(0, 60_000),
    longest=st.integers(2000, 9000),
    block=st.integers(1, 30_000),
    seed=st.integers(0, 99),
)
def test_audio_in_blocks_is_cut_where_it_is_cut_as_a_whole(
    length: int, longest: int, block: int, seed: int
) -> None:
    samples = noise(length, seed)
    blocks = (samples[n : n + block] for n in range(0, length, block))
    found = list(each_piece(blocks, longest, RATE_HZ))
    spans = pieces(samples, longest, RATE_HZ)
    assert [len(piece) for piece in found] == [end - start for start, end in spans]
    np.testing.assert_array_equal(np.concatenate(found), samples)


def test_of_long_audio_little_is_in_memory() -> None:
    """20 minutes are 77 MB; a piece, its window and a block are 5 MB."""
    rng = np.random.default_rng(0)
    blocks = (rng.standard_normal(131_072, dtype=np.float32) for _ in range(146))
    tracemalloc.start()
    sizes = [len(piece) for piece in each_piece(blocks, 60 * RATE_HZ, RATE_HZ)]
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert sum(sizes) == 146 * 131_072
    assert peak_bytes < 20e6
