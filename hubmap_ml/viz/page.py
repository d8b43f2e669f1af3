"""The frame of a page that needs nothing but itself: no network, light and dark by the reader's setting."""

import re
from collections.abc import Sequence
from html import escape
from importlib import resources
from pathlib import Path


def framed_page(
    title: str,
    verdict: str,
    sections: Sequence[str],
    *,
    generated: str = "",
    styles: Sequence[str] = (),
    scripts: str = "",
) -> str:
    """Return a page as HTML text.

    Args:
        title, verdict, generated: plain text; the verdict is the first thing to know.
        sections: HTML; empty ones are left out.
        styles: further style sheets of this package beside ``report.css``, by file name.
        scripts: HTML that stands after everything else; what it does must not be needed to read the page.
    """
    folder = resources.files(__package__ or "")
    style = "".join(folder.joinpath(name).read_text(encoding="utf-8") for name in ("report.css", *styles))
    made = f'<p class="generated">{escape(generated)}</p>' if generated else ""
    body = "\n".join(section for section in sections if section)
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n<link rel="icon" href="data:,">\n'
        f"<title>{escape(title)}</title>\n<style>\n{style}</style>\n</head>\n<body>\n<header>\n"
        f"<h1>{escape(title)}</h1>\n"
        f'<p class="verdict">{escape(verdict)}</p>\n{made}</header>\n'
        f"<main>\n{body}\n</main>\n{scripts}</body>\n</html>\n"
    )


def section(title: str, inside: str) -> str:
    """Return a section of a page; ``inside`` is HTML. Its address on the page is made of its title."""
    return f'<section id="{anchor_of(title)}">\n<h2>{escape(title)}</h2>\n{inside}\n</section>'


def anchor_of(title: str) -> str:
    """Return a section's address on its page."""
    return re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")


def contents(titles: Sequence[str]) -> str:
    """Return links to sections of the page by their titles."""
    links = " ".join(f'<a href="#{anchor_of(title)}">{escape(title)}</a>' for title in titles)
    return f'<nav class="contents" aria-label="On this page">{links}</nav>'


def write_text(path: Path, text: str) -> Path:
    """Write a page, whole or not at all, and return where it is."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(path.name + ".partial")
    beside.write_text(text, encoding="utf-8")
    beside.replace(path)
    return path
