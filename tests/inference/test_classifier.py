"""`load`: the same picture, asked of the same network, however it is stored."""

import csv
import hashlib
import importlib.util
import inspect
import io
import shutil
import zipfile
from dataclasses import replace
from itertools import chain
from pathlib import Path

import cv2
import keras
import numpy as np
import pytest
from classified import classify
from PIL import Image

from keras_googlenet import Classifier, GoogLeNet, UserError, export_file, load, shipped_names
from keras_googlenet.inference.explain import draw
from keras_googlenet.weights import fetch, imagenet, shipped

ARTIFACTS = Path(__file__).parents[1] / "artifacts"
RUN, MODEL, SNEAKER = ARTIFACTS / "run", ARTIFACTS / "models/shoes", ARTIFACTS / "sneaker.png"


@pytest.fixture(scope="module")
def of_run():
    return load(RUN)


def test_an_explanation_s_maps_add_up_to_the_logits(of_run, tmp_path):
    found = of_run.explain(SNEAKER, top=2)
    (prediction,) = of_run.predict(SNEAKER)
    assert [name for name, _ in found.classes] == [name for name, _ in prediction.top]
    np.testing.assert_allclose([p for _, p in found.classes], [p for _, p in prediction.top], atol=1e-5)
    assert found.maps.shape == (2, 28, 28)
    assert found.pixels.shape == (28, 28, 1)
    # The mean over the places before the average pool, here resized, is the logit without its bias.
    logits = np.log(prediction.probabilities)
    first, second = (of_run.class_names.index(name) for name, _ in found.classes)
    bias = of_run.model.get_layer("main").bias.numpy()
    of_maps = found.maps.mean(axis=(1, 2)) + bias[[first, second]]
    assert of_maps[0] - of_maps[1] == pytest.approx(logits[first] - logits[second], rel=0.15)
    draw(found, tmp_path / "map.png", "sneaker.png")
    assert cv2.imread(str(tmp_path / "map.png")).shape[1] > 600
    with pytest.raises(UserError, match="export it again with `cam`"):
        load(MODEL).explain(SNEAKER)
    with pytest.raises(UserError, match="cannot read image 0"):
        of_run.explain(b"nothing")


def test_an_explanation_of_heads_and_blocks(tmp_path, small_variant):
    """The heads' probabilities are the network's outputs, the features those that its classifier averages."""
    from keras_googlenet import Classifier, Preprocessing
    from keras_googlenet.network.architecture import Architecture
    from keras_googlenet.network.surgery import feature_model, strip_aux

    architecture = Architecture.from_json(small_variant.read_text())
    network = GoogLeNet(variant=architecture, input_shape=(80, 80, 3), classes=3)
    names, size = ("a", "b", "c"), Preprocessing(80, 80)
    classifier = Classifier("small", strip_aux(network), names, size, _with_heads=network)
    pixels = np.random.default_rng(0).integers(0, 256, (80, 80, 3), dtype="uint8")
    found = classifier.explain(pixels, top=3, blocks=["3a", "5a"])
    inputs = size.normalize(pixels[np.newaxis].astype("float32"))
    order = [names.index(name) for name, _ in found.classes]
    for name, output in zip(network.output_names, network(inputs), strict=True):
        np.testing.assert_allclose(found.heads[name], np.asarray(output)[0, order], atol=1e-5)
    for block, features in zip(("3a", "5a"), feature_model(network, ["3a", "5a"])(inputs), strict=True):
        np.testing.assert_allclose(found.features[block], np.asarray(features)[0], atol=1e-5)
    draw(found, tmp_path / "all.png")
    assert found._repr_png_() == (tmp_path / "all.png").read_bytes()
    assert cv2.imread(str(tmp_path / "all.png")).shape[0] > 1000
    with pytest.raises(UserError, match="expected a block of"):
        classifier.explain(pixels, blocks=["9z"])
    with pytest.raises(UserError, match="has no blocks: explain its run"):
        load(MODEL).explain(SNEAKER, blocks=["3a"])


