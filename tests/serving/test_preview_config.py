"""Which models are served, by a folder or a configuration, and how a reload changes that."""

import pytest
from served_versions import ENDED, answering, states
from tensorflow.core.protobuf import error_codes_pb2 as code

from keras_googlenet.errors import UserError
from keras_googlenet.serving.preview.config import ModelConfig, VersionPolicy, find_models, read_models
from keras_googlenet.serving.preview.errors import StatusError

pytest_plugins = ["small_models"]


def test_models_of_a_directory(adders):
    assert [(m.name, m.folder) for m in find_models(adders)] == [
        ("adder", adders / "adder"),
        ("other", adders / "other"),
    ]
    assert [(m.name, m.folder) for m in find_models(adders / "other")] == [("other", adders / "other")]


def test_a_link_names_the_model(adders, tmp_path):
    (tmp_path / "current").symlink_to(adders / "adder")
    assert [m.name for m in find_models(tmp_path / "current")] == ["current"]
    assert [m.name for m in find_models(tmp_path)] == ["current"]


def test_a_version_is_no_model(adders):
    with pytest.raises(
        UserError, match=f"is one version: give the folder that holds it, {adders / 'adder'}$"
    ):
        find_models(adders / "adder/1")


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
