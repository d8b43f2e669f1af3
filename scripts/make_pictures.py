"""Pictures of the README and the documents, taken of the demo in the current store: `make pictures` after `make demo`.

They are what a person sees: pages in Chromium, nothing drawn by hand.

    python scripts/make_pictures.py [--store FOLDER] [--out docs/pictures]
"""

import argparse
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.e2e.browsing import browser, tab

QUALITY = 80
TALL = 1000


def newest(client: MlflowClient, name: str) -> Any:
    """The demo's newest finished run of that name."""
    wanted = f"tags.`mlflow.runName` = '{name}' and attributes.status = 'FINISHED'"
    found = [
        run
        for experiment in client.search_experiments(filter_string="name = 'demo'")
        for run in client.search_runs(
            [experiment.experiment_id], wanted, order_by=["start_time DESC"], max_results=1
        )
    ]
    if not found:
        raise SystemExit(f"the store has no finished run {name!r} of the demo: make demo first")
    return found[0]


@contextmanager
def page_of(opened: Any, address: str, *, width: int = 1200, height: int = TALL) -> Iterator[Any]:
    """A page that has come to rest."""
    with tab(opened, address, width=width) as shown:
        shown.page.set_viewport_size({"width": width, "height": height})
        shown.page.wait_for_timeout(1000)
        yield shown.page


def take(client: MlflowClient, out: Path) -> list[Path]:
    """Take all pictures; returns the files."""
    report = newest(client, "report")
    study = newest(client, "tune · htc")
    made = [out / name for name in ("report.jpg", "tiles.jpg", "study.jpg")]
    file = Path(client.download_artifacts(report.info.run_id, "report.html"))
    with browser() as opened:
        with page_of(opened, file.as_uri()) as page:
            page.screenshot(path=made[0], quality=QUALITY)
            page.locator(".tiles").first.scroll_into_view_if_needed()
            page.locator(".tiles").first.evaluate("one => window.scrollTo(0, one.offsetTop - 20)")
            page.screenshot(path=made[1], quality=QUALITY)
        with page_of(
            opened, Path(client.download_artifacts(study.info.run_id, "study.html")).as_uri()
        ) as page:
            page.screenshot(path=made[2], quality=QUALITY)
    return made


def main() -> None:
    """Take the pictures and say where they are."""
    parser = argparse.ArgumentParser(description="Pictures of the demo for the documents.")
    parser.add_argument("--store", type=Path, default=Path.cwd(), help="folder with mlflow.db")
    parser.add_argument("--out", type=Path, default=Path(__file__).parents[1] / "docs" / "pictures")
    options = parser.parse_args()
    folder = options.store.resolve()
    options.out.mkdir(parents=True, exist_ok=True)
    client = MlflowClient(tracking_uri=f"sqlite:///{folder}/mlflow.db")
    try:
        made = take(client, options.out.resolve())
    except pytest.skip.Exception as missing:
        raise SystemExit(str(missing)) from None
    for file in made:
        print(f"{file} {file.stat().st_size / 1000:.0f} KB")


if __name__ == "__main__":
    main()