def test_a_map_lies_on_what_the_network_saw(tmp_path, small_variant):
    """Of 160 x 400 gray pixels the network sees rows 40 to 120 and columns 160 to 240."""
    from keras_googlenet import Classifier, Preprocessing
    from keras_googlenet.network.architecture import Architecture

    variant = Architecture.from_json(small_variant.read_text())
    network = GoogLeNet(variant=variant, input_shape=(80, 80, 3), classes=3, aux_heads=False)
    size = Preprocessing(80, 80, crop_fraction=0.5, keep_aspect=True)
    pixels = np.full((160, 400, 3), 128, "uint8")
    pixels[40:120, 160:240, 0] += np.arange(80, dtype="uint8")
    found = Classifier("crops", network, ("a", "b", "c"), size).explain(pixels, top=1)
    np.testing.assert_array_equal(found.pixels, pixels[40:120, 160:240])
    np.testing.assert_array_equal(found.image, pixels)
    assert found.region == (0.25, 0.4, 0.75, 0.6)
    found = replace(found, maps=np.ones_like(found.maps))  # a random network's may be pale somewhere
    draw(found, tmp_path / "map.png")
    drawn = cv2.imread(str(tmp_path / "map.png")).astype(int)
    middle = drawn.shape[1] // 2
    gray = (drawn[:, middle:] == 128).all(axis=-1)  # of the map's picture, without what was seen
    rows, columns = (np.nonzero(gray.sum(axis=axis) > 40)[0] for axis in (1, 0))  # more than a title's edges
    left, top = columns.min(), rows.min()
    width, height = columns.max() + 1 - left, rows.max() + 1 - top
    colored = (drawn.max(axis=-1) - drawn.min(axis=-1) > 20)[:, middle:]
    ys, xs = np.nonzero(colored)
    box = [(ys.min() - top) / height, (xs.min() - left) / width]
    box += [(ys.max() + 1 - top) / height, (xs.max() + 1 - left) / width]
    np.testing.assert_allclose(box, found.region, atol=0.03)


@pytest.fixture
def packages(monkeypatch, tmp_path):
    """The package with two networks: `tiny`, and `other`, another architecture's."""
    import shutil

    shutil.copytree(RUN, tmp_path / "networks/tiny")
    monkeypatch.setattr(shipped, "FOLDER", tmp_path / "networks")
    return tmp_path / "networks"


def test_a_run_and_its_export_answer_alike(of_run):
    exported = load(MODEL)
    assert exported.model is None
    assert exported.class_names == of_run.class_names
    assert exported.preprocessing == of_run.preprocessing
    (one,), (other,) = of_run.predict(SNEAKER), exported.predict([SNEAKER])
    assert one.image == other.image == str(SNEAKER)
    assert [name for name, _ in one.top] == [name for name, _ in other.top]
    np.testing.assert_allclose(one.probabilities, other.probabilities, atol=1e-4)
    (served,) = classify([SNEAKER], model=MODEL)
    np.testing.assert_array_equal(other.probabilities, served.probabilities)


# --- exported files ------------------------------------------------------------------------------

SUFFIX = {"onnx": ".onnx", "litert": ".tflite", "openvino": ".xml"}


def exported_file(classifier, folder, format, preprocessing):
    return export_file(
        classifier.model,
        folder / f"shoes{SUFFIX[format]}",
        format=format,
        class_names=classifier.class_names,
        preprocessing=preprocessing,
    )


@pytest.fixture(scope="module")
def files(of_run, tmp_path_factory):
    """The run's file of each format, by its format."""
    folder = tmp_path_factory.mktemp("files")
    return {format: exported_file(of_run, folder / format, format, of_run.preprocessing) for format in SUFFIX}


