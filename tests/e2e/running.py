"""Running commands as a person would, in a folder of their own."""

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from mlflow import MlflowClient

BIN = Path(sys.executable).parent


def environment(folder: Path, **more: str) -> dict[str, str]:
    """The variables of a person's shell in a folder of their own; nothing of this test's MLflow."""
    kept = {
        key: value
        for key, value in os.environ.items()
        if not key.startswith("MLFLOW") and key != "HUBMAP_ML_WORK"
    }
    return {**kept, "PATH": f"{BIN}:{kept['PATH']}", "OMP_NUM_THREADS": "1", **more}


def call(folder: Path, *words: str, **more: str) -> subprocess.CompletedProcess[str]:
    """Run a command in a folder; the output is kept as text."""
    return subprocess.run(
        words,
        cwd=folder,
        env=environment(folder, **more),
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )


@dataclass(frozen=True)
class Chain:
    """A finished chain: where it ran, what it said, and its store."""

    folder: Path
    output: str
    client: MlflowClient

    def run_of(self, stage: str) -> object:
        """The newest run of a stage."""
        ids = [item.experiment_id for item in self.client.search_experiments()]
        return self.client.search_runs(ids, f"tags.`hubmap.stage` = '{stage}'", order_by=["start_time DESC"])[
            0
        ]
