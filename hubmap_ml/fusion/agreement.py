"""How many members agreed on each fused instance."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from hubmap_ml.instances import PredictionSet


def agreement(fused: PredictionSet, members: Sequence[PredictionSet]) -> NDArray[np.int64]:
    """Return how many different members each fused instance is made of, int64 (N,).

    Args:
        fused: with its clusters; instances may have been dropped since the fusion.
        members: the sets that were fused, in that order.

    Raises:
        ValueError: the fused set does not know its clusters.
    """
    if fused.cluster_offsets is None or fused.member_rows is None:
        raise ValueError("the fused set does not say what it is made of")
    stacked = PredictionSet.stack_sources(members, [str(k) for k in range(len(members))])
    cluster = np.repeat(np.arange(len(fused)), np.diff(fused.cluster_offsets))
    pairs = np.stack([cluster, stacked.source[fused.member_rows].astype(np.int64)], axis=1)
    return np.bincount(np.unique(pairs, axis=0)[:, 0], minlength=len(fused)).astype(np.int64)
