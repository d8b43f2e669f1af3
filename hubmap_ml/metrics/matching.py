"""Kernels of the one matching core: which prediction takes which truth, by the rules of COCO, OpenImages and DSB.

All work on a table of overlaps (``overlaps.Overlaps``) and on *rows*, the predictions that are still there after
whatever filtered them, ascending: a study asks again and again for other rows of the same table, an evaluation once
for all. Arrays over rows of the table have length N, arrays over the given rows length D.

COCO's matching at several IoU thresholds and area ranges is done at once: each pair of a threshold and a range is
one bit of a 64-bit word (at most 64 pairs a call), and what was a loop over forty matchings is a few AND and OR.
"""

from typing import Any

import numpy as np

from hubmap_ml.instances.compiled import compiled, count_low_zeros

_ONE = np.uint64(1)
_NEARLY_ONE = 1 - 1e-10  # COCOeval's: a threshold of 1 is reached by what rounding left a little below


@compiled
def in_order(rows: Any, rank: Any, n: Any) -> Any:
    """Positions 0 … D - 1 of rows in the order of ``rank`` (N,), for them different values under ``n``; all int32."""
    words = np.zeros((n >> 6) + 1, dtype=np.uint64)
    position = np.empty(n, dtype=np.int32)
    for k in range(len(rows)):
        place = np.int64(rank[rows[k]])
        words[place >> 6] |= _ONE << np.uint64(place & 63)
        position[place] = k
    out = np.empty(len(rows), dtype=np.int32)
    used = 0
    for w in range(len(words)):
        word = words[w]
        while word != np.uint64(0):
            out[used] = position[64 * w + count_low_zeros(word)]
            used += 1
            word &= word - _ONE
    return out


@compiled
def coco_candidates(starts: Any, truths: Any, values: Any, thresholds: Any) -> Any:
    """A table for ``coco_matches``: each row's truths in the order in which COCO prefers them.

    Args:
        starts, truths, values: as in ``Overlaps``.
        thresholds: float64 (B,), the IoU threshold of each bit.

    Returns:
        truths int32 and reach uint64 (P,): bit ``b`` is set where the overlap reaches threshold ``b``. Better
        overlaps come first, of equal ones the later truth.
    """
    out = truths.copy()
    overlaps = values.copy()
    for row in range(len(starts) - 1):
        for k in range(starts[row] + 1, starts[row + 1]):
            value, truth = overlaps[k], out[k]
            j = k
            while j > starts[row] and (
                overlaps[j - 1] < value or (overlaps[j - 1] == value and out[j - 1] < truth)
            ):
                overlaps[j], out[j] = overlaps[j - 1], out[j - 1]
                j -= 1
            overlaps[j], out[j] = value, truth
    reach = np.zeros(len(out), dtype=np.uint64)
    for k in range(len(out)):
        for b in range(len(thresholds)):
            if overlaps[k] >= min(thresholds[b], _NEARLY_ONE):
                reach[k] |= _ONE << np.uint64(b)
    return out, reach


@compiled
def coco_matches(
    rows: Any,
    images: Any,
    labels: Any,
    starts: Any,
    truths: Any,
    reach: Any,
    ignored: Any,
    is_crowd: Any,
    n_labels: Any,
    most: Any,
) -> Any:
    """COCO's greedy matching (``COCOeval.evaluateImg``), all thresholds and area ranges at once.

    Args:
        rows: (D,), by image, in each by descending score.
        images, labels: (N,), of each row; a label of -1 is nobody's and left out.
        starts, truths, reach: as ``coco_candidates`` gives them; only truths of the row's label.
        ignored: uint64 of each truth, the bits that ignore it (crowd, or area out of range).
        is_crowd: of each truth; a crowd can be taken again and again.
        n_labels: how many labels there are.
        most: detections of an image and label that count, the first ones.

    Returns:
        places int32 (D,): which detection of its image and label it is, -1 where it does not count; hit and gone
        uint64 (D,): the bits in which it takes a truth that counts, and one that is ignored.
    """
    places = np.full(len(rows), -1, dtype=np.int32)
    hit = np.zeros(len(rows), dtype=np.uint64)
    gone = np.zeros(len(rows), dtype=np.uint64)
    taken = np.zeros(len(ignored), dtype=np.uint64)
    counts = np.zeros(max(n_labels, 1), dtype=np.int32)
    image = -1
    for k in range(len(rows)):
        row = rows[k]
        label = labels[row]
        if label < 0:
            continue
        if images[row] != image:
            image = images[row]
            counts[:] = 0
        place = counts[label]
        counts[label] += 1
        if place >= most:
            continue
        places[k] = place
        first, stop = starts[row], starts[row + 1]
        if first == stop:
            continue
        if first + 1 == stop:
            truth = truths[first]
            found = reach[first] & ~taken[truth]
            if not is_crowd[truth]:
                taken[truth] |= found
            hit[k] = found & ~ignored[truth]
            gone[k] = found & ignored[truth]
            continue
        free = ~np.uint64(0)
        for j in range(first, stop):
            truth = truths[j]
            found = free & reach[j] & ~taken[truth] & ~ignored[truth]
            taken[truth] |= found
            hit[k] |= found
            free &= ~found
        for j in range(first, stop):
            truth = truths[j]
            found = free & reach[j] & ~taken[truth] & ignored[truth]
            if not is_crowd[truth]:
                taken[truth] |= found
            gone[k] |= found
            free &= ~found
    return places, hit, gone


