"""What `export` shows while it works."""

import re
import sys

import pytest

from keras_googlenet.export.progress import stage


def test_a_stage_is_shown_with_its_time_in_a_terminal(capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    with stage("writing the graph"):
        assert re.search(r"00:00  writing the graph", capsys.readouterr().err)
    with pytest.raises(OSError, match="full"), stage("writing more"):
        raise OSError("full")
    assert capsys.readouterr().err.endswith("  writing more\n")  # the error begins a line


def test_elsewhere_nothing_is_shown(capsys):
    with stage("writing the graph"):
        pass
    assert capsys.readouterr() == ("", "")
