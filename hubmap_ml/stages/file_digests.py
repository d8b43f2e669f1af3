"""Digests of files and folders. A file is read again only when its size or its times say that it may have changed."""

import hashlib
import json
import os
import tempfile
import time
from pathlib import Path

from hubmap_ml.tracking import work_folder

MEMORY = "file_digests.json"
SETTLED_S = 2.0
"""A file changed less than this before it was read is not remembered: a second change might leave its times alike."""

Known = dict[str, list[object]]


def digest_of_file(path: Path) -> str:
    """Return the SHA-256 of a file's bytes."""
    known = _read()
    before = len(known), known.get(_name(path))
    digest = _digest(path, known)
    if before != (len(known), known.get(_name(path))):
        _write(known)
    return digest


def digest_of_files(folder: Path) -> str:
    """Return a digest of all files below a folder, linked folders too: relative names and bytes."""
    known = _read()
    before = dict(known)
    whole = hashlib.sha256()
    walked = os.walk(folder, followlinks=True)
    for path in sorted(Path(place) / name for place, _, names in walked for name in names):
        whole.update(f"{path.relative_to(folder).as_posix()}\0{_digest(path, known)}\n".encode())
    if known != before:
        _write(known)
    return whole.hexdigest()


def _digest(path: Path, known: Known) -> str:
    facts = path.stat()
    stamp: list[object] = [facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns]
    name = _name(path)
    if name in known and known[name][:3] == stamp:
        return str(known[name][3])
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    known.pop(name, None)
    if max(facts.st_mtime, facts.st_ctime) < time.time() - SETTLED_S:
        known[name] = [*stamp, digest]
    return digest


def _name(path: Path) -> str:
    return str(path.absolute())


def _read() -> Known:
    try:
        known = json.loads((work_folder() / MEMORY).read_text())
    except (OSError, ValueError):
        return {}
    if not isinstance(known, dict):
        return {}
    return {name: entry for name, entry in known.items() if isinstance(entry, list) and len(entry) == 4}


def _write(known: Known) -> None:
    """Replace the memory as a whole; of two processes the later one wins, and the other reads some files again."""
    folder = work_folder()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=folder, suffix=".digests", delete=False) as out:
            json.dump(known, out)
        os.replace(out.name, folder / MEMORY)
    except OSError:
        return  # a full or read-only disk: nothing is remembered
