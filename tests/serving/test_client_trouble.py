"""The client against servers that are busy, slow, broken, away or not ready, over REST and gRPC alike."""

import email.utils
import math
import re
import socket
import threading
import time
from datetime import UTC, datetime, timedelta

import grpc
import pytest
from scripted_server import GOOD_PNG, Script, failure, grpc_server, rest_server

from keras_googlenet.errors import UserError
from keras_googlenet.serving import Client

pytest_plugins = ["scripted_clients"]


@pytest.mark.parametrize("code", ["UNAVAILABLE", "RESOURCE_EXHAUSTED"])
def test_passing_trouble_is_retried(connect, code):
    script = Script(code, code)
    assert connect(script, retries=2).predict(GOOD_PNG)
    assert len(script.asked) == 3


@pytest.mark.parametrize("code", ["UNAVAILABLE", "RESOURCE_EXHAUSTED"])
def test_retries_end(connect, code):
    script = Script(*[code] * 10)
    error = failure(connect(script, retries=2).predict, GOOD_PNG)
    assert error.code == code
    assert f"scripted {code}" in str(error)
    assert "(3 times tried)" in str(error)
    assert len(script.asked) == 3


def test_no_retries(connect):
    script = Script("UNAVAILABLE")
    assert failure(connect(script, retries=0).predict, GOOD_PNG).code == "UNAVAILABLE"
    assert len(script.asked) == 1


@pytest.mark.parametrize("code", ["NOT_FOUND", "UNIMPLEMENTED", "DEADLINE_EXCEEDED"])
def test_lasting_trouble_is_not_retried(connect, code):
    script = Script(code)
    assert failure(connect(script).predict, GOOD_PNG).code == code
    assert len(script.asked) == 1


def test_waits_grow_with_the_tries(monkeypatch, connect):
    """The bound that a wait is drawn below doubles: 0.1, 0.2, 0.4 and 0.8 s."""
    bounds = []
    monkeypatch.setattr("random.uniform", lambda low, high: bounds.append(high) or high / 100)
    connect(Script(*["UNAVAILABLE"] * 4), retries=4).predict(GOOD_PNG)
    assert bounds == pytest.approx([0.1, 0.2, 0.4, 0.8])


def test_slow_server_is_left_at_the_deadline(connect):
    client = connect(Script(1.0), timeout=0.3)
    start = time.monotonic()
    error = failure(client.predict, GOOD_PNG)
    assert time.monotonic() - start < 0.8
    assert error.code == "DEADLINE_EXCEEDED"
    assert "in 0.3 s" in str(error)


def test_no_try_starts_after_the_deadline(connect):
    script = Script(*["UNAVAILABLE"] * 1000)
    client = connect(script, timeout=0.4, retries=1000)
    start = time.monotonic()
    error = failure(client.predict, GOOD_PNG)
    assert time.monotonic() - start < 0.9
    assert error.code == "DEADLINE_EXCEEDED"
    # On a busy machine the deadline may cut a try short, which then has no reason to give.
    assert re.match("no answer in 0.4 s, .*scripted UNAVAILABLE|no answer from .* in 0.4 s", str(error))
    assert 2 <= len(script.asked) < 100


def test_deadline_is_that_of_all_requests_of_a_call(connect):
    script = Script(*[0.15] * 10)
    client = connect(script, timeout=0.4, batch_size=1)
    assert failure(client.predict, [GOOD_PNG] * 10).code == "DEADLINE_EXCEEDED"
    assert len(script.asked) <= 4


def test_an_answer_that_trickles_is_left_at_the_deadline():
    with rest_server(Script("TRICKLE")) as url, Client(url, "m", timeout=0.3) as client:
        start = time.monotonic()
        assert failure(client.predict, GOOD_PNG).code == "DEADLINE_EXCEEDED"
        assert time.monotonic() - start < 0.8


@pytest.mark.parametrize("as_date", [False, True])
def test_retry_after_is_honoured(as_date):
    moment = datetime.now(UTC) + timedelta(seconds=2.5)  # the header has whole seconds: 1.5 to 2.5 are left
    header = email.utils.format_datetime(moment, usegmt=True) if as_date else "1"
    script = Script(("UNAVAILABLE", {"Retry-After": header}))
    with rest_server(script) as url, Client(url, "m") as client:
        client.predict(GOOD_PNG)
    (_, _, _, first), (_, _, _, second) = script.asked
    assert 0.9 <= second - first <= 3


def test_retry_after_beyond_the_deadline_ends_at_once():
    script = Script(("RESOURCE_EXHAUSTED", {"Retry-After": "3600"}))
    with rest_server(script) as url, Client(url, "m", timeout=5) as client:
        start = time.monotonic()
        error = failure(client.predict, GOOD_PNG)
    assert time.monotonic() - start < 2
    assert error.code == "DEADLINE_EXCEEDED"


NO_TIME = ["soon", "", "-1", "²", "Sun Nov  6 08:49:37 1994", "Sun, 06 Nov 1994 08:49:37 CET"]
NO_TIME += ["Sun, 06 Nov 1994 08:49:37", "Sun, 06 Nov 1994 08:49:37 +99999999999999"]


@pytest.mark.parametrize("header", NO_TIME)
def test_malformed_retry_after_is_passed_over(header):
    script = Script(("UNAVAILABLE", {"Retry-After": header.encode().decode("latin-1")}))
    with rest_server(script) as url, Client(url, "m") as client:
        assert client.predict(GOOD_PNG)


def test_connection_that_breaks_is_retried():
    script = Script("HANG UP", None, "HANG UP")
    with rest_server(script) as url, Client(url, "m") as client:
        assert client.predict(GOOD_PNG)
        assert client.predict(GOOD_PNG)
    assert len(script.asked) == 4


