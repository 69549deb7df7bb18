import inspect
import json

import keras
import numpy as np
import pytest

from keras_googlenet import decode_predictions, preprocess_input
from keras_googlenet.errors import UserError
from keras_googlenet.images.spec import Preprocessing


def test_range_is_minus_one_to_one():
    np.testing.assert_allclose(preprocess_input(np.array([0.0, 127.5, 255.0])), [-1, 0, 1])


@pytest.mark.parametrize("dtype", ["uint8", "int64", "float32"])
def test_result_is_float32(dtype):
    pixels = np.array([[0, 51, 255]], dtype)
    scaled = preprocess_input(pixels)
    assert scaled.dtype == np.float32
    np.testing.assert_allclose(scaled, [[-1, -0.6, 1]], atol=1e-6)


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_images_are_not_changed_in_place(dtype):
    pixels = np.arange(48).reshape(1, 4, 4, 3).astype(dtype)
    before = pixels.copy()
    preprocess_input(pixels)
    np.testing.assert_array_equal(pixels, before)


def test_normalize_uses_mean_and_scale():
    preprocessing = Preprocessing(8, 8, mean=100.0, scale=0.5)
    np.testing.assert_array_equal(preprocessing.normalize(np.array([100.0, 104.0])), [0, 2])


def test_preprocess_input_is_the_default_preprocessing(random):
    pixels = random.uniform(0, 255, (2, 4, 4, 3)).astype("float32")
    np.testing.assert_array_equal(preprocess_input(pixels), Preprocessing(4, 4).normalize(pixels))


def test_dict_round_trip_through_json():
    preprocessing = Preprocessing(80, 96, channels=1, mean=1.5, scale=0.25)
    assert Preprocessing.from_dict(json.loads(json.dumps(preprocessing.to_dict()))) == preprocessing


@pytest.mark.parametrize("channels", [0, 2, 4])
def test_other_channels_are_refused(channels):
    with pytest.raises(UserError, match=f"1 or 3 channels, received {channels}"):
        Preprocessing(8, 8, channels)


def test_bvlc_takes_bgr_less_the_mean():
    pixels = np.array([[[[250, 100, 10]]]], np.uint8)
    scaled = preprocess_input(pixels, "bvlc")
    np.testing.assert_allclose(scaled, [[[[10 - 104, 100 - 117, 250 - 123]]]])
    assert scaled.dtype == np.float32
    assert pixels.tolist() == [[[[250, 100, 10]]]]


@pytest.mark.parametrize("weights", ["torchvision", "slim"])
def test_the_others_take_minus_1_to_1(weights):
    np.testing.assert_allclose(preprocess_input(np.array([0.0, 255.0]), weights), [-1, 1])


def test_unknown_weights_are_named():
    with pytest.raises(UserError, match=r"one of \['bvlc', .*received 'vgg'"):
        preprocess_input(np.zeros(3), "vgg")


def test_a_mean_survives_json():
    before = Preprocessing(224, 224, mean=(104.0, 117.0, 123.0), scale=1.0, channel_order="bgr")
    assert Preprocessing.from_dict(json.loads(json.dumps(before.to_dict()))) == before


@pytest.mark.parametrize("wrong", [{"mean": (1.0, 2.0)}, {"crop_fraction": 0.0}, {"crop_fraction": 1.5}])
def test_wrong_fields(wrong):
    with pytest.raises(UserError, match="received"):
        Preprocessing(224, 224, **wrong)


def test_decode_predictions_names_the_best_classes(monkeypatch):
    """Keras's own table of names is downloaded; here it is read from a file of the same format."""
    module = inspect.getmodule(keras.applications.imagenet_utils.decode_predictions)
    table = {str(i): [f"n{i:08}", f"name{i}"] for i in range(1000)}
    monkeypatch.setattr(module, "CLASS_INDEX", table)
    predictions = np.zeros((1, 1000), "float32")
    predictions[0, [7, 3]] = 0.7, 0.2
    named = decode_predictions(predictions, top=2)
    assert [row[:2] for row in named[0]] == [("n00000007", "name7"), ("n00000003", "name3")]
    with_background = np.concatenate([np.zeros((1, 1), "float32"), predictions], axis=1)
    assert decode_predictions(with_background, top=2) == named


def test_the_region_that_a_network_sees():
    assert Preprocessing(20, 30).region(7, 9) == (0, 0, 1, 1)
    assert Preprocessing(20, 20, crop_fraction=0.5).region(40, 100) == (0.25, 0.25, 0.75, 0.75)
    # 40 x 100 is neither enlarged nor shrunk: rows 10 to 30 and columns 40 to 60 are kept.
    cropping = Preprocessing(20, 20, crop_fraction=0.5, keep_aspect=True)
    assert cropping.region(40, 100) == (0.25, 0.4, 0.75, 0.6)
    assert cropping.region(100, 40) == (0.4, 0.25, 0.6, 0.75)
