"""Plain English in what people read, by scripts/check_words.py, which `make lint` runs too."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture
def check():
    """The function that runs the check in a folder: its exit code, and what it printed."""

    def run(folder):
        command = [sys.executable, "-X", "importtime", str(ROOT / "scripts/check_words.py"), str(folder)]
        result = subprocess.run(command, capture_output=True, text=True)
        assert not {"tensorflow", "keras", "numpy"} & {
            line.rpartition("|")[2].strip() for line in result.stderr.splitlines()
        }
        return result.returncode, result.stdout

    return run


def test_the_repository_speaks_plainly(check):
    assert check(ROOT) == (0, "")


def test_each_kind_is_found_where_it_stands(check, tmp_path):
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs/page.md").write_text(
        "# Page\n\n| a table |\n\n```sh\nls\n```\n\n" + "word " * 31 + "\n\nErrors are told.\n"
    )
    (tmp_path / "serving").mkdir()
    (tmp_path / "serving/code.py").write_text(
        'beside = 1\n"""A search\n\nis gone on with, beside others."""\n'
    )
    assert check(tmp_path) == (
        1,
        "docs/page.md:9: 31 words in a sentence: word word word word word word ...\n"
        "docs/page.md:11: 'are told': write is reported\n"
        "serving/code.py:4: 'gone on with': write resume, continue\n"
        "serving/code.py:4: 'beside': write next to, with, in addition to\n",
    )


def test_plain_sentences_pass(check, tmp_path):
    (tmp_path / "README.md").write_text("There is no search, and it is no longer listed.\n")
    assert check(tmp_path) == (0, "")
