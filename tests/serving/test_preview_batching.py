"""The batching parameters' meaning, mostly with a function in a session's place, and without a sleep."""

import asyncio
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import grpc
import httpx
import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.protobuf import error_codes_pb2 as code
from tensorflow_serving.apis import prediction_service_pb2_grpc
from tensorflow_serving.apis.predict_pb2 import PredictRequest

from keras_googlenet.errors import UserError
from keras_googlenet.serving.preview.batching import BatchQueue, BatchScheduler
from keras_googlenet.serving.preview.batching_parameters import BatchingParameters, read_parameters
from keras_googlenet.serving.preview.config import ModelConfig
from keras_googlenet.serving.preview.errors import StatusError
from keras_googlenet.serving.preview.grpc_server import grpc_server
from keras_googlenet.serving.preview.models import Models
from keras_googlenet.serving.preview.rest import rest_app
from keras_googlenet.serving.preview.servable import Servable

pytest_plugins = ["small_models"]

FOREVER = 10**12  # microseconds: only a full batch is run


class Double:
    """Doubles what it gets; keeps the batches, and waits where told to."""

    def __init__(self, order=None):
        self.order = [] if order is None else order  # of the batches of several
        self.batches = []
        self.entered, self.proceed = threading.Semaphore(0), threading.Event()
        self.proceed.set()

    def __call__(self, inputs):
        self.batches.append(inputs["x"].tolist())
        self.order.append(inputs["x"].tolist())
        self.entered.release()
        self.proceed.wait()
        if 13 in inputs["x"]:
            raise ValueError("thirteen")
        return {"y": inputs["x"] * 2}


def batching(run, timeout_ms=0, **parameters):
    settings = {"num_batch_threads": 1, "batch_timeout_micros": FOREVER} | parameters
    return BatchQueue(BatchScheduler(BatchingParameters(**settings)), run, timeout_ms)


def ask(queue, values):
    return queue.run({"x": np.array(values)})["y"].tolist()


def until(condition):
    """Wait for what another thread does."""
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def ask_at_once(queue, *requests):
    """Ask from a thread for each request; their answers or errors, in order."""
    with ThreadPoolExecutor(len(requests)) as pool:
        futures = [pool.submit(ask, queue, request) for request in requests]
        return [future.exception() or future.result() for future in futures]


def test_a_batch_closes_when_it_is_full_and_each_gets_its_rows():
    run = Double()
    queue = batching(run, max_batch_size=6)
    assert ask_at_once(queue, [1], [2, 3], [4, 5, 6]) == [[2], [4, 6], [8, 10, 12]]
    (batch,) = run.batches
    assert sorted(batch) == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize("micros", [0, 1000])
def test_a_batch_closes_when_its_time_is_over(micros):
    run = Double()
    assert ask(batching(run, max_batch_size=6, batch_timeout_micros=micros), [1]) == [2]
    assert run.batches == [[1]]


def test_requests_gather_while_the_threads_are_busy():
    run = Double()
    run.proceed.clear()
    queue = batching(run, max_batch_size=8, batch_timeout_micros=0)
    with ThreadPoolExecutor(4) as pool:
        first = pool.submit(ask, queue, [1])
        run.entered.acquire()
        rest = [pool.submit(ask, queue, [value]) for value in (2, 3, 4)]
        until(lambda: len(queue._batches[0].tasks) == 3)
        run.proceed.set()
        assert [first.result(), *(future.result() for future in rest)] == [[2], [4], [6], [8]]
    assert sorted(map(len, run.batches)) == [1, 3]


def test_a_batch_is_padded_to_the_next_allowed_size():
    run = Double()
    queue = batching(run, max_batch_size=8, batch_timeout_micros=0, allowed_batch_sizes=(1, 4, 8))
    assert [ask(queue, [7]), ask(queue, [1, 2]), ask(queue, [1, 2, 3, 4, 5])] == [
        [14],
        [2, 4],
        [2, 4, 6, 8, 10],
    ]
    assert run.batches == [[7], [1, 2, 1, 1], [1, 2, 3, 4, 5, 1, 1, 1]]  # a row of a real request


