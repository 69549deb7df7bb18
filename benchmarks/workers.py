"""Worker processes of `inference.py`, one per contender."""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from itertools import count
from typing import Any

import numpy as np
from runtimes import Answer, Contender

from keras_googlenet.errors import UserError


class Worker:
    """A contender in a separate process.

    Raises:
        UserError: The process does not start.
    """

    def __init__(self, contender: Contender, threads: int) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, other = context.Pipe()
        self._process = context.Process(target=work, args=(contender, threads, other), daemon=True)
        before = dict(os.environ)
        os.environ |= contender.environment
        self._process.start()
        for name in contender.environment:
            os.environ.pop(name)
        os.environ |= before
        other.close()
        self.ask("ready")

    def ask(self, *question: Any) -> Any:
        """Send a request to the worker and return its response."""
        try:
            self._pipe.send(question)
            answer = self._pipe.recv()
        except (EOFError, BrokenPipeError):
            raise UserError("its process ended") from None
        if isinstance(answer, str):
            raise UserError(answer)
        return answer

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.join()


def work(contender: Contender, threads: int, pipe: Any) -> None:
    """Main function of a worker: load, then handle requests. Sends an error as one line of text."""
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])
    try:
        answer = contender.load(contender.path, contender.precision, threads)
        questions: dict[str, Callable[..., Any]] = {
            "ready": lambda: None,
            "answer": answer,
            "rate": partial(rate, answer),
        }
        while True:
            kind, *given = pipe.recv()
            pipe.send(questions[kind](*given))
    except (KeyboardInterrupt, EOFError):
        pass
    except Exception as error:  # a peer that fails is reported, and the others are measured
        pipe.send((str(error).strip() or type(error).__name__).splitlines()[0])


def rate(answer: Answer, pixels: np.ndarray, seconds: float) -> float:
    """Images/s, one batch after another."""
    answer(pixels)  # fills the caches, which another process has just used
    begun = time.perf_counter()
    for calls in count(1):
        answer(pixels)
        if (taken := time.perf_counter() - begun) >= seconds:
            return calls * len(pixels) / taken
    raise AssertionError("count() has no end")


@contextmanager
def workers(contenders: Mapping[str, Contender], threads: int) -> Iterator[dict[str, Worker]]:
    """Start the workers; reports those that do not start, and returns the others by name."""
    found = {}
    with ExitStack() as stack:
        for name, contender in contenders.items():
            try:
                found[name] = Worker(contender, threads)
                stack.callback(found[name].close)
            except UserError as missing:
                print(f"without {name}: {missing}")
        yield found