def test_predict_of_files_has_the_rows_of_a_version(files, tmp_path, command):
    """The exported version of the same run is the reference."""
    shutil.copy(SNEAKER, tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes(b"no image")
    cv2.imwrite(str(tmp_path / "c.png"), np.full((40, 20, 3), 90, "uint8"))
    arguments = [*(tmp_path / f"{name}.png" for name in "abc"), "--csv", "--top", "2", "--model"]
    code, out, _ = command("predict", *arguments, MODEL)
    header, *expected = csv.reader(io.StringIO(out))
    for file in files.values():
        found_code, out, _ = command("predict", *arguments, file)
        found_header, *found = csv.reader(io.StringIO(out))
        assert (found_code, len(found), found_header) == (code, len(expected), header) == (1, 3, header)
        for cell, known in zip(chain(*found), chain(*expected), strict=True):
            assert cell == known or float(cell) == pytest.approx(float(known), abs=1e-4)


def test_a_file_prepares_images_as_its_network(of_run, tmp_path, random):
    """With all that is left to its reader: the crop, transparency, the order of the channels."""
    cropping = replace(of_run.preprocessing, crop_fraction=0.75, keep_aspect=True, background=0)
    file = exported_file(of_run, tmp_path, "openvino", cropping)
    loaded = load(file)
    assert (loaded.model, loaded.class_names) == (None, of_run.class_names)
    assert loaded.preprocessing == replace(cropping, mean=0.0, scale=1.0)
    transparent = cv2.imencode(".png", random.integers(0, 256, (50, 90, 4), "uint8"))[1].tobytes()
    images = [SNEAKER, transparent, random.integers(0, 256, (40, 33, 3), "uint8")]
    network = Classifier("cropping", of_run.model, of_run.class_names, cropping)
    for one, other in zip(network.predict(images), loaded.predict(images, batch_size=2), strict=True):
        assert (one.image, one.label) == (other.image, other.label)
        np.testing.assert_allclose(one.probabilities, other.probabilities, atol=1e-5)
    assert not np.allclose(of_run.predict(images)[2].probabilities, one.probabilities, atol=1e-3)
    with pytest.raises(UserError, match="expected `views` to be 1 of an export, got 2"):
        loaded.predict(SNEAKER, views=2)
    with pytest.raises(UserError, match=r"shoes.xml is a file, which has no class activation maps"):
        loaded.explain(SNEAKER)


DAMAGES = [
    ("shoes.xml", None, r"no model at .*shoes.xml: expected the file that `export` wrote"),
    ("shoes.bin", None, r"shoes.bin is missing: keep it next to shoes.xml, or export again"),
    ("shoes.labels.txt", None, r"shoes.labels.txt is missing: keep it next to shoes.xml"),
    ("shoes.preprocessing.json", None, r"shoes.preprocessing.json is missing: keep it next to shoes.xml"),
    ("shoes.xml", "no network", r"cannot load .*shoes.xml: Unable to read the model: .*; export it again"),
    ("shoes.bin", "short", r"cannot load .*shoes.xml: Incorrect weights in bin file!; export it again"),
    ("shoes.labels.txt", "a\n", "expected 2 class names next to .*shoes.xml, got 1: export it again"),
    ("shoes.preprocessing.json", "[]", r"cannot read .*shoes.preprocessing.json: .*; export it again"),
    (
        "shoes.preprocessing.json",
        '{"height": 28, "width": 28, "channels": 3}',
        r"shoes.xml does not fit shoes.preprocessing.json: Can't set the input .*; export it again",
    ),
]


@pytest.mark.parametrize(("name", "content", "message"), DAMAGES)
def test_damaged_files_are_one_line(files, name, content, message, tmp_path, command):
    folder = shutil.copytree(files["openvino"].parent, tmp_path / "copy")
    (folder / name).unlink()
    if content is not None:
        (folder / name).write_text(content)
    with pytest.raises(UserError, match=message):
        load(folder / "shoes.xml")
    code, out, err = command("predict", SNEAKER, "--model", folder / "shoes.xml")
    assert (code, out, err.count("\n")) == (2, "", 1), err
    assert err.startswith("error: ")


@pytest.mark.parametrize("format", ["onnx", "litert"])
def test_a_file_of_rubbish(files, format, tmp_path):
    folder = shutil.copytree(files[format].parent, tmp_path / "copy")
    (folder / files[format].name).write_bytes(b"rubbish")
    with pytest.raises(UserError, match=r"cannot load .*; export it again"):
        load(folder / files[format].name)


def test_a_file_of_another_kind_or_without_its_runtime(files, tmp_path, command, monkeypatch):
    (tmp_path / "network.pb").touch()
    assert command("predict", SNEAKER, "--model", tmp_path / "network.pb") == (
        2,
        "",
        f"error: expected a file that ends in .onnx, .tflite, .xml, got {tmp_path / 'network.pb'}\n",
    )
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "openvino" else find_spec(name)
    )
    assert command("predict", SNEAKER, "--model", files["openvino"]) == (
        2,
        "",
        'error: openvino is not installed: pip install "keras-googlenet[openvino]"\n',
    )


# --- images --------------------------------------------------------------------------------------


def test_paths_bytes_and_arrays(of_run):
    pixels = np.asarray(Image.open(SNEAKER).convert("RGB"))
    gray = np.asarray(Image.open(SNEAKER).convert("L"))
    found = of_run.predict([SNEAKER, str(SNEAKER), SNEAKER.read_bytes(), pixels, gray, gray[..., np.newaxis]])
    assert [one.image for one in found] == [str(SNEAKER)] * 2 + [f"image {n}" for n in range(2, 6)]
    for one in found[1:]:
        np.testing.assert_allclose(one.probabilities, found[0].probabilities, atol=1e-5)
    (batch,) = of_run.predict(pixels[np.newaxis])
    np.testing.assert_allclose(batch.probabilities, found[0].probabilities, atol=1e-5)


