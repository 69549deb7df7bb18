"""The life of versions, with small real SavedModels and no clock but the tests' own."""

import gc
import shutil
import weakref

import numpy as np
import pytest
from tensorflow.core.protobuf import error_codes_pb2 as code
from tensorflow_serving.apis.get_model_status_pb2 import ModelVersionStatus

from keras_googlenet.errors import UserError
from keras_googlenet.serving.preview.config import ModelConfig, VersionPolicy, find_models, read_models
from keras_googlenet.serving.preview.errors import StatusError
from keras_googlenet.serving.preview.models import LOAD_RETRIES, Models

pytest_plugins = ["small_models"]

STATE = ModelVersionStatus.State


def states(models, name="adder"):
    """State and error code of each version."""
    return {
        listed.version: (STATE.Name(listed.state), code.Code.Name(listed.status.error_code))
        for listed in models.status(name).model_version_status
    }


def added(handle):
    """What the version adds to a number."""
    return handle.runner.run("serving_default", {"x": np.zeros((1, 2), "float32")})["y"][0, 0]


def answering(models, *servable):
    with models.use(*servable) as handle:
        return handle.version, added(handle)


AVAILABLE, ENDED = ("AVAILABLE", "OK"), ("END", "OK")


@pytest.fixture
def folder(tmp_path, adders):
    """A model's folder with version 1."""
    shutil.copytree(adders / "adder/1", tmp_path / "adder/1")
    return tmp_path / "adder"


def publish(adders, folder, number):
    """Add a version of `adders` to a folder, by rename."""
    shutil.copytree(adders / f"adder/{number}", folder / f".{number}")
    (folder / f".{number}").rename(folder / str(number))


# --- which versions ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        (VersionPolicy(), [3]),
        (VersionPolicy(count=0), [3]),
        (VersionPolicy(count=2), [2, 3]),
        (VersionPolicy("all"), [1, 2, 3]),
        (VersionPolicy("specific", numbers=frozenset({1, 3, 9})), [1, 3]),
    ],
)
def test_policies(models, adders, policy, expected):
    serving = models(ModelConfig("adder", adders / "adder", policy))
    assert serving.available() == {"adder": expected}
    assert answering(serving, "adder") == (max(expected), max(expected))
    for number in expected:
        assert answering(serving, "adder", number) == (number, number)


@pytest.mark.parametrize(("names", "latest"), [(("2", "10"), 10), (("0",), 0), (("007",), 7)])
def test_the_highest_number_is_the_latest(models, tmp_path, adders, names, latest):
    for name in (*names, "-1", "latest", "1.5", ".tmp-9"):
        (tmp_path / name).symlink_to(adders / "adder/1")
    assert models(ModelConfig("m", tmp_path)).available() == {"m": [latest]}


def test_status_lists_the_highest_version_first(models, adders):
    status = models(ModelConfig("adder", adders / "adder", VersionPolicy("all"))).status("adder")
    assert [listed.version for listed in status.model_version_status] == [3, 2, 1]


@pytest.mark.parametrize(
    ("servable", "number", "message"),
    [
        (("none",), code.NOT_FOUND, "Servable not found for request: Latest(none)"),
        (("adder", 9), code.NOT_FOUND, "Servable not found for request: Specific(adder, 9)"),
        (("adder", None, "stable"), code.INVALID_ARGUMENT, "Unrecognized servable version label: stable"),
        (("",), code.INVALID_ARGUMENT, "ModelSpec has no name specified."),
    ],
)
def test_what_is_not_there(models, adders, servable, number, message):
    serving = models(ModelConfig("adder", adders / "adder"))
    with pytest.raises(StatusError) as caught, serving.use(*servable):
        pass
    assert (caught.value.code, caught.value.message) == (number, message)


def test_status_of_what_is_not_there(models, adders):
    serving = models(ModelConfig("adder", adders / "adder"))
    for servable, message in (
        (("none",), "Could not find any versions of model none"),
        (("adder", 2), "Could not find version 2 of model adder"),
        (("adder", None, "stable"), "Unrecognized servable version label: stable"),
    ):
        with pytest.raises(StatusError) as caught:
            serving.status(*servable)
        assert caught.value.message == message


# --- hot reload ----------------------------------------------------------------------------------


def test_a_new_version_takes_over(models, adders, folder):
    serving = models(ModelConfig("adder", folder))
    publish(adders, folder, 2)
    serving.poll()
    assert states(serving) == {2: AVAILABLE, 1: ENDED}
    assert answering(serving, "adder") == (2, 2)


