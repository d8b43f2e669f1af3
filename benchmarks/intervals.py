"""What a bootstrap of AP costs: 1,000 tiles with 35 detections each, drawn again with replacement, in one thread.

Ours scores sixteen draws in one walk through the detections; the usual way is a loop over draws in numpy (counts,
cumulative sums, envelope). Both get the same draws, and their scores are compared. The usual way does only some of the
draws (``other_draws``), and its time is scaled to all.

    python benchmarks/intervals.py --json
"""

import numpy as np
from _compare import Row, interleaved, one_thread, options_of, row, show
from numpy.typing import NDArray

from hubmap_ml.instances import Images
from hubmap_ml.metrics import area_under
from hubmap_ml.metrics.coco import RECALLS
from hubmap_ml.metrics.intervals import Folded, resample
from hubmap_ml.metrics.judged import EVERY_RECALL, RankedDetections
from hubmap_ml.metrics.resampling_units import blocks_in_slides

KEPT, TRUTHS = 35, 20
OTHER_DRAWS = 64


def main() -> None:
    """Measure and print."""
    options = options_of(
        __doc__, rounds=5, tiles=(1000, "how many tiles"), resamples=(10_000, "how many draws")
    )
    one_thread()
    rows = [
        measure(work, levels, n_sets, n_folds, options.tiles, options.resamples, options.rounds)
        for work, levels, n_sets, n_folds in (
            ("ap60_one_set", EVERY_RECALL, 1, 1),
            ("ap60_two_sets_paired_five_folds", EVERY_RECALL, 2, 5),
            ("coco_ap_at_one_iou", RECALLS, 1, 1),
        )
    ]
    show(rows, as_json=options.json, packages=("numba",))


def measure(
    work: str,
    levels: NDArray[np.float64],
    n_sets: int,
    n_folds: int,
    tiles: int,
    resamples: int,
    rounds: int,
) -> Row:
    """Time both ways in turns."""
    rng = np.random.default_rng(0)
    images = Images.build(ids=[str(k) for k in range(tiles)], heights=512, widths=512, slides="a")
    judged = [detections(rng, tiles, levels) for _ in range(n_sets)]
    sets = Folded.build(images, (np.arange(tiles) % n_folds).astype(np.int16), judged)
    units = blocks_in_slides(images)  # without positions each tile is drawn for itself: the dearest case
    draws = same_draws(tiles)
    differences: list[float] = []
    times, _ = interleaved(
        {
            "ours": lambda: resample(sets, units, resamples=resamples),
            "other": lambda: usual(sets, draws, levels),
        },
        rounds=rounds,
        check=lambda found: differences.append(
            float(np.abs(found["ours"][:, :OTHER_DRAWS] - found["other"]).max())
        ),
    )
    scaled = [spent * resamples / OTHER_DRAWS for spent in times["other"]]
    return row(
        work, times["ours"], scaled, max_abs_diff=max(differences), n=resamples, tiles=tiles, kept=KEPT,
        other_draws=OTHER_DRAWS,
    )  # fmt: skip


def detections(rng: np.random.Generator, tiles: int, levels: NDArray[np.float64]) -> RankedDetections:
    """Judged detections of which the better ones are hits more often."""
    count = tiles * KEPT
    images = rng.permutation(np.repeat(np.arange(tiles, dtype=np.int32), KEPT))
    hits = rng.random(count) < np.linspace(0.95, 0.02, count)
    truths = np.maximum(np.bincount(images[hits], minlength=tiles), TRUTHS)
    return RankedDetections((images,), (hits,), truths[None].astype(np.int64), levels)


def same_draws(tiles: int) -> NDArray[np.int64]:
    """The first draws of ``resample`` with the seed 0, as counts of images."""
    uniforms = np.random.default_rng(0).random((OTHER_DRAWS, tiles))
    return np.stack([np.bincount((numbers * tiles).astype(int), minlength=tiles) for numbers in uniforms])


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


if __name__ == "__main__":
    main()
