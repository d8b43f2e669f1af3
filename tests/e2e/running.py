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


def client_of(folder: Path) -> MlflowClient:
    """The store of a folder, and its registry: not named, that of whoever asked last in this process is taken."""
    uri = f"sqlite:///{folder}/mlflow.db"
    return MlflowClient(tracking_uri=uri, registry_uri=uri)


@dataclass(frozen=True)
class Chain:
    """A finished chain: where it ran, what it said, and its store."""

    folder: Path
    output: str
    client: MlflowClient

    def run_of(self, stage: str) -> object:
        """The newest run of a stage in the chain itself; other tests may have made more in its store."""
        ids = [item.experiment_id for item in self.client.search_experiments()]
        mains = self.client.search_runs(ids, "tags.`hubmap.stage` = 'main'", order_by=["start_time ASC"])
        if stage == "main":
            return mains[0]
        wanted = f"tags.`hubmap.stage` = '{stage}' and tags.`mlflow.parentRunId` = '{mains[0].info.run_id}'"
        return self.client.search_runs(ids, wanted, order_by=["start_time DESC"])[0]
