"""Signs of life of runs: who works on a run, and whether that process still lives.

A live run carries the tag ``hubmap.heartbeat`` (host, machine, boot, process, time) from its creation, refreshed by the
recorder's thread. A tag, not a file: it is where a store that several hosts share can see it. A process of this machine
that is gone is known at once; a process elsewhere counts as gone when its heartbeat stopped for minutes.
"""

import dataclasses
import functools
import json
import os
import platform
import time
from pathlib import Path

HEARTBEAT = "hubmap.heartbeat"
BEAT_EVERY_S = 20.0
GONE_ELSEWHERE_S = 300.0
"""Fifteen missed beats: a store that was away for a while, or clocks that differ a little, end nobody's run."""


@dataclasses.dataclass(frozen=True)
class Heartbeat:
    """Who works on a run.

    Attributes:
        host: name of the host.
        machine: its machine id, where the system has one: two hosts may share a name.
        boot: id of the kernel's start, and of the process namespace (containers of one machine share the former).
        pid, started: the process, and its start in ticks since the kernel's: numbers of processes come again.
        time: seconds since 1970 of the last beat.
    """

    host: str
    machine: str
    boot: str
    pid: int
    started: int
    time: float

    def to_tag(self) -> str:
        """Return the tag's value."""
        return json.dumps(dataclasses.asdict(self))

    @classmethod
    def from_tag(cls, text: str | None) -> "Heartbeat | None":
        """Read a tag; None where there is none that can be read."""
        try:
            return cls(**json.loads(text or ""))
        except (ValueError, TypeError):
            return None


def own_heartbeat() -> Heartbeat:
    """Return this process's sign of life, now."""
    pid = os.getpid()
    return Heartbeat(platform.node(), _machine(), _boot(), pid, _started(pid) or 0, time.time())


def is_gone(beat: Heartbeat, *, here: Heartbeat | None = None) -> bool:
    """Whether the process behind a heartbeat is gone.

    Args:
        beat: of a run.
        here: this process's own, given by tests that stand for another host.
    """
    here = here or own_heartbeat()
    if (beat.host, beat.machine) != (here.host, here.machine):
        return here.time - beat.time > GONE_ELSEWHERE_S
    kernel, _, namespace = beat.boot.partition("/")
    kernel_here, _, namespace_here = here.boot.partition("/")
    if kernel != kernel_here:
        return True  # restarted since
    if (
        namespace != namespace_here
    ):  # another container of this machine: its processes cannot be seen from here
        return here.time - beat.time > GONE_ELSEWHERE_S
    return _started(beat.pid) != beat.started


def describe(beat: Heartbeat) -> str:
    """Say who it is, for messages."""
    return f"process {beat.pid} on {beat.host}"


def _started(pid: int) -> int | None:
    """Return when a process started, in the kernel's ticks; None where it is gone or a zombie."""
    try:
        words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if words[0] in "ZX" else int(words[19])


@functools.cache
def _machine() -> str:
    try:
        return Path("/etc/machine-id").read_text().strip()[:12]
    except OSError:
        return ""


@functools.cache
def _boot() -> str:
    try:
        kernel = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{kernel}/{os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return ""
