"""The page of a score log: whole, self-contained, escaped, with every figure that was found."""

from pathlib import Path

from hubmap_ml.metrics import read_score_log
from hubmap_ml.spec import LoggedSubmission
from hubmap_ml.submission import read_score_table
from hubmap_ml.viz import render_score_page, write_score_page
from tests.viz.test_report import EVIL, Page

PUBLISHED = Path(__file__).parents[1] / "submission" / "sartorius_submissions.md"


def test_the_page_says_everything_that_was_found(tmp_path: Path) -> None:
    found = read_score_log(read_score_table(PUBLISHED).submissions)
    path = write_score_page(tmp_path / "scores.html", found, title="Sartorius", generated="today")
    text = path.read_text(encoding="utf-8")
    Page(text)
    assert found.verdict in text
    for one in found.submissions:
        assert one.name in text
        for value in (one.public, one.private, one.cv):
            assert value is None or f"{value:.4f}" in text
    for group in found.groups:
        for pair in group.inversions:
            assert pair.in_words() in text
    assert "Rank inversions (5)" in text
    assert text.count("<circle") == 4 + 2  # four public, two of them with a private score
    assert "their places are 1 and 3 of 16" in text  # .313 is there twice


def test_the_page_needs_nothing_but_itself_and_escapes_what_it_shows() -> None:
    fields = {name: f"{name} {EVIL}" for name in ("name", "model", "cv_metric", "folds", "date", "note")}
    items = [
        LoggedSubmission(**{**fields, "name": f"{EVIL} {k}"}, public=k / 9, private=k / 8, cv=k / 7)
        for k in range(7)
    ]
    text = render_score_page(read_score_log(items), title=EVIL)
    page = Page(text)
    for tag, attributes in page.tags:
        assert tag not in ("script", "iframe", "object")
        for name in ("src", "href"):
            assert (attributes.get(name) or "data:").startswith("data:")
        assert not any(name.startswith("on") for name in attributes)
    assert "url(" not in text
    assert "prefers-color-scheme: dark" in text
    for tag, attributes in page.tags:
        if tag == "svg":
            assert attributes["aria-label"]


def test_a_log_with_nothing_in_it_is_a_page_too() -> None:
    text = render_score_page(read_score_log([]), title="empty")
    Page(text)
    assert "The log is empty" in text
    only = render_score_page(read_score_log([LoggedSubmission("a", public=0.5)]), title="one")
    assert "the only score there is to choose by" in only.lower()
