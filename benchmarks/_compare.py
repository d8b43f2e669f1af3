"""What the benchmarks share: one thread, two ways in interleaved rounds, rows, growth exponents, and the printing.

A benchmark beside this file, run as ``python benchmarks/NAME.py``, begins with ``from _compare import …``:

    options = options_of(__doc__, rounds=5, tiles=(200, "how many tiles"))   # --json, --rounds, --tiles
    one_thread()
    times, results = interleaved({"ours": ours, "other": other}, rounds=options.rounds)
    rows = [row("paste vs mmdet", times["ours"], times["other"], max_abs_diff=difference(results), n=200)]
    rows.append(growth_row("paste over instances", sizes, medians_ms))
    show(rows, as_json=options.json, packages=("numba", "pycocotools"))

Times are those of the processor (of all threads of this process: both ways compute, neither waits), so that other work
on the machine disturbs them less than a clock on the wall; give ``clock=time.perf_counter`` where something waits.
"""

import argparse
import gc
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

Row = dict[str, Any]


def options_of(description: str | None, *, rounds: int, **more: tuple[Any, str]) -> argparse.Namespace:
    """Parse the command line: ``--json``, ``--rounds``, and an option for each further ``name=(default, help)``."""
    parser = argparse.ArgumentParser(description=(description or "").strip().splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--rounds", type=int, default=rounds, help="interleaved rounds (default %(default)s)")
    for name, (default, said) in more.items():
        flag = "--" + name.replace("_", "-")
        parser.add_argument(flag, type=type(default), default=default, help=f"{said} (default %(default)s)")
    return parser.parse_args()


def one_thread() -> None:
    """Hold BLAS and OpenMP to one thread, and OpenCV and torch if they are loaded. Call after the imports."""
    from threadpoolctl import threadpool_limits

    threadpool_limits(1)
    if "cv2" in sys.modules:
        sys.modules["cv2"].setNumThreads(1)
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)


def interleaved(
    ways: Mapping[str, Callable[[], Any]],
    *,
    rounds: int,
    warm: bool = True,
    repeat: Mapping[str, int] | None = None,
    before: Callable[[int], None] | None = None,
    check: Callable[[dict[str, Any]], None] | None = None,
    clock: Callable[[], float] = time.process_time,
) -> tuple[dict[str, list[float]], dict[str, Any]]:
    """Run each way once a round, in turns; the order changes from round to round.

    Args:
        ways: name and work without arguments.
        rounds: how often.
        warm: one untimed round before (kernels compile, caches fill).
        repeat: how often a way runs back to back in a round (for work shorter than a few clock ticks); the mean counts.
        before: called with the round's number before each, untimed (new random thresholds, say).
        check: called with all results of each round, untimed; raise there if they differ.
        clock: seconds.

    Returns:
        Milliseconds of each way by round, and each way's last result.
    """
    names = list(ways)
    times: dict[str, list[float]] = {name: [] for name in names}
    results: dict[str, Any] = {}
    for number in range(-1 if warm else 0, rounds):
        if before is not None:
            before(number)
        for name in names if number % 2 == 0 else reversed(names):
            often = (repeat or {}).get(name, 1) if number >= 0 else 1
            gc.collect()
            begun = clock()
            for _ in range(often):
                results[name] = ways[name]()
            spent = clock() - begun
            if number >= 0:
                times[name].append(1000 * spent / often)
        if check is not None:
            check(results)
    return times, results


def row(
    work: str,
    ours_ms: float | Sequence[float],
    other_ms: float | Sequence[float],
    *,
    max_abs_diff: float,
    n: int,
    **more: Any,
) -> Row:
    """One comparison; of several times the median counts, and their range stands beside it.

    Args:
        work: what was done, and beside whom.
        ours_ms, other_ms: milliseconds, one figure or one a round.
        max_abs_diff: largest difference between the two results (0 where they are equal).
        n: on how many things.
        more: further columns.
    """
    ours, other = _all(ours_ms), _all(other_ms)
    ours_median, other_median = statistics.median(ours), statistics.median(other)
    out: Row = {
        "work": work,
        "ours_ms": _rounded(ours_median),
        "other_ms": _rounded(other_median),
        "ratio": _rounded(other_median / ours_median),
        "max_abs_diff": float(max_abs_diff),
        "n": n,
    }
    if len(ours) > 1 and len(ours) == len(other):
        ratios = [b / a for a, b in zip(ours, other, strict=True)]
        out["ratio_of_rounds"] = [_rounded(min(ratios)), _rounded(max(ratios))]
    return {**out, **more}


def growth_row(work: str, sizes: Sequence[float], ours_ms: Sequence[float], **more: Any) -> Row:
    """How time grows: the power of size that fits best (1 = in proportion), by least squares of logarithms."""
    exponent = float(np.polyfit(np.log(sizes), np.log(ours_ms), 1)[0])
    return {
        "work": work,
        "growth_exponent": round(exponent, 2),
        "sizes": [_rounded(float(size)) for size in sizes],
        "ours_ms_by_size": [_rounded(ms) for ms in ours_ms],
        **more,
    }


def show(rows: Sequence[Row], *, as_json: bool, packages: Sequence[str] = ()) -> None:
    """Print one JSON object, or a line a row."""
    if as_json:
        print(json.dumps({"machine": machine(packages), "rows": list(rows)}))
        return
    print(", ".join(f"{name} {value}" for name, value in machine(packages).items()))
    for one in rows:
        rest = {name: value for name, value in one.items() if name != "work"}
        print(f"{one['work']}: " + ", ".join(f"{name} {value}" for name, value in rest.items()))


def machine(packages: Sequence[str] = ()) -> dict[str, Any]:
    """Processor, cores, load at this moment, and the versions of python, numpy and the given packages."""
    out: dict[str, Any] = {
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "load": round(os.getloadavg()[0], 1),
        "python": platform.python_version(),
        "numpy": np.__version__,
    }
    for package in packages:
        try:
            out[package] = version(package)
        except PackageNotFoundError:
            out[package] = "missing"
    return out


def _cpu() -> str:
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _all(times: float | Sequence[float]) -> list[float]:
    return [float(times)] if isinstance(times, int | float) else [float(ms) for ms in times]


def _rounded(value: float) -> float:
    """Four significant digits."""
    return float(f"{value:.4g}")
