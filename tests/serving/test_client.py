import socket

import cv2
import numpy as np
import pytest
import tensorflow as tf
from classified import classify
from conformance.server import preview
from scripted_server import Script, rest_server

from keras_googlenet.errors import UserError
from keras_googlenet.serving import Client


@pytest.fixture(scope="module")
def addresses(exported):
    """The exported model's URLs over REST and gRPC, on a preview server in a process of its own."""
    model = f"/v1/models/{exported.parent.name}"
    with preview(exported.parent) as server:
        yield {"rest": server.rest + model, "grpc": f"grpc://{server.grpc}{model}"}


@pytest.fixture
def address(addresses):
    return addresses["rest"]


@pytest.fixture(params=["model", "rest", "grpc"])
def target(request, exported):
    """The model as `classify` takes it: in this process, then over REST and gRPC."""
    if request.param == "model":
        return {"model": exported.parent}
    return {"url": request.getfixturevalue("addresses")[request.param]}


def refusal(*args, **kwargs) -> str:
    with pytest.raises(UserError) as caught:
        classify(*args, **kwargs)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# --- answers -------------------------------------------------------------------------------------


def test_prediction(image_folder, target):
    (prediction,) = classify([image_folder / "Sneaker/0.png"], **target)
    assert prediction.image == str(image_folder / "Sneaker/0.png")
    assert (prediction.label, prediction.probability) == prediction.top[0]
    assert {name for name, _ in prediction.top} == {"Sneaker", "Trouser"}
    assert sum(score for _, score in prediction.top) == pytest.approx(1, abs=1e-5)
    assert prediction.probability >= 0.5


@pytest.mark.parametrize("transport", ["rest", "grpc"])
def test_local_and_served_models_agree(image_folder, exported, addresses, transport):
    images = [image_folder] * 2  # 48 images: more than one batch
    local, served = classify(images, model=exported), classify(images, url=addresses[transport])
    assert len(local) == 48
    for one, other in zip(local, served, strict=True):
        assert other.image == one.image
        assert dict(other.top) == pytest.approx(dict(one.top), abs=1e-5)


def test_files_and_folders_are_answered_in_order(image_folder, target):
    file, folder = image_folder / "Trouser/3.png", image_folder / "Sneaker"
    predictions = classify([file, folder], **target)
    assert [p.image for p in predictions] == [str(file), *map(str, sorted(folder.glob("*.png")))]


def test_image_in_a_batch_gets_the_answer_that_it_gets_alone(image_folder, target):
    last = classify([image_folder], **target)[-1]
    (alone,) = classify([image_folder / last.image], **target)
    assert dict(alone.top) == pytest.approx(dict(last.top), abs=1e-5)


@pytest.mark.parametrize("suffix", [".bmp", ".TIF", ".webp"])
def test_other_formats_are_converted(tmp_path, image_folder, target, suffix):
    original = image_folder / "Sneaker/0.png"
    image = tmp_path / f"image{suffix}"
    cv2.imwrite(str(image), cv2.imread(str(original)), [cv2.IMWRITE_WEBP_QUALITY, 101])  # without loss
    expected, converted = classify([original, tmp_path], **target)
    assert converted.image == str(image)
    assert dict(converted.top) == pytest.approx(dict(expected.top), abs=1e-5)


@pytest.mark.parametrize("suffix", ["/", ":predict"])
def test_address_as_users_copy_it(image_folder, address, suffix):
    assert classify([image_folder / "Sneaker/0.png"], url=address + suffix)


def test_address_of_a_version(image_folder, address):
    assert classify([image_folder / "Sneaker/0.png"], url=f"{address}/versions/1")


@pytest.mark.parametrize("transport", ["rest", "grpc"])
def test_labels_name_the_probabilities_of_an_export(image_folder, exported, addresses, transport):
    with Client(addresses[transport], batch_size=1) as client:
        labels = client.labels()
        (prediction,) = client.predict(image_folder / "Sneaker/0.png")
        features = client.features([image_folder / "Sneaker/0.png"] * 2)
    assert labels == ["Sneaker", "Trouser"]
    assert dict(zip(labels, prediction.probabilities, strict=True)) == pytest.approx(dict(prediction.top))
    assert features.shape == (2, 208)  # block 5a of the small network
    np.testing.assert_allclose(features[0], features[1], atol=1e-5)


def test_pixels_get_the_answer_of_their_file(image_folder, addresses):
    files = sorted(image_folder.rglob("*.png"))
    with Client(addresses["rest"]) as client:
        of_files, of_pixels = client.predict(files), client.predict([cv2.imread(str(file)) for file in files])
    for one, other in zip(of_files, of_pixels, strict=True):
        np.testing.assert_array_equal(one.probabilities, other.probabilities)


