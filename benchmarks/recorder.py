"""What recording twenty metrics in every iteration costs a training whose iteration takes 0.4 s (as the demo's does).

Ours (appended to a file, sent by a thread) and the usual way (``MlflowClient.log_batch`` in the loop), on a sqlite
store of their own, in one process, in turns. The work is a matrix product, so that a thread that takes its processor
is seen.

    python benchmarks/recorder.py --json
"""

import argparse
import json
import os
import platform
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

METRICS = 20
ITERATION_S = 0.4


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="one JSON object")
    parser.add_argument("--iterations", type=int, default=60)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{folder}/mlflow.db"
        os.environ["HUBMAP_ML_WORK"] = f"{folder}/work"
        rows = measure(Path(folder), options.iterations)
    machine = {"system": platform.platform(), "python": platform.python_version(), "cores": os.cpu_count()}
    if options.json:
        print(json.dumps({"machine": machine, "rows": rows}))
    else:
        for row in rows:
            print(row)


def measure(folder: Path, iterations: int) -> list[dict[str, Any]]:
    """Return the rows: time in the recording calls themselves, and what a whole iteration takes."""
    from mlflow.entities import Metric

    from hubmap_ml.tracking import open_store, stage_run

    client = open_store()
    plain = client.create_run("0").info.run_id
    work = Work()
    spent: dict[str, list[float]] = {"nothing": [], "ours": [], "other": []}
    called: dict[str, list[float]] = {"nothing": [], "ours": [], "other": []}
    with stage_run(experiment="benchmark", stage="tune", name="benchmark") as run:
        for step in range(iterations):
            values = {f"train/loss_{number}": step + number / 100 for number in range(METRICS)}
            for way in ("nothing", "ours", "other"):
                begun = time.perf_counter()
                work()
                done = time.perf_counter()
                if way == "ours":
                    run.recorder.metrics(values, step=step)
                elif way == "other":
                    now = int(time.time() * 1000)
                    points = [Metric(key, value, now, step) for key, value in values.items()]
                    client.log_batch(plain, metrics=points, synchronous=True)
                after = time.perf_counter()
                spent[way].append(after - begun)
                called[way].append(after - done)
    kept = client.get_metric_history(run.run_id, "train/loss_0")
    assert len(kept) == iterations
    calls = {way: statistics.mean(seconds) * 1e3 for way, seconds in called.items()}
    whole = {way: statistics.median(seconds) * 1e3 for way, seconds in spent.items()}
    return [
        {
            "work": f"{METRICS} metrics: in the calls",
            "ours_ms": calls["ours"],
            "other_ms": calls["other"],
            "ratio": calls["other"] / calls["ours"],
            "share_of_iteration": calls["ours"] / (ITERATION_S * 1e3),
            "max_abs_diff": 0.0,
            "n": iterations,
        },
        {
            "work": f"an iteration of {ITERATION_S} s: with recording / without",
            "ours_ms": whole["ours"],
            "other_ms": whole["nothing"],
            "ratio": whole["ours"] / whole["nothing"],
            "max_abs_diff": 0.0,
            "n": iterations,
        },
    ]


class Work:
    """Matrix products for about as long as an iteration."""

    def __init__(self) -> None:
        self._matrix = np.random.default_rng(0).random((384, 384))
        self._times = 1
        self()
        begun = time.perf_counter()
        for _ in range(10):
            self()
        self._times = max(1, round(ITERATION_S / ((time.perf_counter() - begun) / 10)))

    def __call__(self) -> None:
        for _ in range(self._times):
            self._matrix @ self._matrix


if __name__ == "__main__":
    main()
