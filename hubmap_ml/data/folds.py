"""Which fold holds an image out: by one of ``METHODS``; images that are always trained on are in no fold."""

import logging
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hubmap_ml.data.blocks import spatial_blocks
from hubmap_ml.data.columns import column
from hubmap_ml.data.pools import annotation_columns, select_pool
from hubmap_ml.instances import Annotations, Images
from hubmap_ml.spec import InputError

log = logging.getLogger(__name__)

NO_FOLD = -1
METHODS = ("stratified", "grouped", "stratified_grouped", "spatial_blocks")


def stratified(labels: Sequence[object] | NDArray[Any], n: int, seed: int | None) -> NDArray[np.int16]:
    """Folds in which each label is as frequent as in the whole.

    The numbers are those of scikit-learn's ``StratifiedKFold(n, shuffle=True, random_state=seed)``: the fold
    of a sample is the number of the split that tests it, counted from 0. The order of the samples matters.

    Args:
        labels: one a sample.
        n: number of folds, at least 2.
        seed: of the shuffling; None does not shuffle.

    Returns:
        (len(labels),) int16, each in 0..n-1.

    Raises:
        InputError: fewer than two folds, or fewer samples of every label than folds.
    """
    from sklearn.model_selection import StratifiedKFold

    names = np.array([str(label) for label in labels])
    counts = _label_counts(names, n)
    if counts.min() < n:
        log.warning(
            "a class of %d images is split into %d folds: some folds have none of it", counts.min(), n
        )
    splitter = StratifiedKFold(n, shuffle=seed is not None, random_state=seed)
    return _numbered(splitter, names, None)


def grouped(groups: Sequence[object] | NDArray[Any], n: int, seed: int | None) -> NDArray[np.int16]:
    """Folds that keep each group whole.

    With a seed the numbers are those of scikit-learn's ``GroupKFold(n, shuffle=True, random_state=seed)``, which gives
    each fold equally many groups; without one those of ``GroupKFold(n)``, which gives it about equally many samples
    (the largest group first, into the smallest fold).

    Args:
        groups: one a sample; "" is no group.
        n: number of folds, at least 2.

    Returns:
        (len(groups),) int16, each in 0..n-1.

    Raises:
        InputError: fewer than two folds, fewer groups than folds, or a sample without a group.
    """
    from sklearn.model_selection import GroupKFold

    names = np.array([str(group) for group in groups])
    _require_groups(names, n)
    return _numbered(GroupKFold(n, shuffle=seed is not None, random_state=seed), names, names)


def stratified_grouped(
    labels: Sequence[object] | NDArray[Any],
    groups: Sequence[object] | NDArray[Any],
    n: int,
    seed: int | None,
) -> NDArray[np.int16]:
    """Folds that keep each group whole, with each label as frequent as that allows.

    The numbers are those of scikit-learn's ``StratifiedGroupKFold(n, shuffle=True, random_state=seed)``.

    Args:
        labels: one a sample.
        groups: one a sample; "" is no group.
        n: number of folds, at least 2.
        seed: of the shuffling; None does not shuffle.

    Returns:
        (len(labels),) int16, each in 0..n-1.

    Raises:
        InputError: as ``stratified`` and ``grouped``, or groups so unequal that a fold stays empty.
    """
    from sklearn.model_selection import StratifiedGroupKFold

    names = np.array([str(label) for label in labels])
    together = np.array([str(group) for group in groups])
    _require_groups(together, n)
    _label_counts(names, n)
    folds = _numbered(StratifiedGroupKFold(n, shuffle=seed is not None, random_state=seed), names, together)
    empty = np.flatnonzero(np.bincount(folds, minlength=n) == 0)
    if len(empty):
        raise InputError(
            f"folds: {len(set(together))} groups leave fold {empty[0]} of {n} empty when labels are balanced: "
            f"lower folds.n, change folds.seed or use the method 'grouped'"
        )
    return folds


