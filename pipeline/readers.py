"""Reading ahead of the compute: a few threads, and never more in memory than is allowed."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Read = TypeVar("Read")


def read_ahead(
    items: Sequence[Item],
    read: Callable[[Item], Read],
    *,
    size: Callable[[Item], int],
    limit: int,
    readers: int,
) -> Iterator[Read]:
    """`read(item)` of every item, in order, from threads that are ahead of who asks.

    Items read or being read and not yet handed out have at most `limit` together by `size`,
    but for one that is larger alone. What `read` raises is raised where its result is due.
    """
    waiting = deque(items)
    started: deque[tuple[int, Future[Read]]] = deque()
    held = 0
    pool = ThreadPoolExecutor(readers, "reader")
    try:
        while waiting or started:
            while waiting and (not started or held + size(waiting[0]) <= limit):
                item = waiting.popleft()
                started.append((size(item), pool.submit(read, item)))
                held += started[-1][0]
            its_size, future = started.popleft()
            result = future.result()
            held -= its_size
            yield result
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def in_groups(
    items: Sequence[Item], *, size: Callable[[Item], int], limit: int, most: int
) -> list[list[Item]]:
    """Neighbours together, at most `most` and `limit` by `size`; a larger one stands alone."""
    groups: list[list[Item]] = []
    held = 0
    for item in items:
        if not groups or len(groups[-1]) == most or held + size(item) > limit:
            groups.append([])
            held = 0
        groups[-1].append(item)
        held += size(item)
    return groups
