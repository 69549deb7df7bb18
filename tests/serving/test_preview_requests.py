"""What the REST interface makes of a request's body, and its bounds, over small models."""

import asyncio
import gzip
import json

import pytest
from conformance.contract import answer, b64, error

from keras_googlenet.serving.preview.rest import rest_app

pytest_plugins = ["small_models"]

ADDER = "/v1/models/adder"
ROWS = {"instances": [[1, 2]]}
LIMIT = 100_000


@pytest.fixture(scope="module")
def ask(serving, asking):
    return asking(serving, max_bytes=LIMIT)


# --- forms and types -----------------------------------------------------------------------------


def test_bytes_come_back_as_base64_where_the_name_says_so(ask):
    body = {"signature_name": "describe", "instances": [b64(b"caf\xc3\xa9"), "tea"]}
    assert answer(ask("POST", f"{ADDER}:predict", body))["predictions"] == [
        {"length": 5, "image_bytes": b64(b"caf\xc3\xa9"), "text": "café"},
        {"length": 3, "image_bytes": b64(b"tea"), "text": "tea"},
    ]


def test_several_inputs(ask):
    body = {"signature_name": "both", "instances": [{"image": "four", "weight": 0.5}]}
    assert answer(ask("POST", f"{ADDER}:predict", body)) == {"predictions": [2]}
    body = {"signature_name": "both", "inputs": {"image": ["four"], "weight": [0.5], "extra": None}}
    assert answer(ask("POST", f"{ADDER}:predict", body)) == {"outputs": [2]}


def test_integers_as_unsigned_bytes(ask):
    body = {"signature_name": "pixels", "instances": [[0, 255]]}
    assert answer(ask("POST", f"{ADDER}:predict", body)) == {"predictions": [[0, 510]]}
    body["instances"] = [[0, 1.0]]
    assert "not of expected type: uint8" in error(ask("POST", f"{ADDER}:predict", body), 400)


@pytest.mark.parametrize(
    ("signature", "status", "message"),
    [
        ("half_in", 501, "Conversion of JSON Value: 1.5 to type: float16"),
        ("half_out", 400, "Failed to write JSON value for tensor type: float16"),
    ],
)
def test_half_floats(ask, signature, status, message):
    body = {"signature_name": signature, "instances": [1.5]}
    assert error(ask("POST", f"{ADDER}:predict", body), status) == message


def test_numbers_that_json_has_not(ask):
    response = ask("POST", f"{ADDER}:predict", b'{"instances": [[NaN, -Infinity]]}')
    assert response.text == '{"predictions": [[NaN, -Infinity]]}'


def test_floats_are_written_as_short_as_they_are(ask):
    response = ask("POST", f"{ADDER}/versions/1:predict", {"instances": [[0.1, -1]]})
    assert response.text == '{"predictions":[[1.1,0.0]]}'


def test_row_form_wants_rows(ask):
    body = {"signature_name": "single", "instances": [1.0, 2.0]}
    assert "has no shape information" in error(ask("POST", f"{ADDER}:predict", body), 400)
    body = {"signature_name": "single", "inputs": [1.0, 2.0]}
    assert answer(ask("POST", f"{ADDER}:predict", body)) == {"outputs": 3}


# --- classify and regress ------------------------------------------------------------------------


def test_classify(ask):
    examples = [{"name": "cat", "x": 0.25}, {"name": b64(b"dog"), "x": [0.5]}]
    body = {"signature_name": "classify", "examples": examples}
    assert answer(ask("POST", f"{ADDER}:classify", body)) == {
        "results": [[["cat", 0.25], ["cat!", 3]], [["dog", 0.5], ["dog!", 3]]]
    }


def test_context_goes_into_every_example(ask):
    examples = [{"x": 1.0}, {"x": 2.0}]
    body = {"signature_name": "classify", "context": {"name": "both"}, "examples": examples}
    results = answer(ask("POST", f"{ADDER}:classify", body))["results"]
    assert [one[0] for one in results] == [["both", 1], ["both", 2]]


def test_regress(ask):
    body = {"signature_name": "regress", "examples": [{"x": 0.25}, {"x": 4.5}]}
    assert answer(ask("POST", f"{ADDER}:regress", body)) == {"results": [0.25, 4.5]}


