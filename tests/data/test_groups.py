"""Images that belong together stay in one part."""

import shutil

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_near_duplicates import picture

from keras_googlenet.data import near_duplicates
from keras_googlenet.data.groups import groups_of
from keras_googlenet.data.parts import stratified_split
from keras_googlenet.data.sources import load_data
from keras_googlenet.errors import UserError


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 8)), min_size=1, max_size=60), st.integers(0, 5))
def test_a_split_parts_no_group(images, seed):
    labels, groups = np.array(images).T
    kept, held = stratified_split(labels, 0.3, seed, groups)
    assert sorted([*kept, *held]) == list(range(len(images)))
    assert not set(groups[kept]) & set(groups[held])
    assert all((labels[held] == label).any() for label in labels)


@given(st.lists(st.integers(0, 3), min_size=1, max_size=60), st.integers(0, 5))
def test_without_groups_each_class_has_its_share(labels, seed):
    _, held = stratified_split(labels, 0.3, seed)
    alone = stratified_split(labels, 0.3, seed, np.arange(len(labels)))
    np.testing.assert_array_equal(alone[1], held)
    for label in set(labels):
        count = labels.count(label)
        assert sum(labels[i] == label for i in held) == max(1, round(0.3 * count))


def test_the_share_is_met_as_nearly_as_groups_let_it():
    groups = np.repeat(np.arange(20), 5)
    for seed in range(9):
        _, held = stratified_split(np.zeros(100, int), 0.2, seed, groups)
        assert len(held) == 20
    big = np.array([0] * 90 + list(range(1, 11)))
    _, held = stratified_split(np.zeros(100, int), 0.1, 0, big)
    assert set(big[held]) == set(range(1, 11))


@pytest.fixture
def folder(tmp_path, random):
    """Two classes of 12 pictures, of which each second is a darker copy of the one before."""
    for label in ("cat", "dog"):
        (tmp_path / "data" / label).mkdir(parents=True)
        for index in range(0, 12, 2):
            pixels = picture(random, 64, 64)
            cv2.imwrite(str(tmp_path / f"data/{label}/{index}.png"), pixels)
            cv2.imwrite(str(tmp_path / f"data/{label}/{index + 1}.jpg"), (pixels * 0.7).astype(np.uint8))
    return tmp_path / "data"


