"""Average precision of many draws of images at once: the inner loops of the bootstrap.

Draws are kept sixteen side by side ("lanes"): one walk through the detections by descending score counts for all of
them, and what a lane does the processor does for several in one instruction. Weights have the layout ``(K, M, LANES)``:
how often each of ``K * LANES`` draws holds each of ``M`` images.
"""

from typing import Any

import numpy as np

from hubmap_ml.instances.compiled import compiled

LANES = 16


@compiled
def draw_units(uniforms: Any, first: Any, sizes: Any, unit_of_image: Any) -> Any:
    """Weights of images from uniform numbers: unit ``u`` of a draw is replaced by one of its stratum's units.

    Args:
        uniforms: float64 (K * LANES, U) in [0, 1).
        first, sizes: int64 (U,), where the stratum of each unit begins, and how many units it has.
        unit_of_image: int64 (M,).

    Returns:
        int32 (K, M, LANES).
    """
    n_groups, n_units, n_images = len(uniforms) // LANES, uniforms.shape[1], len(unit_of_image)
    out = np.empty((n_groups, n_images, LANES), np.int32)
    counts = np.empty((n_units, LANES), np.int32)
    for k in range(n_groups):
        counts[:] = 0
        for lane in range(LANES):
            for u in range(n_units):
                counts[first[u] + np.int64(uniforms[k * LANES + lane, u] * sizes[u]), lane] += 1
        for m in range(n_images):
            unit = unit_of_image[m]
            for lane in range(LANES):
                out[k, m, lane] = counts[unit, lane]
    return out


@compiled
def ranked_values(images: Any, hits: Any, truths: Any, weights: Any, levels: Any) -> Any:
    """Area under the precision envelope of each draw.

    Args:
        images: int32 (D,), the image of each detection, by descending score.
        hits: bool (D,).
        truths: int64 (M,), targets of each image.
        weights: int32 (K, M, LANES).
        levels: float64, ascending recalls at which the envelope is read and averaged (COCO's 101), or none: summed at
            every recall that occurs.

    Returns:
        float64 (K, LANES); NaN for a draw without targets.
    """
    n_hits = 0
    for d in range(len(hits)):
        n_hits += hits[d]
    at = np.empty(n_hits, np.int32)
    precision = np.empty((n_hits, LANES), np.float64)
    found_until = np.empty((n_hits if len(levels) else 0, LANES), np.int32)
    out = np.empty((len(weights), LANES), np.float64)
    tried, found = np.empty(LANES, np.int32), np.empty(LANES, np.int32)
    targets, envelope, area = np.empty(LANES, np.int64), np.empty(LANES), np.empty(LANES)
    reached, needed = np.empty(LANES, np.int64), np.empty(LANES, np.int32)
    for k in range(len(weights)):
        weight = weights[k]
        tried[:] = 0
        found[:] = 0
        targets[:] = 0
        envelope[:] = 0.0
        area[:] = 0.0
        for m in range(len(truths)):
            for lane in range(LANES):
                targets[lane] += truths[m] * weight[m, lane]
        h = 0
        for d in range(len(images)):
            row = images[d]
            if hits[d]:
                at[h] = row
                for lane in range(LANES):
                    tried[lane] += weight[row, lane]
                    found[lane] += weight[row, lane]
                    precision[h, lane] = np.float64(found[lane]) / np.float64(max(tried[lane], np.int32(1)))
                if len(levels):
                    for lane in range(LANES):
                        found_until[h, lane] = found[lane]
                h += 1
            else:
                for lane in range(LANES):
                    tried[lane] += weight[row, lane]
        if len(levels):
            for lane in range(LANES):
                level = 0
                while level < len(levels) and found[lane] >= _hits_for(levels, level, targets[lane]):
                    level += 1
                reached[lane], needed[lane] = level, _hits_for(levels, level - 1, targets[lane])
        for h in range(n_hits - 1, -1, -1):
            row = at[h]
            for lane in range(LANES):
                value = precision[h, lane]
                envelope[lane] = value if value > envelope[lane] else envelope[lane]
            if len(levels):
                for lane in range(LANES):
                    before = found_until[h, lane] - weight[row, lane]
                    while before < needed[lane]:  # the levels that this hit reached first
                        area[lane] += envelope[lane]
                        reached[lane] -= 1
                        needed[lane] = _hits_for(levels, reached[lane] - 1, targets[lane])
            else:
                for lane in range(LANES):
                    area[lane] += envelope[lane] * weight[row, lane]
        for lane in range(LANES):
            whole = np.int64(len(levels)) if len(levels) else targets[lane]
            out[k, lane] = area[lane] / whole if targets[lane] > 0 else np.nan
    return out


@compiled
def _hits_for(levels: Any, level: Any, targets: Any) -> Any:
    """The fewest hits among ``targets`` that reach a level of recall, at least one; 0 for level -1."""
    if level < 0:
        return np.int32(0)
    hits = np.int64(levels[level] * targets)
    while hits > 0 and (hits - 1) / np.float64(max(targets, 1)) >= levels[level]:
        hits -= 1
    while hits / np.float64(max(targets, 1)) < levels[level]:
        hits += 1
    return np.int32(hits if hits > 1 else 1)
