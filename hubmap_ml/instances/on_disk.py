"""Writing a file or folder beside its place and renaming it when it is whole."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def written_beside(target: Path) -> Iterator[Path]:
    """A path to write a file to, which takes ``target``'s place when the block ends without an error.

    The old file, if any, stays until then; after an error nothing is left but it.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{target.name}.", suffix=".partial", dir=target.parent)
    os.close(handle)
    partial = Path(name)
    try:
        yield partial
        _readable_as_usual(partial)
        os.replace(partial, target)
    finally:
        partial.unlink(missing_ok=True)


def folder_beside(target: Path) -> Path:
    """A new, empty folder on the file system of ``target``, hidden beside it."""
    target.parent.mkdir(parents=True, exist_ok=True)
    return Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=".partial", dir=target.parent))


def move_into_place(partial: Path, target: Path, names: tuple[str, ...]) -> None:
    """Give a finished folder its name; where it is there already, move the files ``names``, in that order."""
    for name in names:
        _readable_as_usual(partial / name)
    if not target.exists():
        partial.chmod(0o777 & ~_umask())
        os.rename(partial, target)
        return
    for name in names:
        os.replace(partial / name, target / name)
    shutil.rmtree(partial)


def _readable_as_usual(path: Path) -> None:
    """Temporary files are the owner's alone; a finished one follows the umask like any other."""
    path.chmod(0o666 & ~_umask())


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