def assign_folds(
    images: Images,
    *,
    rows: NDArray[np.int64],
    method: str = "stratified",
    n: int = 5,
    by: str = "source_wsi",
    groups: str = "group",
    seed: int | None,
    block: int | None = None,
    always_train: Mapping[str, Any] | None = None,
    annotations: Annotations | None = None,
) -> NDArray[np.int16]:
    """Give each of the chosen images a fold.

    Args:
        rows: the images to split, in the order that the method sees them (csv order for the reference's
            folds).
        method: one of ``METHODS``.
        by: a column of the images table, see ``columns.COLUMNS``: the classes that ``stratified`` and
            ``stratified_grouped`` balance, what ``grouped`` keeps together, the slide that ``spatial_blocks`` cuts.
            ``category`` is the most frequent category of an image.
        groups: the column that ``stratified_grouped`` keeps together.
        block: of ``spatial_blocks``, pixels.
        always_train: criteria as of a pool; the images of ``rows`` that meet them are in no fold.
        annotations: of some or all of the images, for ``category`` and for the criteria.

    Returns:
        (M,) int16 for all images; -1 for those outside ``rows`` and those always trained on, which are in every
        fold's training set.

    Raises:
        InputError: unknown method or column, criteria that no image or every image meets, or what the method refuses.
    """
    if method not in METHODS:
        raise InputError(f"folds: method {method!r} is unknown: use one of {', '.join(METHODS)}")
    if n < 2:
        raise InputError(f"folds: n is {n}, and cross-validation needs at least 2")
    if always_train is not None:
        rows = _without(images, rows, always_train, annotations)
    extra = annotation_columns(images, annotations)
    labels = column(images, by, extra=extra)[rows]
    folds = np.full(len(images), NO_FOLD, np.int16)
    if method == "stratified":
        folds[rows] = stratified(labels, n, seed)
    elif method == "grouped":
        folds[rows] = grouped(labels, n, seed)
    elif method == "stratified_grouped":
        together = column(images, groups, extra=extra)[rows]
        folds[rows] = stratified_grouped(labels, together, n, seed)
    else:
        folds[rows] = spatial_blocks(images.take(rows), labels, n, seed, block=block)
    return folds


def _without(
    images: Images, rows: NDArray[np.int64], criteria: Mapping[str, Any], annotations: Annotations | None
) -> NDArray[np.int64]:
    try:
        always = select_pool(images, criteria, annotations=annotations)
    except InputError as error:
        raise InputError(f"folds.always_train: {error}") from None
    kept = rows[~np.isin(rows, always)]
    if len(kept) == len(rows) or not len(kept):
        which = "none" if len(kept) else "all"
        raise InputError(
            f"folds.always_train: {dict(criteria)} is met by {which} of the {len(rows)} images that are split: "
            f"correct it or leave it out"
        )
    return kept


def _label_counts(names: NDArray[Any], n: int) -> NDArray[np.int64]:
    if n < 2:
        raise InputError(f"folds: n is {n}, and cross-validation needs at least 2")
    counts = np.unique(names, return_counts=True)[1]
    if len(names) < n or counts.max() < n:
        raise InputError(
            f"folds: {len(names)} images of {len(counts)} classes, "
            f"at most {counts.max(initial=0)} of one class, cannot be split into {n} folds: "
            f"lower folds.n or give more images"
        )
    return np.asarray(counts, np.int64)


def _require_groups(names: NDArray[Any], n: int) -> None:
    if n < 2:
        raise InputError(f"folds: n is {n}, and cross-validation needs at least 2")
    nameless = int(np.sum(names == ""))
    if nameless:
        raise InputError(
            f"folds: {nameless} of {len(names)} images have no group: name a column that all have"
        )
    there = sorted(set(names.tolist()))
    if len(there) < n:
        shown = ", ".join(there[:8]) or "none"
        raise InputError(
            f"folds: {len(there)} groups ({shown}) are too few for {n} folds: lower folds.n or group by a finer column"
        )


def _numbered(splitter: Any, labels: NDArray[Any], groups: NDArray[Any] | None) -> NDArray[np.int16]:
    """The number of the split that tests each sample."""
    folds = np.full(len(labels), NO_FOLD, np.int16)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of rare classes
        for fold, (_, held_out) in enumerate(splitter.split(labels, labels, groups)):
            folds[held_out] = fold
    return folds
