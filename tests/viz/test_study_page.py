"""The page of a study: whole, self-contained, escaped, with figures that plotly takes."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects
import pytest

from hubmap_ml.viz import StudyGain, StudyPage, StudyValue, render_study_page, write_study_page

EVIL = "</script><script>alert('x')</script>"


def trials(count: int = 40, **more: Any) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    score, kernel = rng.uniform(0.001, 0.5, count), rng.choice(["box", "mask"], count)
    return pd.DataFrame(
        {"number": np.arange(count), "part": np.where(np.arange(count) < 20, "fixed", "all"), "score": score,
         "nms_iou": rng.uniform(0.3, 0.8, count), "nms.by": kernel, "value": 0.5 - (score - 0.2) ** 2,
         "exact": True, "fold_0": 0.5, "fold_1": np.nan, **more}
    )  # fmt: skip


def page(text: str = "plain", **changes: Any) -> StudyPage:
    given: dict[str, Any] = {
        "title": f"demo {text}",
        "verdict": f"ap60 0.5 {text}",
        "metric": "ap60",
        "sampler": "tpe",
        "gains": [StudyGain("cross-fitted", 0.4, 0.45, 0.01, 0.09), StudyGain("in sample", 0.4, 0.5)],
        "values": [
            StudyValue("score", 0.05, 0.2, (0.1, 0.3), 0.4, 0.8, 0.001, 0.5, log=True),
            StudyValue("nms_iou", 0.5, 0.6, (0.6, 0.6), 0.0, 0.2, 0.3, 0.8),
            StudyValue("nms.by", text, "mask", ("mask", text), 0.5),
        ],
        "folds": (0, 1),
        "fold_base": (0.4, float("nan")),
        "fold_tuned": (0.5, float("nan")),
        "fold_held_out": (0.45, float("nan")),
        "trials": trials(),
        "curves": {"before": ((0.1, 0.5), (1.0, 0.6)), "after": ((0.1, 0.6), (1.0, 0.8))},
        "steps": [{"score": 0.2}, {text: 1}],
        "mismatch": 0.0,
        "interpolation_error": 0.001,
    }
    return StudyPage(**{**given, **changes})


class Scripts(HTMLParser):
    """Collects the scripts and the tags of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self._inside = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._inside = tag == "script"
        if self._inside:
            self.scripts.append("")

    def handle_endtag(self, tag: str) -> None:
        self._inside = False

    def handle_data(self, data: str) -> None:
        if self._inside:
            self.scripts[-1] += data


def figures_of(text: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(Scripts(text).scripts[0])
    return found


def test_the_page_says_gains_values_and_folds() -> None:
    text = render_study_page(page())
    for said in (
        "ap60 0.5 plain",
        "+0.0500",
        "+0.0100 to +0.0900",
        "40 %",
        "80 %",
        "0.4500",
        "nms_iou",
        "20 fixed",
    ):
        assert said in text


def test_nothing_is_fetched_and_everything_is_escaped() -> None:
    text = render_study_page(page(EVIL))
    parsed = Scripts(text)
    assert [dict(a).get("type") for tag, a in parsed.tags if tag == "script"] == [
        "application/json",
        None,
        None,
    ]
    for tag, attributes in parsed.tags:
        for name in ("src", "href"):
            assert (attributes.get(name) or "data:").startswith("data:"), (tag, attributes)
    assert "alert('x')" not in "".join(parsed.scripts[1:])


def test_every_figure_is_one_that_plotly_knows_and_has_a_place() -> None:
    text = render_study_page(page())
    figures = figures_of(text)
    named = set(re.findall(r"--[a-z-]+(?=:)", text))
    assert len(figures) == text.count('data-figure="')
    # precision and recall, history, a slice a value, one pair of ranges, parallel coordinates
    assert len(figures) == 1 + 1 + 3 + 1 + 1
    for figure in figures:
        colours = set(re.findall(r'"(--[a-z-]+)"', json.dumps(figure)))
        assert colours <= named
        plain = json.loads(re.sub(r'"--[a-z-]+"', '"#123456"', json.dumps(figure)))
        plotly.graph_objects.Figure(plain)  # refuses unknown keys and values


def test_a_study_by_class_shows_each_class() -> None:
    both = pd.concat([trials(**{"class": "astro"}), trials(**{"class": "cort"})], ignore_index=True)
    values = [
        StudyValue(f"{name}.{one}", 0.1, 0.3, (0.3, 0.4), 0.1, None, 0.2, 0.8)
        for one in ("astro", "cort")
        for name in ("score", "nms.iou")
    ]
    text = render_study_page(page(trials=both, values=values))
    assert "<h3>astro</h3>" in text
    assert "<h3>cort</h3>" in text
    assert len(figures_of(text)) == 1 + 2 * (1 + 2 + 1 + 1)


@pytest.mark.parametrize(
    "changes",
    [
        {"folds": (-1,), "fold_base": (0.4,), "fold_tuned": (0.5,), "fold_held_out": (float("nan"),),
         "gains": [StudyGain("in sample", 0.4, 0.4)]},
        {"values": [], "trials": trials(1)},
        {"trials": trials().assign(value=0.3)},
        {"curves": {"before": ((), ()), "after": ((), ())}},
    ],
    ids=["one fold", "one trial", "all equal", "nothing found"],
)  # fmt: skip
def test_a_study_with_little_to_show_has_a_page(changes: dict[str, Any], tmp_path: Path) -> None:
    path = write_study_page(tmp_path / "deep" / "study.html", page(**changes))
    assert "<h2>Gain</h2>" in path.read_text()
    assert [item.name for item in path.parent.iterdir()] == ["study.html"]