@pytest.mark.parametrize(
    "body", [b"", b"<html>", b"[]", b"{}", b'{"outputs": {"probabilities": [[1], 2]}}', b"\xff"]
)
def test_garbage_is_no_answer(body):
    with rest_server(Script(body)) as url, Client(url, "m") as client:
        error = failure(client.predict, GOOD_PNG)
    assert error.code == "UNKNOWN"
    assert url in str(error)


@pytest.mark.parametrize("versions", [b"[{}]", b"[1]", b'["a"]', b"null", b"1"])
def test_status_of_another_kind_of_server(versions):
    body = b'{"model_version_status": %s}' % versions
    with rest_server(Script(body)) as url, Client(url, "m") as client:
        assert failure(client.status).code == "UNKNOWN"


@pytest.mark.parametrize("body", [b"{}", b'{"model_spec": {"version": "x"}}', b'{"model_spec": 1}'])
def test_metadata_of_another_kind_of_server(body):
    with rest_server(Script(body)) as url, Client(url, "m") as client:
        assert failure(client.labels).code == "UNKNOWN"


@pytest.fixture
def free_port():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


@pytest.mark.parametrize("scheme", ["http", "grpc"])
def test_absent_server_is_named(scheme, free_port):
    with Client(f"{scheme}://127.0.0.1:{free_port}", "m", retries=1) as client:
        error = failure(client.predict, GOOD_PNG)
    assert error.code == "UNAVAILABLE"
    assert f"cannot reach {scheme}://127.0.0.1:{free_port}/v1/models/m:" in str(error)
    assert "is the server running?" in str(error)


@pytest.mark.parametrize(
    ("server", "scheme", "advice"),
    [
        (grpc_server, "http", "does not speak HTTP/1.1: is it gRPC's, grpc://?"),
        (rest_server, "grpc", "does not speak gRPC: is it REST's, http://?"),
        (rest_server, "https", "does not speak TLS"),
        (grpc_server, "grpcs", "does not speak TLS"),
    ],
)
def test_port_of_another_protocol_is_told_at_once(server, scheme, advice):
    with server(Script()) as url, Client(f"{scheme}://{url.split('://')[1]}", "m") as client:
        for ask in (lambda: client.predict(GOOD_PNG), client.wait_until_ready):
            error = failure(ask)
            assert (error.code, error.lasting) == ("UNAVAILABLE", True)
            assert advice in str(error)
            assert "tried" not in str(error)


# --- the client itself --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [{"timeout": 0}, {"timeout": math.nan}, {"timeout": math.inf}, {"retries": -1}, {"batch_size": 0}],
)
def test_options_out_of_range(options):
    with pytest.raises(UserError, match="expected `timeout` above 0"):
        Client("http://localhost", "m", **options)


def test_closed_client_is_of_no_more_use(connect):
    script = Script()
    client = connect(script)
    client.close()
    client.close()
    for ask in (lambda: client.predict(GOOD_PNG), client.labels, client.status, client.wait_until_ready):
        with pytest.raises(UserError, match="is closed: make a new one"):
            ask()
    assert script.asked == []


# --- readiness -----------------------------------------------------------------------------------


def test_ready_once_the_version_is_loaded(connect):
    script = Script("UNAVAILABLE", "NOT_FOUND", "NOT_FOUND")
    connect(script).wait_until_ready(10)
    assert len(script.asked) == 4


def test_a_label_may_be_unknown_at_first(connect):
    connect(Script("INVALID_ARGUMENT"), label="stable").wait_until_ready(10)
    assert failure(connect(Script("INVALID_ARGUMENT")).wait_until_ready, 10).code == "INVALID_ARGUMENT"


@pytest.mark.parametrize("timeout", [-1, math.nan, math.inf])
def test_a_time_to_wait_that_is_none(timeout):
    with Client("http://localhost", "m") as client, pytest.raises(UserError, match="`timeout` of 0 or more"):
        client.wait_until_ready(timeout)


def test_never_ready(connect):
    error = failure(connect(Script(*["NOT_FOUND"] * 1000)).wait_until_ready, 2)
    assert error.code == "DEADLINE_EXCEEDED"
    between, during = r"no answer in 2 s, .*scripted NOT_FOUND", r"no answer from \S+ in 2 s"
    assert re.search(f"{between}|{during}", str(error))  # the time may run out between two tries or in one


@pytest.mark.parametrize("scheme", ["http", "grpc"])
def test_waiting_for_a_server_that_starts_later(scheme, free_port):
    """It comes up a second after the client asks for the first time."""
    import http.server

    ready = threading.Event()

    def start():
        time.sleep(1)
        if scheme == "http":

            class Handler(http.server.BaseHTTPRequestHandler):
                def do_GET(self):
                    self.send_response(200)
                    self.end_headers()
                    self.wfile.write(b"{}")

            server = http.server.HTTPServer(("127.0.0.1", free_port), Handler)
            server.timeout = 10
            server.handle_request()
            server.server_close()
        else:
            from concurrent import futures

            from scripted_server import Servicer, prediction_service_pb2_grpc

            server = grpc.server(futures.ThreadPoolExecutor(1))
            prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(Servicer(Script()), server)
            server.add_insecure_port(f"127.0.0.1:{free_port}")
            server.start()
            ready.wait(10)
            server.stop(None).wait()

    thread = threading.Thread(target=start)
    thread.start()
    try:
        with Client(f"{scheme}://127.0.0.1:{free_port}", "m") as client:
            client.wait_until_ready(10)
    finally:
        ready.set()
        thread.join()
