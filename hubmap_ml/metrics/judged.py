"""Detections judged once, so that images can be drawn again and again without geometry.

A detection is a hit or none because of its own image alone; drawing images only changes how often each counts. A metric
of which that is true (AP by any rule, means over images) is scored on ten thousand draws in about the time of one.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hubmap_ml.metrics.resampling_kernels import LANES, ranked_values

EVERY_RECALL = np.zeros(0)
"""Levels of an area that is summed at every recall that occurs."""


class Judged(Protocol):
    """A set of predictions for M images, judged by a metric."""

    @property
    def n_images(self) -> int: ...

    def values(self, weights: NDArray[np.int32]) -> NDArray[np.float64]:
        """Score draws of images.

        Args:
            weights: (K, M, LANES), how often each draw holds each image (``in_lanes`` makes it).

        Returns:
            (K, LANES); NaN where a draw holds no truth.
        """
        ...

    def take(self, rows: NDArray[np.int64]) -> "Judged":
        """Return what was judged on some of the images, in ascending order."""
        ...


@dataclass(frozen=True, eq=False)
class RankedDetections:
    """Detections of M images by descending score, one list for each curve whose areas are averaged.

    Attributes:
        images: for each curve int32 (D,), the image of each detection that counts.
        hits: for each curve bool (D,), whether it is a true positive.
        truths: int64 (curves, M), targets of each image.
        levels: ascending recalls at which a curve is read, or ``EVERY_RECALL``.
    """

    images: tuple[NDArray[np.int32], ...]
    hits: tuple[NDArray[np.bool_], ...]
    truths: NDArray[np.int64]
    levels: NDArray[np.float64]

    @property
    def n_images(self) -> int:
        return self.truths.shape[1]

    def values(self, weights: NDArray[np.int32]) -> NDArray[np.float64]:
        """Return the mean area over the curves that have targets in the draw."""
        curves = zip(self.images, self.hits, self.truths, strict=True)
        return _mean_of_known(
            [
                ranked_values(images, hits, np.ascontiguousarray(truths), weights, self.levels)
                for images, hits, truths in curves
            ],
            weights,
        )

    def take(self, rows: NDArray[np.int64]) -> "RankedDetections":
        place = np.full(self.n_images, -1, np.int32)
        place[rows] = np.arange(len(rows), dtype=np.int32)
        kept = [place[images] >= 0 for images in self.images]
        return RankedDetections(
            tuple(place[images][keep] for images, keep in zip(self.images, kept, strict=True)),
            tuple(hits[keep] for hits, keep in zip(self.hits, kept, strict=True)),
            self.truths[:, rows],
            self.levels,
        )


@dataclass(frozen=True, eq=False)
class ImageScores:
    """Scores of each image, averaged over those that have one, and then over C categories (or other kinds).

    Attributes:
        scores: float64 (C, M); NaN for an image that is left out.
        truths: int64 (C, M); in a draw without any a category has no score.
    """

    scores: NDArray[np.float64]
    truths: NDArray[np.int64]

    @property
    def n_images(self) -> int:
        return self.scores.shape[1]

    def values(self, weights: NDArray[np.int32]) -> NDArray[np.float64]:
        """Return the mean over the categories that have truths in the draw of the mean over its images."""
        return _mean_of_known(
            [
                _mean_score(*of_category, weights)
                for of_category in zip(self.scores, self.truths, strict=True)
            ],
            weights,
        )

    def take(self, rows: NDArray[np.int64]) -> "ImageScores":
        return ImageScores(self.scores[:, rows], self.truths[:, rows])


def _mean_score(
    scores: NDArray[np.float64], truths: NDArray[np.int64], weights: NDArray[np.int32]
) -> NDArray[np.float64]:
    counted = ~np.isnan(scores)
    total = np.einsum("m,kml->kl", np.where(counted, scores, 0.0), weights)
    known = np.einsum("m,kml->kl", counted.astype(np.float64), weights)
    has = np.einsum("m,kml->kl", (truths > 0).astype(np.float64), weights) > 0
    return np.divide(total, known, out=np.full(total.shape, np.nan), where=has & (known > 0))


def _mean_of_known(parts: Sequence[NDArray[np.float64]], weights: NDArray[np.int32]) -> NDArray[np.float64]:
    """The mean of what is not NaN among arrays (K, LANES); NaN where all is."""
    total, known = np.zeros((len(weights), LANES)), np.zeros((len(weights), LANES))
    for part in parts:
        has = ~np.isnan(part)
        known += has
        total += np.where(has, part, 0.0)
    return np.divide(total, known, out=np.full(total.shape, np.nan), where=known > 0)


def in_lanes(draws: ArrayLike) -> NDArray[np.int32]:
    """Bring draws (B, M) into the layout of the kernels, (K, M, LANES); draws that are added hold no image."""
    given = np.asarray(draws, np.int32)
    groups = -(-len(given) // LANES)
    padded = np.zeros((groups * LANES, given.shape[1]), np.int32)
    padded[: len(given)] = given
    return np.ascontiguousarray(padded.reshape(groups, LANES, -1).transpose(0, 2, 1))


def value_of(judged: Judged, draw: ArrayLike | None = None) -> float:
    """Score one draw (M,) of images, or by default every image once: the metric itself."""
    once = np.ones(judged.n_images, np.int32) if draw is None else np.asarray(draw, np.int32)
    return float(judged.values(in_lanes(once[None]))[0, 0])
