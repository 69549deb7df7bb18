"""Hooks of mkdocs: pages that live outside of docs/, notebooks, and the command line's reference.

A file of the repository is written once, with links that work on the repository. The site shows those of
`PAGES` under their own paths; a link to a file that the site does not show becomes its text.
"""

from __future__ import annotations

import io
import posixpath
import re
from collections.abc import Iterator
from pathlib import Path

import cyclopts
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.plugins import event_priority
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page
from rich.console import Console

from keras_googlenet.cli import app

ROOT = Path(__file__).parents[1]
DOCS = "docs"
NOTEBOOKS = "examples/notebooks"
PAGES = (
    "RESULTS.md",
    "MODEL_CARD.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    "serving/README.md",
    "benchmarks/README.md",
    "examples/channel_search/README.md",
    "keras_googlenet/networks/cifar10/README.md",
    "keras_googlenet/networks/fashion_mnist/README.md",
)
CLI = "reference/cli.md"
WIDTH = 80  # characters of a help page
LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)\s]+)\)")


@event_priority(100)  # before mkdocs-jupyter looks for notebooks
def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    """Add the pages and pictures from outside of docs/."""
    for page in PAGES:
        files.append(File.generated(config, page, abs_src_path=str(ROOT / page)))
        for picture in _pictures(page):
            if files.get_file_from_path(picture) is None:
                files.append(File.generated(config, picture, abs_src_path=str(ROOT / picture)))
    for notebook in sorted((ROOT / NOTEBOOKS).glob("*.ipynb")):
        path = notebook.relative_to(ROOT).as_posix()
        files.append(File(path, str(ROOT), config.site_dir, config.use_directory_urls))
    files.append(File.generated(config, CLI, content=cli_reference()))
    return files


def on_page_markdown(markdown: str, *, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Turn links between files of the repository into links between pages of the site."""
    here = page.file.src_uri
    source = here if here in PAGES else f"{DOCS}/{here}"

    def on_site(match: re.Match[str]) -> str:
        mark, text, target = match.groups()
        if ":" in target or target.startswith("#"):
            return match[0]
        path, _, anchor = target.partition("#")
        there = _site_path(source, path)
        if files.get_file_from_path(there) is None:
            return text
        link = posixpath.relpath(there, posixpath.dirname(here) or ".")
        return f"{mark}[{text}]({link}{'#' + anchor if anchor else ''})"

    return LINK.sub(on_site, markdown)


def cli_reference() -> str:
    """A page with the `--help` text of each command."""
    parts = ["# Command line", "The output of `keras-googlenet --help`, and of each command."]
    for words in commands(app, ()):
        with io.StringIO() as text:
            app.help_print(list(words), console=Console(file=text, width=WIDTH, color_system=None))
            printed = text.getvalue().strip()
        parts += [f"## {' '.join(('keras-googlenet', *words))}", f"```text\n{printed}\n```"]
    return "\n\n".join(parts) + "\n"


def commands(group: cyclopts.App, words: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    """The words of each command, followed by those of its subcommands."""
    yield words
    for name in group:
        if not name.startswith("-"):
            yield from commands(group[name], (*words, name))


def _site_path(source: str, link: str) -> str:
    """The path on the site of a link target in the repository."""
    path = posixpath.normpath(posixpath.join(posixpath.dirname(source), link))
    return path.removeprefix(f"{DOCS}/")


def _pictures(page: str) -> list[str]:
    """The paths on the site of the pictures in a page."""
    found = LINK.findall((ROOT / page).read_text(encoding="utf-8"))
    return [_site_path(page, target) for mark, _, target in found if mark and ":" not in target]
