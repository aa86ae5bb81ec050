from __future__ import annotations

import threading
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.readers import in_groups, read_ahead


@settings(max_examples=30)
@given(sizes=st.lists(st.integers(1, 9)), limit=st.integers(1, 20), readers=st.integers(1, 4))
def test_all_is_read_in_order_within_the_limit(sizes: list[int], limit: int, readers: int) -> None:
    lock, held, most = threading.Lock(), 0, 0

    def read(item: tuple[int, int]) -> tuple[int, int]:
        nonlocal held, most
        with lock:
            held += item[1]
            most = max(most, held)
        return item

    items = list(enumerate(sizes))
    found = []
    for item in read_ahead(items, read, size=lambda i: i[1], limit=limit, readers=readers):
        found.append(item)
        with lock:
            held -= item[1]
    assert found == items
    # The one that was just handed out is still counted here.
    assert most <= max([limit, *sizes]) + max(sizes, default=0)


def test_reading_goes_on_while_the_reader_of_results_is_busy() -> None:
    read: list[int] = []

    def note(item: int) -> int:
        read.append(item)
        return item

    results = read_ahead(range(10), note, size=lambda _: 1, limit=3, readers=1)
    assert next(results) == 0
    end = time.monotonic() + 10
    while len(read) < 3 and time.monotonic() < end:
        time.sleep(0.01)
    assert read == [0, 1, 2]


def test_an_error_comes_where_its_result_is_due() -> None:
    def read(item: int) -> int:
        if item == 2:
            raise ValueError("item 2")
        return item

    results = read_ahead(range(5), read, size=lambda _: 1, limit=5, readers=2)
    assert [next(results), next(results)] == [0, 1]
    with pytest.raises(ValueError, match="item 2"):
        next(results)


@given(sizes=st.lists(st.integers(1, 9)), limit=st.integers(1, 20), most=st.integers(1, 4))
def test_groups_keep_order_and_limits(sizes: list[int], limit: int, most: int) -> None:
    groups = in_groups(sizes, size=lambda s: s, limit=limit, most=most)
    assert [s for group in groups for s in group] == sizes
    for group in groups:
        assert 1 <= len(group) <= most
        assert len(group) == 1 or sum(group) <= limit
