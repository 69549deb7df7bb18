"""Fetching, caching and loading, on files of the published formats made here."""

import hashlib
import shutil
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import bvlc
import cv2
import keras
import numpy as np
import onnxruntime
import pytest
from PIL import Image

from keras_googlenet import GoogLeNet, UserError, cli
from keras_googlenet.evaluation.evaluate import evaluate
from keras_googlenet.network.variants import VARIANTS
from keras_googlenet.training.precision import using_dtype_policy
from keras_googlenet.weights import fetch
from keras_googlenet.weights.files import load_weights, save_weights
from keras_googlenet.weights.published import WEIGHTS, imagenet_spec

FULL_SIZES = {"bvlc": 28_021_836, "bvlc_caffe": 53_533_754, "torchvision": None, "slim": 24_642_554}


def test_published_rows_are_complete():
    assert {name: spec.size for name, spec in WEIGHTS.items()} == FULL_SIZES
    for spec in WEIGHTS.values():
        assert spec.address.endswith(spec.file)
        assert set(spec.sha256) <= set("0123456789abcdef")
        assert len(spec.sha256) == (8 if spec.name == "torchvision" else 64)
        assert spec.license
        assert 60 < spec.top1 < spec.top5 < 100


@pytest.mark.parametrize(
    ("variant", "aux_heads", "name"),
    [
        ("paper", False, "bvlc"),
        ("paper", True, "bvlc_caffe"),
        ("torchvision", False, "torchvision"),
        ("slim", True, "slim"),
    ],
)
def test_the_source_that_fits_the_variant(variant, aux_heads, name):
    assert imagenet_spec(variant, aux_heads=aux_heads).name == name


def test_a_variant_without_published_weights_is_named():
    with pytest.raises(ValueError, match="no ImageNet weights are published for variant 'bn'"):
        GoogLeNet(variant="bn", weights="imagenet")


@pytest.fixture(scope="module")
def tensors():
    return bvlc.random_tensors(np.random.default_rng(1))


@pytest.fixture(scope="module")
def published(tensors, tmp_path_factory):
    """A file of the ONNX zoo's format, with the row that publishes it from a folder."""
    folder = tmp_path_factory.mktemp("published")
    main = {name: value for name, value in tensors.items() if name[:5] not in ("loss1", "loss2")}
    path = bvlc.save(bvlc.graph(main, heads=False), folder / "googlenet-12.onnx")
    return replace(
        WEIGHTS["bvlc"],
        address=path.as_uri(),
        size=path.stat().st_size,
        sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
    )


@pytest.fixture
def home(tmp_path, monkeypatch, published):
    """An empty Keras home, and `bvlc` published from a folder."""
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "home"))
    monkeypatch.setitem(WEIGHTS, "bvlc", published)
    monkeypatch.delenv(fetch.ORIGINALS_VARIABLE, raising=False)
    return tmp_path / "home/models/keras_googlenet"


@pytest.fixture
def originals(tmp_path, monkeypatch, published):
    """A folder of originals, named by the environment variable, holding the published file."""
    folder = tmp_path / "originals"
    folder.mkdir()
    shutil.copy(published.address.removeprefix("file://"), folder)
    monkeypatch.setenv(fetch.ORIGINALS_VARIABLE, str(folder))
    return folder


def kernel(tensors, name):
    return tensors[name][0].transpose(2, 3, 1, 0)


def test_imagenet_weights_are_fetched_converted_once_and_loaded(home, tensors, published, capfd):
    model = GoogLeNet(weights="imagenet", aux_heads=False)
    np.testing.assert_array_equal(
        model.get_layer("inception_4a_5x5").kernel, kernel(tensors, "inception_4a/5x5")
    )
    np.testing.assert_array_equal(model.get_layer("main").kernel, tensors["loss3/classifier"][0].T)
    converted = home / f"bvlc-{published.sha256[:8]}.weights.h5"
    assert sorted(path.name for path in home.iterdir()) == sorted([converted.name, published.file])
    first = converted.stat().st_mtime_ns
    (home / published.file).unlink()  # not needed any more
    GoogLeNet(weights="imagenet", aux_heads=False)
    assert converted.stat().st_mtime_ns == first


def test_weights_fetch_prints_the_converted_file(home, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["keras-googlenet", "weights", "fetch", "bvlc"])
    cli.main()
    assert Path(capsys.readouterr().out.split()[-1]) in home.iterdir()


@pytest.mark.parametrize("policy", ["float16", "bfloat16"])
def test_the_converted_file_does_not_depend_on_the_caller_s_settings(policy, home, tensors, published):
    with using_dtype_policy(policy):
        GoogLeNet(weights="imagenet", aux_heads=False)
    model = GoogLeNet(weights="imagenet", aux_heads=False)
    np.testing.assert_array_equal(model.get_layer("main").kernel, tensors["loss3/classifier"][0].T)


