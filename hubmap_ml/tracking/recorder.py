"""The recorder of a run: everything on disk first, MLflow second.

Metrics are appended to the run folder's ``metrics.jsonl`` before anything is sent; ``flush`` sends what is pending in
batches (one ``log_batch`` is 4 to 10 times cheaper than single calls). What the store refuses stays pending and is sent
with the next flush: training does not stop for it.
"""

import json
import logging
import math
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from mlflow import MlflowClient
from mlflow.entities import Metric, Param
from numpy.typing import NDArray

from hubmap_ml.spec import InputError, without_credentials

log = logging.getLogger(__name__)

BATCH = 1000
PARAM_LENGTH = 6000


class MlflowRecorder:
    """Implements ``spec.Recorder`` for one MLflow run."""

    def __init__(self, client: MlflowClient, run_id: str, folder: Path) -> None:
        self.folder = folder
        self._client = client
        self._run_id = run_id
        self._pending: list[Metric] = []
        folder.mkdir(parents=True, exist_ok=True)
        self._file = folder / "metrics.jsonl"

    def metrics(self, values: Mapping[str, float], *, step: int = 0) -> None:
        now = int(time.time() * 1000)
        points = [
            Metric(key, float(value), now, step)
            for key, value in values.items()
            if not math.isnan(float(value))
        ]
        with self._file.open("a") as out:
            for point in points:
                line = {"key": point.key, "value": point.value, "step": step, "timestamp": now}
                out.write(json.dumps(line) + "\n")
        self._pending += points

    def flush(self) -> None:
        while self._pending:
            batch = self._pending[:BATCH]
            try:
                self._client.log_batch(self._run_id, metrics=batch, synchronous=True)
            except Exception as error:
                log.warning(
                    "%d metric points wait in %s: the store refused them (%s)",
                    len(self._pending),
                    self._file,
                    without_credentials(str(error)),
                )
                return
            del self._pending[: len(batch)]

    def params(self, values: Mapping[str, object]) -> None:
        params = [Param(key, without_credentials(str(value))[:PARAM_LENGTH]) for key, value in values.items()]
        for start in range(0, len(params), 100):
            self._client.log_batch(self._run_id, params=params[start : start + 100], synchronous=True)

    def image(self, image: NDArray[np.uint8], *, key: str, step: int) -> None:
        self._client.log_image(
            self._run_id, np.ascontiguousarray(image), key=key, step=step, synchronous=True
        )

    def artifact(self, path: Path, folder: str = "") -> None:
        if path.is_dir():
            self._client.log_artifacts(self._run_id, str(path), "/".join(filter(None, (folder, path.name))))
        elif path.is_file():
            self._client.log_artifact(self._run_id, str(path), folder or None)
        else:
            raise InputError(f"{path}: nothing there to keep as an artifact")

    def data(self, value: Any, name: str) -> None:
        path = self.folder / "data" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(without_credentials(json.dumps(value, indent=1)))
        folder = str(Path(name).parent)
        self.artifact(path, "" if folder == "." else folder)

    def progress(self, text: str) -> None:
        log.info("%s", text)

    def clear_folder(self) -> None:
        """Remove what the store now holds too; ``metrics.jsonl`` stays."""
        for item in self.folder.iterdir():
            if item.is_dir():
                shutil.rmtree(item, ignore_errors=True)
            elif item != self._file:
                item.unlink(missing_ok=True)
