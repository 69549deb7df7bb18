"""Concurrent requests as one batch, as TensorFlow Serving's batching parameters define it.

Sources: TensorFlow Serving's `batching_session.cc` and TensorFlow's `shared_batch_scheduler.h`. Each
signature of each version has a queue, whose last batch is open. A batch runs once it is full or has timed
out, and one of the threads that all queues share is free.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from tensorflow.core.protobuf import error_codes_pb2 as code

from keras_googlenet.serving.preview.batching_parameters import BatchingParameters
from keras_googlenet.serving.preview.errors import StatusError, invalid
from keras_googlenet.serving.preview.inference import Arrays
from keras_googlenet.serving.preview.reports import report, supervised


@dataclass
class _Task:
    inputs: Arrays
    rows: int
    enqueued: float = field(default_factory=time.perf_counter)
    done: threading.Event = field(default_factory=threading.Event)
    outputs: Arrays | None = None
    error: StatusError | None = None


@dataclass
class _Batch:
    tasks: list[_Task] = field(default_factory=list)
    rows: int = 0


class BatchQueue:
    """The requests for one signature that wait for their batch.

    Args:
        scheduler: The scheduler that has the threads.
        run: Runs a batch of merged inputs.
        timeout_ms: Maximum wait of a request in milliseconds; 0 for no limit.
    """

    def __init__(
        self, scheduler: BatchScheduler, run: Callable[[Arrays], Arrays], timeout_ms: int = 0
    ) -> None:
        self._scheduler, self._run, self._timeout_ms = scheduler, run, timeout_ms
        self._batches: deque[_Batch] = deque([_Batch()])

    def run(self, inputs: Arrays) -> Arrays:
        """Run a request as a part of a batch; returns when its batch is done.

        Raises:
            StatusError: The request cannot be batched, the queue is full, or the batch failed, and with it
                every request in it.
        """
        rows = {len(array) if array.ndim else None for array in inputs.values()}
        if None in rows:
            raise invalid("Batching Run() input tensors must have at least one dimension")
        if len(rows) > 1:
            raise invalid("Batching Run() input tensors must have equal 0th-dimension size")
        size = rows.pop() or 0
        if not size:
            raise invalid("Batching Run() input tensors must have at least one row")
        task = _Task(inputs, size)
        self._scheduler.enqueue(self, task)
        task.done.wait()
        if task.error is not None:  # a new exception: threads would share the traceback
            raise StatusError(task.error.code, task.error.message)
        assert task.outputs is not None
        return task.outputs

    def add(self, task: _Task, parameters: BatchingParameters) -> None:
        """Put a task in the open batch, or in a new one; the scheduler's lock is held."""
        if task.rows > parameters.max_batch_size:
            raise invalid(
                f"Task size {task.rows} is larger than maximum input batch size {parameters.max_batch_size}"
            )
        if self._batches[-1].rows + task.rows > parameters.max_batch_size:
            if len(self._batches) >= parameters.max_enqueued_batches:
                # As TensorFlow's shared_batch_scheduler.h, in TensorFlow Serving: 503 over REST.
                raise StatusError(
                    code.UNAVAILABLE,
                    "The batch scheduling queue to which this task was submitted is full; currently "
                    f"{len(self._batches)} batches enqueued and max_enqueued_batches is "
                    f"{parameters.max_enqueued_batches}",
                )
            self._batches.append(_Batch())
        self._batches[-1].tasks.append(task)
        self._batches[-1].rows += task.rows

    def ready_in(self, now: float, parameters: BatchingParameters) -> float | None:
        """Seconds until the first batch may be run, `None` while there is none; the lock is held."""
        first = self._batches[0]
        if not first.tasks:
            return None
        if len(self._batches) > 1 or first.rows >= parameters.max_batch_size:
            return 0.0
        return max(0.0, first.tasks[0].enqueued + parameters.batch_timeout_micros / 1e6 - now)

    def take(self) -> _Batch:
        """Remove the first batch; the scheduler's lock is held."""
        batch = self._batches.popleft()
        if not self._batches:
            self._batches.append(_Batch())
        return batch

    def process(self, batch: _Batch, parameters: BatchingParameters, waited: Callable[[float], None]) -> None:
        """Run a batch, and hand each of its tasks its rows or the batch's error."""
        try:
            now = time.perf_counter()
            for task in batch.tasks:
                waited(now - task.enqueued)
            # One task that is in time keeps the whole batch in time, as in TensorFlow Serving.
            if self._timeout_ms and (now - batch.tasks[-1].enqueued) * 1000 >= self._timeout_ms:
                raise StatusError(
                    code.RESOURCE_EXHAUSTED, "Run() timeout exceeded while waiting in batching queue"
                )
            merged = _merge(batch, parameters)
            outputs = self._run(merged)
            _split(batch, outputs, len(next(iter(merged.values()))))
        except Exception as error:
            failure = StatusError.of(error)
            if failure.code == code.DEADLINE_EXCEEDED and len(batch.tasks) > 1:
                self._run_alone(batch.tasks)  # the bound on one client's request is not to fail another's
            else:
                for task in batch.tasks:
                    task.error = failure
        finally:
            for task in batch.tasks:
                task.done.set()

    def _run_alone(self, tasks: Sequence[_Task]) -> None:
        """Rerun each request of a batch that timed out separately, the smallest first."""
        patience = 2 * self._timeout_ms / 1000
        for task in sorted(tasks, key=_task_bytes):
            try:
                if time.perf_counter() - task.enqueued > patience:
                    raise StatusError(code.DEADLINE_EXCEEDED, "Timed out: the batch took too long")
                task.outputs = self._run(task.inputs)
            except Exception as error:
                task.error = StatusError.of(error)
            finally:
                task.done.set()


