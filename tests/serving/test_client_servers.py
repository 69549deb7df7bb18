"""The client against servers that behave as a script says, over REST and gRPC alike."""

import json
import re
import ssl
import sys
import threading

import cv2
import grpc
import numpy as np
import pytest
import trustme
from conftest import run_python
from scripted_server import GOOD_PNG, SERVERS, Script, failure, grpc_server, pixel_png, rest_server

from keras_googlenet import cli
from keras_googlenet.errors import UserError
from keras_googlenet.serving import Client, VersionStatus

pytest_plugins = ["scripted_clients"]


# --- answers -------------------------------------------------------------------------------------


def test_images_of_every_kind_come_as_they_are(connect, tmp_path):
    pixels = np.full((3, 2, 3), (51, 7, 9), np.uint8)  # blue, green, red
    cv2.imwrite(str(tmp_path / "a.png"), pixels)
    cv2.imwrite(str(tmp_path / "a.bmp"), pixels)
    png, bmp = (tmp_path / "a.png").read_bytes(), (tmp_path / "a.bmp").read_bytes()
    images = [tmp_path / "a.png", str(tmp_path / "a.bmp"), png, bmp, pixels, np.full((3, 2), 51, np.uint8)]
    script = Script()
    answers = connect(script).predict(images)
    paths = [str(tmp_path / "a.png"), str(tmp_path / "a.bmp")]
    assert [one.image for one in answers] == [*paths, "image 2", "image 3", "image 4", "image 5"]
    for one in answers:
        np.testing.assert_allclose(one.probabilities, [0.2, 0.8], rtol=1e-6)
        assert (one.label, one.probability) == one.top[0] == ("other", pytest.approx(0.8))
        assert one.top[1] == ("blue", pytest.approx(0.2))
    sent = script.asked[0][2]
    assert sent[0] == sent[2] == png  # a PNG is not encoded again
    for data in (sent[1], sent[3], sent[4]):
        np.testing.assert_array_equal(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR), pixels)


@pytest.mark.parametrize("kind", ["path", "bytes", "pixels", "gray"])
def test_one_image_needs_no_list(connect, tmp_path, kind):
    (tmp_path / "a.png").write_bytes(pixel_png(255))
    pixels = np.full((1, 1, 3), 255, np.uint8)
    image = {"path": tmp_path / "a.png", "bytes": pixel_png(255), "pixels": pixels, "gray": pixels[..., 0]}[
        kind
    ]
    (answer,) = connect(Script()).predict(image)
    assert (answer.label, answer.probability) == ("blue", 1)


def test_images_are_sent_in_batches_and_answered_in_order(connect):
    script = Script()
    client = connect(script, batch_size=3)
    blues = [0, 255, 51, 102, 204, 153, 255]
    answers = client.predict(pixel_png(blue) for blue in blues)
    assert [len(values) for _, _, values, _ in script.asked] == [3, 3, 1]
    assert [round(float(one.probabilities[0]) * 255) for one in answers] == blues
    assert client.predict(np.full((4, 1, 1, 3), 255, np.uint8))[3].label == "blue"  # an array of images
    assert client.predict([]) == []


def test_features(connect):
    features = connect(Script(), batch_size=2).features([np.full((1, 1, 3), n, np.uint8) for n in (1, 2, 3)])
    assert features.dtype == np.float32
    np.testing.assert_array_equal(features, [[1] * 3, [2] * 3, [3] * 3])


def test_labels_are_of_one_version_and_fit_into_batches(connect, transport):
    script = Script()
    script.max_batch = 1
    assert connect(script, batch_size=1).labels() == ["blue", "other"]
    asked = [where for where, signature, _, _ in script.asked if signature == "labels"]
    assert len(asked) == 2
    for where in asked:  # the version that the metadata told, lest a new one appear in between
        assert where == "/v1/models/m/versions/7:predict" if transport == "rest" else where.version.value == 7


def test_metadata_is_the_same_over_both(connect):
    metadata = connect(Script()).metadata()
    assert metadata["model_spec"] == {"name": "m", "signature_name": "", "version": "7"}
    signatures = metadata["metadata"]["signature_def"]["signature_def"]
    assert set(metadata["metadata"]["signature_def"]) == {"signature_def"}
    dims = signatures["serving_default"]["outputs"]["probabilities"]["tensor_shape"]["dim"]
    assert [dim["size"] for dim in dims] == ["-1", "2"]


