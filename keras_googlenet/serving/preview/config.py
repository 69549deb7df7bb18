"""The models to serve, their folders, and the versions to serve."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from keras_googlenet.errors import UserError
from keras_googlenet.serving.preview import text_formats
from keras_googlenet.serving.preview.errors import StatusError, invalid
from keras_googlenet.versions import check_models, versions


@dataclass(frozen=True)
class VersionPolicy:
    """The versions of a model's folder to serve.

    Attributes:
        kind: The `count` latest ones, all of them, or those in `numbers`.
    """

    kind: Literal["latest", "all", "specific"] = "latest"
    count: int = 1
    numbers: frozenset[int] = frozenset()

    def aspired(self, found: Mapping[int, Path]) -> dict[int, Path]:
        """The version folders to serve among those found, the highest first."""
        newest_first = sorted(found, reverse=True)
        if self.kind == "latest":
            newest_first = newest_first[: max(self.count, 1)]  # 0 counts as 1, as TensorFlow Serving does
        elif self.kind == "specific":
            newest_first = [number for number in newest_first if number in self.numbers]
        return {number: found[number] for number in newest_first}


@dataclass(frozen=True)
class ModelConfig:
    """A model to serve.

    Attributes:
        name: The model's name.
        folder: Its folder of versions.
        policy: Which versions to serve.
        labels: Version numbers by label.
    """

    name: str
    folder: Path
    policy: VersionPolicy = VersionPolicy()
    labels: Mapping[str, int] = field(default_factory=dict)


def find_models(directory: Path) -> list[ModelConfig]:
    """The models of a directory: itself if it has versions, otherwise the folders in it that have versions.

    Raises:
        UserError: There is none.
    """
    check_models(directory)
    if (directory / "saved_model.pb").is_file():
        raise UserError(f"{directory} is one version: give the folder that holds it, {directory.parent}")
    if versions(directory):
        # The given name, even of a link, because its target may change.
        return [ModelConfig(Path(os.path.abspath(directory)).name, directory)]
    found = [path for path in sorted(directory.iterdir()) if path.is_dir() and versions(path)]
    if not found:
        raise UserError(
            f"no version in {directory}: expected a folder of numbered versions, such as "
            f"{directory / '1'}, or a folder of such folders"
        )
    return [ModelConfig(path.name, path) for path in found]


def read_models(file: Path, directory: Path) -> list[ModelConfig]:
    """The models of a `ModelServerConfig` in a file; see `parse_models` about their folders.

    Raises:
        UserError: The file cannot be read, or lists no model that the preview can serve.
    """
    try:
        return parse_models(text_formats.read(file, "ModelServerConfig"), directory)
    except StatusError as error:
        raise UserError(f"{file}: {error.message}") from None


def parse_models(config: Any, directory: Path) -> list[ModelConfig]:
    """The models of a `ModelServerConfig` message.

    A `base_path` belongs to another machine or container: only its last component is used, a folder in
    `directory`.

    Raises:
        StatusError: It lists no model, a model twice, or what only TensorFlow Serving has.
    """
    if config.WhichOneof("config") != "model_config_list":
        raise invalid(
            "ServerModelConfig type not supported by HandleReloadConfigRequest. Only ModelConfigList is "
            "currently supported"
        )
    parsed: dict[str, ModelConfig] = {}
    for model in config.model_config_list.config:
        if not model.name:
            raise invalid("Expected a name for every model in the list")
        if model.name in parsed:
            raise invalid(f"Illegal to list model {model.name} multiple times in config list")
        if model.model_platform not in ("", "tensorflow"):
            raise invalid(f"Model {model.name} requests unsupported platform {model.model_platform}")
        folder = PurePosixPath(model.base_path).name
        if folder in ("", "..") or "\0" in folder:  # else a reload could serve what is outside of `directory`
            raise invalid(f"Expected model {model.name} to have a folder; got base_path()={model.base_path}")
        policy = _policy(model.model_version_policy)
        parsed[model.name] = ModelConfig(model.name, directory / folder, policy, dict(model.version_labels))
    return list(parsed.values())


def _policy(message: Any) -> VersionPolicy:
    kind = message.WhichOneof("policy_choice") or "latest"
    if kind == "latest":
        return VersionPolicy(count=message.latest.num_versions)
    if kind == "all":
        return VersionPolicy("all")
    if kind == "specific":
        return VersionPolicy("specific", numbers=frozenset(message.specific.versions))
    raise invalid(f"Unhandled servable version_policy: {kind}")
