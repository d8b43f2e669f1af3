"""What training and inference may say about themselves while they run, without knowing who listens.

`tracking/` implements it on MLflow; `NullRecorder` keeps everything in a folder, for tests and for work without a
tracking store.
"""

import json
import logging
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

log = logging.getLogger(__name__)


class Recorder(Protocol):
    """Receives metrics, parameters, pictures and files of one run.

    Attributes:
        folder: the run's folder on the local disk; files being written belong here.
    """

    folder: Path

    @property
    def position(self) -> int:
        """How much has been kept of metrics so far; a checkpoint remembers it for `continue_from`."""

    def continue_from(self, metrics: Path, position: int) -> None:
        """Take over another recorder's metrics up to a position of it.

        Args:
            metrics: its ``metrics.jsonl``.
            position: where it stood when the checkpoint was written that the work goes on from.
        """

    def metrics(self, values: Mapping[str, float], *, step: int) -> None:
        """Keep one value of each metric at ``step``; on disk before anything else happens to it."""

    def flush(self) -> None:
        """Say that now is a good time to send (the end of an epoch); waits for nothing."""

    def params(self, values: Mapping[str, object]) -> None:
        """Keep parameters worth comparing between runs; a key is said once."""

    def image(self, image: NDArray[np.uint8], *, key: str, step: int) -> None:
        """Keep an RGB picture (H, W, 3) under a key such as ``val/overlay_0``."""

    def artifact(self, path: Path, folder: str = "") -> None:
        """Keep a file, or a folder with all it holds, below the artifact folder ``folder``."""

    def checkpoint(self, folder: Path, *, step: int) -> None:
        """Keep a training's state where another machine finds it; waits for nothing, and may pass one over.

        Args:
            folder: holds the checkpoint folders ``last`` and ``best``; may change as soon as this returns.
            step: iterations done.
        """

    def data(self, value: Any, name: str) -> None:
        """Keep a JSON-able value as the artifact file ``name``."""

    def progress(self, text: str) -> None:
        """Say in a few words where the work stands; not kept."""


class NullRecorder:
    """A recorder that keeps everything below one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    @property
    def position(self) -> int:
        path = self.folder / "metrics.jsonl"
        return path.stat().st_size if path.exists() else 0

    def continue_from(self, metrics: Path, position: int) -> None:
        with metrics.open("rb") as kept, (self.folder / "metrics.jsonl").open("ab") as out:
            out.write(kept.read(position))

    def metrics(self, values: Mapping[str, float], *, step: int) -> None:
        with (self.folder / "metrics.jsonl").open("a") as out:
            for key, value in values.items():
                out.write(json.dumps({"key": key, "value": float(value), "step": step}) + "\n")

    def flush(self) -> None:
        """Nothing is pending: each call wrote what it was given."""

    def params(self, values: Mapping[str, object]) -> None:
        with (self.folder / "params.jsonl").open("a") as out:
            for key, value in values.items():
                out.write(json.dumps({"key": key, "value": str(value)}) + "\n")

    def image(self, image: NDArray[np.uint8], *, key: str, step: int) -> None:
        import cv2

        path = self.folder / "images" / f"{key}_{step}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), np.ascontiguousarray(image[:, :, ::-1]))

    def artifact(self, path: Path, folder: str = "") -> None:
        target = self.folder / "artifacts" / folder / path.name
        target.parent.mkdir(parents=True, exist_ok=True)
        if path.is_dir():
            shutil.copytree(path, target, dirs_exist_ok=True)
        else:
            shutil.copy2(path, target)

    def checkpoint(self, folder: Path, *, step: int) -> None:
        """Nothing: it lies in the folder already."""

    def data(self, value: Any, name: str) -> None:
        path = self.folder / "artifacts" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(value, indent=1))

    def progress(self, text: str) -> None:
        log.info("%s", text)
