"""The report page: whole, self-contained, escaped."""

import base64
import re
from html.parser import HTMLParser
from pathlib import Path

import cv2
import numpy as np
import pytest

from hubmap_ml.spec.durations import duration
from hubmap_ml.viz import ReportData, ReportFigure, ReportRow, ReportStage, render_page, write_page

EVIL = "<script>alert('x')</script> & \"quoted\""


def picture() -> np.ndarray:
    return np.tile(np.arange(64, dtype=np.uint8)[None, :, None], (32, 1, 3)) * 3


def sample(text: str = "plain") -> ReportData:
    return ReportData(
        title=f"demo {text}",
        verdict=f"The ensemble wins {text}",
        metric=f"ap60 {text}",
        rows=[
            ReportRow(f"mask_rcnn {text}", out_of_fold=0.81, seconds=120.0, badge=text, note=text),
            ReportRow("ensemble", kind="ensemble", out_of_fold=0.84, cross_fitted=0.83, seconds=3.0),
        ],
        stages=[ReportStage(f"prepare {text}", 3.0, detail=text), ReportStage("tune", None, "failed")],
        figures=[ReportFigure(f"tile {text}", picture(), caption=text)],
        how_scored=[f"Each tile by the fold that never saw it {text}"],
        environment={f"python {text}": text},
        generated=f"today {text}",
    )


class Page(HTMLParser):
    """Collects tags with their attributes, and checks that they are closed."""

    VOID = frozenset({"meta", "img", "link", "br"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_page_is_well_formed_and_says_everything() -> None:
    text = render_page(sample())
    Page(text)
    for said in (
        "The ensemble wins",
        "mask_rcnn",
        "0.8100",
        "0.8300",
        "prepare",
        "tile plain",
        "never saw it",
        "python",
    ):
        assert said in text


def test_everything_is_escaped() -> None:
    text = render_page(sample(EVIL))
    page = Page(text)
    assert "script" not in {tag for tag, _ in page.tags}
    assert all(not name.startswith("on") for _, attributes in page.tags for name in attributes)
    assert "<script" not in text


def test_nothing_is_fetched_and_nothing_runs() -> None:
    page = Page(render_page(sample()))
    links = [
        value for _, attributes in page.tags for name, value in attributes.items() if name in {"src", "href"}
    ]
    assert links
    assert all(value is not None and value.startswith("data:") for value in links)
    text = render_page(sample())
    for way_out in ("http", "@import", "url("):
        assert way_out not in text


def test_pictures_are_inside_with_size_and_words_for_those_who_cannot_see_them() -> None:
    page = Page(render_page(sample()))
    image = next(attributes for tag, attributes in page.tags if tag == "img")
    assert (image["width"], image["height"]) == ("64", "32")
    assert image["alt"]
    assert image["src"] is not None
    data = base64.b64decode(image["src"].split(",", 1)[1])
    decoded = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    assert np.abs(decoded[:, :, ::-1].astype(int) - picture()).mean() < 3


def test_columns_without_any_score_are_left_out_and_gaps_are_dashes() -> None:
    text = render_page(sample())
    assert "hidden test" not in text
    assert '<td class="number" data-label="cross-fitted">–</td>' in text


def test_a_score_that_is_no_number_is_a_gap() -> None:
    data = ReportData(
        "t", "v", "m", [ReportRow("a", out_of_fold=float("nan")), ReportRow("b", out_of_fold=0.5)]
    )
    assert "nan" not in render_page(data).split("</style>")[1]


def test_an_empty_report_is_still_a_page() -> None:
    text = render_page(ReportData("t", "Nothing has run yet.", "ap60", []))
    Page(text)
    assert "<section" not in text


def test_the_file_is_written_whole(tmp_path: Path) -> None:
    path = write_page(tmp_path / "new" / "report.html", sample())
    assert path.read_text(encoding="utf-8") == render_page(sample())
    assert [file.name for file in path.parent.iterdir()] == ["report.html"]


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (None, "–"),
        (float("nan"), "–"),
        (3.21, "3.2 s"),
        (59.7, "1 min 0 s"),
        (183.0, "3 min 3 s"),
        (7501, "2 h 5 min"),
    ],
)
def test_durations_read_as_people_say_them(seconds: float | None, said: str) -> None:
    assert duration(seconds) == said


def test_both_colour_schemes_are_there() -> None:
    assert re.search(r"prefers-color-scheme: dark", render_page(sample()))
