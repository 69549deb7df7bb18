import pytest

from keras_googlenet.errors import UserError
from keras_googlenet.serving.client.address import Address, parse


@pytest.mark.parametrize(
    ("url", "given", "expected"),
    [
        ("http://host:8501/v1/models/m", {}, Address("http", "host:8501", "", "m")),
        ("http://host:8501", {"model": "m"}, Address("http", "host:8501", "", "m")),
        ("https://host/", {"model": "m", "version": 0}, Address("https", "host", "", "m", version=0)),
        ("http://host/v1/models/m:predict", {}, Address("http", "host", "", "m")),
        ("http://host/v1/models/m/", {"label": "a b"}, Address("http", "host", "", "m", label="a b")),
        ("http://host/v1/models/m/versions/3", {}, Address("http", "host", "", "m", version=3)),
        ("http://host/v1/models/m/versions/3", {"version": 3}, Address("http", "host", "", "m", version=3)),
        ("http://host/v1/models/m/labels/stable", {}, Address("http", "host", "", "m", label="stable")),
        ("http://host/proxied/v1/models/m", {}, Address("http", "host", "/proxied", "m")),
        ("http://host/proxied", {"model": "m"}, Address("http", "host", "/proxied", "m")),
        ("http://[::1]:8501/v1/models/m", {}, Address("http", "[::1]:8501", "", "m")),
        ("grpc://host:9000", {"model": "m"}, Address("grpc", "host:9000", "", "m")),
        ("grpc://host", {"model": "m"}, Address("grpc", "host:8500", "", "m")),
        ("grpc://host:0", {"model": "m"}, Address("grpc", "host:0", "", "m")),
        ("http://host", {"model": "m", "label": ""}, Address("http", "host", "", "m")),
        ("grpcs://host:8500/v1/models/m/versions/2", {}, Address("grpcs", "host:8500", "", "m", version=2)),
    ],
)
def test_parsed(url, given, expected):
    address = parse(url, **given)
    assert address == expected
    assert parse(str(address)) == expected  # what is printed may be pasted


@pytest.mark.parametrize(
    ("url", "given", "message"),
    [
        ("", {}, "expected a model's address"),
        ("host:8501", {"model": "m"}, "expected a model's address .* got host:8501"),
        ("ftp://host/v1/models/m", {}, "expected a model's address"),
        ("http:///v1/models/m", {}, "expected a model's address"),
        ("http://[/v1/models/m", {}, "expected a model's address"),
        ("http://host:port/v1/models/m", {}, "expected a model's address"),
        ("http://a..b:8501/v1/models/m", {}, "expected a model's address .* got http://a..b:8501"),
        (f"http://{'a' * 64}/v1/models/m", {}, "expected a model's address"),
        ("http://host/v1/models/m?x=1", {}, "expected a model's address .* got .*x=1"),
        ("http://host/v1/models/m#x", {}, "expected a model's address"),
        ("http://host?x=1", {"model": "m"}, "expected a model's address"),
        (
            "http://host/v1/models/m/versions/9223372036854775808",
            {},
            "version .* from 0 to 9223372036854775807",
        ),
        ("http://host/v1/models/m/versions/\u0663", {}, "expected a model's address"),
        ("http://host/v1/models/", {"model": "m"}, "expected a model's address"),
        ("http://host/v1/models/m/versions/x", {}, "expected a model's address"),
        ("http://host/v1/models/m/metadata", {}, "expected a model's address"),
        ("http://host:8501", {}, "which model"),
        ("grpc://host/proxied", {"model": "m"}, "no path before /v1"),
        ("http://host/v1/models/m", {"model": "n"}, "says model m, but model n is given"),
        ("http://host/v1/models/m/versions/3", {"version": 4}, "says version 3, but version 4"),
        ("http://host/v1/models/m/labels/a", {"version": 4}, "either a version or a label"),
        ("http://host", {"model": "m", "version": 1, "label": "a"}, "either a version or a label"),
        ("http://host", {"model": 5}, "expected model to be text; got 5"),
        ("http://host", {"model": "m", "label": 5}, "expected label to be text; got 5"),
        (None, {"model": "m"}, "expected url to be text; got None"),
        ("http://host", {"model": "m", "version": 2**70}, "version .* from 0 to .* got 11805"),
        ("http://host", {"model": "m", "version": -1}, "version .* got -1"),
        ("http://host", {"model": "m", "version": 1.5}, "version .* got 1.5"),
    ],
)
def test_refused(url, given, message):
    with pytest.raises(UserError, match=message):
        parse(url, **given)


def test_pinned_to_a_version():
    labeled = Address("http", "host", "", "m", label="stable")
    assert str(labeled.pinned(5)) == "http://host/v1/models/m/versions/5"
    assert labeled.pinned(None) is labeled
