"""BVLC's weights, ONNX and Caffe, against the network as onnxruntime runs it."""

import bvlc
import numpy as np
import onnxruntime
import pytest

from keras_googlenet import GoogLeNet, UserError
from keras_googlenet.weights.convert import convert
from keras_googlenet.weights.readers import read


@pytest.fixture(scope="module")
def tensors():
    return bvlc.random_tensors(np.random.default_rng(1))


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(2).normal(0, 60, (2, 224, 224, 3)).astype("float32")


@pytest.fixture(scope="module")
def expected(tensors, images, tmp_path_factory):
    """Probabilities of onnxruntime: main, loss1, loss2."""
    path = bvlc.save(bvlc.graph(tensors, heads=True), tmp_path_factory.mktemp("onnx") / "heads.onnx")
    session = onnxruntime.InferenceSession(str(path))
    return session.run(None, {"data_0": images.transpose(0, 3, 1, 2)})


def main_path(tensors):
    return {name: value for name, value in tensors.items() if not name.startswith(("loss1", "loss2"))}


def test_expected_probabilities_are_no_accident(expected):
    for probabilities in expected:
        assert 0.001 < probabilities.max() < 0.999
        assert np.abs(probabilities[0] - probabilities[1]).max() > 1e-4


def test_onnx(tensors, images, expected, tmp_path):
    path = bvlc.save(bvlc.graph(main_path(tensors), heads=False), tmp_path / "googlenet-12.onnx")
    model = GoogLeNet(aux_heads=False)
    convert(read(path, "onnx"), "onnx", model)
    np.testing.assert_allclose(np.log(model.predict(images, verbose=0)), np.log(expected[0]), atol=5e-4)


@pytest.mark.parametrize("old_format", [False, True], ids=["new", "old"])
def test_caffe_with_both_auxiliary_heads(old_format, tensors, images, expected, tmp_path):
    path = tmp_path / "bvlc.caffemodel"
    path.write_bytes(bvlc.caffemodel(tensors, old_format=old_format))
    model = GoogLeNet()
    convert(read(path, "caffe"), "caffe", model)
    for ours, theirs in zip(model.predict(images, verbose=0), expected, strict=True):
        np.testing.assert_allclose(np.log(ours), np.log(theirs), atol=5e-4)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop("inception_4c/5x5_b_0"), "it lacks inception_4c/5x5_b_0"),
        (lambda t: t.update({"other_w_0": np.zeros(3)}), "it has left over other_w_0"),
        (lambda t: t.update({"conv2/3x3_w_0": np.zeros((192, 64, 1, 1))}), r"'conv2/3x3_w_0' does not fit"),
    ],
)
def test_tensors_that_do_not_fit_change_nothing(change, message, tensors):
    source = {
        f"{n}_{s}_0": v for n, pair in main_path(tensors).items() for s, v in zip("wb", pair, strict=True)
    }
    change(source)
    model = GoogLeNet(aux_heads=False)
    before = model.get_weights()
    with pytest.raises(UserError, match=message):
        convert(source, "onnx", model)
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


@pytest.mark.parametrize("source", ["onnx", "caffe", "slim"])
@pytest.mark.parametrize("damage", [b"", b"rubbish" * 100, None], ids=["empty", "rubbish", "truncated"])
def test_a_damaged_file_is_one_line(source, damage, tensors, tmp_path):
    path = tmp_path / "damaged.tar.gz"
    if damage is None:
        small = {"conv1/7x7_s2": tensors["conv1/7x7_s2"]}
        damage = bvlc.caffemodel(small, old_format=False)[:1000]
    path.write_bytes(damage)
    with pytest.raises(UserError, match=f"cannot read .* as {source} weights: .+"):
        read(path, source)