@compiled
def coco_curves(
    order: Any,
    rows: Any,
    labels: Any,
    areas: Any,
    places: Any,
    hit: Any,
    gone: Any,
    limits: Any,
    range_of: Any,
    n_truths: Any,
    most: Any,
    recalls: Any,
) -> Any:
    """COCO's precision at given recalls, and its recalls (``COCOeval.accumulate``), for each bit.

    Args:
        order: (D,), positions in ``rows`` by descending score over all images.
        rows, labels, places, hit, gone: of and from ``coco_matches``.
        areas: (N,), pixels of each row.
        limits: float64 (A, 2), lowest and highest area of each range.
        range_of: (B,), the area range of each bit.
        n_truths: int64 (K, A), truths of each label that count in each range.
        most: ascending (M,); detections of an image and label; the last is that of the matching.
        recalls: float64 (R,), ascending.

    Returns:
        precision (K, B, R) with all detections of ``most[-1]``, and recall (K, B, M); -1 without truths.
    """
    n_labels, n_ranges = n_truths.shape
    n_bits, n_most = len(range_of), len(most)
    bits_of = np.zeros(n_ranges, dtype=np.uint64)
    for b in range(n_bits):
        bits_of[range_of[b]] |= _ONE << np.uint64(b)
    starts = np.zeros(n_labels * n_bits + 1, dtype=np.int64)
    for label in range(n_labels):
        for b in range(n_bits):
            c = label * n_bits + b
            starts[c + 1] = starts[c] + n_truths[label, range_of[b]]
    precisions = np.empty(starts[-1], dtype=np.float64)  # after each hit
    inside_so_far = np.zeros((n_labels, n_ranges), dtype=np.int64)
    not_wrong = np.zeros(n_labels * n_bits, dtype=np.int64)  # inside the range, and no false positive
    hits = np.zeros((n_labels * n_bits, n_most), dtype=np.int64)
    epsilon = np.spacing(1.0)
    for position in order:
        place = places[position]
        if place < 0:
            continue
        row = rows[position]
        label, area = labels[row], areas[row]
        inside = np.uint64(0)
        for a in range(n_ranges):
            if limits[a, 0] <= area <= limits[a, 1]:
                inside |= bits_of[a]
                inside_so_far[label, a] += 1
        todo = hit[position] | (gone[position] & inside)
        while todo != np.uint64(0):
            b = count_low_zeros(todo)
            bit = _ONE << np.uint64(b)
            todo ^= bit
            c = label * n_bits + b
            if inside & bit:
                not_wrong[c] += 1
            if hit[position] & bit:
                n_hits = hits[c, n_most - 1] + 1
                wrong = inside_so_far[label, range_of[b]] - not_wrong[c]
                precisions[starts[c] + n_hits - 1] = n_hits / (float(wrong) + float(n_hits) + epsilon)
                for m in range(n_most):
                    if place < most[m]:
                        hits[c, m] += 1
    precision = np.full((n_labels, n_bits, len(recalls)), -1.0)
    recall = np.full((n_labels, n_bits, n_most), -1.0)
    for label in range(n_labels):
        for b in range(n_bits):
            n = n_truths[label, range_of[b]]
            if n == 0:
                continue
            c = label * n_bits + b
            first, n_hits = starts[c], hits[c, n_most - 1]
            for k in range(first + n_hits - 1, first, -1):
                precisions[k - 1] = max(precisions[k - 1], precisions[k])
            for m in range(n_most):
                recall[label, b, m] = hits[c, m] / n
            k = 1
            for r in range(len(recalls)):
                while k <= n_hits and k / n < recalls[r]:
                    k += 1
                precision[label, b, r] = precisions[first + k - 1] if k <= n_hits else 0.0
    return precision, recall


@compiled
def best_truths(starts: Any, truths: Any, values: Any, is_crowd: Any, threshold: Any) -> Any:
    """What OpenImages' rule asks of each row: the truth it belongs to, and whether a crowd holds it.

    Args:
        starts, truths, values: as in ``Overlaps``; only truths of the row's label.
        is_crowd: of each truth.
        threshold: lowest IoU with a truth, and lowest share of a prediction inside a crowd.

    Returns:
        best int32 (N,): the truth with the highest overlap, of equal ones the first, if it reaches the threshold,
        else -1; in_crowd bool (N,).
    """
    n = len(starts) - 1
    best = np.full(n, -1, dtype=np.int32)
    in_crowd = np.zeros(n, dtype=np.bool_)
    for row in range(n):
        highest = 0.0
        for k in range(starts[row], starts[row + 1]):
            if values[k] < threshold:
                continue
            if is_crowd[truths[k]]:
                in_crowd[row] = True
            elif values[k] > highest:
                highest = values[k]
                best[row] = truths[k]
    return best, in_crowd


