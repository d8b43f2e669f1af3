"""Bringing a spool's points and items to the store, from a running stage or, after a crash, at the next start.

Everything may be sent twice without harm: MLflow keeps a point of the same metric, step, time and value once, files
lie under fixed names, and tags are set again.
"""

import hashlib
import json
import logging
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, RunTag
from mlflow.exceptions import MlflowException
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

from hubmap_ml.tracking.children import create_children
from hubmap_ml.tracking.fetching import local_path
from hubmap_ml.tracking.spool import CONTENT, ITEM, Spool
from hubmap_ml.tracking.store import work_folder

log = logging.getLogger(__name__)

BATCH = 1000
REFUSALS = ("INVALID_PARAMETER_VALUE", "BAD_REQUEST", "RESOURCE_DOES_NOT_EXIST", "INVALID_STATE")
ATTEMPTS = 3


class NotWholeError(Exception):
    """What the store gives back is not what was sent."""


def send_points(client: MlflowClient, run_id: str, spool: Spool) -> None:
    """Send all points that wait, in batches.

    Raises:
        Exception: the store does not answer; what was not sent waits.
    """
    while spool.written > spool.sent:
        points, position = spool.waiting_points(BATCH)
        if position == spool.sent:
            spool.drop_half_line()
            break
        metrics = [Metric(point.key, point.value, point.timestamp, point.step) for point in points]
        try:
            if metrics:
                client.log_batch(run_id, metrics=metrics, synchronous=True)
        except MlflowException as error:
            if not refused(error):
                raise
            _send_singly(client, run_id, metrics, spool.folder)
        spool.mark_sent(position)


def deliver(client: MlflowClient, run_id: str, spool: Spool, path: Path) -> None:
    """Bring one item of the outbox to the store and remove it; one that the store refuses is said and set aside.

    Raises:
        Exception: the store does not answer, or files did not arrive whole after some attempts.
    """
    item = json.loads((path / ITEM).read_text())
    try:
        _do(client, run_id, item, path / CONTENT)
    except MlflowException as error:
        if not refused(error):
            raise
        log.warning("the store refused %s of run %s: %s", item["kind"], run_id, _first_line(error))
    spool.remove(path)


def call(client: MlflowClient, run_id: str, item: dict[str, Any]) -> None:
    """Do what an item without files asks for."""
    if item["kind"] == "values":
        tags = [RunTag(key, value) for key, value in item.get("tags", {}).items()]
        params = [Param(key, value) for key, value in item.get("params", {}).items()]
        for start in range(0, max(len(tags), len(params)), 100):
            stop = start + 100
            client.log_batch(run_id, params=params[start:stop], tags=tags[start:stop], synchronous=True)
    elif item["kind"] == "children":
        create_children(client, run_id, item)
    elif item["kind"] == "dataset":
        given = [InputTag("mlflow.data.context", item["context"])]
        client.log_inputs(run_id, datasets=[DatasetInput(Dataset(**item["dataset"]), given)])
    elif item["kind"] == "remove":
        uri = str(client.get_run(run_id).info.artifact_uri)
        get_artifact_repository(uri).delete_artifacts(item["folder"])  # type: ignore[no-untyped-call]
    elif item["kind"] == "end":
        client.set_terminated(run_id, item["status"], item["time"])
    else:
        raise ValueError(f"unknown item {item['kind']!r} in the spool of run {run_id}")


def replay(client: MlflowClient) -> int:
    """Send what earlier stages of this work folder could not; returns how many runs were brought up to date.

    Runs whose process lives are left to it; runs of another store stay as they are.
    """
    done = 0
    for folder in sorted((work_folder() / "runs").glob("*/")):
        spool = Spool(folder)
        if not spool.pending or not spool.hold():
            continue
        try:
            try:
                client.get_run(folder.name)
            except MlflowException as error:
                if refused(error):
                    continue
                raise
            send_points(client, folder.name, spool)
            items = spool.items()
            for item in items:
                deliver(client, folder.name, spool, item)
            if items and client.get_run(folder.name).info.status == "FINISHED":
                spool.clear_folder()
            done += 1
        except Exception as error:
            log.warning(
                "what run %s has to tell still waits in %s (%s)", folder.name, folder, _first_line(error)
            )
        finally:
            spool.release()
    return done


def refused(error: MlflowException) -> bool:
    """Whether the store understood and said no, so that trying again is useless."""
    return error.error_code in REFUSALS


def _do(client: MlflowClient, run_id: str, item: dict[str, Any], content: Path) -> None:
    if item["kind"] != "files":
        call(client, run_id, item)
        return
    if item.get("picture"):
        _add_small_pictures(content)
    for attempt in range(1, ATTEMPTS + 1):
        client.log_artifacts(run_id, str(content), item["folder"] or None)
        try:
            _verify(client, run_id, content, item["folder"])
            break
        except NotWholeError:
            if attempt == ATTEMPTS:
                raise
    if item.get("picture"):
        client.set_tag(run_id, "mlflow.loggedImages", "True")


def _verify(client: MlflowClient, run_id: str, content: Path, folder: str) -> None:
    """Compare what arrived: SHA-256 where the store's files are at hand, else the sizes that it lists."""
    base = local_path(client.get_run(run_id).info.artifact_uri or "")
    sizes: dict[str, dict[str, int]] = {}
    for path in sorted(item for item in content.rglob("*") if item.is_file()):
        name = "/".join(filter(None, (folder, path.relative_to(content).as_posix())))
        if base is not None:
            there = base / name
            if not there.is_file() or _digest(there) != _digest(path):
                raise NotWholeError(f"artifact {name} of run {run_id} did not arrive whole")
            continue
        place = name.rpartition("/")[0]
        if place not in sizes:
            listed = client.list_artifacts(run_id, place or None)
            sizes[place] = {entry.path: int(entry.file_size or 0) for entry in listed if not entry.is_dir}
        if sizes[place].get(name) != path.stat().st_size:
            raise NotWholeError(f"artifact {name} of run {run_id} did not arrive whole")


def _add_small_pictures(content: Path) -> None:
    """Put beside each picture the small one that MLflow's pages show (as ``MlflowClient.log_image`` does)."""
    from mlflow.tracking.multimedia import compress_image_size
    from PIL import Image

    for path in content.glob("*.png"):
        with Image.open(path) as picture:
            compress_image_size(picture).save(path.with_name(f"{path.stem}+compressed.webp"))


def _send_singly(client: MlflowClient, run_id: str, metrics: list[Metric], folder: Path) -> None:
    for metric in metrics:
        try:
            client.log_batch(run_id, metrics=[metric], synchronous=True)
        except MlflowException as error:
            if not refused(error):
                raise
            log.warning(
                "the store refused metric %s (kept in %s): %s", metric.key, folder, _first_line(error)
            )


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _first_line(error: BaseException) -> str:
    from hubmap_ml.spec import without_credentials

    return without_credentials((str(error).splitlines() or [type(error).__name__])[0])
