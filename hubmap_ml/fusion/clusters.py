"""Clusters of instances, and how a fused set is put together from them."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hubmap_ml.instances import Masks, PredictionSet


@dataclass(frozen=True)
class Clusters:
    """Groups of rows of a set, in CSR form.

    Attributes:
        offsets: int64 (C + 1,); cluster ``c`` has the rows ``rows[offsets[c]:offsets[c + 1]]``.
        rows: int64, rows of the set that is fused, in the order in which they joined; the first is the seed.
        image_offsets: int64 (M + 1,), first cluster of each image.
    """

    offsets: NDArray[np.int64]
    rows: NDArray[np.int64]
    image_offsets: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def seeds(self) -> NDArray[np.int64]:
        """The first row of each cluster, int64 (C,)."""
        seeds: NDArray[np.int64] = self.rows[self.offsets[:-1]]
        return seeds

    @property
    def of_entries(self) -> NDArray[np.int64]:
        """The cluster of each entry of ``rows``."""
        return np.repeat(np.arange(len(self)), np.diff(self.offsets))

    def total(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the sum over each cluster of one value an entry of ``rows`` (E,) or (E, k), added in order."""
        clusters = self.of_entries
        sums = [np.bincount(clusters, column, minlength=len(self)) for column in np.atleast_2d(values.T)]
        return np.stack(sums, axis=1).reshape(len(self), *values.shape[1:]).astype(np.float64)

    def take(self, chosen: NDArray[np.int64]) -> "Clusters":
        """Return the clusters in another order, images staying together and in order."""
        sizes = np.diff(self.offsets)[chosen]
        offsets = np.concatenate([[0], np.cumsum(sizes)])
        entries = np.repeat(self.offsets[chosen] - offsets[:-1], sizes) + np.arange(offsets[-1])
        return Clusters(offsets, self.rows[entries], self.image_offsets)


def group(cluster: NDArray[np.int64], counts: NDArray[np.int64], order: NDArray[np.int64]) -> Clusters:
    """Group rows by cluster.

    Args:
        cluster: (N,) cluster of each row; -1 for none.
        counts: (M,) clusters an image; clusters are numbered image by image.
        order: rows in the order in which they joined; rows of no cluster may be left out.
    """
    joined = order[cluster[order] >= 0]
    rows = joined[np.argsort(cluster[joined], kind="stable")]
    sizes = np.bincount(cluster[joined], minlength=int(counts.sum()))
    return Clusters(_offsets(sizes), rows, _offsets(counts))


def image_frames(members: PredictionSet, clusters: Clusters) -> NDArray[np.int64]:
    """Return the image of each cluster as pixels x0, y0, x1, y1, int64 (C, 4)."""
    heights, widths = members.heights_of_instances(), members.widths_of_instances()
    corners = np.stack([widths, heights], axis=1)[clusters.seeds]
    return np.concatenate([np.zeros_like(corners), corners], axis=1)


def fused_set(
    members: PredictionSet,
    clusters: Clusters,
    *,
    boxes: NDArray[np.float32],
    scores: NDArray[np.float32],
    masks: Masks | None,
    source: str,
    properties: Mapping[str, str],
) -> PredictionSet:
    """Return the set whose instances are the clusters, in their order.

    Args:
        members: the set whose rows the clusters hold; gives images, categories and, by the seeds, labels.
        boxes, scores, masks: (C, 4), (C,) and C masks, or None.
        source: the name that the one source of the new set gets.
    """
    return PredictionSet(
        images=members.images,
        categories=members.categories,
        offsets=clusters.image_offsets,
        boxes=boxes,
        scores=scores,
        labels=members.labels[clusters.seeds],
        source=np.zeros(len(clusters), np.int16),
        masks=masks,
        sources=(source,),
        cluster_offsets=clusters.offsets,
        member_rows=clusters.rows,
        properties=dict(properties),
    )


def _offsets(sizes: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