def test_status(connect):
    assert connect(Script()).status() == [
        VersionStatus(7, "AVAILABLE", ""),
        VersionStatus(6, "END", "no file"),
    ]


@pytest.mark.parametrize(
    ("options", "path"), [({}, ""), ({"version": 3}, "/versions/3"), ({"label": "stable"}, "/labels/stable")]
)
def test_version_and_label_are_asked_for(connect, transport, options, path):
    script = Script()
    connect(script, **options).predict(GOOD_PNG)
    where = script.asked[0][0]
    if transport == "rest":
        assert where == f"/v1/models/m{path}:predict"
    else:
        assert (where.name, where.version.value, where.version_label) == (
            "m",
            options.get("version", 0),
            options.get("label", ""),
        )


def test_connection_is_kept():
    script = Script()
    with rest_server(script) as url, Client(url, "m") as client:
        for _ in range(5):
            client.predict(GOOD_PNG)
        client.status()
    assert (len(script.asked), script.connections) == (6, 1)


def test_threads_share_a_client(connect):
    client = connect(Script())
    blues = {}

    def ask(blue):
        blues[blue] = client.predict(pixel_png(blue))[0].probabilities[0] * 255

    threads = [threading.Thread(target=ask, args=(blue,)) for blue in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {blue: round(float(got)) for blue, got in blues.items()} == {blue: blue for blue in range(8)}


@pytest.mark.parametrize("option", [None, "--json", "--csv"])
def test_predict_command(transport, option, tmp_path, monkeypatch, capsys):
    (tmp_path / "a.png").write_bytes(pixel_png(255))
    with SERVERS[transport](Script()) as url:
        line = ["predict", str(tmp_path / "a.png"), "--url", f"{url}/v1/models/m", *filter(None, [option])]
        monkeypatch.setattr(sys, "argv", ["keras-googlenet", *line])
        cli.main()
    out, err = capsys.readouterr()
    assert err == ""
    if option == "--json":
        top = [{"label": "blue", "probability": 1}, {"label": "other", "probability": 0}]
        expected = {"image": str(tmp_path / "a.png"), "label": "blue", "probability": 1, "top": top}
        assert json.loads(out) == [expected]
    elif option == "--csv":
        assert out == f"image,label,probability,error\n{tmp_path / 'a.png'},blue,1.000000,\n"
    else:
        assert out == f"{tmp_path / 'a.png'}  blue  1.0000\n"


def test_predict_command_tells_a_mistake_in_one_line(transport, tmp_path, monkeypatch, capsys):
    (tmp_path / "a.png").write_bytes(pixel_png(255))
    with SERVERS[transport](Script("NOT_FOUND")) as url:
        line = ["predict", str(tmp_path / "a.png"), "--url", f"{url}/v1/models/m"]
        monkeypatch.setattr(sys, "argv", ["keras-googlenet", *line])
        with pytest.raises(SystemExit) as end:
            cli.main()
    assert end.value.code == 2
    err = capsys.readouterr().err
    assert re.fullmatch(rf"error: {url}/v1/models/m answered (404|NOT_FOUND): scripted NOT_FOUND\n", err)


# --- images at fault -----------------------------------------------------------------------------


def test_refused_image_is_named(connect, tmp_path):
    (tmp_path / "bad.png").write_bytes(GOOD_PNG + b"refuse")
    script = Script()
    client = connect(script)
    error = failure(client.predict, [GOOD_PNG, tmp_path / "bad.png", GOOD_PNG])
    assert error.code == "INVALID_ARGUMENT"
    assert str(error).startswith(
        f"cannot read {tmp_path / 'bad.png'}: expected a JPEG, PNG, BMP, WebP or GIF"
    )
    assert "cannot read image 1:" in str(failure(client.features, [GOOD_PNG, GOOD_PNG + b"refuse"]))


def test_batch_of_good_images_that_is_too_large(connect):
    script = Script()
    script.max_batch = 2
    message = str(failure(connect(script).predict, [GOOD_PNG] * 3))
    assert "takes each of 3 images, but not all at once" in message
    assert "larger than the maximum 2" in message
    assert "smaller batch_size" in message


def test_image_refused_for_another_clients_sake(connect):
    """A server that batches refuses good images too that came with a corrupt one."""
    script = Script("INVALID_ARGUMENT")
    answers = connect(script).predict([pixel_png(51), pixel_png(255)])
    assert [round(one.probability, 6) for one in answers] == [0.8, 1]


def test_refused_request_blames_no_image(connect):
    """An export without the signature: 400 too, but no image's fault."""
    error = failure(connect(Script(*["INVALID_ARGUMENT"] * 2)).features, GOOD_PNG)
    assert error.code == "INVALID_ARGUMENT"
    assert "scripted INVALID_ARGUMENT" in str(error)
    assert "cannot read" not in str(error)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (b"", "cannot read image 0: expected a JPEG, PNG, BMP, WebP or GIF"),
        (b"text", "cannot read image 0: expected a JPEG, PNG, BMP, WebP or GIF"),
        (np.zeros((2, 2, 3), np.float32), "received float32 of shape"),
        (np.zeros((2, 2, 4), np.uint8), r"received uint8 of shape \(2, 2, 4\)"),
        (np.zeros((0, 2, 3), np.uint8), r"received uint8 of shape \(0, 2, 3\)"),
        (np.zeros(3, np.uint8), r"received uint8 of shape \(3,\)"),
        ([1], "received int"),
        ("absent.png", "no image file at absent.png"),
        (".", "no image file at ."),
    ],
)
def test_what_is_no_image_is_not_sent(image, message):
    script = Script()
    with rest_server(script) as url, Client(url, "m") as client, pytest.raises(UserError, match=message):
        client.predict(image)
    assert script.asked == []