def test_arrays_are_red_green_blue_unless_said_otherwise():
    """A network that tells the red from the blue."""
    inputs = keras.Input((8, 8, 3))
    x = keras.layers.GlobalAveragePooling2D()(inputs)
    kernel = keras.initializers.Constant(np.array([[9.0, -9], [0, 0], [-9, 9]]))
    outputs = keras.layers.Dense(2, "softmax", kernel_initializer=kernel, name="main")(x)
    from keras_googlenet import Classifier, Preprocessing

    classifier = Classifier("two", keras.Model(inputs, outputs), ("red", "blue"), Preprocessing(8, 8))
    red = np.zeros((8, 8, 3), "uint8")
    red[..., 0] = 255
    png = cv2.imencode(".png", red[..., ::-1])[1].tobytes()
    assert [one.label for one in classifier.predict([red, png])] == ["red", "red"]
    assert classifier.predict(red, channel_order="bgr")[0].label == "blue"
    assert classifier.predict(red[np.newaxis], channel_order="rgb")[0].label == "red"


def test_views(of_run):
    (one,), (several,) = of_run.predict(SNEAKER), of_run.predict(SNEAKER, views=6)
    assert not np.allclose(one.probabilities, several.probabilities, atol=1e-6)
    assert several.probabilities.sum() == pytest.approx(1)
    with pytest.raises(UserError, match="expected `views` to be 1, 2, 6, got 3"):
        of_run.predict(SNEAKER, views=3)
    with pytest.raises(UserError, match="expected `views` to be 1 of an export, got 2"):
        load(MODEL).predict(SNEAKER, views=2)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (b"no image", "cannot read image 0: expected a JPEG, PNG, BMP, WebP or GIF image"),
        (Path("nowhere.png"), "no image file at nowhere.png"),
        (np.zeros((4, 4, 3)), "image 0: expected uint8 pixels"),
        (
            [SNEAKER, SNEAKER.read_bytes()[:300]],
            "cannot read image 1: expected a JPEG, PNG, BMP, WebP or GIF image",
        ),
        (7, "expected a path, bytes or an array of pixels; received int"),
    ],
)
def test_images_that_are_none(of_run, images, message):
    with pytest.raises(UserError, match=message):
        of_run.predict(images)


def test_a_network_of_the_package(packages, of_run, monkeypatch):
    assert shipped_names() == ["tiny"]
    monkeypatch.chdir(packages.parent)
    (packages.parent / "tiny").mkdir()  # a name of the package goes before a folder
    classifier = load("tiny")
    assert classifier.name == "tiny"
    np.testing.assert_array_equal(
        classifier.predict(SNEAKER)[0].probabilities, of_run.predict(SNEAKER)[0].probabilities
    )
    for folder in ("./tiny", Path("tiny")):
        with pytest.raises(UserError, match="no SavedModel in tiny"):
            load(folder)


def test_googlenet_of_a_network_of_the_package(packages, of_run):
    model = GoogLeNet(weights="tiny", aux_heads=False)
    assert model.input_shape[1:3] == (of_run.preprocessing.height, of_run.preprocessing.width)
    assert model.output_shape == (None, len(of_run.class_names))
    images = np.random.default_rng(0).uniform(-1, 1, (2, *model.input_shape[1:])).astype("float32")
    np.testing.assert_allclose(
        model.predict(images, verbose=0), of_run.model.predict(images, verbose=0), atol=1e-5
    )
    body = GoogLeNet(weights="tiny", include_top=False, pooling="avg", input_shape=(40, 48, 1), classes=3)
    assert len(body.output_shape) == 2
    for wrong in ({"variant": "slim"}, {"input_shape": (64, 64, 1)}, {"classes": 3}):
        with pytest.raises(ValueError, match="The weights 'tiny' are those of variant='tiny', "):
            GoogLeNet(weights="tiny", **wrong)
    with pytest.raises(ValueError, match=r"the name of a network of the package \(tiny\), or the path"):
        GoogLeNet(weights="nothing")


def test_names_that_are_nothing():
    with pytest.raises(UserError, match=r"no network 'nothing': expected .*imagenet, a run's folder"):
        load("nothing")


