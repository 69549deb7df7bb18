from pathlib import Path

import numpy as np
import pytest

from keras_googlenet import UserError
from keras_googlenet.data.parts import ImageData, Part, array_part

IMAGES = np.zeros((20, 8, 8), "uint8")
LABELS = np.arange(20) % 2


def test_arrays_as_keras_datasets_has_them():
    data = ImageData.from_arrays((IMAGES, LABELS[:, None]), (IMAGES[:4], LABELS[:4]), validation_fraction=0.2)
    assert [part.count for part in (data.train, data.validation, data.test)] == [16, 4, 4]
    assert (data.class_names, data.channels) == (("0", "1"), 1)
    assert data.train.images.shape == (16, 8, 8, 1)


def test_arrays_with_their_own_validation_part_and_names():
    part = (np.zeros((20, 8, 8, 3), "uint8"), LABELS)
    data = ImageData.from_arrays(part, part, validation=part, class_names=["cat", "dog"])
    assert [p.count for p in (data.train, data.validation, data.test)] == [20, 20, 20]
    assert (data.class_names, data.channels) == (("cat", "dog"), 3)


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (IMAGES / 255, LABELS, "expected images of type uint8"),
        (IMAGES[0], LABELS, "expected images of type uint8"),
        (IMAGES, LABELS[:3], "expected an integer label for each of 20 images"),
        (IMAGES, LABELS / 2, "expected an integer label"),
        (IMAGES, LABELS - 1, "labels from 0"),
        (IMAGES[:0], LABELS[:0], "one image at least"),
    ],
)
def test_arrays_that_are_no_images_are_refused(images, labels, message):
    with pytest.raises(UserError, match=message):
        array_part(images, labels)


def test_too_few_names_are_refused():
    with pytest.raises(UserError, match="a name for each of 2 classes"):
        ImageData.from_arrays((IMAGES, LABELS), (IMAGES, LABELS), class_names=["cat"])


def test_files_follow_their_images():
    labels = np.array([0, 1, 2, 1], "int32")
    files = [Path(f"{i}.png") for i in range(4)]
    part = Part([b"a", b"b", b"c", b"d"], labels, files)
    assert part.take(np.array([2, 0])).files == [files[2], files[0]]
    data = ImageData(("a", "b", "c"), part, part, part)
    with pytest.raises(UserError, match="expected each class name once, found 'c' 2 times"):
        data.only(["c", "b", "c"])
    fewer = data.only(["c", "b"]).test
    assert (fewer.files, fewer.labels.tolist()) == (files[1:], [1, 0, 1])