# --- TLS -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    """A certificate authority, the file of its certificate, and a certificate for localhost."""
    authority = trustme.CA()
    file = tmp_path_factory.mktemp("tls") / "ca.pem"
    authority.cert_pem.write_to_path(file)
    return file, authority.issue_cert("localhost")


@pytest.fixture
def tls(transport, authority):
    _, certificate = authority
    if transport == "rest":
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        certificate.configure_cert(context)
        server = rest_server(Script(), context)
    else:
        chain = b"".join(blob.bytes() for blob in certificate.cert_chain_pems)
        pair = (certificate.private_key_pem.bytes(), chain)
        server = grpc_server(Script(), grpc.ssl_server_credentials([pair]))
    with server as url:
        yield url


def test_a_server_whose_certificate_is_trusted(tls, authority):
    assert tls.startswith(("https://", "grpcs://"))
    with Client(tls, "m", ca=authority[0]) as client:
        assert client.predict(GOOD_PNG)


def test_a_server_whose_certificate_is_not_trusted(tls):
    with Client(tls, "m", retries=0, timeout=5) as client:
        error = failure(client.predict, GOOD_PNG)
    assert "cannot reach" in str(error)
    assert (error.code, error.lasting) == ("UNAUTHENTICATED", True)
    assert "certificate is not among those to trust" in str(error)


@pytest.mark.parametrize("scheme", ["https", "grpcs"])
def test_certificates_must_be_there(scheme, tmp_path):
    with pytest.raises(UserError, match="no file of certificates"):
        Client(f"{scheme}://localhost", "m", ca=tmp_path / "absent.pem")


def test_certificates_must_be_pem(tmp_path):
    (tmp_path / "ca.pem").write_text("no certificate")
    with pytest.raises(UserError, match="expected a PEM file"):
        Client("https://localhost", "m", ca=tmp_path / "ca.pem")


# --- the client itself ---------------------------------------------------------------------------


def test_rest_needs_neither_tensorflow_nor_grpc_nor_opencv():
    code = """
import sys
from keras_googlenet.serving import Client
Client("http://127.0.0.1:1/v1/models/m").close()
print(sorted({"tensorflow", "grpc", "cv2", "keras"} & set(sys.modules)))
"""
    assert run_python(code).strip() == "[]"