def test_imagenet(monkeypatch):
    """The network is the factory's own; here without its download."""
    from keras_googlenet.inference import classifier as module

    without_weights = {"weights": None, "input_shape": (64, 64, 3)}
    monkeypatch.setattr(module, "GoogLeNet", lambda **options: GoogLeNet(**options | without_weights))
    monkeypatch.setattr(module, "imagenet_class_names", lambda: tuple(f"name{i}" for i in range(1000)))
    found = load("imagenet", variant="slim")
    assert len(found.class_names) == 1000
    assert found.model.output_shape == (None, 1000)
    assert found.preprocessing.crop_fraction == 0.875


def test_names_of_imagenet(monkeypatch):
    module = inspect.getmodule(keras.applications.imagenet_utils.decode_predictions)
    table = {str(i): [f"n{i:08}", f"name{i}"] for i in range(1000)}  # Keras downloads it
    monkeypatch.setattr(module, "CLASS_INDEX", table)
    assert imagenet.class_names() == tuple(f"name{i}" for i in range(1000))


@pytest.fixture
def archive(tmp_path):
    """A run's folder, zipped as people zip it."""
    path = tmp_path / "clothes.zip"
    with zipfile.ZipFile(path, "w") as packed:
        for file in sorted(RUN.iterdir()):
            if file.is_file():
                packed.write(file, f"clothes/{file.name}")
        packed.writestr("../../outside.txt", "left out")
    return path


@pytest.fixture
def hub(archive, tmp_path, monkeypatch):
    """What answers for the network: the file, whatever the address; keeps the addresses."""
    asked = []

    def get_file(name, origin, file_hash, cache_dir, cache_subdir):
        asked.append(origin)
        to = Path(cache_dir) / cache_subdir / name
        to.write_bytes(archive.read_bytes())
        if hashlib.sha256(to.read_bytes()).hexdigest() != file_hash:
            raise ValueError("The file does not match its hash")  # as Keras does
        return to

    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(fetch.keras.utils, "get_file", get_file)
    return asked


def test_an_address_with_its_hash(archive, hub, of_run, tmp_path):
    digest = hashlib.sha256(archive.read_bytes()).hexdigest()
    for address in (
        f"https://host/clothes.zip#sha256={digest}",
        f"hf://me/clothes/v1/clothes.zip#sha256={digest}",
    ):
        found = load(address)
        np.testing.assert_array_equal(
            found.predict(SNEAKER)[0].probabilities, of_run.predict(SNEAKER)[0].probabilities
        )
    assert hub == ["https://host/clothes.zip"]  # the second is of the same hash
    assert not list(tmp_path.rglob("outside.txt"))


def test_addresses_that_are_refused(archive, hub):
    digest = hashlib.sha256(archive.read_bytes()).hexdigest()
    for address in ("https://host/a.zip", f"http://host/a.zip#sha256={digest}", "hf://me/a/b.zip#sha256=12"):
        with pytest.raises(UserError, match=r"and the file's hash, as in https://HOST/FILE.zip#sha256="):
            load(address)
    with pytest.raises(UserError, match=r"expected hf://OWNER/REPOSITORY/FILE.zip"):
        load(f"hf://me/clothes#sha256={digest}")
    with pytest.raises(UserError, match=r"cannot fetch https://host/a.zip: The file does not match its hash"):
        load(f"https://host/a.zip#sha256={'0' * 64}")
    content = archive.read_bytes()
    encrypted = content.replace(b"PK\1\2\x14\3\x14\0\0\0", b"PK\1\2\x14\3\x14\0\1\0")
    unknown = content.replace(b"PK\1\2\x14\3\x14\0\0\0\0\0", b"PK\1\2\x14\3\x14\0\0\0\x63\0")
    for damaged, why in {
        b"no zip": "File is not a zip file",
        encrypted: "is encrypted",
        unknown: "compression method",
    }.items():
        archive.write_bytes(damaged)
        digest = hashlib.sha256(damaged).hexdigest()
        with pytest.raises(UserError, match=f"is not a zip archive that can be read: .*{why}"):
            load(f"https://host/a.zip#sha256={digest}")
    with zipfile.ZipFile(archive, "w") as packed:
        packed.writestr("a.txt", "")
    digest = hashlib.sha256(archive.read_bytes()).hexdigest()
    with pytest.raises(UserError, match="holds no run"):
        load(f"https://host/a.zip#sha256={digest}")