# --- images that cannot be read ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "contents"),
    [("a.png", b"text"), ("a.png", None), ("a.jpg", b""), ("a.bmp", b"BM"), ("a.txt", b"text")],
    ids=["text", "truncated", "empty", "bmp", "text file"],
)
def test_corrupt_image_is_named(tmp_path, image_folder, png_bytes, target, name, contents):
    (tmp_path / name).write_bytes(png_bytes[:-20] if contents is None else contents)
    message = refusal([image_folder / "Sneaker", tmp_path / name], **target)
    assert message.startswith(f"cannot read {tmp_path / name}:")


def test_missing_image_is_named(tmp_path, exported):
    assert str(tmp_path / "absent.png") in refusal([tmp_path / "absent.png"], model=exported)


def test_folder_without_images_is_named(tmp_path, exported):
    (tmp_path / "notes.txt").write_text("not an image")
    assert refusal([tmp_path], model=exported) == f"no image in folder {tmp_path}"


def test_folder_named_like_an_image_is_searched(tmp_path, png_bytes, exported):
    (tmp_path / "screen.png").mkdir()
    (tmp_path / "screen.png/1.png").write_bytes(png_bytes)
    assert [p.image for p in classify([tmp_path], model=exported)] == [str(tmp_path / "screen.png/1.png")]


def test_no_image_is_refused(exported):
    assert "at least one image" in refusal([], model=exported)


# --- models that cannot be had -------------------------------------------------------------------


def test_missing_model_is_named(tmp_path, image_folder):
    assert str(tmp_path / "absent") in refusal([image_folder], model=tmp_path / "absent")


@pytest.mark.parametrize("broken", ["not a SavedModel", "without variables"])
def test_broken_model_is_named(tmp_path, image_folder, exported, broken):
    whole = (exported / "saved_model.pb").read_bytes()
    (tmp_path / "saved_model.pb").write_bytes(whole if broken == "without variables" else b"\xff")
    assert str(tmp_path) in refusal([image_folder], model=tmp_path)


def test_model_of_another_maker_is_named(tmp_path, image_folder):
    class Doubler(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec([None], tf.float32)])
        def double(self, images):
            return {"scores": 2 * images}

    doubler = Doubler()
    tf.saved_model.save(tf.Module(), str(tmp_path / "1"))
    tf.saved_model.save(doubler, str(tmp_path / "2"), {"serving_default": doubler.double})
    ours = "expected a model that `export` wrote, which takes encoded images"
    message = refusal([image_folder], model=tmp_path / "1")
    assert message == f"{tmp_path / '1'} has no signature `serving_default`: {ours}"
    message = refusal([image_folder], model=tmp_path)
    assert message == f"{tmp_path} takes images and gives scores: {ours}"


def test_trouble_within_a_model_is_one_line(image_folder, exported, monkeypatch):
    def run(*_):
        raise tf.errors.ResourceExhaustedError(None, None, "out of memory\nat a node")

    monkeypatch.setattr("keras_googlenet.session.SavedModelSession.run", run)
    assert refusal([image_folder], model=exported) == "out of memory at a node"


def test_unreachable_server_is_named(image_folder):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = f"http://127.0.0.1:{listener.getsockname()[1]}/v1/models/shoes"
    assert f"cannot reach {address}:" in refusal([image_folder], url=address)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "127.0.0.1:8501/v1/models/shoes",
        "http://127.0.0.1:8501",
        "ftp://host/v1/models/shoes",
        "http:///v1/models/",
    ],
)
def test_address_that_is_no_models_is_refused(image_folder, url):
    assert url in refusal([image_folder], url=url)


@pytest.mark.parametrize("url", ["http://[/v1/models/shoes", "http://host:port/v1/models/shoes"])
def test_malformed_address_is_named(image_folder, url):
    assert url in refusal([image_folder], url=url)


@pytest.mark.parametrize("path", ["/v1/models/boots", "/v1/models/shoes/versions/2", "/v2/v1/models/shoes"])
def test_address_of_no_model_on_the_server_is_named(image_folder, address, path):
    url = address.replace("/v1/models/shoes", path)
    assert refusal([image_folder], url=url).startswith(f"{url} answered 404: ")


@pytest.mark.parametrize(
    "body",
    ["<html>", "[]", "{}"]
    + [f'{{"outputs": {rows}}}' for rows in ("[]", "{}", "[[0.5, 0.5]]", "[[1], 2]", "null")],
)
def test_answer_of_another_kind_of_model_is_refused(image_folder, body):
    with rest_server(Script(body.encode())) as server:
        url = f"{server}/v1/models/other"
        assert url in refusal([image_folder / "Sneaker/0.png"], url=url)