class BatchScheduler:
    """The threads that run batches, for all queues.

    Args:
        parameters: The batching parameters.
        waited: Called with the seconds that each request spent in its queue.
    """

    def __init__(
        self, parameters: BatchingParameters, waited: Callable[[float], None] = lambda seconds: None
    ) -> None:
        self.parameters, self._waited = parameters, waited
        self._queues: deque[BatchQueue] = deque()  # those with tasks; the next in turn first
        self._changed = threading.Condition()
        for index in range(parameters.num_batch_threads):
            supervised(self._run_one, self._failed, f"{parameters.thread_pool_name}-{index}")

    def enqueue(self, queue: BatchQueue, task: _Task) -> None:
        """Put a task in a queue; raises as `BatchQueue.add`."""
        with self._changed:
            queue.add(task, self.parameters)
            if queue not in self._queues:
                self._queues.append(queue)
            self._changed.notify()

    def _failed(self, error: Exception) -> None:
        report(f"preview: a batch thread goes on after {type(error).__name__}: {error}")

    def _run_one(self) -> None:
        # In a separate frame, so that a thread that waits keeps neither a batch nor a version alive.
        with self._changed:
            while (found := self._next()) is None:
                pass
        queue, batch = found
        queue.process(batch, self.parameters, self._waited)

    def _next(self) -> tuple[BatchQueue, _Batch] | None:
        """A batch to run; where there is none, wait until one may be there."""
        now, shortest = time.perf_counter(), None
        for _ in range(len(self._queues)):
            queue = self._queues[0]
            wait = queue.ready_in(now, self.parameters)
            self._queues.rotate(-1)
            if wait == 0:
                batch = queue.take()
                if queue.ready_in(now, self.parameters) is None:
                    self._queues.remove(queue)
                else:
                    self._changed.notify()
                return queue, batch
            if wait is not None:
                shortest = wait if shortest is None else min(shortest, wait)
        self._changed.wait(shortest)
        return None


def _task_bytes(task: _Task) -> int:
    return sum(
        sum(map(len, array.flat)) if array.dtype == object else array.nbytes for array in task.inputs.values()
    )


def _merge(batch: _Batch, parameters: BatchingParameters) -> Arrays:
    rows = next((size for size in parameters.allowed_batch_sizes if size >= batch.rows), batch.rows)
    merged = {}
    for name in batch.tasks[0].inputs:
        arrays = [task.inputs[name] for task in batch.tasks]
        if parameters.pad_variable_length_inputs:
            arrays = _padded(name, arrays)
        elif len({array.shape[1:] for array in arrays}) > 1:
            raise StatusError(
                code.FAILED_PRECONDITION,
                f"Tensors with name '{name}' from different tasks have different shapes and padding is "
                "turned off.Set pad_variable_length_inputs to true, or ensure that all tensors with the "
                "same namehave equal dimensions starting with the first dim.",
            )
        if rows > batch.rows:  # a row of the last task is known to be a valid one
            arrays = [*arrays, np.repeat(arrays[-1][:1], rows - batch.rows, axis=0)]
        merged[name] = np.concatenate(arrays) if len(arrays) > 1 else arrays[0]
    return merged


def _padded(name: str, arrays: list[np.ndarray]) -> list[np.ndarray]:
    if len({array.ndim for array in arrays}) > 1:
        raise invalid(f"Tensors with name '{name}' from different tasks have different ranks")
    largest = [max(sizes) for sizes in zip(*(array.shape[1:] for array in arrays), strict=True)]
    padded = []
    for array in arrays:
        filler = array.flat[0] if array.size else np.zeros((), array.dtype)[()]
        full = np.full((len(array), *largest), filler, dtype=array.dtype)
        full[tuple(map(slice, array.shape))] = array
        padded.append(full)
    return padded


def _split(batch: _Batch, outputs: Arrays, rows: int) -> None:
    for array in outputs.values():
        if array.ndim == 0:
            raise StatusError(code.FAILED_PRECONDITION, "Batched output tensor has 0 dimensions")
        if len(array) != rows:
            raise StatusError(
                code.FAILED_PRECONDITION,
                "Batched output tensor's 0th dimension does not equal the sum of the 0th dimension sizes of "
                "the input tensors",
            )
    start = 0
    for task in batch.tasks:
        task.outputs = {name: array[start : start + task.rows] for name, array in outputs.items()}
        start += task.rows