def refusal(queue, values):
    with pytest.raises(StatusError) as caught:
        ask(queue, values)
    return caught.value.code, caught.value.message


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([1, 2, 3, 4], "Task size 4 is larger than maximum input batch size 3"),
        (1, "at least one dimension"),
        ([], "at least one row"),
    ],
)
def test_a_request_that_no_batch_can_hold_is_refused(values, message):
    number, told = refusal(batching(Double(), max_batch_size=3), values)
    assert number == code.INVALID_ARGUMENT
    assert message in told


def test_inputs_of_different_batches_are_refused():
    queue = batching(Double(), batch_timeout_micros=0)
    with pytest.raises(StatusError, match="equal 0th-dimension size"):
        queue.run({"x": np.zeros(2), "y": np.zeros(3)})


def test_a_full_queue_refuses():
    run = Double()
    run.proceed.clear()
    queue = batching(run, max_batch_size=1, max_enqueued_batches=2)
    with ThreadPoolExecutor(3) as pool:
        running = pool.submit(ask, queue, [1])
        run.entered.acquire()
        waiting = [pool.submit(ask, queue, [value]) for value in (2, 3)]
        until(lambda: len(queue._batches) == 2)
        number, message = refusal(queue, [4])
        run.proceed.set()
        assert [future.result() for future in (running, *waiting)] == [[2], [4], [6]]
    assert number == code.UNAVAILABLE
    assert "currently 2 batches enqueued and max_enqueued_batches is 2" in message


def test_an_error_fails_every_request_of_its_batch_and_no_other():
    queue = batching(Double(), max_batch_size=2)
    errors = ask_at_once(queue, [1], [13])
    assert [(type(error), error.message) for error in errors] == [(StatusError, "thirteen")] * 2
    assert errors[0] is not errors[1]
    assert ask_at_once(queue, [1], [2]) == [[2], [4]]


@pytest.mark.parametrize(
    ("pad", "expected"),
    [(False, None), (True, [[[2, 2]], [[6, 8]]])],
)
def test_rows_of_different_lengths(pad, expected):
    queue = batching(Double(), max_batch_size=2, pad_variable_length_inputs=pad)
    answers = ask_at_once(queue, [[1]], [[3, 4]])
    if pad:
        assert answers == expected  # padded with the first element
    else:
        assert [error.code for error in answers] == [code.FAILED_PRECONDITION] * 2
        assert "different shapes and padding is turned off" in answers[0].message


@pytest.mark.parametrize("output", [np.float32(1), np.zeros(5)], ids=["scalar", "five rows"])
def test_an_output_without_the_batch_first_is_refused(output):
    queue = batching(lambda inputs: {"y": np.asarray(output)}, batch_timeout_micros=0)
    number, message = refusal(queue, [1, 2])
    assert number == code.FAILED_PRECONDITION
    assert "Batched output tensor" in message


def test_a_request_whose_time_ran_out_in_the_queue_is_refused():
    queue = batching(Double(), timeout_ms=1, batch_timeout_micros=5000)
    assert refusal(queue, [1]) == (
        code.RESOURCE_EXHAUSTED,
        "Run() timeout exceeded while waiting in batching queue",
    )


class Slow(tf.errors.DeadlineExceededError):
    """What a session raises."""

    def __init__(self):
        super().__init__(None, None, "Timed out")


def test_a_run_that_takes_too_long_fails_the_slow_request_alone():
    def run(inputs):
        if 13 in inputs["x"]:
            raise Slow
        return {"y": inputs["x"] * 2}

    queue = batching(run, timeout_ms=60_000, max_batch_size=3)
    first, slow, last = ask_at_once(queue, [1], [13], [2])
    assert (first, last) == ([2], [4])
    assert slow.code == code.DEADLINE_EXCEEDED