def test_weights_in_bfloat16_are_saved_and_read(tmp_path):
    def network(policy):
        small = VARIANTS["light_stem"].scaled(0.125)
        with using_dtype_policy(policy):
            return GoogLeNet(variant=small, input_shape=(32, 32, 3), classes=3, aux_heads=False)

    saved, loaded = network("bfloat16"), network("float32")
    save_weights(saved, tmp_path / "saved.weights.h5")
    assert load_weights(loaded, tmp_path / "saved.weights.h5") == []
    for ours, theirs in zip(loaded.get_weights(), saved.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs.astype("float32"))


def imagenet_folder(folder, predict, random):
    """A folder of 1000 classes of one smooth image each, and 60 more images in the class `predict` gives."""
    names = [f"n{index:08}" for index in range(1000)]
    for index in range(1060):
        image = cv2.resize(random.integers(0, 256, (4, 5, 3), dtype=np.uint8), (90, 70))
        label = index if index < 1000 else predict(image)
        (folder / names[label]).mkdir(exist_ok=True)
        cv2.imwrite(str(folder / names[label] / f"{index}.png"), image)
    return names


@pytest.mark.slow
def test_evaluate_counts_what_onnxruntime_answers(home, published, tmp_path, random):
    """The published way of preprocessing, by Pillow, and the network, by onnxruntime."""
    session = onnxruntime.InferenceSession(published.address.removeprefix("file://"))

    def probabilities(bgr):
        resized = Image.fromarray(bgr[..., ::-1]).resize((256, 256), Image.Resampling.BILINEAR)
        pixels = np.asarray(resized, "float32")[16:240, 16:240, ::-1] - np.float32([104, 117, 123])
        return session.run(None, {"data_0": pixels.transpose(2, 0, 1)[np.newaxis]})[0][0]

    (tmp_path / "val").mkdir()
    names = imagenet_folder(tmp_path / "val", lambda image: probabilities(image).argmax(), random)
    best = [
        (label, probabilities(cv2.imread(str(path))).argsort()[-5:])
        for label, name in enumerate(names)
        for path in (tmp_path / "val" / name).iterdir()
    ]
    figures = evaluate("imagenet", tmp_path / "val")
    assert figures.images == 1060
    assert figures.top1 == pytest.approx(np.mean([label == five[-1] for label, five in best]), abs=0.003)
    assert figures.top5 == pytest.approx(np.mean([label in five for label, five in best]), abs=0.003)
    assert figures.top1 > 0.05
    assert figures.published_top1 == 0.6778


@pytest.mark.parametrize("digits", [64, 8])
def test_a_half_downloaded_file_is_fetched_again(digits, home, published):
    home.mkdir(parents=True)
    (home / published.file).write_bytes(b"half")
    spec = replace(published, sha256=published.sha256[:digits], size=None)
    assert fetch.original_file(spec).stat().st_size == published.size


@pytest.mark.parametrize("digits", [64, 8])
def test_two_processes_may_download_at_once(digits, home, published, monkeypatch):
    """Neither takes the other's half for the file, nor deletes it."""
    both, get_file = threading.Barrier(2, timeout=60), keras.utils.get_file

    def slow(*arguments, **options):
        made = Path(get_file(*arguments, **options))
        content = made.read_bytes()
        made.write_bytes(content[:100])
        both.wait()
        made.write_bytes(content)
        return str(made)

    monkeypatch.setattr(keras.utils, "get_file", slow)
    spec = replace(published, sha256=published.sha256[:digits], size=None)
    with ThreadPoolExecutor(2) as pool:
        files = list(pool.map(fetch.original_file, [spec, spec]))
    assert files == [home / published.file] * 2
    assert files[0].stat().st_size == published.size
    assert list(home.iterdir()) == [home / published.file]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"sha256": "0" * 64}, "cannot fetch bvlc weights: .*hash"),
        ({"sha256": "00000000"}, "expected SHA-256 00000000, found"),
        ({"size": 17, "sha256": ""}, "expected 17 bytes, found"),
        ({"address": "file:///no/such/file.onnx"}, "cannot fetch bvlc weights.*KERAS_GOOGLENET_WEIGHTS_DIR"),
    ],
)
def test_a_tampered_download_leaves_the_cache_clean(wrong, message, home, published, monkeypatch):
    monkeypatch.setitem(WEIGHTS, "bvlc", replace(published, **wrong))
    with pytest.raises(ValueError, match=message):
        GoogLeNet(weights="imagenet", aux_heads=False)
    assert not home.exists() or list(home.iterdir()) == []


