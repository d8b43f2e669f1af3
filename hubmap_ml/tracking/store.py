"""The MLflow store: where it is, that it exists, and artifacts of its runs as local folders."""

import contextlib
import fcntl
import logging
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

import mlflow
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from hubmap_ml.spec import InputError, without_credentials
from hubmap_ml.tracking.fetching import local_copy

log = logging.getLogger(__name__)

WORK_FOLDER = "HUBMAP_ML_WORK"
CACHE = "cache"


def work_folder() -> Path:
    """Return the folder for files in the making: ``HUBMAP_ML_WORK``, or ``.hubmap_ml`` in the current folder."""
    return Path(os.environ.get(WORK_FOLDER) or ".hubmap_ml").resolve()


def open_store() -> MlflowClient:
    """Connect to the store and create its tables where they are missing.

    MLflow's own rule says which: ``MLFLOW_TRACKING_URI``, else ``mlflow.db`` in the current folder.

    Raises:
        InputError: the store cannot be reached or is half-created.
    """
    quiet_mlflow()
    # MLflow's own patience is four minutes a call; what is not sent is kept on disk and sent later.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "30")
    uri = mlflow.get_tracking_uri()
    try:
        _create_whole(uri)
        client = MlflowClient(tracking_uri=uri)
        client.search_experiments(max_results=1)
    except Exception as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        see = "MLFLOW_TRACKING_URI and 'hubmap-ml doctor'"
        if "error code 401" in reason or "error code 403" in reason:
            see = "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"
        raise InputError(
            f"the MLflow store {without_credentials(uri)} cannot be used ({without_credentials(reason)}); see {see}"
        ) from error
    return client


def _create_whole(uri: str) -> None:
    """Create a missing sqlite store beside its place and put it there in one step.

    MLflow writes its tables one after the other, and cannot go on where a killed process left half of them.
    """
    if not uri.startswith("sqlite:///") or "?" in uri:
        return
    place = Path(unquote(uri.removeprefix("sqlite:///")))
    if not place.parent.is_dir():
        return
    _sweep_half_created(place)
    if place.exists():
        return
    with (
        tempfile.TemporaryDirectory(prefix=f".{place.name}.", dir=place.parent) as folder,
        _held(Path(folder)),
    ):
        beside = Path(folder) / place.name
        MlflowClient(tracking_uri=f"sqlite:///{beside}").search_experiments(max_results=1)
        with contextlib.suppress(FileExistsError):  # another process was faster
            os.link(beside, place)


def _sweep_half_created(place: Path) -> None:
    """Remove what processes left that were killed while they created the store."""
    for folder in place.parent.glob(f".{place.name}.*/"):
        try:
            with _held(folder):
                shutil.rmtree(folder)
        except OSError:  # in use, or gone
            continue


@contextlib.contextmanager
def _held(folder: Path) -> Iterator[None]:
    """Hold a folder until its holder lets go or dies.

    Raises:
        OSError: another process or thread holds it.
    """
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(handle)


def quiet_mlflow() -> None:
    """Keep MLflow's and Alembic's notes about tables, and bars for local copies, out of people's terminals.

    And MLflow's lines with a run's address: they hold the password where the store's address does.
    """
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    for name in ("alembic", "mlflow.store.db.utils", "mlflow.tracking"):
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.getLogger("urllib3.connectionpool").setLevel(
        logging.ERROR
    )  # each retry; the outcome is said once


def experiment_id(client: MlflowClient, name: str) -> str:
    """Return the id of the MLflow experiment ``name``, creating it where it is missing."""
    found = client.get_experiment_by_name(name)
    if found is not None:
        if found.lifecycle_stage != "active":
            raise InputError(f"the MLflow experiment {name!r} was deleted; restore it or choose another name")
        return str(found.experiment_id)
    try:
        return str(client.create_experiment(name))
    except MlflowException:
        again = client.get_experiment_by_name(name)  # another process was faster
        if again is None:
            raise
        return str(again.experiment_id)


def local_artifact(client: MlflowClient, run_id: str, path: str) -> Path:
    """Return an artifact of a run as a local file or folder, fetching it into the work folder where it is remote.

    Raises:
        InputError: the run has no such artifact.
    """
    base = client.get_run(run_id).info.artifact_uri or ""
    return local_copy(f"{base.rstrip('/')}/{path}", work_folder() / CACHE)
