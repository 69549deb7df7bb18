import pytest

from keras_googlenet.errors import UserError
from keras_googlenet.versions import latest_version, version_folder, versions


def write_versions(directory, *names):
    for name in names:
        (directory / name).mkdir(parents=True)
        (directory / name / "saved_model.pb").touch()


def test_versions_are_ordered_by_number(tmp_path):
    write_versions(tmp_path, "10", "2", "0")
    assert list(versions(tmp_path).items()) == [
        (0, tmp_path / "0"),
        (2, tmp_path / "2"),
        (10, tmp_path / "10"),
    ]


@pytest.mark.parametrize("name", [".tmp-1f", "latest", "1a", "1.5", "-1", "²", "٣", str(2**63)])
def test_names_that_are_no_version_are_passed_over(tmp_path, name):
    write_versions(tmp_path, "1", name)
    assert versions(tmp_path) == {1: tmp_path / "1"}


def test_a_file_is_no_version(tmp_path):
    (tmp_path / "1").touch()
    assert versions(tmp_path) == {}


def test_latest_version_is_the_highest_number(tmp_path):
    write_versions(tmp_path, "9", "10")
    assert latest_version(tmp_path) == 10


def test_latest_version_of_an_empty_folder_is_none(tmp_path):
    assert latest_version(tmp_path) is None


@pytest.mark.parametrize("names", [("0",), ("1",), ("9", "10"), ("007",)])
def test_version_folder_of_a_directory_is_its_latest(tmp_path, names):
    write_versions(tmp_path, *names)
    assert version_folder(tmp_path) == tmp_path / names[-1]


def test_version_folder_of_a_version_is_itself(tmp_path):
    write_versions(tmp_path, "1", "2")
    assert version_folder(tmp_path / "1") == tmp_path / "1"


def test_missing_folder_is_named(tmp_path):
    with pytest.raises(UserError, match=f"no model at {tmp_path / 'nowhere'}:"):
        version_folder(tmp_path / "nowhere")


@pytest.mark.parametrize("child", ["1", "other"])
def test_folder_without_a_saved_model_is_named(tmp_path, child):
    (tmp_path / child).mkdir()
    with pytest.raises(UserError, match=f"no SavedModel in {tmp_path}:"):
        version_folder(tmp_path)
