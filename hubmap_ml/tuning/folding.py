"""The folds of a study: which images belong to each."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hubmap_ml.spec import InputError


def fold_rows(folds: ArrayLike, n_images: int) -> tuple[tuple[int, ...], list[NDArray[np.int64]]]:
    """Return the folds' numbers, and the image rows of each; images of no fold (-1) are one fold if all are.

    Raises:
        InputError: not one number an image, or images of no fold beside images of folds.
    """
    of_image = np.asarray(folds, dtype=np.int64)
    if of_image.shape != (n_images,):
        raise InputError(f"{of_image.size} fold numbers for {n_images} images")
    numbers = tuple(int(number) for number in np.unique(of_image))
    if -1 in numbers and len(numbers) > 1:
        raise InputError(
            f"{int((of_image == -1).sum())} of {n_images} images are in no fold; tune on out-of-fold images only"
        )
    return numbers, [np.flatnonzero(of_image == number) for number in numbers]
