"""The life cycle of versions: found on disk, loaded, warmed up, served, unloaded once unused.

Follows TensorFlow Serving's `file_system_storage_path_source.cc` (which versions to load) and
`availability_preserving_policy.cc` (a version is unloaded only once another one serves).
"""

from __future__ import annotations

import contextlib
import gc
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from tensorflow.core.protobuf import error_codes_pb2 as code
from tensorflow_serving.apis.get_model_status_pb2 import GetModelStatusResponse, ModelVersionStatus

from keras_googlenet.serving.preview.config import ModelConfig
from keras_googlenet.serving.preview.errors import LOADING_CODES, StatusError, invalid
from keras_googlenet.serving.preview.inference import Runner
from keras_googlenet.serving.preview.reports import report
from keras_googlenet.versions import versions

LOADING, AVAILABLE = ModelVersionStatus.LOADING, ModelVersionStatus.AVAILABLE
UNLOADING, END = ModelVersionStatus.UNLOADING, ModelVersionStatus.END

# TensorFlow Serving's defaults for a version that does not load. Between attempts it reports LOADING; here
# the state is END, with the error, so that it is visible at once and not after five minutes.
LOAD_RETRIES = 5
RETRY_SECONDS = 60.0


class Loaded(Runner, Protocol):
    """A loaded version."""

    signature_defs: Mapping[str, Any]

    def close(self) -> None:
        """Free what it holds."""


class Handle(NamedTuple):
    """A loaded version in use."""

    model: str
    version: int
    runner: Loaded


@dataclass
class _Version:
    number: int
    folder: Path
    state: int = ModelVersionStatus.START
    error: StatusError | None = None
    runner: Loaded | None = None
    users: int = 0
    failures: int = 0
    failed_at: float = 0.0