@compiled
def open_images_hits(order: Any, rows: Any, labels: Any, best: Any, in_crowd: Any, n_truths: Any) -> Any:
    """Which detections are true positives by OpenImages' rule, and which count at all.

    Args:
        order: (D,), positions in ``rows`` by descending score over all images.
        rows: (D,).
        labels, best, in_crowd: (N,), of each row; a label of -1 is nobody's and left out.
        n_truths: of all labels.

    Returns:
        hit, counts: bool (D,), in the order of ``order``.
    """
    taken = np.zeros(n_truths, dtype=np.bool_)
    hit = np.zeros(len(order), dtype=np.bool_)
    counts = np.zeros(len(order), dtype=np.bool_)
    for k in range(len(order)):
        row = rows[order[k]]
        if labels[row] < 0:
            continue
        truth = best[row]
        if truth >= 0 and not taken[truth]:
            taken[truth] = True
            hit[k] = True
        counts[k] = hit[k] or not in_crowd[row]
    return hit, counts


@compiled
def areas_under(order: Any, rows: Any, labels: Any, hit: Any, counts: Any, n_truths: Any) -> Any:
    """Area under the precision envelope over recall, summed at every recall that occurs, for each label.

    Args:
        order, rows, labels: as for ``open_images_hits``; ``hit`` and ``counts`` its result.
        n_truths: int64 (K,), of each label.

    Returns:
        float64 (K,); NaN without truths.
    """
    starts = np.zeros(len(n_truths) + 1, dtype=np.int64)
    for label in range(len(n_truths)):
        starts[label + 1] = starts[label] + n_truths[label]
    precisions = np.empty(starts[-1], dtype=np.float64)  # after each hit
    tried = np.zeros(len(n_truths), dtype=np.int64)
    found = np.zeros(len(n_truths), dtype=np.int64)
    for k in range(len(order)):
        if counts[k]:
            label = labels[rows[order[k]]]
            tried[label] += 1
            if hit[k]:
                precisions[starts[label] + found[label]] = (found[label] + 1) / tried[label]
                found[label] += 1
    out = np.full(len(n_truths), np.nan)
    for label in range(len(n_truths)):
        if n_truths[label] > 0:
            total, highest = 0.0, 0.0
            for k in range(starts[label] + found[label] - 1, starts[label] - 1, -1):
                highest = max(highest, precisions[k])
                total += highest
            out[label] = total / n_truths[label]
    return out


@compiled
def dsb_counts(
    rows: Any,
    images: Any,
    starts: Any,
    truths: Any,
    values: Any,
    truth_offsets: Any,
    is_crowd: Any,
    thresholds: Any,
) -> Any:
    """True positives, false positives and missed truths of each image, as Data Science Bowl 2018 counts them.

    Args:
        rows: (D,) predictions with pixels.
        images: (N,), the image of each row.
        starts, truths, values: as in ``Overlaps``, truths of any label.
        truth_offsets: (M + 1,), each image's truths.
        is_crowd: of each truth; no target.
        thresholds: float64 (T,), at most 64.

    Returns:
        int64 (M, T, 3): truths with exactly one match; predictions with none (and in no crowd) plus truths with
        several; truths with none. A match is an overlap *greater* than the threshold.
    """
    n_images, n_thresholds = len(truth_offsets) - 1, len(thresholds)
    out = np.zeros((n_images, n_thresholds, 3), dtype=np.int64)
    once = np.zeros(len(is_crowd), dtype=np.uint64)
    twice = np.zeros(len(is_crowd), dtype=np.uint64)
    for row in rows:
        any_match = np.uint64(0)
        for k in range(starts[row], starts[row + 1]):
            reached = np.uint64(0)
            for t in range(n_thresholds):
                if values[k] > thresholds[t]:
                    reached |= _ONE << np.uint64(t)
            truth = truths[k]
            any_match |= reached
            twice[truth] |= once[truth] & reached
            once[truth] |= reached
        for t in range(n_thresholds):
            if not (any_match >> np.uint64(t)) & _ONE:
                out[images[row], t, 1] += 1
    for image in range(n_images):
        for truth in range(truth_offsets[image], truth_offsets[image + 1]):
            if is_crowd[truth]:
                continue
            for t in range(n_thresholds):
                if (twice[truth] >> np.uint64(t)) & _ONE:
                    out[image, t, 1] += 1
                elif (once[truth] >> np.uint64(t)) & _ONE:
                    out[image, t, 0] += 1
                else:
                    out[image, t, 2] += 1
    return out
