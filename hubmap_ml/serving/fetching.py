"""Models and runs' artifacts as local folders, wherever the store keeps them."""

import logging
from pathlib import Path
from urllib.parse import unquote, urlsplit

from hubmap_ml.spec import InputError

log = logging.getLogger(__name__)


def local_folder(uri: str) -> Path | None:
    """Where an address lies on this machine's disk; None if it has to be fetched.

    Args:
        uri: ``models:/…``, ``runs:/…``, ``file:`` or a path.

    Raises:
        InputError: nothing is registered there.
    """
    if urlsplit(uri).scheme in ("models", "runs"):
        uri = _underlying(uri)
    parts = urlsplit(uri)
    if parts.scheme == "file":
        return Path(unquote(parts.path))
    return Path(uri) if parts.scheme == "" else None


def fetch(uri: str, folder: Path) -> Path:
    """Download an address into a folder.

    Raises:
        InputError: it cannot be fetched.
    """
    import mlflow
    from mlflow.exceptions import MlflowException

    log.info("fetching %s", uri)
    try:
        return Path(mlflow.artifacts.download_artifacts(artifact_uri=uri, dst_path=str(folder)))
    except (MlflowException, OSError) as error:
        raise InputError(f"{uri} cannot be fetched ({error})") from None


def as_folder(uri: str, folder: Path) -> Path:
    """Return an address as a local folder, fetched into ``folder`` (made if missing) where it is not one."""
    local = local_folder(uri)
    if local is not None:
        return local
    folder.mkdir(parents=True, exist_ok=True)
    return fetch(uri, folder)


def _underlying(uri: str) -> str:
    from mlflow.exceptions import MlflowException
    from mlflow.store.artifact.models_artifact_repo import ModelsArtifactRepository
    from mlflow.store.artifact.runs_artifact_repo import RunsArtifactRepository

    kind = ModelsArtifactRepository if uri.startswith("models:") else RunsArtifactRepository
    try:
        return str(kind.get_underlying_uri(uri))
    except MlflowException as error:
        raise InputError(f"{uri} is not in this store ({error.message}); see MLFLOW_TRACKING_URI") from None
