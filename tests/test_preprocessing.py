import json

import numpy as np
import pytest

from keras_googlenet import preprocess_input
from keras_googlenet.errors import UserError
from keras_googlenet.preprocessing import Preprocessing


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
