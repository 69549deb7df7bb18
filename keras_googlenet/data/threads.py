"""Work on many images in threads, with a progress bar. OpenCV releases Python's lock."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from multiprocessing.pool import ThreadPool
from typing import TypeVar

from tqdm import tqdm

ITEMS_AT_ONCE = 8  # for a thread

Item = TypeVar("Item")
Result = TypeVar("Result")


def in_threads(work: Callable[[Item], Result], items: Sequence[Item], title: str) -> Iterator[Result]:
    """The result of each item, in order."""
    with ThreadPool() as pool:
        results = pool.imap(work, items, chunksize=ITEMS_AT_ONCE)
        try:
            yield from tqdm(results, title, len(items), leave=False, disable=None)
        finally:  # a thread that is still in OpenCV aborts a process that ends
            pool.terminate()
            pool.join()
