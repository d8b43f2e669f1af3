"""The images that pull a score down most, with what is wrong on them."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hubmap_ml.instances import Images
from hubmap_ml.metrics.error_anatomy import ErrorAnatomy


@dataclass(frozen=True)
class WorstImage:
    """An image and its errors at the anatomy's score.

    Attributes:
        id, file_name, slide: of the image.
        pull: the headline without it, less the headline with it.
        truths, found: of them.
        errors: a count for each of ``error_anatomy.KINDS``.
    """

    id: str
    file_name: str
    slide: str
    pull: float
    truths: int
    found: int
    errors: tuple[int, ...]


def worst_images(
    images: Images, pulls: NDArray[np.float64], anatomy: ErrorAnatomy, *, most: int = 50
) -> tuple[WorstImage, ...]:
    """Return the images that cost score, the worst first.

    Args:
        images: M rows.
        pulls: (M,), from ``influence``.
        anatomy: of the same images.
        most: at most so many.
    """
    order = [row for row in np.argsort(-pulls, kind="stable") if pulls[row] > 0][:most]
    return tuple(
        WorstImage(
            images.ids[row],
            images.file_names[row],
            images.slides[row],
            float(pulls[row]),
            int(anatomy.per_image[row, 0]),
            int(anatomy.per_image[row, 1]),
            tuple(int(count) for count in anatomy.per_image[row, 2:]),
        )
        for row in order
    )
