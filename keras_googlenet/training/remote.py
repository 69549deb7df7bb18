"""A run at an address in object storage: trained in a local folder, and uploaded after each checkpoint."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import keras

from keras_googlenet.errors import UserError
from keras_googlenet.files import held
from keras_googlenet.run import checkpoint
from keras_googlenet.run import folder as run_folder
from keras_googlenet.storage.cache import cache, copied, digest
from keras_googlenet.storage.place import Place
from keras_googlenet.storage.published import ChangedError, check_free, run_files, upload_run
from keras_googlenet.text import SHOWN, say

LAST_SEEN = "uploaded.json"  # the manifest that the local folder is a copy, or a continuation, of


@contextmanager
def working_copy(place: Place, *, resume: bool) -> Iterator[tuple[Path, Upload]]:
    """A local folder to train a run at an address in, and the callback that uploads it.

    A run that is resumed is fetched first. Where this machine trained it last, its own folder is ahead of
    what it uploaded, and is continued. At the end, however that comes, all is uploaded.

    Args:
        place: The run's address.
        resume: Whether a run that is there is continued.

    Raises:
        UserError: A run is there that is not to be resumed, another process trains in it, or it cannot be
            read or written.
    """
    home = cache() / "runs" / digest(place.address)
    home.mkdir(parents=True, exist_ok=True)
    folder, seen = home / place.name, home / LAST_SEEN
    SHOWN[str(folder)] = SHOWN[str(home)] = place.address
    with held(home, run_folder.WORK):
        there = check_free(place, resume=resume)
        last_seen = seen.read_bytes() if seen.is_file() else None
        is_ahead = resume and last_seen == there and (folder / run_folder.CONFIG).is_file()
        if not is_ahead:
            seen.unlink(missing_ok=True)
            shutil.rmtree(folder, ignore_errors=True)
            if there is not None:
                shutil.copytree(copied(place, run_files(there, place.address)), folder)
                seen.write_bytes(there)
                SHOWN[str(folder)] = place.address
        upload = Upload(place, folder, seen, there)
        try:
            yield folder, upload
        finally:
            if (folder / run_folder.CONFIG).is_file():
                upload.at_the_end()


class Upload(keras.callbacks.Callback):
    """Uploads a run when its last checkpoint is another one than before.

    An upload that fails while training is reported and made up for by the next.
    """

    def __init__(self, place: Place, folder: Path, seen: Path, there: bytes | None) -> None:
        super().__init__()
        self.place = place
        self.folder = folder
        self.seen = seen
        self.there = there
        self.saved = self._last()

    def now(self) -> None:
        """Upload what is not yet there.

        Raises:
            UserError: It fails.
        """
        self.saved = self._last()
        self.there = upload_run(self.folder, self.place, self.there)
        self.seen.write_bytes(self.there)

    def at_the_end(self) -> None:
        """`now`, with what to do where it fails."""
        try:
            self.now()
        except ChangedError:
            raise
        except UserError as error:
            raise UserError(f"{error}; not all is uploaded: rerun with `resume` on this machine") from None

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        if self._last() != self.saved:
            try:
                self.now()
            except ChangedError:
                raise
            except UserError as error:
                say(f"not uploaded: {error}; training continues", file=sys.stderr)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self.on_train_batch_end(0)

    def _last(self) -> int | None:
        file = self.folder / checkpoint.FOLDER / checkpoint.LAST
        return file.stat().st_mtime_ns if file.is_file() else None
