"""Copies of the same picture: found however they were changed, and nothing else."""

import cv2
import numpy as np
import pytest

from keras_googlenet.data import near_duplicates as module
from keras_googlenet.data.near_duplicates import grouped, most_alike, near_duplicates, thumbnail


def picture(random, height=160, width=200, channels=3):
    """Blobs of light, and larger ones of color, as photos have them."""

    def blobs(count, *sizes):
        noise = random.normal(size=(height, width, count)).astype("float32")
        shape = noise.shape
        parts = [cv2.GaussianBlur(noise, (0, 0), side * width / 100).reshape(shape) for side in sizes]
        return sum(part / part.std() for part in parts)

    return np.clip(128 + 30 * blobs(1, 1.5, 4, 9, 15) + 20 * blobs(channels, 15), 0, 255).astype(np.uint8)


def encoded_again(pixels):
    return cv2.imdecode(cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, 40])[1], cv2.IMREAD_UNCHANGED)


CHANGES = {
    "encoded again": encoded_again,
    "smaller": lambda pixels: cv2.resize(pixels, (90, 70), interpolation=cv2.INTER_AREA),
    "larger": lambda pixels: cv2.resize(pixels, (500, 400), interpolation=cv2.INTER_CUBIC),
    "cropped": lambda pixels: np.ascontiguousarray(pixels[4:-4, 9:-1]),
    "brighter": lambda pixels: np.clip(pixels * 1.15 + 20, 0, 255).astype(np.uint8),
    "darker": lambda pixels: (pixels * 0.6).astype(np.uint8),
    "all of it": lambda pixels: encoded_again(cv2.resize((pixels[3:, 4:] * 0.8).astype(np.uint8), (100, 90))),
}


def found(pictures):
    return near_duplicates(np.stack([thumbnail(one) for one in pictures]), pictures.__getitem__)


@pytest.mark.parametrize("change", CHANGES)
def test_a_copy_is_found(random, change):
    pictures = [picture(random) for _ in range(20)]
    pictures.append(CHANGES[change](pictures[7]))
    assert found(pictures) == [(7, 20)]


def test_a_gray_copy_of_a_gray_picture_is_found(random):
    pictures = [picture(random, channels=1) for _ in range(6)]
    pictures.append(CHANGES["smaller"](pictures[2])[..., np.newaxis])
    assert found(pictures) == [(2, 6)]


def test_the_same_shapes_in_other_colors_are_no_copy(random):
    red = (picture(random) * [1, 0.7, 0.4]).astype(np.uint8)
    assert found([red, np.ascontiguousarray(red[..., ::-1])]) == []


def test_flat_pictures_are_no_copies_of_each_other(random):
    flat = [np.full((50, 60, 3), value, np.uint8) for value in (0, 100, 101, 255)]
    assert found([*flat, picture(random)]) == []


def test_small_pictures_keep_their_size(random):
    small = [picture(random, 28, 28) for _ in range(10)]
    small.append(encoded_again(small[3]))
    assert found(small) == [(3, 10)]


def test_of_too_many_alike_the_most_alike_are_compared(random, monkeypatch):
    monkeypatch.setattr(module, "MAX_ALIGNED", 4)
    monkeypatch.setattr(module, "ROWS", 8)
    originals = [picture(random) for _ in range(3)]
    noisy = [
        np.clip(originals[0] + random.normal(0, 60, originals[0].shape), 0, 255).astype(np.uint8)
        for _ in range(8)
    ]
    thumbnails = [thumbnail(one) for one in [*originals, *noisy, CHANGES["darker"](originals[1])]]
    alike = most_alike(np.stack(thumbnails))
    assert len(alike) == 4
    assert (1, 11) in alike


def test_grouped():
    assert grouped(6, [(4, 1), (5, 4), (2, 3)]).tolist() == [0, 1, 2, 2, 1, 1]
    assert grouped(3, []).tolist() == [0, 1, 2]
