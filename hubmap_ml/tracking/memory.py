"""Peak resident memory of a stretch of work (Linux: the kernel's high-water mark, reset at its start)."""

import resource
from pathlib import Path


def reset_peak() -> None:
    """Start a new high-water mark where the kernel allows it; else the process's own stays."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return


def peak_mib() -> float:
    """Return the high-water mark of this process's resident memory, in MiB."""
    try:
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return float(line.split()[1]) / 1024
    except OSError:
        pass
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
