"""Sources in little memory come out as they went in."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

from stages.prepare.corpus import Source
from stages.prepare.packed import Packed, by_id

SOURCES = [
    Source("b", "anna", "turn left", Path("/one"), ("a/b.wav",)),
    Source("a", "bert", None, Path("/other"), ("a.wav", "ü\udc80.wav"), {"speed": 1, "x": [1.0]}),
    Source("ü", "anna", "", Path("/one"), (), {"speed": 1.0, "deep": {"on": True, "off": None}}),
]


def test_sources_come_out_as_they_went_in() -> None:
    given = list(SOURCES)
    packed = Packed(given)
    assert given == []
    assert list(packed) == SOURCES
    assert [repr(dict(s.parameters)) for s in packed] == [repr(dict(s.parameters)) for s in SOURCES]
    assert (packed[-1], packed[1:], len(packed)) == (SOURCES[-1], SOURCES[1:], 3)


def test_sources_are_sorted_by_id_and_equal_ones_stay_in_order() -> None:
    again = Source("a", "carl", None, Path("/one"))
    assert [s.speaker for s in by_id([*SOURCES, again])] == ["bert", "carl", "anna", "anna"]
    assert list(by_id(Packed(list(SOURCES)))) == sorted(SOURCES, key=lambda s: s.id)


def test_packed_sources_take_half_the_memory() -> None:
    """Of utterances as LibriSpeech has them."""

    def made(number: int) -> Source:
        name = f"{number // 100:04d}-{number:06d}-0000"
        words = f"{number:06d} ".ljust(190, "w")
        path = f"LibriSpeech/train-clean-100/{number // 100:04d}/{number:06d}/{name}.flac"
        return Source(name, f"{number // 100:04d}", words, Path("/root"), (path,))

    tracemalloc.start()
    try:
        sources = [made(number) for number in range(2_000)]
        before, _ = tracemalloc.get_traced_memory()
        packed = Packed(sources)
        after, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(packed) == 2_000
    assert after < 0.6 * before
    assert peak < 1.1 * before  # each goes when it is packed
