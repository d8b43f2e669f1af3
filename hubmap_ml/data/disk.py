"""Room on the disk: asked for before writing, and said in one line when it runs out while writing."""

import errno
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from hubmap_ml.spec import InputError

FreeBytes = Callable[[Path], int]
MEBIBYTE = 2**20


def free_bytes(folder: Path) -> int:
    """Bytes that this user may still write on the disk that holds ``folder`` (or will hold it)."""
    existing = folder.resolve()
    while not existing.exists():
        existing = existing.parent
    return shutil.disk_usage(existing).free


def require_free(folder: Path, needed: int, *, what: str, free: FreeBytes = free_bytes) -> None:
    """Stop before writing what will not fit.

    Args:
        needed: estimated bytes.
        what: what is to be written, for the message.
        free: how to ask for free bytes.

    Raises:
        InputError: less than ``needed`` is free.
    """
    available = free(folder)
    if available < needed:
        raise InputError(
            f"no free disk for {what}: {folder} has {available / MEBIBYTE:.1f} MiB left, about "
            f"{needed / MEBIBYTE:.1f} MiB are needed: free some or choose another folder"
        )


@contextmanager
def full_disk_as_input_error(folder: Path, what: str) -> Iterator[None]:
    """Turn "no space left" and "quota exceeded" from within into one ``InputError`` line."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise InputError(
                f"no free disk while writing {what} to {folder}: free some or choose another"
            ) from error
        raise
