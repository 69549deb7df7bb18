"""Thousands of requests that are wrong in some way: an answer to each, and the server lives on."""

import hashlib
import re
from pathlib import Path

import grpc
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

from conformance.contract import b64
from conformance.requests_at_random import SIGNATURES, Images, rest_request, tensor

COUNTS = [pytest.param(200, id="200"), pytest.param(2000, id="2000", marks=pytest.mark.slow)]
# 413: a proxy or the preview limits a body; 503: a full queue; 429, 501 and 504 as the contract has them.
STATUSES = {200, 400, 404, 413, 429, 501, 503, 504}
CODES = {
    grpc.StatusCode.OK,
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.FAILED_PRECONDITION,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.UNIMPLEMENTED,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
}
GROWTH = 1.10  # of the server's memory, after a tenth of the requests


@pytest.fixture(scope="module")
def images(pngs, jpeg, pixels_shape):
    return Images((*pngs, jpeg), pixels_shape)


def at_random(count, strategy, send):
    """Draw from the strategy until `count` distinct requests were sent; returns how many were."""
    seen = set()

    @settings(
        max_examples=2 * count,
        database=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
    )
    @given(strategy)
    def each(drawn):
        digest = hashlib.sha256(repr(drawn).encode()).digest()
        if digest not in seen and len(seen) < count:
            seen.add(digest)
            send(drawn)

    each()
    return len(seen)


def resident(endpoint):
    """Bytes of memory that the server holds; none where it is not ours to look at."""
    if endpoint.process is None:
        return 0
    status = Path(f"/proc/{endpoint.process}/status").read_text()
    return int(re.search(r"VmRSS:\s+(\d+) kB", status)[1]) * 1024


@pytest.mark.parametrize("count", COUNTS)
def test_no_request_harms_the_server(endpoint, http, channel, path, images, pngs, count):
    service = prediction_service_pb2_grpc.PredictionServiceStub(channel)

    def rest(request):
        method, url, body = request
        response = http.request(method, url, content=body)
        assert response.status_code in STATUSES, (response.status_code, response.text[:300])
        if response.status_code == 200 and method == "POST":
            assert set(response.json()) & {"predictions", "outputs", "results"}
        elif response.status_code != 200 and method != "HEAD" and url.startswith("/v1/"):
            assert set(response.json()) == {"error"}
            assert len(response.json()["error"]) <= 1024

    def remote_call(drawn):
        signature, name, proto = drawn
        request = predict_pb2.PredictRequest()
        request.model_spec.name = endpoint.model
        request.model_spec.signature_name = signature
        request.inputs[name].CopyFrom(proto)
        call = service.Predict.future(request, 60)
        assert call.code() in CODES, (call.code(), call.details())

    rest_requests = rest_request(endpoint.model, images)
    remote_calls = st.tuples(
        st.sampled_from(SIGNATURES), st.sampled_from(["images", "indices"]), tensor(images)
    )
    at_random(count // 10, rest_requests, rest)
    at_random(count // 10, remote_calls, remote_call)
    before = resident(endpoint)
    sent = at_random(count * 7 // 10, rest_requests, rest) + at_random(
        count * 3 // 10, remote_calls, remote_call
    )
    assert sent == count
    assert resident(endpoint) <= before * GROWTH
    rows = [b64(png) for png in pngs]
    assert http.post(f"{path}:predict", json={"instances": rows}).status_code == 200
