"""The commands that README.md and docs/*.md tell people to type."""

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1]
PAGES = (PROJECT / "README.md", *sorted((PROJECT / "docs").glob("*.md")))
FENCED = re.compile(r"^```(\w*)\n(.*?)^```", flags=re.DOTALL | re.MULTILINE)


@dataclass(frozen=True)
class Documented:
    """A line that a page tells people to type.

    Attributes:
        page: the page's name.
        words: as the shell splits it, without settings of variables before the command, and without comments.
    """

    page: str
    words: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.page}: {shlex.join(self.words)}"


def blocks(page: Path, language: str) -> list[str]:
    """The fenced blocks of a language; ``""`` is that of blocks that name none."""
    text = page.read_text(encoding="utf-8")
    return [inside for named, inside in FENCED.findall(text) if named == language]


def documented() -> list[Documented]:
    """Every line of every ``sh`` block, each once a page."""
    found = []
    for page in PAGES:
        for block in blocks(page, "sh"):
            for line in block.replace("\\\n", " ").splitlines():
                words = shlex.split(line, comments=True)
                while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):
                    words.pop(0)
                if words:
                    found.append(Documented(page.name, tuple(words)))
    return list(dict.fromkeys(found))


def inline() -> list[Documented]:
    """Every ``hubmap-ml …`` that stands between backticks in a sentence; perhaps not a whole command line."""
    found = []
    for page in PAGES:
        text = FENCED.sub("", page.read_text(encoding="utf-8"))
        for words in re.findall(r"`hubmap-ml ([^`]+)`", text):
            found.append(Documented(page.name, tuple(shlex.split(words))))
    return found
