"""Which fold holds an image out. So far by one method; grouped and spatial ones join ``METHODS``."""

import logging
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hubmap_ml.data.columns import column
from hubmap_ml.instances import Images
from hubmap_ml.spec import InputError

log = logging.getLogger(__name__)

NO_FOLD = -1


def stratified(labels: Sequence[object] | NDArray[Any], n: int, seed: int) -> NDArray[np.int16]:
    """Folds in which each label is as frequent as in the whole.

    The numbers are those of scikit-learn's ``StratifiedKFold(n, shuffle=True, random_state=seed)``: the fold
    of a sample is the number of the split that tests it, counted from 0. The order of the samples matters.

    Args:
        labels: one a sample.
        n: number of folds, at least 2.

    Returns:
        (len(labels),) int16, each in 0..n-1.

    Raises:
        InputError: fewer than two folds, or fewer samples of every label than folds.
    """
    from sklearn.model_selection import StratifiedKFold

    names = np.array([str(label) for label in labels])
    if n < 2:
        raise InputError(f"folds: n is {n}, and cross-validation needs at least 2")
    counts = np.unique(names, return_counts=True)[1]
    if len(names) < n or counts.max() < n:
        raise InputError(
            f"folds: {len(names)} images of {len(counts)} classes, "
            f"at most {counts.max(initial=0)} of one class, cannot be split into {n} folds: "
            f"lower folds.n or give more images"
        )
    if counts.min() < n:
        log.warning(
            "a class of %d images is split into %d folds: some folds have none of it", counts.min(), n
        )
    folds = np.full(len(names), NO_FOLD, np.int16)
    splitter = StratifiedKFold(n, shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # said above, through logging
        for fold, (_, held_out) in enumerate(splitter.split(names, names)):
            folds[held_out] = fold
    return folds


METHODS: dict[str, Callable[[NDArray[Any], int, int], NDArray[np.int16]]] = {"stratified": stratified}


def assign_folds(
    images: Images,
    *,
    rows: NDArray[np.int64],
    method: str = "stratified",
    n: int = 5,
    by: str = "source_wsi",
    seed: int,
) -> NDArray[np.int16]:
    """Give each of the chosen images a fold.

    Args:
        rows: the images to split, in the order that the method sees them (csv order for the reference's
            folds).
        method: a key of ``METHODS``.
        by: the column of the images table that the method balances, see ``columns.COLUMNS``.

    Returns:
        (M,) int16 for all images; -1 for those outside ``rows``, which are in every fold's training set.

    Raises:
        InputError: unknown method or column, or too few images.
    """
    if method not in METHODS:
        raise InputError(f"folds: method {method!r} is unknown: use one of {', '.join(METHODS)}")
    labels = column(images, by)[rows]
    folds = np.full(len(images), NO_FOLD, np.int16)
    folds[rows] = METHODS[method](labels, n, seed)
    return folds
