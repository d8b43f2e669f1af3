"""A real browser on pages: Chromium without a window, what it complains about, and MLflow's pages to look at."""

import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.running import environment
from tests.team_server import free_port, wait_until_up

ARGUMENTS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"]
PHONE, DESK = 360, 1200


@dataclass
class Tab:
    """A page in a browser, and what it complained about."""

    page: Any
    complaints: list[str] = field(default_factory=list)


@contextlib.contextmanager
def browser() -> Iterator[Any]:
    """Chromium; the test is skipped where there is none."""
    api = pytest.importorskip("playwright.sync_api", reason="python's playwright is not installed")
    place = os.environ.get("HUBMAP_ML_CHROMIUM") or shutil.which("chromium")
    if not place:
        pytest.skip("no chromium on this machine: apt install chromium, or set HUBMAP_ML_CHROMIUM")
    with api.sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=place, args=ARGUMENTS)
        try:
            yield opened
        finally:
            opened.close()


@contextlib.contextmanager
def tab(opened: Any, address: str, *, width: int = DESK, dark: bool = False) -> Iterator[Tab]:
    """Open an address; what stands in the console as an error or warning is kept."""
    context = opened.new_context(
        viewport={"width": width, "height": 900}, color_scheme="dark" if dark else "light"
    )
    page = context.new_page()
    found = Tab(page)
    page.on(
        "console",
        lambda said: found.complaints.append(said.text) if said.type in ("error", "warning") else None,
    )
    page.on("pageerror", lambda error: found.complaints.append(str(error)))
    page.on("requestfailed", lambda request: found.complaints.append(f"not loaded: {request.url}"))
    try:
        page.goto(address)
        yield found
    finally:
        context.close()


@contextlib.contextmanager
def mlflow_pages(folder: Path) -> Iterator[str]:
    """MLflow's pages on the store of a folder; the address."""
    port = free_port()
    address = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port)]
    settings = environment(
        folder,
        MLFLOW_BACKEND_STORE_URI=f"sqlite:///{folder}/mlflow.db",
        MLFLOW_SERVER_ENABLE_JOB_EXECUTION="false",
    )
    with (folder / "pages.log").open("wb") as log:
        process = subprocess.Popen(
            command, cwd=folder, env=settings, stdout=log, stderr=log, start_new_session=True
        )
    try:
        wait_until_up(address, process, folder / "pages.log")
        yield address
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, 15)
        process.wait(timeout=30)