def test_a_signature_of_several_outputs_does_not_regress(ask):
    body = {"signature_name": "describe", "examples": [{"x": 1.0}]}
    assert error(ask("POST", f"{ADDER}:regress", body), 400) == "Expected one output Tensor."


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        ({}, "key 'examples' is expected and was not found"),
        ({"examples": {}}, "to be an list/array"),
        ({"examples": []}, "empty array"),
        ({"examples": [1]}, "Example must be JSON object"),
        ({"examples": [{"x": None}]}, "unexpected JSON type"),
        ({"examples": [{"x": {"a": 1}}]}, "unexpected JSON type"),
        ({"examples": [{"x": [[1]]}]}, "unexpected JSON type"),
        ({"examples": [{"x": [1, 2.5]}]}, "Unexpected element type in feature: x expecting type: float"),
        ({"examples": [{"x": ["a", 1]}]}, "Unexpected element type in feature: x"),
        ({"examples": [{"x": 2**63}]}, "Only int64 is supported"),
        ({"examples": [{"x": 1e39}]}, "without loss of precision"),
        ({"examples": [{"x": {"b64": "?"}}]}, "Unable to base64 decode"),
        ({"examples": [{"name": "cat", "x": 1}]}, ""),  # an integer is no float: the graph refuses it
        ({"examples": [{}]}, ""),
        ({"examples": [{"x": 1.0}], "context": 1}, "Example must be JSON object"),
        ({"examples": [{"x": 1.0}], "signature_name": "none"}, "No signature was found with the name: none"),
        ({"examples": [{"x": 1.0}], "signature_name": "describe"}, "found 3"),
    ],
)
def test_classify_refuses(ask, request_, message):
    assert message in error(ask("POST", f"{ADDER}:classify", {"signature_name": "classify"} | request_), 400)


# --- bounds --------------------------------------------------------------------------------------


def test_timeout(ask):
    body = {"signature_name": "count", "inputs": [10**9]}
    assert "Timed out" in error(ask("POST", f"{ADDER}:predict", body), 504)
    assert answer(ask("POST", f"{ADDER}:predict", body | {"inputs": [10]})) == {"outputs": [10]}


class Sender:
    """A client that counts the chunks of a body that are taken from it."""

    def __init__(self, chunks, headers=()):
        self.chunks, self.taken, self.headers = chunks, 0, list(headers)

    async def receive(self):
        self.taken += 1
        return {"type": "http.request", "body": b" " * 1000, "more_body": self.taken < self.chunks}

    def send_to(self, app):
        sent = []

        async def send(message):
            sent.append(message)

        scope = {"type": "http", "method": "POST", "path": f"{ADDER}:predict", "query_string": b""}
        asyncio.run(app(scope | {"headers": self.headers}, self.receive, send))
        return sent[0]["status"], dict(sent[0]["headers"]), json.loads(sent[1]["body"])


def test_body_beyond_the_limit_is_refused_while_it_arrives(serving):
    app = rest_app(serving, max_bytes=LIMIT)
    endless = Sender(10**9)
    status, headers, body = endless.send_to(app)
    assert (status, headers[b"connection"]) == (413, b"close")
    assert body == {"error": f"Request body exceeds the limit of {LIMIT} bytes"}
    assert endless.taken == LIMIT // 1000 + 1
    declared = Sender(10**9, [(b"content-length", b"1000000")])
    assert declared.send_to(app)[0] == 413
    assert declared.taken == 0


def test_gzip(ask):
    packed = gzip.compress(json.dumps(ROWS).encode())
    headers = {"content-encoding": "gzip"}
    assert answer(ask("POST", f"{ADDER}:predict", packed, headers)) == {"predictions": [[4, 5]]}
    for broken in (packed[:-9], b"not gzip"):
        assert "document is empty" in error(ask("POST", f"{ADDER}:predict", broken, headers), 400)


def test_gzip_bomb(ask):
    bomb = gzip.compress(b" " * 10**8)
    assert len(bomb) < LIMIT
    assert "exceeds the limit" in error(
        ask("POST", f"{ADDER}:predict", bomb, {"content-encoding": "gzip"}), 413
    )
