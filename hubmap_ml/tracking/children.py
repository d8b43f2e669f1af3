"""Finished runs nested in another: rows worth comparing in MLflow's table, such as the best trials of a study."""

from collections.abc import Mapping, Sequence
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Metric, Param, RunStatus, RunTag

PARENT = "mlflow.parentRunId"
ROW = "hubmap.row"
"""Names such a run within its parent; it is no run of a stage."""


def child_rows(name: str, rows: Sequence[tuple[Mapping[str, Any], Mapping[str, float]]]) -> dict[str, Any]:
    """Return what a recorder is asked for (``StageRun.recorder.ask``).

    Args:
        name: what a row is; they are called ``name 1``, ``name 2``, …
        rows: parameters and metrics of each.
    """
    return {
        "kind": "children",
        "name": name,
        "rows": [
            {"params": {key: str(value) for key, value in params.items()}, "metrics": dict(metrics)}
            for params, metrics in rows
        ],
    }


def create_children(client: MlflowClient, parent: str, item: Mapping[str, Any]) -> None:
    """Create the rows that are not there yet."""
    found = client.get_run(parent)
    experiment, tags = found.info.experiment_id, found.data.tags
    there = client.search_runs([experiment], f"tags.`{PARENT}` = '{parent}' and tags.`{ROW}` LIKE '%'")
    known = {run.data.tags[ROW] for run in there}
    for number, row in enumerate(item["rows"], start=1):
        name = f"{item['name']} {number}"
        if name in known:
            continue
        own = {PARENT: parent, ROW: name, "mlflow.source.name": "hubmap-ml", "mlflow.source.type": "LOCAL"}
        own |= {key: value for key, value in tags.items() if key in ("hubmap.experiment", "hubmap.member")}
        begun = found.info.start_time
        run = client.create_run(experiment, run_name=name, start_time=begun).info.run_id
        client.log_batch(
            run,
            metrics=[Metric(key, float(value), begun, 0) for key, value in row["metrics"].items()],
            params=[Param(key, value) for key, value in row["params"].items()],
            tags=[RunTag(key, value) for key, value in own.items()],
            synchronous=True,
        )
        client.set_terminated(run, RunStatus.to_string(RunStatus.FINISHED))
