"""The life of versions, with small real SavedModels and no clock but the tests' own."""

import gc
import shutil
import weakref

import pytest
import tensorflow as tf
from conformance.contract import answer, error
from served_versions import AVAILABLE, ENDED, added, answering, states
from tensorflow.core.protobuf import error_codes_pb2 as code
from tensorflow_serving.apis.predict_pb2 import PredictRequest
from tensorflow_serving.apis.prediction_log_pb2 import PredictionLog, PredictLog

from keras_googlenet import session
from keras_googlenet.serving.preview.config import ModelConfig, VersionPolicy
from keras_googlenet.serving.preview.errors import StatusError
from keras_googlenet.serving.preview.models import LOAD_RETRIES, Models
from keras_googlenet.versions import WARMUP

pytest_plugins = ["small_models"]


GOOD_RECORD = PredictionLog(
    predict_log=PredictLog(request=PredictRequest(inputs={"x": tf.make_tensor_proto([[0.0, 0.0]])}))
).SerializeToString()


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
    ("asked", "number", "message"),
    [
        (("none",), code.NOT_FOUND, "Servable not found for request: Latest(none)"),
        (("adder", 9), code.NOT_FOUND, "Servable not found for request: Specific(adder, 9)"),
        (("adder", None, "stable"), code.INVALID_ARGUMENT, "Unrecognized servable version label: stable"),
        (("",), code.INVALID_ARGUMENT, "ModelSpec has no name specified."),
    ],
)
def test_what_is_not_there(models, adders, asked, number, message):
    serving = models(ModelConfig("adder", adders / "adder"))
    with pytest.raises(StatusError) as caught, serving.use(*asked):
        pass
    assert (caught.value.code, caught.value.message) == (number, message)


def test_status_of_what_is_not_there(models, adders):
    serving = models(ModelConfig("adder", adders / "adder"))
    for asked, message in (
        (("none",), "Could not find any versions of model none"),
        (("adder", 2), "Could not find version 2 of model adder"),
        (("adder", None, "stable"), "Unrecognized servable version label: stable"),
    ):
        with pytest.raises(StatusError) as caught:
            serving.status(*asked)
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


def test_versions_that_are_gone_leave_nothing_in_memory(models, adders, folder, save_version):
    """Neither an unloaded one's graph, which is a cycle, nor one's whose warm-up failed."""
    serving = models(ModelConfig("adder", folder))
    with serving.use("adder") as handle:
        graphs = [weakref.ref(handle.runner._session._session.graph)]
    gc.disable()  # nothing but the server itself is to look for them
    try:
        for number in (2, 3):
            publish(adders, folder, number)
            serving.poll()
            with serving.use("adder") as handle:
                graphs.append(weakref.ref(handle.runner._session._session.graph))
            del handle
        serving.poll()
        assert [graph() is None for graph in graphs] == [True, True, False]

        before = sum(isinstance(each, session.SavedModelSession) for each in gc.get_objects())
        save_version(folder / "4", 4, warm_up_signature="pixels")
        serving.poll()
        assert states(serving)[4] == ("END", "INVALID_ARGUMENT")
        assert sum(isinstance(each, session.SavedModelSession) for each in gc.get_objects()) == before
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


UNFIT = PredictionLog()
UNFIT.session_run_log.SetInParent()


@pytest.mark.parametrize(
    ("records", "refused"),
    [
        (None, "DATA_LOSS"),
        ([b"\xff"], "INVALID_ARGUMENT"),
        ([b""], "UNIMPLEMENTED"),
        ([UNFIT.SerializeToString()], "UNIMPLEMENTED"),
        ([GOOD_RECORD] * 3, "INVALID_ARGUMENT"),
        ([GOOD_RECORD] * 2, "OK"),
    ],
    ids=["no file of records", "no record", "empty", "not replayed", "too many", "as many as may be"],
)
def test_a_warm_up_file_that_cannot_be_replayed_fails_the_load(
    models, adders, folder, monkeypatch, records, refused
):
    monkeypatch.setattr(session, "MAX_WARMUP_RECORDS", 2)
    serving = models(ModelConfig("adder", folder))
    shutil.copytree(adders / "adder/2", folder / ".2")
    file = folder / ".2" / WARMUP
    file.parent.mkdir()
    if records is None:
        file.write_bytes(b"no TFRecord at all")
    else:
        with tf.io.TFRecordWriter(str(file)) as writer:
            for record in records:
                writer.write(record)
    (folder / ".2").rename(folder / "2")
    serving.poll()
    assert states(serving)[2] == (AVAILABLE if refused == "OK" else ("END", refused))


def test_a_model_that_loads_has_a_status_and_no_metadata(adders, load, asking):
    """What a readiness probe goes by."""
    seen = []

    def probed(name, number, path):
        seen.extend(ask("GET", f"/v1/models/new{suffix}") for suffix in ("", "/metadata"))
        return load(name, number, path)

    serving = Models(probed)
    ask = asking(serving)
    serving.reload([ModelConfig("new", adders / "other")], first=True)
    status, metadata = seen
    assert answer(status)["model_version_status"][0]["state"] == "LOADING"
    error(metadata, 404)
    assert ask("GET", "/v1/models/new/metadata").status_code == 200
    serving.close()


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
