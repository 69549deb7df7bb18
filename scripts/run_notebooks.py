"""Execute notebooks and store their outputs.

    python scripts/run_notebooks.py examples/notebooks/*.ipynb

Each notebook runs in its own folder, and is saved after its last cell.
"""

import sys
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbformat import NotebookNode

SECONDS = 900  # time limit of a cell


def execute(path: Path, folder: Path) -> NotebookNode:
    """The notebook with new outputs, without timestamps and Python versions, which differ at each run.

    Args:
        path: File of the notebook.
        folder: Working folder of the first cell.

    Raises:
        nbclient.exceptions.CellExecutionError: A cell fails.
    """
    notebook = nbformat.read(path, as_version=4)
    place = {"metadata": {"path": str(folder)}}
    client = NotebookClient(
        notebook, timeout=SECONDS, resources=place, record_timing=False, coalesce_streams=True
    )
    client.execute()
    notebook.metadata.language_info = {"name": "python"}
    return notebook


if __name__ == "__main__":
    for name in sys.argv[1:]:
        path = Path(name)
        nbformat.write(execute(path, path.parent), path)
        print(path)
