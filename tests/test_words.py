"""Plain English in what people read: documents, and the comments, docstrings and messages of the code."""

import io
import re
import tokenize
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [path for path in ROOT.glob("docs/**/*.md") if path.name != "results_history.md"]
DOCUMENTS = ("README.md", "CONTRIBUTING.md", "SECURITY.md", *(str(p.relative_to(ROOT)) for p in PAGES))
CODE = ("keras_googlenet", "serving", "examples", "benchmarks", "scripts")
INSTEAD = {  # of a phrase, what to write
    r"\b(?:is|are) no (?!longer|such|more\b)(?<!there is no )(?<!there are no )": "is not a",
    r"\b(?:go|goes|gone|going) on with\b": "resume, continue",
    r"\bbeside\b": "next to, with, in addition to",
    r"\b(?:is|are) told\b(?! to)": "is reported",
    r"\b(?:process|thread|time|name|folder)s? of (?:its|their) own\b": "a separate process",
    r"\bin passing\b": "transient",
    r"\bto be had\b": "available",
    r"\b(?:it|they) (?:is|are) worth\b": "(the measured quantity)",
    r"\bbut for (?:new|their|its)\b": "except",
}
TEXT = {tokenize.COMMENT, tokenize.STRING, getattr(tokenize, "FSTRING_MIDDLE", tokenize.STRING)}


def found(text: str) -> list[tuple[str, str]]:
    return [
        (m.group(), instead) for p, instead in INSTEAD.items() for m in re.finditer(p, text, re.IGNORECASE)
    ]


@pytest.mark.parametrize("name", DOCUMENTS)
def test_documents_are_in_plain_words(name):
    text = (ROOT / name).read_text(encoding="utf-8")
    assert found(text) == []
    prose = re.sub(r"```.*?```|^[#|].*$|`[^`]*`", "x", text, flags=re.DOTALL | re.MULTILINE)
    for sentence in re.split(r"(?<=[.:;])\s|\n\n|^\* ", prose, flags=re.MULTILINE):
        assert len(sentence.split()) <= 30, sentence


@pytest.mark.parametrize("folder", CODE)
def test_code_speaks_in_plain_words(folder):
    for file in sorted((ROOT / folder).rglob("*.py")):
        with tokenize.open(file) as source:
            tokens = tokenize.generate_tokens(io.StringIO(source.read()).readline)
            said = [(token.start[0], token.string) for token in tokens if token.type in TEXT]
        for line, text in said:
            assert found(text) == [], f"{file.relative_to(ROOT)}:{line}"


def test_the_phrases_are_found():
    assert found("An existing search is gone on with, beside others; errors are told.")
    assert not found("There is no search, and it is no longer listed.")
