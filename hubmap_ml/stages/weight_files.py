"""The published weights that an experiment names, as files on this disk: fetched once, compared with their SHA-256,
kept as safetensors.

They lie in the work folder under ``weights/SHA256/``; a file put there by hand serves as well as a fetched one.
"""

import hashlib
import logging
import os
import tempfile
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO
from urllib.parse import unquote, urlsplit

from hubmap_ml.spec import InputError, Weights, without_credentials
from hubmap_ml.stages.file_digests import digest_of_file
from hubmap_ml.tracking import local_copy, work_folder

log = logging.getLogger(__name__)

FOLDER = "weights"
TIMEOUT_S = 30.0
CHUNK = 1 << 20
SUFFIXES = (".safetensors", ".pth", ".pt", ".bin")


def digest(weights: Weights, folder: Path) -> str:
    """Return the SHA-256 of the file: as the experiment says it, else of its bytes, fetched if need be.

    Args:
        weights: as the experiment names them.
        folder: the experiment's, where relative paths start.
    """
    return weights.sha256 or digest_of_file(local_file(weights, folder))


def as_safetensors(weights: Weights, folder: Path, *, digest: str) -> Path:
    """Return the tensors of the file as safetensors, converted once. Imports torch.

    Raises:
        InputError: as `local_file`, or a checkpoint that cannot be read or holds more than tensors and plain values.
    """
    from hubmap_ml.models import keep_as_safetensors

    kept = _home(digest) / ("averaged.safetensors" if weights.ema else "plain.safetensors")
    said = kept.with_suffix(".sha256")
    if not (kept.is_file() and said.is_file() and said.read_text() == digest_of_file(kept)):
        keep_as_safetensors(local_file(weights, folder), kept, ema=weights.ema)
        said.write_text(digest_of_file(kept))
    return kept


def local_file(weights: Weights, folder: Path) -> Path:
    """Return the file itself, as it was published.

    Raises:
        InputError: not there, not reachable (with the place to put it), or not the file of that SHA-256.
    """
    if weights.scheme == "":
        return _checked(_given(weights, folder), weights)
    if weights.scheme in ("runs", "models"):
        return _checked(_only_file(local_copy(weights.source, work_folder() / "cache"), weights), weights)
    assert weights.sha256 is not None  # the experiment's own rule
    place = _home(weights.sha256) / (unquote(urlsplit(weights.source).path).rpartition("/")[2] or "weights")
    if not place.is_file():
        _fetch(weights, place, _from_s3 if weights.scheme == "s3" else _from_web)
    return _checked(place, weights)


def _home(sha256: str) -> Path:
    return work_folder() / FOLDER / sha256


def _given(weights: Weights, folder: Path) -> Path:
    path = folder / Path(weights.source).expanduser()
    if path.is_file():
        return path
    if weights.sha256 is not None:  # a record from elsewhere: the same bytes may lie here
        here = _home(weights.sha256) / path.name
        if here.is_file():
            return here
    raise InputError(f"{path}: no such weights file; put it there, or name another place under 'weights'")


def _only_file(path: Path, weights: Weights) -> Path:
    """The weights in what an address of the store names: the file, or the only one of its kind in the folder."""
    if path.is_file():
        return path
    found = sorted(file for file in path.rglob("*") if file.suffix in SUFFIXES)
    if len(found) != 1:
        names = ", ".join(str(file.relative_to(path)) for file in found[:5]) or "none"
        raise InputError(
            f"{weights.source}: a folder with {len(found)} weights files ({names}); name the file"
        )
    return found[0]


def _checked(path: Path, weights: Weights) -> Path:
    found = digest_of_file(path)
    if weights.sha256 is not None and found != weights.sha256:
        raise InputError(
            f"{path}: SHA-256 {found[:12]}… is not the {weights.sha256[:12]}… that the experiment names for "
            f"{without_credentials(weights.source)}: remove the file, or correct 'sha256'"
        )
    return path


def _fetch(weights: Weights, place: Path, write: Callable[[str, BinaryIO], None]) -> None:
    """Write the file beside its place, compare it, and rename."""
    place.parent.mkdir(parents=True, exist_ok=True)
    shown = without_credentials(weights.source)
    log.info("fetching %s", shown)
    handle, name = tempfile.mkstemp(prefix=".fetching-", dir=place.parent)
    beside = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            write(weights.source, file)
        with beside.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if found != weights.sha256:
            raise InputError(
                f"{shown}: came with SHA-256 {found}, the experiment names {weights.sha256}: correct 'sha256' if the "
                "file is the one you mean"
            )
        os.replace(beside, place)
    except _UnreachableError as error:
        raise InputError(f"{shown} cannot be reached ({error}): put the file at {place.absolute()}") from None
    finally:
        beside.unlink(missing_ok=True)


class _UnreachableError(Exception):
    """The other side does not answer, or says no."""


def _from_web(address: str, file: BinaryIO) -> None:
    try:
        with urllib.request.urlopen(address, timeout=TIMEOUT_S) as answer:
            while chunk := answer.read(CHUNK):
                file.write(chunk)
    except urllib.error.HTTPError as error:
        raise _UnreachableError(f"HTTP {error.code}") from None
    except (OSError, ValueError) as error:  # refused, timed out, broken off, no address
        raise _UnreachableError(getattr(error, "reason", None) or error) from None


def _from_s3(address: str, file: BinaryIO) -> None:
    import boto3
    from botocore.exceptions import BotoCoreError, ClientError

    parts = urlsplit(address)
    # The same server as for artifacts, where one is named.
    client = boto3.client("s3", endpoint_url=os.environ.get("MLFLOW_S3_ENDPOINT_URL") or None)
    try:
        client.download_fileobj(parts.netloc, unquote(parts.path).lstrip("/"), file)
    except (BotoCoreError, ClientError, OSError) as error:
        raise _UnreachableError(str(error)) from None
