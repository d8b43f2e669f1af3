"""Artifacts as local paths: where they lie on this machine's disk, else fetched once into the work folder.

A fetched copy is whole or not there: it is downloaded beside its place, its files and their sizes are compared with
what the store lists, and it is renamed into place. Its file list stays beside it, so that a copy that was damaged later
is fetched again. (The digests of networks' weights are checked by whoever opens them.)
"""

import hashlib
import json
import logging
import os
import shutil
import tempfile
from pathlib import Path
from urllib.parse import unquote, urlsplit

import mlflow
from mlflow.exceptions import MlflowException
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
from mlflow.store.artifact.models_artifact_repo import ModelsArtifactRepository
from mlflow.store.artifact.runs_artifact_repo import RunsArtifactRepository

from hubmap_ml.spec import InputError

log = logging.getLogger(__name__)

TRIES = 2
LISTING = "files.json"


class _IncompleteError(Exception):
    """What came is not what the store lists."""


def local_copy(uri: str, cache: Path) -> Path:
    """Return what ``uri`` names as a local path: itself if it is one, else a verified copy.

    Args:
        uri: a file or folder: a path, ``file:``, ``s3:``, ``mlflow-artifacts:``, ``runs:``, ``models:``.
        cache: folder of fetched copies; each address has its own folder in it.

    Raises:
        InputError: nothing is there, or it cannot be fetched.
    """
    resolved = _resolved(uri)
    local = local_path(resolved)
    if local is not None:
        if not local.exists():
            raise InputError(_missing(local))
        return local
    name = urlsplit(resolved).path.rstrip("/").rpartition("/")[2] or "artifacts"
    entry = cache / hashlib.sha256(resolved.encode()).hexdigest()[:20]
    if not _is_whole(entry, name):
        _fetch(resolved, entry, name)
    return entry / name


def _missing(local: Path) -> str:
    """What to do about an artifact path that is not on this disk."""
    if mlflow.get_tracking_uri().startswith(("sqlite:", "file:", "/")):
        return f"artifact {local} is missing from the store; run the stage that makes it again"
    return (
        f"artifact {local} is missing from the store: it would lie on the disk of the machine that made it; give "
        "the shared store a shared artifact root (docs/team-server.md) and run the stage that makes it again"
    )


def _resolved(uri: str) -> str:
    """The address behind ``runs:`` and ``models:``, which say nothing of where files lie."""
    try:
        if uri.startswith("models:"):
            version, path = ModelsArtifactRepository.split_models_uri(uri)  # type: ignore[no-untyped-call]
            base = str(ModelsArtifactRepository.get_underlying_uri(version))  # type: ignore[no-untyped-call]
            return _resolved(f"{base.rstrip('/')}/{path}" if path else base)
        if uri.startswith("runs:"):
            return str(RunsArtifactRepository.get_underlying_uri(uri))
    except MlflowException as error:
        raise InputError(f"{uri} is not in this store ({error.message}); see MLFLOW_TRACKING_URI") from None
    return uri


def _fetch(uri: str, entry: Path, name: str) -> None:
    """Download into a folder beside ``entry``, verify, and rename."""
    entry.parent.mkdir(parents=True, exist_ok=True)
    for left in reversed(range(TRIES)):
        beside = Path(tempfile.mkdtemp(prefix=".fetching-", dir=entry.parent))
        try:
            expected = _listed(uri)
            log.debug("fetching %s: %d files", uri, len(expected))
            fetched = Path(mlflow.artifacts.download_artifacts(artifact_uri=uri, dst_path=str(beside)))
            if fetched != beside / name:
                raise _IncompleteError(f"it came as {fetched.name}")
            _compare(beside, expected)
            (beside / LISTING).write_text(json.dumps(expected, indent=1))
            _put_in_place(beside, entry, name)
            return
        except InputError:
            raise
        except Exception as error:  # each kind of store has its own
            if not left:
                reason = str(error).splitlines()[0] if str(error) else type(error).__name__
                raise InputError(f"artifact {uri} cannot be fetched whole ({reason}); try again") from error
            log.info("fetching %s again", uri)
        finally:
            shutil.rmtree(beside, ignore_errors=True)


def _listed(uri: str) -> dict[str, int | None]:
    """Return the files under an address as the store lists them, by path from its parent, with their sizes.

    Raises:
        InputError: the store has nothing there.
    """
    parent, _, name = uri.rstrip("/").rpartition("/")
    repository = get_artifact_repository(parent)
    sizes: dict[str, int | None] = {}
    waiting = [item for item in repository.list_artifacts() if item.path == name]
    if not waiting:
        raise InputError(f"artifact {uri} is missing from the store; run the stage that makes it again")
    while waiting:
        item = waiting.pop()
        if item.is_dir:
            waiting += repository.list_artifacts(item.path)
        else:
            sizes[item.path] = item.file_size
    return sizes


def _compare(folder: Path, expected: dict[str, int | None]) -> None:
    for path, size in expected.items():
        file = folder / path
        found = file.stat().st_size if file.is_file() else None
        if found is None or (size is not None and found != size):
            raise _IncompleteError(f"{path} has {found} of {size} bytes")


def _is_whole(entry: Path, name: str) -> bool:
    try:
        _compare(entry, json.loads((entry / LISTING).read_text()))
    except (OSError, ValueError, _IncompleteError):
        return False
    return (entry / name).exists()


def _put_in_place(beside: Path, entry: Path, name: str) -> None:
    """Rename; a damaged copy makes way, and of two processes the first one wins."""
    try:
        beside.rename(entry)
    except OSError:
        if _is_whole(entry, name):
            return
        aside = Path(tempfile.mkdtemp(prefix=".damaged-", dir=entry.parent))
        os.replace(entry, aside)
        shutil.rmtree(aside, ignore_errors=True)
        beside.rename(entry)


def local_path(uri: str) -> Path | None:
    """Return the path that an artifact address means on this machine; None for one elsewhere."""
    parts = urlsplit(uri)
    if parts.scheme == "file":
        return Path(unquote(parts.path))
    return Path(uri) if parts.scheme == "" else None
