"""What a run has to tell the store, on disk until the store has it: points in ``metrics.jsonl``, the rest in an outbox.

``metrics.sent`` says how many bytes of ``metrics.jsonl`` the store holds. An item of ``outbox/`` is a folder with an
``item.json`` and, for files, their ``content``; it appears by a rename and is removed when the store has it. A killed
process loses nothing of either: `hubmap_ml.tracking.delivery.replay` sends them at the next start of any stage.
"""

import fcntl
import json
import math
import os
import shutil
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

METRICS = "metrics.jsonl"
SENT = "metrics.sent"
OUTBOX = "outbox"
LOCK = "spool.lock"
ITEM = "item.json"
CONTENT = "content"

_open_here: set[Path] = set()
"""Spools that this process has open: a lock of the system does not tell a process from itself."""


@dataclass(frozen=True)
class Point:
    """One value of a metric; ``timestamp`` in milliseconds since 1970."""

    key: str
    value: float
    step: int
    timestamp: int


class Spool:
    """The spool of one run, in the run's folder; one process writes to it and sends from it at a time."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._metrics = folder / METRICS
        self._lock: IO[str] | None = None
        self._writing = threading.Lock()
        self.written = self._metrics.stat().st_size if self._metrics.exists() else 0
        self.sent = _number(folder / SENT)
        numbers = [int(path.name) for path in self.items()]
        self._next = max(numbers, default=0) + 1

    def hold(self) -> bool:
        """Take the spool for this process; False where it is held already. A dead process holds nothing."""
        place = self.folder.resolve()
        if place in _open_here:
            return False
        lock = (self.folder / LOCK).open("a")
        try:
            fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # not inherited by forked loaders of data
        except OSError:
            lock.close()
            return False
        self._lock = lock
        _open_here.add(place)
        return True

    def release(self) -> None:
        """Let others have the spool."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None
            _open_here.discard(self.folder.resolve())

    @property
    def pending(self) -> bool:
        """Whether the store lacks anything."""
        return self.written > self.sent or bool(self.items())

    def append(self, values: Mapping[str, float], *, step: int) -> None:
        """Write points to the file; values that are no number are left out."""
        now = int(time.time() * 1000)
        lines = [
            json.dumps({"key": key, "value": float(value), "step": int(step), "timestamp": now}) + "\n"
            for key, value in values.items()
            if not math.isnan(float(value))
        ]
        self._write("".join(lines).encode())

    def copy_history(self, metrics: Path, position: int) -> None:
        """Begin with the first ``position`` bytes of another run's ``metrics.jsonl``."""
        with metrics.open("rb") as file:
            self._write(file.read(position))

    def waiting_points(self, limit: int) -> tuple[list[Point], int]:
        """Return up to ``limit`` points that the store lacks, and the position behind them.

        A last line without its end (the process died writing it) is no point; other damage is passed over.
        """
        points: list[Point] = []
        position = self.sent
        with self._metrics.open("rb") as file:
            file.seek(position)
            for line in file:
                if len(points) == limit or not line.endswith(b"\n"):
                    break
                position += len(line)
                try:
                    data = json.loads(line)
                    points.append(Point(data["key"], data["value"], data["step"], data["timestamp"]))
                except (ValueError, KeyError):
                    continue
        return points, position

    def mark_sent(self, position: int) -> None:
        """Remember that the store holds the points before ``position``."""
        beside = self.folder / f".{SENT}"
        beside.write_text(str(position))
        os.replace(beside, self.folder / SENT)
        self.sent = position

    def drop_half_line(self) -> None:
        """Cut off a last line whose writer died: no more will come."""
        os.truncate(self._metrics, self.sent)
        self.written = self.sent

    def put(self, item: Mapping[str, Any], sources: Sequence[Path] = ()) -> None:
        """Add an item to the outbox, with copies (links where possible) of files and folders."""
        with self._writing:
            outbox = self.folder / OUTBOX
            beside = outbox / f".{self._next}"
            shutil.rmtree(beside, ignore_errors=True)
            beside.mkdir(parents=True)
            for source in sources:
                _copy(source, beside / CONTENT / source.name, linked=source.is_relative_to(self.folder))
            (beside / ITEM).write_text(json.dumps(dict(item)))
            beside.rename(outbox / f"{self._next:06d}")
            self._next += 1

    def items(self) -> list[Path]:
        """Return the items that wait, oldest first."""
        try:
            names = os.listdir(self.folder / OUTBOX)
        except FileNotFoundError:
            return []
        return [self.folder / OUTBOX / name for name in sorted(names) if name.isdigit()]

    def remove(self, item: Path) -> None:
        """Forget an item that the store holds."""
        gone = item.with_name(f".{item.name}.gone")
        item.rename(gone)
        shutil.rmtree(gone, ignore_errors=True)

    def clear_folder(self) -> None:
        """Remove what the store now holds too; the metrics stay."""
        for item in self.folder.iterdir():
            if item.is_dir():
                shutil.rmtree(item, ignore_errors=True)
            elif item.name not in (METRICS, SENT, LOCK):
                item.unlink(missing_ok=True)

    def _write(self, data: bytes) -> None:
        if not data:
            return
        with self._writing, self._metrics.open("ab") as out:
            out.write(data)
            self.written += len(data)


def _copy(source: Path, target: Path, *, linked: bool) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    copy = _link_or_copy if linked else shutil.copy2
    if source.is_dir():
        shutil.copytree(source, target, copy_function=copy)
    else:
        copy(source, target)


def _link_or_copy(source: str | Path, target: str | Path) -> str:
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
    return str(target)


def _number(path: Path) -> int:
    try:
        return int(path.read_text())
    except (FileNotFoundError, ValueError):
        return 0