def test_the_old_version_serves_until_the_new_one_is_warm(adders, folder, load):
    seen = []

    def spying(name, number, path):
        if number == 2:
            seen.append((states(serving), answering(serving, "adder")))
        return load(name, number, path)

    serving = Models(spying)
    serving.reload([ModelConfig("adder", folder)], first=True)
    publish(adders, folder, 2)
    serving.poll()
    assert seen == [({2: ("LOADING", "OK"), 1: AVAILABLE}, (1, 1))]
    serving.close()


def test_a_version_in_use_is_unloaded_afterwards(models, adders, folder):
    serving = models(ModelConfig("adder", folder))
    with serving.use("adder") as outer, serving.use("adder"):
        publish(adders, folder, 2)
        serving.poll()
        assert states(serving) == {2: AVAILABLE, 1: ("UNLOADING", "OK")}
        with pytest.raises(StatusError, match="Specific"), serving.use("adder", 1):
            pass
        assert (outer.version, added(outer)) == (1, 1)
    assert states(serving) == {2: AVAILABLE, 1: ENDED}


def test_an_unloaded_version_frees_its_variables_at_once(models, adders, folder):
    """Not when Python's collector next looks for cycles, and though something may still name the version."""
    serving = models(ModelConfig("adder", folder))
    with serving.use("adder") as handle:
        session = weakref.ref(handle.runner._session._session)
        assert added(handle) == 1
    publish(adders, folder, 2)
    gc.disable()
    try:
        serving.poll()
        assert session() is None
    finally:
        gc.enable()


def test_a_version_that_does_not_load_leaves_the_old_one_serving(models, folder):
    serving = models(ModelConfig("adder", folder))
    (folder / "2").mkdir()
    serving.poll()
    assert states(serving) == {2: ("END", "NOT_FOUND"), 1: AVAILABLE}
    assert str(folder / "2") in serving.status("adder", 2).model_version_status[0].status.error_message
    assert answering(serving, "adder") == (1, 1)
    (folder / "2").rmdir()
    serving.poll()
    assert states(serving) == {2: ("END", "NOT_FOUND"), 1: AVAILABLE}


@pytest.mark.parametrize(("signature", "loads"), [("serving_default", True), ("pixels", False)])
def test_warm_up_records_are_replayed(models, folder, save_version, signature, loads):
    serving = models(ModelConfig("adder", folder))
    save_version(folder / "2", 2, warm_up_signature=signature)  # floats are no pixels
    serving.poll()
    assert states(serving)[2] == (AVAILABLE if loads else ("END", "INVALID_ARGUMENT"))
    assert answering(serving, "adder")[0] == (2 if loads else 1)


def test_broken_warm_up_file_fails_the_load(models, adders, folder):
    serving = models(ModelConfig("adder", folder))
    publish(adders, folder, 2)
    (folder / "2/assets.extra").mkdir()
    (folder / "2/assets.extra/tf_serving_warmup_requests").write_bytes(b"no TFRecord at all")
    serving.poll()
    assert states(serving)[2] == ("END", "DATA_LOSS")


def failing_until(attempts, load):
    calls = []

    def attempt(name, number, path):
        if number == 2:
            calls.append(number)
            if len(calls) < attempts:
                raise StatusError(code.UNAVAILABLE, "not yet")
        return load(name, number, path)

    return attempt, calls


def test_a_failed_load_is_tried_again(adders, folder, load):
    attempt, calls = failing_until(3, load)
    serving = Models(attempt, retry_seconds=0)
    serving.reload([ModelConfig("adder", folder)], first=True)
    publish(adders, folder, 2)
    for expected in (("END", "UNAVAILABLE"), ("END", "UNAVAILABLE"), AVAILABLE, AVAILABLE):
        serving.poll()
        assert states(serving)[2] == expected
    assert len(calls) == 3
    serving.close()


def test_a_failed_load_is_not_tried_again_at_once_nor_for_ever(adders, folder, load):
    attempt, calls = failing_until(10**6, load)
    for seconds, expected in ((60, 1), (0, 1 + LOAD_RETRIES)):
        serving = Models(attempt, retry_seconds=seconds)
        serving.reload([ModelConfig("adder", folder)], first=True)
        (folder / "2").mkdir(exist_ok=True)
        for _ in range(10):
            serving.poll()
        assert len(calls) == expected
        calls.clear()
        serving.close()
        (folder / "2").rmdir()


