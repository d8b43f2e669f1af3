"""The page of a comparison: whole, self-contained, escaped, and with every figure that was found."""

import dataclasses
import re
from pathlib import Path

import numpy as np
import pytest

from hubmap_ml.metrics import Interval, compare_sets, error_anatomy, worst_images
from hubmap_ml.viz import render_comparison, write_comparison
from hubmap_ml.viz.interval_plot import Range, interval_plot
from tests.random_scenes import images, predictions, truths
from tests.viz.test_report import EVIL, Page

NONE = Interval(None, None, "not estimable")


@pytest.fixture(scope="module")
def parts():
    table = images(12, n_folds=1)
    table = table.replace(slides=np.array([f"{EVIL} {k % 2}" for k in range(12)], object))
    truth = truths(1, table=table)
    found = predictions(1, table=table, objects_seed=1, count=8)
    sets = {f"a {EVIL}": found.take(np.arange(len(found)) % 3 == 0), "b": found}
    comparison = compare_sets("ap60", truth, sets, resamples=100)
    anatomies = [error_anatomy(truth, item, iou_threshold=0.6) for item in sets.values()]
    worst = [worst_images(table, np.linspace(1, -1, 12), anatomy) for anatomy in anatomies]
    return comparison, anatomies, worst


def page_of(parts, **more):
    return render_comparison(*parts, title=f"t {EVIL}", verdict=f"v {EVIL}", notes=[f"n {EVIL}"], **more)


def test_the_page_is_well_formed_and_says_everything(parts) -> None:
    comparison, anatomies, worst = parts
    text = page_of(parts)
    Page(text)
    for score in comparison.scores:
        assert f"{score.value:.4f}" in text
        assert score.on_these.in_words(".4f") in text
    assert f"{comparison.gains[0].value:+.4f}" in text
    for anatomy in anatomies:
        for kind in anatomy.kinds:
            assert f"{kind.cost:.4f}" in text
    assert worst[0][0].id in text


def test_the_page_needs_nothing_but_itself(parts) -> None:
    page = Page(page_of(parts))
    for tag, attributes in page.tags:
        assert tag not in ("script", "iframe", "object")
        for name in ("src", "href"):
            assert (attributes.get(name) or "data:").startswith("data:")
        assert not any(name.startswith("on") for name in attributes)
    text = page_of(parts)
    assert "url(" not in text
    assert "@import" not in text
    assert "prefers-color-scheme: dark" in text


def test_what_others_named_is_escaped(parts) -> None:
    assert EVIL not in page_of(parts)
    assert "<script" not in page_of(parts)


def test_one_set_without_slides_has_no_gain_and_no_table_by_slide(parts) -> None:
    comparison, anatomies, worst = parts
    alone = dataclasses.replace(comparison, scores=comparison.scores[:1], gains=(), slides=())
    text = page_of((alone, anatomies[:1], [()]))
    Page(text)
    assert "By slide" not in text
    assert "paired</h2>" not in text
    assert "No image costs score" in text
    assert worst


def test_the_page_is_written_whole(parts, tmp_path: Path) -> None:
    path = write_comparison(tmp_path / "new" / "out.html", *parts, title="t", verdict="v")
    assert path.read_text(encoding="utf-8").endswith("</html>\n")
    assert [item.name for item in path.parent.iterdir()] == ["out.html"]


def test_the_plot_draws_what_there_is() -> None:
    one = Range("a<b", 0.5, Interval(0.45, 0.55, ""), Interval(0.3, 0.7, ""), "set0")
    text = interval_plot([one, dataclasses.replace(one, name="x" * 40, on_these=NONE, on_new=NONE)])
    Page(text)
    assert text.count("<circle") == 2
    assert text.count('class="range"') == 1
    assert text.count('class="range wide"') == 1
    assert "a&lt;b" in text
    assert "x" * 40 not in text.split("aria-label")[1].split(">", 1)[1]
    places = [float(x) for x in re.findall(r'cx="([0-9.]+)"', text)]
    ends = [float(x) for x in re.findall(r'class="range" x1="([0-9.]+)" x2="([0-9.]+)"', text)[0]]
    assert ends[0] < places[0] == places[1] < ends[1]
    assert (ends[0] + ends[1]) / 2 == pytest.approx(places[0], abs=0.1)


def test_values_that_are_no_numbers_draw_nothing() -> None:
    assert interval_plot([Range("a", float("nan"), NONE, NONE, "set0")]) == ""
    assert "<circle" in interval_plot([Range("a", 0.0, NONE, NONE, "set0")], zero=True)