class Models:
    """All models, by name.

    Args:
        load: Loads a version from its model's name, its number and its folder.
        retry_seconds: Seconds after a failed load before the next attempt.
        log: Called with a line for every change. It must not raise.
    """

    def __init__(
        self,
        load: Callable[[str, int, Path], Loaded],
        *,
        retry_seconds: float = RETRY_SECONDS,
        log: Callable[[str], Any] = report,
    ) -> None:
        self._load, self._retry_seconds, self._log = load, retry_seconds, log
        self._configs: dict[str, ModelConfig] = {}
        self._labels: dict[str, dict[str, int]] = {}
        self._versions: dict[str, dict[int, _Version]] = {}
        self._complaints: dict[str, str] = {}
        self._has_garbage = False  # of versions that were unloaded or did not load
        self._poll_error: StatusError | None = None
        self._lock = threading.Lock()  # over the state; never held while loading or closing
        self._changing = threading.Lock()  # one poll or reload at a time

    @contextlib.contextmanager
    def use(self, name: str, version: int | None = None, label: str | None = None) -> Iterator[Handle]:
        """A loaded version, not unloaded before the block ends; the highest one unless another is named.

        Raises:
            StatusError: It is not available.
        """
        if not name:
            raise invalid("ModelSpec has no name specified.")
        if label is not None:
            version = self.labeled(name, label)
        used = self._acquire(name, version)
        try:
            assert used.runner is not None
            yield Handle(name, used.number, used.runner)
        finally:
            self._release(used)

    def labeled(self, name: str, label: str) -> int:
        """The version that a label names.

        Raises:
            StatusError: There is no such label.
        """
        try:
            return self._labels[name][label]
        except KeyError:
            raise invalid(f"Unrecognized servable version label: {label}") from None

    def status(
        self, name: str, version: int | None = None, label: str | None = None
    ) -> GetModelStatusResponse:
        """The state of a model's versions, the highest first; those that have ended are in it.

        Raises:
            StatusError: There is no such model or version.
        """
        if label is not None:
            version = self.labeled(name, label)
        with self._lock:
            known = self._versions.get(name, {})
            if version is not None and version not in known:
                raise StatusError(code.NOT_FOUND, f"Could not find version {version} of model {name}")
            if not known:
                raise StatusError(code.NOT_FOUND, f"Could not find any versions of model {name}")
            response = GetModelStatusResponse()
            for number in sorted(known, reverse=True) if version is None else [version]:
                found = known[number]
                listed = response.model_version_status.add(version=number, state=found.state)
                error = found.error or self._poll_error
                listed.status.error_code = error.code if error else code.OK
                listed.status.error_message = error.message if error else ""
            return response

    def available(self) -> dict[str, list[int]]:
        """The versions that serve, ascending, by model."""
        with self._lock:
            return {name: self._serving(name) for name in self._configs}

    def reload(self, configs: Iterable[ModelConfig], *, first: bool = False) -> None:
        """Serve these models instead: load the new ones, unload those that are gone.

        Args:
            configs: The models.
            first: Labels may name versions that this call loads. (TensorFlow Serving allows that with
                `--allow_version_labels_for_unavailable_models`.)

        Raises:
            StatusError: A label names a version that is not available, or a new model has none.
        """
        new = {config.name: config for config in configs}
        with self._changing:
            if not first:
                self._set_labels(new)
            added = [name for name in new if name not in self._configs]
            self._configs = new
            self._poll()
            if first:
                self._set_labels(new)
            serving = self.available()
            missing = [name for name in added if not serving[name]]
            if missing:
                reasons = ", ".join(f"{name} ({self._reason(name)})" for name in missing)
                raise StatusError(code.UNKNOWN, f"Some models did not become available: {{{reasons}}}")

    def poll(self) -> None:
        """Check the folders once: load new versions, unload those that are no longer wanted.

        Its exception appears in the status of all versions until a check succeeds.
        """
        with self._changing:
            try:
                self._poll()
            except Exception as error:
                message = f"cannot look for new versions: {type(error).__name__}: {error}"
                if self._poll_error is None:
                    self._log(f"preview: {message}")
                self._poll_error = StatusError(code.UNKNOWN, message)
                raise
            self._poll_error = None
            self._collect()

    def _collect(self) -> None:
        """Free the graphs of versions that are gone: cycles, which Python would leave for hours."""
        with self._lock:
            has_garbage, self._has_garbage = self._has_garbage, False
        if has_garbage:
            gc.collect()

    def close(self) -> None:
        """Unload all unused versions."""
        with self._changing:
            self._configs = {}
            self._poll()

    def _acquire(self, name: str, version: int | None) -> _Version:
        with self._lock:
            known = self._versions.get(name, {})
            serving = [v for v in known.values() if v.state == AVAILABLE and version in (None, v.number)]
            if not serving:
                wanted = f"Latest({name})" if version is None else f"Specific({name}, {version})"
                raise StatusError(code.NOT_FOUND, f"Servable not found for request: {wanted}")
            used = max(serving, key=lambda v: v.number)
            used.users += 1
            return used

    def _serving(self, name: str) -> list[int]:
        known = self._versions.get(name, {})
        return sorted(version.number for version in known.values() if version.state == AVAILABLE)

    def _release(self, used: _Version) -> None:
        with self._lock:
            used.users -= 1
        self._finish_unloading(used)

    def _set_labels(self, configs: dict[str, ModelConfig]) -> None:
        serving = self.available()
        for config in configs.values():
            for number in config.labels.values():
                if number not in serving.get(config.name, []):
                    raise StatusError(
                        code.FAILED_PRECONDITION,
                        f"Request to assign label to version {number} of model {config.name}, which is not "
                        "currently available for inference",
                    )
        self._labels = {name: dict(config.labels) for name, config in configs.items()}

    def _poll(self) -> None:
        for name in {**self._versions, **self._configs}:
            aspired = self._aspired(name)
            if aspired is None:
                continue
            known = self._versions.setdefault(name, {})
            for number in set(known) - set(aspired):
                known[number].failures = 0  # wanted again later, it is tried again
            for number, folder in aspired.items():
                self._load_version(name, number, folder)
            with self._lock:
                serving = set(self._serving(name))
            if not aspired or serving & set(aspired):
                for number in serving - set(aspired):
                    self._unload(name, known[number])

    def _aspired(self, name: str) -> dict[int, Path] | None:
        config = self._configs.get(name)
        if config is None:
            return {}
        try:
            found = versions(config.folder)
        except OSError as error:
            # A missing folder, which may be temporary, unloads nothing; an empty one does.
            expected = f"expected the folder of {name}'s versions there"
            self._complain(name, f"Could not find base path {config.folder} ({error.strerror}): {expected}")
            return None
        aspired = config.policy.aspired(found)
        if not aspired:
            self._complain(name, f"No versions of servable {name} found under base path {config.folder}")
        else:
            self._complaints.pop(name, None)
        return aspired

    def _load_version(self, name: str, number: int, folder: Path) -> None:
        known = self._versions[name]
        version = known.get(number)
        if version is not None and version.state in (AVAILABLE, UNLOADING):
            return
        if version is not None and version.failures:
            waited = time.monotonic() - version.failed_at >= self._retry_seconds
            if version.failures > LOAD_RETRIES or not waited:
                return
        if version is None:
            version = _Version(number, folder)
        version.folder = folder
        with self._lock:
            known[number] = version
            version.state, version.error = LOADING, None
        try:
            runner = self._load(name, number, folder)
        except Exception as error:
            with self._lock:
                failure = StatusError.of(error, LOADING_CODES)
                # A new one: the raised one's traceback would keep the session.
                version.state, version.error = END, StatusError(failure.code, failure.message)
                self._has_garbage = True
                version.failures, version.failed_at = version.failures + 1, time.monotonic()
            self._log(f"preview: cannot load version {number} of {name}: {self._reason(name)}")
        else:
            with self._lock:
                version.runner, version.state, version.failures = runner, AVAILABLE, 0
            self._log(f"preview: version {number} of {name} is available")

    def _unload(self, name: str, version: _Version) -> None:
        with self._lock:
            version.state = UNLOADING
        self._finish_unloading(version)
        self._log(f"preview: unloaded version {version.number} of {name}")

    def _finish_unloading(self, version: _Version) -> None:
        with self._lock:
            if version.state != UNLOADING or version.users or version.runner is None:
                return
            runner, version.runner = version.runner, None
        runner.close()
        with self._lock:
            version.state = END
            self._has_garbage = True

    def _reason(self, name: str) -> str:
        with self._lock:
            errors = [v.error.message for v in self._versions.get(name, {}).values() if v.error]
        return errors[-1].splitlines()[0] if errors else self._complaints.get(name, "no version")

    def _complain(self, name: str, line: str) -> None:
        if self._complaints.get(name) != line:
            self._complaints[name] = line
            self._log(f"preview: {line}")
