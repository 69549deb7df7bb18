"""What `export` shows while it works, in a terminal."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from tqdm import tqdm


@contextmanager
def stage(name: str) -> Iterator[None]:
    """Show a stage of the work, and at its end the time it took, where standard error is a terminal."""
    with tqdm(desc=name, bar_format="{elapsed}  {desc}", disable=None):
        yield
