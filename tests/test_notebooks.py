"""The notebooks: what is stored in them is whole and true, and each runs."""

import re
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "examples/notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
LARGEST = 400_000  # bytes: GitHub and a reader's connection
LOG = re.compile(r"(WARNING|INFO|ERROR)[:|]|Warning:|absl::|Traceback|\x1b\[")
ABSOLUTE = re.compile(r"""(?<![\w.:/<])/(home|root|tmp|Users|private|usr|var|work|opt|mnt)/""")

LONG = ("dive_into_deep_learning",)  # minutes
stored = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def texts(cell):
    """The outputs of a cell that are text."""
    for output in cell.outputs:
        yield from [output.text] if output.output_type == "stream" else output.data.values()


def kinds(cell):
    """What a cell puts out: streams by name, and types of displayed data."""
    found = set()
    for output in cell.outputs:
        found |= {output.name} if output.output_type == "stream" else set(output.data)
    return found


def check_outputs(notebook):
    """Executed once, in order; no errors, logs, warnings, or paths of somebody's machine."""
    cells = code_cells(notebook)
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    for cell in cells:
        assert all(output.output_type != "error" for output in cell.outputs), cell.source
        assert "stderr" not in kinds(cell), cell.source
        for text in texts(cell):
            assert not LOG.search(text), text
            assert not ABSOLUTE.search(text), text


def test_all_four_are_there():
    names = ["dive_into_deep_learning", "flowers", "keras_listing", "the_paper"]
    assert [path.stem for path in NOTEBOOKS] == names


@stored
def test_what_is_stored(path):
    assert path.stat().st_size < LARGEST
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    assert notebook.cells[0].cell_type == "markdown"
    assert sum(bool(cell.outputs) for cell in code_cells(notebook)) > 5
    check_outputs(notebook)


@pytest.mark.ci
@pytest.mark.parametrize(
    "path",
    [
        pytest.param(path, id=path.stem, marks=[pytest.mark.slow] if path.stem in LONG else [])
        for path in NOTEBOOKS
    ],
)
def test_it_runs(path, tmp_path, monkeypatch):
    """Every cell runs, and puts out the kinds of things that it has stored."""
    monkeypatch.syspath_prepend(ROOT / "scripts")
    from run_notebooks import execute

    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.delenv("PHOTOS", raising=False)
    monkeypatch.delenv("TF_CPP_MIN_LOG_LEVEL", raising=False)  # a student has not set it
    before = nbformat.read(path, as_version=4)
    after = execute(path, tmp_path)
    check_outputs(after)
    for old, new in zip(code_cells(before), code_cells(after), strict=True):
        assert kinds(new) == kinds(old), old.source
    assert list(tmp_path.iterdir()) == []  # what a notebook writes, it writes in a folder of its own