def test_originals_from_a_folder(home, originals, tensors):
    model = GoogLeNet(weights="imagenet", aux_heads=False, input_shape=(96, 96, 3))
    np.testing.assert_array_equal(model.get_layer("conv1_7x7_s2").kernel, kernel(tensors, "conv1/7x7_s2"))


def test_a_tampered_original_is_refused_and_kept(home, originals, published):
    path = originals / published.file
    content = bytearray(path.read_bytes())
    content[1000] ^= 1
    path.write_bytes(content)
    with pytest.raises(UserError, match="is not the published file: expected SHA-256"):
        GoogLeNet(weights="imagenet", aux_heads=False)
    assert path.is_file()
    assert list(home.glob("*")) == []


def test_a_missing_original_is_named(home, originals, published):
    (originals / published.file).unlink()
    with pytest.raises(UserError, match=r"googlenet-12\.onnx is missing: put file://"):
        GoogLeNet(weights="imagenet", aux_heads=False)


def test_other_classes_and_channels_leave_fresh_layers_and_say_so(home, originals, tensors):
    with pytest.warns(UserWarning, match="left at their initial values: conv1_7x7_s2, main$"):
        model = GoogLeNet(weights="imagenet", aux_heads=False, classes=7, input_shape=(96, 96, 1))
    np.testing.assert_array_equal(model.get_layer("conv2_3x3").kernel, kernel(tensors, "conv2/3x3"))


def test_without_a_top_everything_is_loaded(home, originals):
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        GoogLeNet(weights="imagenet", include_top=False)


def test_another_architecture_of_the_same_name_is_refused(home, originals):
    with pytest.raises(UserError, match="of another architecture"):
        GoogLeNet(variant=VARIANTS["paper"].scaled(0.5), weights="imagenet", aux_heads=False)


# --- files of our own -----------------------------------------------------------------------------


def narrow(**arguments):
    defaults = {"input_shape": (96, 96, 3), "classes": 5, "variant": VARIANTS["paper"].scaled(1 / 8)}
    return GoogLeNet(**(defaults | arguments))


@pytest.mark.parametrize("suffix", [".keras", ".weights.h5"])
def test_own_files_round_trip(suffix, tmp_path):
    model = narrow()
    path = tmp_path / f"own{suffix}"
    (model.save if suffix == ".keras" else model.save_weights)(path)
    for old, new in zip(model.get_weights(), narrow(weights=path).get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_a_keras_file_of_another_input_size_leaves_the_auxiliary_heads_fc_fresh(tmp_path):
    narrow().save(tmp_path / "own.keras")
    with pytest.warns(UserWarning, match="initial values: aux1_fc, aux2_fc$"):
        narrow(weights=tmp_path / "own.keras", input_shape=(224, 224, 3))


def test_weights_after_layers_of_the_caller_s(tmp_path):
    trained = narrow()
    trained.save(tmp_path / "own.keras")
    inputs = keras.Input((96, 96, 4))
    x = keras.layers.Conv2D(8, 3, padding="same", name="mine_1")(inputs)
    x = keras.layers.Conv2D(3, 3, padding="same", name="mine_2")(x)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        model = narrow(input_tensor=x, weights=tmp_path / "own.keras")
    assert model.inputs[0] is inputs
    for name in ("conv1_7x7_s2", "inception_5b_5x5", "aux1_fc", "main"):
        for old, new in zip(*(m.get_layer(name).get_weights() for m in (trained, model)), strict=True):
            np.testing.assert_array_equal(old, new)


def test_weights_of_another_variant_are_refused(tmp_path):
    narrow().save(tmp_path / "own.keras")
    model = narrow(variant="bn")
    before = model.get_weights()
    with pytest.raises(UserError, match="of another architecture than 'googlenet': they differ in"):
        load_weights(model, tmp_path / "own.keras")
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


@pytest.mark.parametrize("name", ["bad.keras", "bad.weights.h5"])
def test_a_corrupt_file_is_one_line(name, tmp_path):
    (tmp_path / name).write_bytes(b"rubbish")
    with pytest.raises(UserError, match=f"cannot load .*{name}"):
        narrow(weights=tmp_path / name)


def test_slim_s_background_class_is_dropped_for_1000_classes(home, tmp_path, monkeypatch):
    source = GoogLeNet(variant="slim", classes=1001)
    spec = WEIGHTS["slim"]
    save_weights(source, fetch.cache_folder() / f"slim-{spec.sha256[:8]}.weights.h5")
    full = GoogLeNet(variant="slim", classes=1001, weights="imagenet")
    model = GoogLeNet(variant="slim", weights="imagenet")
    np.testing.assert_array_equal(
        model.get_layer("main").kernel, np.asarray(full.get_layer("main").kernel)[:, 1:]
    )