def test_queues_share_the_threads_in_turn():
    order = []
    run, other = Double(order), Double(order)
    run.proceed.clear()
    scheduler = BatchScheduler(BatchingParameters(max_batch_size=1, num_batch_threads=1))
    busy, idle = BatchQueue(scheduler, run), BatchQueue(scheduler, other)
    with ThreadPoolExecutor(4) as pool:
        futures = [pool.submit(ask, busy, [1])]
        run.entered.acquire()
        futures += [pool.submit(ask, busy, [value]) for value in (2, 3)]
        until(lambda: len(busy._batches) == 2)
        futures.append(pool.submit(ask, idle, [9]))
        until(lambda: idle._batches[0].tasks)
        run.proceed.set()
        assert sorted(future.result() for future in futures) == [[2], [4], [6], [18]]
    assert order.index([9]) == 2  # it did not wait for all of the other queue


def test_waits_are_told():
    waits = []
    scheduler = BatchScheduler(BatchingParameters(num_batch_threads=1), waits.append)
    assert ask(BatchQueue(scheduler, Double()), [1]) == [2]
    assert len(waits) == 1
    assert waits[0] >= 0


def test_a_full_queue_is_told_over_both_protocols(adders):
    """503 over REST, UNAVAILABLE over gRPC; who came in time is answered."""
    scheduler = BatchScheduler(BatchingParameters(1, max_enqueued_batches=1, num_batch_threads=1))
    models = Models(lambda name, number, folder: Servable(number, folder, scheduler))
    models.reload([ModelConfig("other", adders / "other")], first=True)
    server, port = grpc_server(models, models.reload, host="127.0.0.1", port=0)
    server.start()
    app = rest_app(models)
    request = PredictRequest()
    request.model_spec.name, request.model_spec.signature_name = "other", "count"
    request.inputs["n"].CopyFrom(tf.make_tensor_proto(np.int64([50_000])))
    body = {"signature_name": "count", "inputs": [50_000]}

    async def over_rest():
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://preview") as client:
            asked = [client.post("/v1/models/other:predict", json=body) for _ in range(6)]
            return {response.status_code for response in await asyncio.gather(*asked)}

    assert asyncio.run(over_rest()) == {200, 503}
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        calls = [stub.Predict.future(request, 60) for _ in range(6)]
        assert {call.code() for call in calls} == {grpc.StatusCode.OK, grpc.StatusCode.UNAVAILABLE}
    server.stop(None)
    models.close()


# --- the file ------------------------------------------------------------------------------------

FULL = """
max_batch_size { value: 8 }
batch_timeout_micros { value: 2000 }
max_enqueued_batches { value: 3 }
num_batch_threads { value: 2 }
thread_pool_name { value: "pool" }
allowed_batch_sizes: 1
allowed_batch_sizes: 8
pad_variable_length_inputs: true
"""


def test_parameters_are_read_as_serving_writes_them(tmp_path):
    path = tmp_path / "batching_parameters.txt"
    path.write_text(FULL)
    assert read_parameters(path) == BatchingParameters(8, 2000, 3, 2, (1, 8), True, "pool")
    path.write_text("")
    assert read_parameters(path) == BatchingParameters()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("max_batch_size: 8", "2?:.*max_batch_size"),
        ("batch_size { value: 8 }", 'no field named "batch_size"'),
        ("max_batch_size { value: 0 }", "max_batch_size of 1 or more"),
        ("batch_timeout_micros { value: -1 }", "batch_timeout_micros of 0 or more"),
        ("max_batch_size { value: 8 } allowed_batch_sizes: 4", r"the last of them max_batch_size \(8\)"),
        ("max_batch_size { value: 8 } allowed_batch_sizes: [4, 2, 8]", "ascending"),
    ],
)
def test_wrong_parameters_are_named(tmp_path, text, message):
    path = tmp_path / "batching_parameters.txt"
    path.write_text(text)
    with pytest.raises(UserError, match=message):
        read_parameters(path)
