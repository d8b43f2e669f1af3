"""Each search that docs/looking.md recommends is one that MLflow understands and that finds what it promises."""

import re
from pathlib import Path

import pytest
from mlflow import MlflowClient

TABLE = (
    (Path(__file__).parents[1] / "docs" / "looking.md").read_text().split("### A search for each question")[1]
)
SEARCHES = [
    next(filter(None, found)).strip()
    for found in re.findall(r"^\|[^|]+\| (?:``(.+?)``|`([^`]+)`) \|", TABLE, flags=re.MULTILINE)
]
TAGS = {
    "hubmap.stage": "tune",
    "hubmap.member": "htc",
    "hubmap.resumed_by": "b",
    "hubmap.upstream_runs": "x,RUN_ID,y",
    "hubmap.reuses": "a",
    "hubmap.code_dirty": "true",
}
METRICS = {"gain/cross_fitted": 0.1, "time/seconds": 700.0, "system/peak_memory_mib": 5000.0}


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> MlflowClient:
    """A store with one run that every search finds but for its stage and end, and one that none finds."""
    client = MlflowClient(tracking_uri=f"sqlite:///{tmp_path_factory.mktemp('store')}/mlflow.db")
    experiment = client.create_experiment("demo")
    for stage in ("tune", "predict", "ensemble", "submit"):
        level = "trained_on" if stage == "tune" else "duplicate"
        tags = {**TAGS, "hubmap.stage": stage, "hubmap.leak_level": level}
        run = client.create_run(experiment, tags=tags).info.run_id
        for name, value in METRICS.items():
            client.log_metric(run, name, value)
        client.set_terminated(run, "FAILED")
    client.create_run(experiment, tags={"hubmap.stage": "prepare"})
    return client


def test_every_row_of_the_table_is_read() -> None:
    assert len(SEARCHES) == TABLE.count("\n| ") - 1 == 14


@pytest.mark.parametrize("search", SEARCHES)
def test_a_search_finds_what_it_is_for_and_not_everything(client: MlflowClient, search: str) -> None:
    experiment = client.get_experiment_by_name("demo")
    assert experiment is not None
    found = client.search_runs([experiment.experiment_id], search)
    assert found
    assert all(run.data.tags["hubmap.stage"] != "prepare" for run in found)
