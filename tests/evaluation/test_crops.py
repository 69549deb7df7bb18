import dataclasses

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageOps

from keras_googlenet.evaluation.crop_pipeline import take_crops
from keras_googlenet.evaluation.crops import Crop, crop_table
from keras_googlenet.images.tensorflow import resize
from keras_googlenet.weights.published import TORCHVISION

SIDES = st.integers(1, 3000)
SIZES = st.integers(8, 320)
PROTOCOLS = st.sampled_from([10, 144])


def flipped(crop):
    return crop._replace(left=crop.width - crop.side - crop.left)


def transposed(crop):
    return Crop(crop.width, crop.height, crop.left, crop.top, crop.side, crop.mirrored)


@given(SIDES, SIDES, SIZES, PROTOCOLS)
def test_every_crop_is_a_square_inside_the_image(height, width, size, crops):
    table = crop_table(height, width, size, crops)
    assert len(table) == crops
    for crop in table:
        assert crop.side >= size
        assert 0 <= crop.top <= crop.height - crop.side
        assert 0 <= crop.left <= crop.width - crop.side


@given(SIDES, SIDES, SIZES, PROTOCOLS)
def test_each_crop_is_followed_by_its_mirror_image(height, width, size, crops):
    table = crop_table(height, width, size, crops)
    assert [crop._replace(mirrored=True) for crop in table[::2]] == table[1::2]
    assert not any(crop.mirrored for crop in table[::2])


@given(SIDES, SIDES, SIZES, PROTOCOLS)
def test_the_image_keeps_its_aspect_and_just_covers_the_scale(height, width, size, crops):
    scales = (256,) if crops == 10 else (256, 288, 320, 352)
    table = crop_table(height, width, size, crops)
    resized = list(dict.fromkeys((crop.height, crop.width) for crop in table))
    assert [min(sides) for sides in resized] == [round(scale * size / 224) for scale in scales]
    for tall, wide in resized:
        assert (tall >= wide) == (height >= width) or tall == wide
        longer, short, long = max(tall, wide), min(height, width), max(height, width)
        assert longer == pytest.approx(long * min(tall, wide) / short, abs=0.5001)


@given(SIDES, SIDES, SIZES, PROTOCOLS)
def test_the_crops_are_symmetric(height, width, size, crops):
    """Left and right: but for half a pixel of the center. Portrait and landscape: exactly."""
    table = crop_table(height, width, size, crops)
    near = {crop._replace(left=crop.left + by) for crop in table for by in (0, 1, 2)}
    assert {flipped(crop) for crop in table} <= near
    assert {transposed(crop) for crop in table} == set(crop_table(width, height, size, crops))


def test_the_144_crops_of_a_photograph():
    """500 x 375, at the paper's size."""
    table = crop_table(375, 500, 224, 144)
    assert list(dict.fromkeys(crop[:2] for crop in table)) == [(256, 341), (288, 384), (320, 427), (352, 469)]
    first = table[:36:2]  # of the first scale: left, center and right square
    assert [crop[2:5] for crop in first[:6]] == [
        (0, 0, 224), (0, 32, 224), (32, 0, 224), (32, 32, 224), (16, 16, 224), (0, 0, 256),
    ]  # fmt: skip
    assert [crop[2:5] for crop in first[5::6]] == [(0, 0, 256), (0, 42, 256), (0, 85, 256)]
    assert first[6:11] == [crop._replace(left=crop.left + 42) for crop in first[:5]]


def test_the_10_crops_of_a_portrait():
    table = crop_table(640, 480, 224, 10)
    assert {crop[:2] for crop in table} == {(341, 256)}
    assert [crop[2:] for crop in table[::2]] == [
        (0, 0, 224, False), (0, 32, 224, False), (117, 0, 224, False), (117, 32, 224, False),
        (58, 16, 224, False),
    ]  # fmt: skip


@pytest.mark.parametrize(("shape", "crops"), [((50, 70, 3), 144), ((28, 28, 1), 144), ((90, 40, 1), 10)])
def test_pixels_are_those_of_the_table(shape, crops, random):
    pixels = random.integers(0, 256, shape, "uint8")
    table = crop_table(*shape[:2], 32, crops)
    taken = take_crops(pixels, table, 32).numpy()
    assert taken.shape == (crops, 32, 32, shape[2])
    assert taken.dtype == "float32"
    assert 0 <= taken.min() < taken.max() <= 255
    np.testing.assert_array_equal(taken[1::2], taken[::2, :, ::-1])
    for crop, found in zip(table[::2], taken[::2], strict=True):
        image = tf.image.resize(pixels, crop[:2], antialias=True).numpy()
        square = image[crop.top : crop.top + crop.side, crop.left : crop.left + crop.side]
        expected = tf.image.resize(square, (32, 32), antialias=True).numpy()
        np.testing.assert_allclose(found, expected, atol=1e-3)


def test_an_image_of_the_exact_size_is_not_resampled(random):
    pixels = random.integers(0, 256, (256, 300, 3), "uint8")
    taken = take_crops(pixels, crop_table(256, 300, 224, 10), 224).numpy()
    np.testing.assert_array_equal(taken[2], pixels[:224, -224:])


def test_the_center_crop_is_the_usual_one_of_published_weights(random):
    """Shorter side to 256, center crop of 224: torchvision's, and the fifth of 10."""
    pixels = random.integers(0, 256, (300, 400, 3), "uint8")
    taken = take_crops(pixels, crop_table(300, 400, 224, 10), 224).numpy()
    expected = resize(tf.constant(pixels), dataclasses.replace(TORCHVISION, mean=0, scale=1)).numpy()
    np.testing.assert_allclose(taken[8], expected, atol=1e-2)  # the two round by the processor


def test_the_paper_s_144_crops_by_pillow(random):
    """Written down from the paper's section 7 for half its size, and resized by Pillow, in 8 bits."""
    photograph = Image.fromarray(random.integers(0, 256, (40, 60, 3), "uint8")).resize((300, 200))
    expected = []
    for scale in (128, 144, 160, 176):
        image = photograph.resize((round(300 * scale / 200), scale), Image.Resampling.BILINEAR)
        for left in (0, (image.width - scale) // 2, image.width - scale):
            square = image.crop((left, 0, left + scale, scale))
            end, middle = scale - 112, (scale - 112) // 2
            for x, y in ((0, 0), (end, 0), (0, end), (end, end), (middle, middle)):
                expected.append(square.crop((x, y, x + 112, y + 112)))
            expected.append(square.resize((112, 112), Image.Resampling.BILINEAR))
    expected = [view for crop in expected for view in (crop, ImageOps.mirror(crop))]
    taken = take_crops(np.asarray(photograph), crop_table(200, 300, 112, 144), 112).numpy()
    np.testing.assert_allclose(taken, np.stack(expected), atol=2)