def photos(part):
    """Which photo an image is of."""
    return {(path.parent.name, int(path.stem) // 2) for path in part.files}


def parts(data):
    return [data.train, data.validation, data.test]


def test_copies_stay_in_one_part(folder):
    data = load_data(str(folder), group_duplicates=True, seed=3)
    of_part = [photos(part) for part in parts(data)]
    assert sum(map(len, of_part)) == 12  # none in two
    assert [part.count for part in parts(data)] == [2 * len(found) for found in of_part]
    assert all(of_part)
    without = [photos(part) for part in parts(load_data(str(folder), seed=3))]
    assert sum(map(len, without)) > 12


def test_a_list_of_groups_may_be_a_user_s_or_inspect_s(folder, tmp_path):
    members = tmp_path / "groups.csv"
    rows = [
        f"{label}/{i}.{'png' if i % 2 == 0 else 'jpg'},{label}-{i // 6}"
        for label in ("cat", "dog")
        for i in range(12)
    ]
    members.write_text("file,group\n" + "\n".join(rows) + "\n")
    data = load_data(str(folder), groups=members, validation_fraction=0)
    held = {(path.parent.name, int(path.stem) // 6) for path in data.test.files}
    assert sorted(label for label, _ in held) == ["cat", "dog"]  # a whole group of each
    assert data.test.count == 12
    pairs = tmp_path / "pairs.csv"
    pairs.write_text(
        "first,second\n"
        + "\n".join(
            f"{folder}/{label}/{i}.png,{label}/{i + 1}.jpg"
            for label in ("cat", "dog")
            for i in range(0, 12, 2)
        )
    )
    of_part = [photos(part) for part in parts(load_data(str(folder), groups=pairs))]
    assert sum(map(len, of_part)) == 12


def test_given_parts_keep_their_test_images_and_training_gives_way(folder, capsys):
    (folder / "train").mkdir()
    for label in ("cat", "dog"):
        shutil.move(folder / label, folder / "train" / label)
        (folder / "test" / label).mkdir(parents=True)
        shutil.move(folder / "train" / label / "3.jpg", folder / "test" / label / "3.jpg")
    data = load_data(str(folder), group_duplicates=True)
    assert [path.name for path in data.test.files] == ["3.jpg", "3.jpg"]
    assert {path.name for part in (data.train, data.validation) for path in part.files}.isdisjoint({"2.png"})
    assert data.train.count + data.validation.count == 20
    assert "skipped 2 images that belong together with held-out images" in capsys.readouterr().err


MISTAKES = {
    "": "expected groups in the columns file,group or first,second",
    "image,group\n": "begins 'image,group'",
    "file,group\ncat/0.png\n": "line 2: expected two columns",
    "file,group\ncat/0.png,a\ncat/99.png,a\n": "line 3: cat/99.png is not an image in",
    "first,second\ncat/0.png,cat/nine.png\n": "line 2: cat/nine.png is not",
}


@pytest.mark.parametrize("content", MISTAKES)
def test_a_mistake_in_the_list_is_named(folder, tmp_path, content):
    (tmp_path / "groups.csv").write_text(content)
    paths = sorted(folder.rglob("*.*"))
    with pytest.raises(UserError, match=MISTAKES[content]):
        groups_of(paths, folder, tmp_path / "groups.csv")
    with pytest.raises(UserError, match=r"cannot read groups from .*nowhere.csv: No such file"):
        groups_of(paths, folder, tmp_path / "nowhere.csv")


def test_other_data_has_no_groups():
    with pytest.raises(UserError, match="expected no `group_duplicates` with the data 'sample'"):
        load_data("sample", group_duplicates=True)
    assert groups_of([], None, None) is None


def test_gray_pictures_stored_in_color_are_compared_as_gray_ones(tmp_path, random):
    """As `inspect` compares them: look-alikes need to be closer without colors."""
    gray = picture(random, 64, 64, channels=1)
    like = (0.85 * gray + 0.15 * picture(random, 64, 64, channels=1)).astype(np.uint8)
    assert 0.97 < np.corrcoef(gray.ravel(), like.ravel())[0, 1] < 0.99
    cv2.imwrite(str(tmp_path / "1.png"), gray)
    cv2.imwrite(str(tmp_path / "2.png"), like)
    cv2.imwrite(str(tmp_path / "3.png"), np.dstack([gray] * 3))
    cv2.imwrite(str(tmp_path / "4.png"), np.dstack([like] * 3))
    paths = sorted(tmp_path.iterdir())
    found = groups_of(paths, tmp_path, None, duplicates=True)
    assert found.tolist() == [0, 1, 0, 1]


def test_many_equal_images_leave_room_for_others(tmp_path, random, monkeypatch):
    """They are one image to the comparison of pairs, however many there are."""
    monkeypatch.setattr(near_duplicates, "MAX_ALIGNED", 3)
    one, other = picture(random, 64, 64), picture(random, 64, 64)
    for index in range(12):
        cv2.imwrite(str(tmp_path / f"{index:02}.png"), one)
    cv2.imwrite(str(tmp_path / "20.png"), other)
    cv2.imwrite(str(tmp_path / "21.jpg"), other)
    found = groups_of(sorted(tmp_path.iterdir()), tmp_path, None, duplicates=True)
    assert found.tolist() == [0] * 12 + [12, 12]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
@pytest.mark.parametrize(
    "content", ["file,group\ncat/0.png,a\ncat/broken.png,a\n", "first,second\ncat/broken.png,cat/0.png\n"]
)
def test_a_list_may_name_images_that_are_skipped(content, encoding, folder, tmp_path):
    (folder / "cat/broken.png").write_bytes(b"no image")
    (tmp_path / "groups.csv").write_text(content, encoding=encoding)
    data = load_data(str(folder), groups=tmp_path / "groups.csv", skip_corrupt=True)
    assert data.skipped == (str(folder / "cat/broken.png"),)
