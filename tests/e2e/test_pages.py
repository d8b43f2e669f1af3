"""The report in a real browser, from disk and in MLflow's artifact viewer; MLflow's own pages of the chain."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.browsing import DESK, PHONE, browser, mlflow_pages, tab
from tests.e2e.running import Chain

pytestmark = pytest.mark.e2e

LARGEST = 15_000_000
PICTURES = """async () => {
    const places = [...document.querySelectorAll("image, img")].map((one) => one.getAttribute("href") || one.src);
    return Promise.all(places.map(async (place) => {
        const picture = new Image(); picture.src = place; await picture.decode(); return picture.naturalWidth;
    }));
}"""
WIDER_THAN_THE_WINDOW = "() => document.documentElement.scrollWidth - window.innerWidth"
COUNTED = """() => [...document.querySelectorAll(".tiles")].map((one) => ({
    all: one.querySelector(".all output").textContent,
    drawn: one.querySelectorAll("use.tp:not(.off), use.fp:not(.off)").length,
    at: one.querySelector(".at").textContent,
}))"""


@pytest.fixture(scope="module")
def opened() -> Iterator[Any]:
    with browser() as found:
        yield found


@pytest.fixture(scope="module")
def report_run(chain: Chain) -> str:
    """The chain's own report; other tests may have made more."""
    run = chain.run_of("main").info  # type: ignore[attr-defined]
    wanted = f"tags.`hubmap.stage` = 'report' and tags.`mlflow.parentRunId` = '{run.run_id}'"
    return str(chain.client.search_runs([run.experiment_id], wanted)[0].info.run_id)


@pytest.fixture(scope="module")
def report(chain: Chain, report_run: str) -> Path:
    return Path(chain.client.download_artifacts(report_run, "report.html"))


def move(frame: Any, number: int, place: int) -> dict[str, Any]:
    """Move a gallery's slider as a hand would, and return what the gallery then says."""
    slider = frame.locator(".tiles input[type=range]").nth(number)
    slider.evaluate(
        "(one, place) => { one.value = place; one.dispatchEvent(new Event('input', {bubbles: true})); }",
        str(place),
    )
    said: dict[str, Any] = frame.evaluate(COUNTED)[number]
    return said


@pytest.mark.parametrize(("width", "dark"), [(DESK, False), (PHONE, True)])
def test_the_report_opens_from_disk(opened: Any, report: Path, width: int, dark: bool) -> None:
    assert report.stat().st_size < LARGEST
    with tab(opened, report.as_uri(), width=width, dark=dark) as shown:
        assert shown.page.evaluate(WIDER_THAN_THE_WINDOW) <= 0
        widths = shown.page.evaluate(PICTURES)
        assert widths
        assert all(width > 0 for width in widths)
        assert shown.complaints == []


def test_moving_the_slider_counts_anew(opened: Any, report: Path) -> None:
    with tab(opened, report.as_uri()) as shown:
        before = shown.page.evaluate(COUNTED)[0]
        none = move(shown.page, 0, 100)
        assert none["at"] == "1.00"
        assert none["drawn"] == 0
        assert none["all"].startswith("0 found")
        assert none["all"] != before["all"]
        every = move(shown.page, 0, 0)
        assert every["drawn"] >= before["drawn"] > none["drawn"]
        drawn = shown.page.locator(".tiles").first.locator("use.tp:not(.off), use.fp:not(.off)")
        assert drawn.first.is_visible()
        shown.page.locator(".tiles button").first.click()
        assert shown.page.evaluate(COUNTED)[0] == before
        assert shown.complaints == []


def test_the_slider_moves_by_keyboard(opened: Any, report: Path) -> None:
    with tab(opened, report.as_uri()) as shown:
        slider = shown.page.locator(".tiles input[type=range]").first
        slider.focus()
        at = float(shown.page.evaluate(COUNTED)[0]["at"])
        shown.page.keyboard.press("ArrowRight")
        assert float(shown.page.evaluate(COUNTED)[0]["at"]) == pytest.approx(min(at + 0.01, 1.0))
        shown.page.keyboard.press("End")
        assert shown.page.evaluate(COUNTED)[0]["drawn"] == 0


def test_mlflow_shows_the_report_and_the_runs(opened: Any, chain: Chain, report_run: str) -> None:
    training = chain.run_of("finetune").info  # type: ignore[attr-defined]
    place = f"/#/experiments/{training.experiment_id}/runs"
    view = "?workflowType=machine_learning"
    with mlflow_pages(chain.folder) as address:
        with tab(opened, f"{address}{place}/{report_run}/artifacts/report.html{view}") as shown:
            shown.page.wait_for_selector("iframe", timeout=60_000)
            frame = shown.page.frames[-1]
            frame.wait_for_selector(".tiles", timeout=60_000)
            assert all(width > 0 for width in frame.evaluate(PICTURES))
            assert move(frame, 0, 100)["drawn"] == 0
            assert frame.evaluate(WIDER_THAN_THE_WINDOW) <= 0
            assert [text for text in shown.complaints if "report" in text or "blob:" in text] == []
        with tab(opened, f"{address}{place}/{training.run_id}{view}") as shown:
            shown.page.get_by_text("at the last epoch").first.wait_for(timeout=60_000)
            shown.page.get_by_role("link", name="prepare").first.wait_for(timeout=10_000)
