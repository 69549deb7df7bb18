"""Kill -9 of exports: whatever is named like a version is whole."""

import os
import random
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from keras_googlenet.export.publish import STAGING, publish, staging
from keras_googlenet.serving.preview.servable import Servable
from keras_googlenet.versions import versions

# Exports again and again, so that a kill also hits the moments between two.
EXPORTER = """
import sys
from pathlib import Path
from keras_googlenet import Architecture, GoogLeNet, export_saved_model
variant = Architecture.from_json(Path(sys.argv[2]).read_text())
model = GoogLeNet(variant=variant, input_shape=(28, 28, 1), classes=3)
while True:
    export_saved_model(model, sys.argv[1], keep=2)
"""
KILLS = 20
SPAN_SECONDS = 8  # an export and a half of this network on a busy core
FILES = {
    "saved_model.pb",
    "variables/variables.index",
    "variables/variables.data-00000-of-00001",
    "assets.extra/labels.txt",
    "assets.extra/provenance.json",
    "assets.extra/tf_serving_warmup_requests",
}


@pytest.mark.slow
def test_a_killed_export_leaves_no_half_version(tiny_variant, tmp_path):
    directory, scratch = tmp_path / "m", tmp_path / "scratch"
    scratch.mkdir()
    checked = set()
    for kill in range(KILLS):
        known = set(directory.iterdir()) if directory.exists() else set()
        process = subprocess.Popen(
            [sys.executable, "-c", EXPORTER, str(directory), str(tiny_variant)],
            stderr=subprocess.DEVNULL,
            env=os.environ | {"TMPDIR": str(scratch)},
        )
        try:
            while not directory.exists() or set(directory.iterdir()) <= known:
                assert process.poll() is None
                time.sleep(0.01)
            moment = (kill + random.random()) / KILLS * SPAN_SECONDS
            time.sleep(moment)
            while kill == KILLS - 1 and not versions(directory):  # so that one at least is looked at
                time.sleep(0.01)
        finally:
            process.send_signal(signal.SIGKILL)
            process.wait()
        for path in directory.iterdir():
            if not STAGING.fullmatch(path.name) and path not in checked:
                assert path.name.isdigit(), f"{path} after {moment:.2f} s"
                assert_whole(path)
                checked.add(path)
    assert checked
    with staging(directory) as folder:
        publish(folder, directory, 1000)
    assert not [path for path in directory.iterdir() if STAGING.fullmatch(path.name)]


def assert_whole(folder):
    servable = Servable(int(folder.name), folder)
    assert {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()} >= FILES
    assert servable.warmup_records == 12
    answer = servable.run("tensor", {"images": np.zeros((2, 28, 28, 1), "float32")})
    assert answer["probabilities"].shape == (2, 3)
    servable.close()
