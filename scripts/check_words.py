"""Find stilted phrases in documents and code, and long sentences in documents.

    python scripts/check_words.py [FOLDER]

Prints `file:line: phrase` with what to write instead, and exits with 1 if it finds any. Imports no framework.
"""

from __future__ import annotations

import re
import sys
import tokenize
from collections.abc import Iterator
from pathlib import Path

DOCUMENTS = ("*.md", "docs/**/*.md", "serving/*.md", "benchmarks/*.md", "examples/**/*.md", "scripts/**/*.md",
             "keras_googlenet/**/*.md")  # fmt: skip
RECORDS = {"CHANGELOG.md", "docs/results_history.md"}  # of what was
CODE = ("keras_googlenet", "serving", "examples", "benchmarks", "scripts")
ITSELF = "check_words.py"  # which has the phrases
LONGEST = 30  # words of a sentence
INSTEAD = {  # of a phrase, what to write
    r"\b(?:is|are) no (?!longer|such|more\b)(?<!there is no )(?<!there are no )": "is not a",
    r"\b(?:go|goes|gone|going) on with\b": "resume, continue",
    r"\bbeside\b": "next to, with, in addition to",
    r"\b(?:is|are) told\b(?! to)": "is reported",
    r"\b(?:process|thread|time|name|folder)s? of (?:its|their) own\b": "a separate process",
    r"\bin passing\b": "transient",
    r"\bbe had\b": "available, installed",
    r"\bof no more use\b": "cannot be used afterwards",
    r"\bin (?:silence|vain)\b": "silently, without success",
    r"\b(?:is|are) still there\b": "still exists",
    r"\bso many (?:at|parts|shares|users|pixels)\b": "this many",
    r"\bas (?:its|their) EXIF tells\b": "by its EXIF",
    r"\bwhichever way\b": "however",
    r"\bby chance\b": "random",
    r"\breached 0\.\d+ of\b": "accuracy 0.xxxx",
    r"\bfactor on the\b": "multiplier for",
    r"\bforete(?:ll|lls|ld|old)\b": "extrapolate",
    r"\bfor (?:it|they) (?:has|have|holds?|is|are|knows?)\b": "because it",
    r"\bhow many there (?:are|were)\b": "the number of",
    r"\bheld against\b": "compared with",
    r"\bnot at hand\b": "not available",
    r"\b(?:it|they) (?:is|are) worth\b": "(the measured quantity)",
    r"\bbut for (?:new|their|its)\b": "except",
}
TEXT = {tokenize.COMMENT, tokenize.STRING, getattr(tokenize, "FSTRING_MIDDLE", tokenize.STRING)}


def phrases(text: str) -> list[tuple[int, str]]:
    """Each phrase to avoid: its line number from 0, and the phrase with a replacement."""
    return [
        (text.count("\n", 0, match.start()), f"{match.group()!r}: write {instead}")
        for phrase, instead in INSTEAD.items()
        for match in re.finditer(phrase, text, re.IGNORECASE)
    ]


def long_sentences(text: str) -> list[tuple[int, str]]:
    """Each sentence of more than `LONGEST` words, with its line number from 0."""
    prose = re.sub(
        r"```.*?```|^ *[#|].*?$|`[^`]*`", lambda match: "x" + "\n" * match.group().count("\n"), text,
        flags=re.DOTALL | re.MULTILINE,
    )  # fmt: skip
    found, at = [], 0
    for sentence in re.split(r"((?<=[.:;])\s|\n\n|^[*-] )", prose, flags=re.MULTILINE):
        if len(words := sentence.split()) > LONGEST:
            found.append(
                (prose.count("\n", 0, at), f"{len(words)} words in a sentence: {' '.join(words[:6])} ...")
            )
        at += len(sentence)
    return found


def findings(root: Path) -> Iterator[str]:
    """All findings in the documents and code of a repository, as `file:line: phrase`."""
    for file in sorted({file for pattern in DOCUMENTS for file in root.glob(pattern)}):
        name = file.relative_to(root).as_posix()
        if name not in RECORDS:
            text = file.read_text(encoding="utf-8")
            for line, what in sorted(phrases(text) + long_sentences(text)):
                yield f"{name}:{line + 1}: {what}"
    for file in sorted(file for folder in CODE for file in (root / folder).rglob("*.py")):
        if file.name != ITSELF:
            with tokenize.open(file) as source:
                for token in tokenize.generate_tokens(source.readline):
                    for line, what in phrases(token.string) if token.type in TEXT else ():
                        yield f"{file.relative_to(root).as_posix()}:{token.start[0] + line}: {what}"


def main(root: Path) -> int:
    """Prints the findings; returns the exit code."""
    found = list(findings(root))
    print(*found, sep="\n", end="\n" if found else "")
    return min(len(found), 1)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path()))
