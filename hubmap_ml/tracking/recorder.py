"""The recorder of a run: everything on disk first, MLflow second.

Metrics are appended to the run folder's ``metrics.jsonl``, pictures and files are put into its ``outbox``; a thread
sends them in batches (one ``log_batch`` is 4 to 10 times cheaper than single calls). Nobody waits for the store with
metrics and pictures; files are waited for as long as it answers, so that later steps find them. What could not be sent
when the stage ends is sent at the next start of any stage.
"""

import json
import logging
import re
import time
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from numpy.typing import NDArray

from hubmap_ml.spec import InputError, without_credentials
from hubmap_ml.tracking import delivery
from hubmap_ml.tracking.kept_checkpoints import RESUME, KeptCheckpoints
from hubmap_ml.tracking.sender import Sender
from hubmap_ml.tracking.spool import METRICS, Spool

log = logging.getLogger(__name__)

PARAM_LENGTH = 6000
FILES_WAIT_S = 60.0
END_WAIT_S = 120.0
MOST_WAITING = 2000
"""Items in the outbox above which pictures are no longer kept: a store away for days must not fill the disk."""


class MlflowRecorder:
    """Implements ``spec.Recorder`` for one MLflow run.

    Args:
        client: of the store.
        run_id: the run.
        folder: on the local disk.
        beat: says that the run is alive; called from the sending thread.
    """

    def __init__(
        self, client: MlflowClient, run_id: str, folder: Path, *, beat: Callable[[], None] | None = None
    ) -> None:
        self.folder = folder
        self._client = client
        self._run_id = run_id
        self._spool = Spool(folder)
        self._spool.hold()
        self._sender = Sender(client, run_id, self._spool, beat=beat)
        self._checkpoints = KeptCheckpoints(self._spool)
        self._pictures_dropped = False
        self._told_before: dict[str, str] | None = None  # params that the run had before we said any
        if beat is not None:
            self._sender.start()

    @property
    def position(self) -> int:
        """Bytes of metrics kept so far; a checkpoint remembers it."""
        return self._spool.written

    def continue_from(self, metrics: Path, position: int) -> None:
        """Begin with the metrics of an interrupted run up to its checkpoint; see ``spec.Recorder``."""
        self._spool.copy_history(metrics, position)
        self._sender.wake()

    def metrics(self, values: Mapping[str, float], *, step: int = 0) -> None:
        self._spool.append(values, step=step)
        self._sender.wake()

    def flush(self) -> None:
        self._sender.wake()

    def drain(self, timeout_s: float = FILES_WAIT_S) -> bool:
        """Wait until the store has everything, or does not answer; returns whether it has."""
        return self._sender.drain(timeout_s)

    def params(self, values: Mapping[str, object]) -> None:
        # A run that `mlflow run` made has the words of its command as params already ('' for an empty one), and MLflow
        # allows no other value: what they came to stands beside them.
        if self._told_before is None:
            self._told_before = self._params_there()
        there = self._told_before
        params = {}
        for key, value in values.items():
            text = without_credentials(str(value))[:PARAM_LENGTH]
            params[key if there.get(key, text) == text else f"resolved/{key}"] = text
        self.ask({"kind": "values", "params": params})

    def _params_there(self) -> dict[str, str]:
        try:
            return dict(self._client.get_run(self._run_id).data.params)
        except (MlflowException, OSError):
            return {}

    def tags(self, values: Mapping[str, object]) -> None:
        """Set tags of the run."""
        self.ask({"kind": "values", "tags": {key: str(value) for key, value in values.items()}})

    def ask(self, item: dict[str, Any]) -> None:
        """Do at once what needs no file, or keep it for later where the store does not answer.

        Raises:
            MlflowException: the store refuses it.
        """
        item = _without_secrets(item)
        if not self._sender.failing and not self._spool.items():
            try:
                delivery.call(self._client, self._run_id, item)
                return
            except MlflowException as error:
                if delivery.refused(error):
                    raise
                log.warning("the store does not answer; what run %s says waits on disk", self._run_id)
            except OSError:
                log.warning("the store does not answer; what run %s says waits on disk", self._run_id)
        self._spool.put(item)
        self._sender.wake()

    def image(self, image: NDArray[np.uint8], *, key: str, step: int) -> None:
        from PIL import Image

        if len(self._spool.items()) >= MOST_WAITING:
            if not self._pictures_dropped:
                log.warning("%d files wait for the store: pictures are no longer kept", MOST_WAITING)
            self._pictures_dropped = True
            return
        if not re.fullmatch(r"[a-zA-Z0-9_\-./ ]+", key):
            raise ValueError(f"a picture's key may hold letters, digits and _ - . / only: {key!r}")
        # MLflow's own names (MlflowClient.log_image), fixed here so that sending twice makes no second picture.
        name = f"{key.replace('/', '~')}+step+{step}+timestamp+{int(time.time() * 1000)}+{uuid.uuid4()}.png"
        path = self.folder / "pictures" / name
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(np.ascontiguousarray(image)).save(path, compress_level=1)
        self._spool.put({"kind": "files", "folder": "images", "picture": True}, [path])
        path.unlink()
        self._sender.wake()

    @property
    def is_heard(self) -> bool:
        """Whether the store answered when it was last told something."""
        return not self._sender.failing

    def artifact(self, path: Path, folder: str = "") -> None:
        if not path.exists():
            raise InputError(f"{path}: nothing there to keep as an artifact")
        self._spool.put({"kind": "files", "folder": folder}, [path])
        self._sender.wake()
        if not self._sender.failing:
            self._sender.drain(FILES_WAIT_S)

    def checkpoint(self, folder: Path, *, step: int) -> None:
        self._checkpoints.add(folder, step)
        self._sender.wake()

    def forget_checkpoints(self) -> None:
        """Remove what `checkpoint` kept: the training is finished."""
        if self._checkpoints.any:
            self.ask({"kind": "remove", "folder": RESUME})

    def data(self, value: Any, name: str) -> None:
        path = self.folder / "data" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)  # a link of it may still wait
        path.write_text(without_credentials(json.dumps(value, indent=1)))
        folder = str(Path(name).parent)
        self.artifact(path, "" if folder == "." else folder)

    def progress(self, text: str) -> None:
        log.info("%s", text)

    def end(self, status: str, tags: Mapping[str, object]) -> bool:
        """Say how the run ended, after all else; returns whether the store knows.

        What it does not know waits in the run's folder for the next start of any stage.
        """
        said = {key: str(value) for key, value in tags.items()}
        self._spool.put({"kind": "values", "tags": _without_secrets(said)})
        self._spool.put({"kind": "end", "status": status, "time": int(time.time() * 1000)})
        arrived = self._sender.drain(END_WAIT_S)
        if not arrived:
            log.warning(
                "the store does not answer: the rest of run %s waits in %s and is sent at the next start of any stage",
                self._run_id,
                self.folder,
            )
        self.close()
        return arrived

    def close(self) -> None:
        """Stop sending and let go of the run's folder."""
        self._sender.close()
        self._spool.release()

    def clear_folder(self) -> None:
        """Remove what the store now holds too; the metrics stay."""
        self._spool.clear_folder()


def _without_secrets(value: Any) -> Any:
    """Return what is about to be kept with every text in it cleaned of credentials."""
    if isinstance(value, str):
        return without_credentials(value)
    if isinstance(value, Mapping):
        return {key: _without_secrets(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_without_secrets(item) for item in value)
    return value


__all__ = ["METRICS", "MlflowRecorder"]