def test_an_empty_folder_unloads_and_a_missing_one_does_not(models, adders, folder):
    serving = models(ModelConfig("adder", folder))
    folder.rename(folder.parent / "elsewhere")
    serving.poll()
    assert states(serving) == {1: AVAILABLE}
    folder.mkdir()
    serving.poll()
    assert states(serving) == {1: ENDED}
    publish(adders, folder, 1)
    serving.poll()
    assert states(serving) == {1: AVAILABLE}
    assert answering(serving, "adder") == (1, 1)


def test_a_pruned_version_that_is_not_wanted_any_more_ends(models, adders, folder):
    serving = models(ModelConfig("adder", folder, VersionPolicy("all")))
    publish(adders, folder, 2)
    serving.poll()
    shutil.rmtree(folder / "1")
    serving.poll()
    assert states(serving) == {2: AVAILABLE, 1: ENDED}


# --- configuration -------------------------------------------------------------------------------


def test_models_of_a_directory(adders):
    assert [(m.name, m.folder) for m in find_models(adders)] == [
        ("adder", adders / "adder"),
        ("other", adders / "other"),
    ]
    assert [(m.name, m.folder) for m in find_models(adders / "other")] == [("other", adders / "other")]


CONFIG = """
model_config_list {
  config {
    name: "sum" base_path: "/models/adder" model_platform: "tensorflow"
    model_version_policy { specific { versions: 1 versions: 2 } }
    version_labels { key: "stable" value: 1 }
    version_labels { key: "canary" value: 2 }
  }
  config { name: "other" base_path: "/models/other/" }
}
"""


@pytest.fixture
def config_file(tmp_path):
    path = tmp_path / "models.config"
    path.write_text(CONFIG)
    return path


def test_config_file(models, adders, config_file):
    serving = models(*read_models(config_file, adders))
    assert serving.available() == {"sum": [1, 2], "other": [1]}
    assert answering(serving, "sum", None, "stable") == (1, 1)
    assert answering(serving, "sum", None, "canary") == (2, 2)
    assert answering(serving, "sum") == (2, 2)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("model_config_list { config { nam: 'a' } }", 'no field named "nam"'),
        ("", "Only ModelConfigList"),
        ("model_config_list { config { base_path: 'a' } }", "Expected a name"),
        (
            "model_config_list { config { name: 'a' base_path: 'a' } config { name: 'a' } }",
            "a multiple times",
        ),
        ("model_config_list { config { name: 'a' model_platform: 'caffe' } }", "unsupported platform caffe"),
        *(
            (
                f"model_config_list {{ config {{ name: 'a' base_path: '{path}' }} }}",
                f"got base_path.*={path}$",
            )
            for path in ("", "/", "..", "/models/..")
        ),
    ],
)
def test_wrong_config_files_are_named(tmp_path, text, message):
    path = tmp_path / "models.config"
    path.write_text(text)
    with pytest.raises(UserError, match=rf"{path}.*{message}"):
        read_models(path, tmp_path)


def test_reload_changes_models_versions_and_labels(models, adders):
    serving = models(ModelConfig("adder", adders / "adder", labels={"stable": 3}))
    both = VersionPolicy("specific", numbers=frozenset({2, 3}))
    serving.reload([ModelConfig("adder", adders / "adder", both, {"stable": 3})])
    serving.reload(
        [
            ModelConfig("adder", adders / "adder", both, {"stable": 2}),
            ModelConfig("other", adders / "other"),
        ]
    )
    assert serving.available() == {"adder": [2, 3], "other": [1]}
    assert answering(serving, "adder", None, "stable") == (2, 2)
    serving.reload([ModelConfig("other", adders / "other")])
    assert serving.available() == {"other": [1]}
    assert states(serving) == {3: ENDED, 2: ENDED}


def test_a_label_names_an_available_version_only(models, adders):
    serving = models(ModelConfig("adder", adders / "adder", labels={"stable": 3}))
    with pytest.raises(StatusError, match="version 2 of model adder, which is not currently") as caught:
        serving.reload([ModelConfig("adder", adders / "adder", VersionPolicy("all"), {"stable": 2})])
    assert caught.value.code == code.FAILED_PRECONDITION
    assert serving.available() == {"adder": [3]}  # nothing has changed
    assert answering(serving, "adder", None, "stable") == (3, 3)


def test_a_model_without_a_version_is_told(models, adders, tmp_path):
    serving = models(ModelConfig("adder", adders / "adder"))
    with pytest.raises(StatusError, match=r"Some models did not become available: \{new \(No versions"):
        serving.reload([ModelConfig("adder", adders / "adder"), ModelConfig("new", tmp_path)])
    assert answering(serving, "adder") == (3, 3)
