"""Opening a registered predictor as data: what our own commands do, where others load the pyfunc.

Nothing of the model is executed, and MLflow's loading code is not involved: its files are fetched if they are
not on this machine's disk, and ``predictor.json`` is opened.
"""

import logging
import shutil
import tempfile
import weakref
from pathlib import Path
from urllib.parse import unquote, urlsplit

from hubmap_ml.predictor import Predictor, open_predictor
from hubmap_ml.predictor.folder import MANIFEST
from hubmap_ml.serving.register import predictor_in
from hubmap_ml.spec import InputError

log = logging.getLogger(__name__)


def load_predictor(uri: str | Path, *, device: str = "cpu") -> Predictor:
    """Open a predictor by its address.

    Args:
        uri: ``models:/NAME@ALIAS``, ``models:/NAME/VERSION``, ``models:/m-ID``, ``runs:/RUN/PATH``, or a local
            folder; a model that holds a predictor, or a predictor folder itself.
        device: as for ``open_predictor``.

    Returns:
        The predictor. What had to be fetched lies in a temporary folder that goes when the predictor goes.

    Raises:
        InputError: nothing is registered there, or it is no predictor.
    """
    local = _local(str(uri))
    if local is not None:
        return open_predictor(_predictor_folder(local), device)
    folder = Path(tempfile.mkdtemp(prefix="hubmap_ml_"))
    try:
        predictor = open_predictor(_predictor_folder(_fetch(str(uri), folder)), device)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    weakref.finalize(predictor, shutil.rmtree, folder, ignore_errors=True)
    return predictor


def _predictor_folder(folder: Path) -> Path:
    return folder if (folder / MANIFEST).is_file() else predictor_in(folder)


def _local(uri: str) -> Path | None:
    """Where an address lies on this machine's disk; None if it has to be fetched."""
    if urlsplit(uri).scheme in ("models", "runs"):
        uri = _underlying(uri)
    parts = urlsplit(uri)
    if parts.scheme == "file":
        return Path(unquote(parts.path))
    return Path(uri) if parts.scheme == "" else None


def _underlying(uri: str) -> str:
    from mlflow.exceptions import MlflowException
    from mlflow.store.artifact.models_artifact_repo import ModelsArtifactRepository
    from mlflow.store.artifact.runs_artifact_repo import RunsArtifactRepository

    kind = ModelsArtifactRepository if uri.startswith("models:") else RunsArtifactRepository
    try:
        return str(kind.get_underlying_uri(uri))
    except MlflowException as error:
        raise InputError(f"{uri} is not in this store ({error.message}); see MLFLOW_TRACKING_URI") from None


def _fetch(uri: str, folder: Path) -> Path:
    import mlflow
    from mlflow.exceptions import MlflowException

    log.info("fetching %s", uri)
    try:
        return Path(mlflow.artifacts.download_artifacts(artifact_uri=uri, dst_path=str(folder)))
    except (MlflowException, OSError) as error:
        raise InputError(f"{uri} cannot be fetched ({error})") from None
