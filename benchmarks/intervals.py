"""What a bootstrap of AP costs: 1,000 tiles with 35 detections each, drawn again with replacement, in one thread.

Ours scores sixteen draws in one walk through the detections; the usual way is a loop over draws in numpy (counts,
cumulative sums, envelope). Both get the same draws, and every score is compared. The usual way is timed on a part of the
draws (``other_draws``) and its time scaled to all.

    python benchmarks/intervals.py --json
"""

import argparse
import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hubmap_ml.instances import Images
from hubmap_ml.metrics.coco import RECALLS
from hubmap_ml.metrics.curves import area_under
from hubmap_ml.metrics.intervals import Folded, resample
from hubmap_ml.metrics.judged import EVERY_RECALL, RankedDetections
from hubmap_ml.metrics.resampling_units import blocks_in_slides

TILES, KEPT, TRUTHS = 1000, 35, 20
OTHER_DRAWS = 64


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="one JSON object")
    parser.add_argument("--resamples", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    rows = [
        measure("AP@0.6, one set", EVERY_RECALL, 1, 1, options.resamples, options.rounds),
        measure("AP@0.6, two sets paired, five folds", EVERY_RECALL, 2, 5, options.resamples, options.rounds),
        measure("COCO AP at one IoU, one set", RECALLS, 1, 1, options.resamples, options.rounds),
    ]
    machine = {"system": platform.platform(), "python": platform.python_version(), "cores": os.cpu_count()}
    if options.json:
        print(json.dumps({"machine": machine, "rows": rows}))
    else:
        for row in rows:
            print(row)


def measure(
    work: str, levels: NDArray[np.float64], n_sets: int, n_folds: int, resamples: int, rounds: int
) -> dict[str, Any]:
    """Return a row: both ways in turns, medians over the rounds."""
    rng = np.random.default_rng(0)
    images = Images.build(ids=[str(k) for k in range(TILES)], heights=512, widths=512, slides="a")
    judged = [detections(rng, levels) for _ in range(n_sets)]
    sets = Folded.build(images, (np.arange(TILES) % n_folds).astype(np.int16), judged)
    units = blocks_in_slides(images)  # no positions: a thousand single tiles, the dearest case
    resample(sets, units, resamples=16)  # compiled
    ours: list[float] = []
    other: list[float] = []
    difference = 0.0
    for seed in range(rounds):
        seconds, values = timed(lambda seed=seed: resample(sets, units, resamples=resamples, seed=seed))
        ours.append(seconds)
        draws = same_draws(seed)
        seconds, expected = timed(lambda draws=draws: usual(sets, draws, levels))
        other.append(seconds * resamples / OTHER_DRAWS)
        difference = max(difference, float(np.abs(values[:, :OTHER_DRAWS] - expected).max()))
    ours_ms, other_ms = statistics.median(ours) * 1e3, statistics.median(other) * 1e3
    return {
        "work": f"{work}: {resamples:,} resamples of {TILES:,} tiles with {KEPT} detections",
        "ours_ms": ours_ms,
        "other_ms": other_ms,
        "ratio": other_ms / ours_ms,
        "max_abs_diff": difference,
        "n": resamples,
        "other_draws": OTHER_DRAWS,
    }


def detections(rng: np.random.Generator, levels: NDArray[np.float64]) -> RankedDetections:
    """Judged detections of which the better ones are hits more often."""
    count = TILES * KEPT
    images = rng.permutation(np.repeat(np.arange(TILES, dtype=np.int32), KEPT))
    hits = rng.random(count) < np.linspace(0.95, 0.02, count)
    truths = np.maximum(np.bincount(images[hits], minlength=TILES), TRUTHS)
    return RankedDetections((images,), (hits,), truths[None].astype(np.int64), levels)


def same_draws(seed: int) -> NDArray[np.int64]:
    """The first draws of ``resample`` as counts of images: 512 at a time, one stratum."""
    uniforms = np.random.default_rng(seed).random((512, TILES))[:OTHER_DRAWS]
    return np.stack([np.bincount((row * TILES).astype(int), minlength=TILES) for row in uniforms])


def usual(sets: Folded, draws: NDArray[np.int64], levels: NDArray[np.float64]) -> NDArray[np.float64]:
    """A loop over draws, folds and sets."""
    out = np.zeros((len(sets.judged), len(draws)))
    for number, parts in enumerate(sets.judged):
        for k, draw in enumerate(draws):
            total = weight = 0.0
            for part, rows in zip(parts, sets.rows, strict=True):
                assert isinstance(part, RankedDetections)
                times = draw[rows]
                total += float(times.sum()) * one_draw(part, times, levels)
                weight += float(times.sum())
            out[number, k] = total / weight
    return out


def one_draw(part: RankedDetections, times: NDArray[np.int64], levels: NDArray[np.float64]) -> float:
    """Cumulative counts, the envelope, and its area or its mean at the levels."""
    drawn = times[part.images[0]]
    found, tried = np.cumsum(drawn * part.hits[0]), np.cumsum(drawn)
    recall, precision = found / int(part.truths[0] @ times), found / np.maximum(tried, 1)
    if not len(levels):
        return area_under(recall, precision)
    envelope = np.append(np.maximum.accumulate(precision[::-1])[::-1], 0.0)
    return float(envelope[np.searchsorted(recall, levels, side="left")].mean())


def timed(work: Callable[[], NDArray[np.float64]]) -> tuple[float, NDArray[np.float64]]:
    """Seconds and result."""
    begun = time.perf_counter()
    result = work()
    return time.perf_counter() - begun, result


if __name__ == "__main__":
    main()
