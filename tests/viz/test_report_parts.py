"""The report's tables: studies, the ensemble's members, why members are promoted, lineage, and two side by side."""

import math
import re
from pathlib import Path

import pytest

from hubmap_ml.metrics import Interval
from hubmap_ml.viz import (
    Difference,
    GraphStep,
    Line,
    ReportBeside,
    ReportData,
    ReportEnsemble,
    ReportMember,
    ReportOrigin,
    ReportPair,
    ReportRow,
    ReportStudy,
    render_beside,
    render_page,
    write_beside,
)
from tests.viz.test_report import EVIL, Page

SURE = Interval(0.81, 0.87, "bootstrap")
UNSURE = Interval(None, None, "not estimable from 3 blocks")


def full(text: str = "plain") -> ReportData:
    return ReportData(
        title=f"demo {text}",
        verdict=f"wins {text}",
        metric="ap60",
        rows=[
            ReportRow(f"a {text}", out_of_fold=0.85, cross_fitted=0.84, interval=SURE, leak=f"slide {text}",
                      cost=f"0.4 s/image {text}", why=f"passed {text}", badge="promoted v1"),
            ReportRow("b", out_of_fold=0.5, interval=UNSURE, badge="not promoted", why="refused: leak"),
            ReportRow("c", badge="no score yet", why="run tune first"),
        ],
        graph=[GraphStep("x", "prepare", words=text), GraphStep("y", "tune", text, 0.84, comes_from=("x",))],
        studies=[
            ReportStudy(f"a {text}", 0.8, 0.85, 0.84, Interval(0.01, 0.07, "w"),
                        {f"score {text}": ("0.1", "0.3", "0.2")}),
            ReportStudy("b", 0.4, 0.5, None, UNSURE),
        ],
        ensemble=ReportEnsemble(
            f"method wbf {text}",
            [
                ReportMember(f"a {text}", 1.0, (1.0, 0.5), 0.84, Difference(0.02, Interval(0.01, 0.03, "")), None, 0.4),
                ReportMember("b", 0.0, (0.0, 0.0)),
            ],
            ["fold 0", "fold 1"],
            [ReportPair(f"a {text}", "b", 0.26, None, 2, 9, 234, 6)],
        ),
        curves={f"Loss {text}": [Line(f"loss {text}", ((1.0, 2.0), (2.0, math.nan), (3.0, 1.0)))]},
        lineage=[ReportOrigin(f"tune {text}", "abc", ("prepare (from)",), f"data {text}")],
        how_scored=["how"],
        environment={"python": "3.11"},
    )  # fmt: skip


def test_everything_is_said_and_well_formed() -> None:
    text = render_page(full())
    Page(text)
    for said in (
        "0.8100 to 0.8700", "not estimable from 3 blocks", "passed plain", "refused: leak", "run tune first",
        "0.4 s/image plain", "slide plain", "+0.0400", "+0.0100 to +0.0700", "not honest: one fold", "not chosen",
        "without fold 1", "+0.0200", "26.0 %", "234", "method wbf plain", "tune plain", "prepare (from)", "loss plain",
    ):  # fmt: skip
        assert said in text, said


def test_everything_is_escaped() -> None:
    for text in (
        render_page(full(EVIL)),
        render_beside(ReportBeside(full(EVIL), full(EVIL), EVIL, notes=[EVIL])),
    ):
        page = Page(text)
        assert "script" not in {tag for tag, _ in page.tags}
        assert all(not name.startswith("on") for _, attributes in page.tags for name in attributes)


def test_nothing_is_fetched_and_each_link_leads_to_a_section() -> None:
    text = render_page(full())
    page = Page(text)
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    links = [attributes["href"] for tag, attributes in page.tags if tag == "a"]
    assert len(links) == text.count("<section")
    assert {link.removeprefix("#") for link in links if link} <= set(ids)
    assert "http" not in text
    assert "url(" not in text


def test_a_gain_that_is_sure_is_marked_and_one_that_is_not_is_none() -> None:
    text = render_page(full())
    assert re.search(r'class="number high">\+0\.0400', text)
    assert re.search(r'class="number">\+0\.1000 \(not honest', text)


def test_two_stand_side_by_side_under_titles_of_their_own(tmp_path: Path) -> None:
    changes = [("tune.trials", 100, None), ("members.htc", {"deep": "x" * 500}, 3)]
    data = ReportBeside(full("one"), full("two"), "one is better", changes=changes, notes=["other data"])
    text = render_beside(data)
    page = Page(text)
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    for said in (
        "one is better",
        "Scores of demo one",
        "Scores of demo two",
        "tune.trials",
        "other data",
        "…",
    ):
        assert said in text
    path = write_beside(tmp_path / "page.html", data)
    assert path.read_text() == text


def test_two_of_one_name_are_told_apart() -> None:
    text = render_beside(ReportBeside(full(), full(), "the same"))
    assert "Scores of demo plain (1)" in text
    assert "Scores of demo plain (2)" in text
    assert "Nothing." in text


@pytest.mark.parametrize("points", [(), ((1.0, math.nan),)])
def test_a_curve_without_points_is_left_out(points: tuple[tuple[float, float], ...]) -> None:
    text = render_page(ReportData("t", "v", "m", [], curves={"Loss": [Line("loss", points)]}))
    assert 'class="curve"' not in text
