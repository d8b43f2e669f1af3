"""Stains a little stronger or weaker, as laboratories and scanners make them.

Tellez et al., Medical Image Analysis 2019 (arXiv:1902.06543), "HED": light that goes through a slide is dimmed by each
stain's amount (Beer and Lambert), and the amounts are changed, not the colours. The stains' colours are Ruifrok and
Johnston's (2001), those of ``skimage.color.rgb_from_hed``.
"""

from typing import Any

import cv2
import numpy as np
from mmdet.datasets.builder import PIPELINES
from numpy.typing import NDArray

from hubmap_ml.models.augmentations.drawing import Drawing

# Optical density in red, green and blue of one unit of hematoxylin, eosin and DAB.
STAINS = np.array([[0.65, 0.70, 0.29], [0.07, 0.99, 0.11], [0.27, 0.57, 0.78]])
# Density of each grey value; black lets through what the darkest grey does.
_DENSITY = -np.log10(np.maximum(np.arange(256), 1) / 255).astype(np.float32)


def restained(
    image: NDArray[np.uint8], factors: NDArray[np.float64], added: NDArray[np.float64]
) -> NDArray[np.uint8]:
    """Return an image with each stain's amount c changed to factor * c + added.

    Args:
        image: (H, W, 3) uint8, RGB.
        factors, added: (3,) each, by stain; amounts are optical densities to base 10.
    """
    # c = d S^-1, and back: d' = (c * factors + added) S. Both are linear in d: one product of matrices.
    change = np.linalg.inv(STAINS) @ np.diag(factors) @ STAINS
    density = cv2.transform(
        _DENSITY[image], np.hstack([change.T, (added @ STAINS)[:, None]]).astype(np.float32)
    )
    return np.clip(np.rint(255 * np.exp(-np.log(10) * density)), 0, 255).astype(np.uint8)


@PIPELINES.register_module()
class StainJitter(Drawing):
    """Change the amount of each stain by a random factor and a random addition.

    Args:
        sigma: factors are drawn from 1 - sigma to 1 + sigma and additions from -sigma to sigma, each as likely as the
            others; .05 is the authors' light, .2 their strong version.
        prob: how likely it is that anything is done.
    """

    def __init__(self, sigma: float = 0.05, prob: float = 1.0) -> None:
        super().__init__(prob)
        if isinstance(sigma, bool) or not isinstance(sigma, int | float) or not 0 <= sigma < 1:
            raise ValueError(f"sigma must be from 0 to under 1, not {sigma!r}")
        self._sigma = sigma

    def __call__(self, results: dict[str, Any]) -> dict[str, Any]:
        """Change the pixels; instances stay."""
        happens = self._happens()
        factors = self._draws.uniform(1 - self._sigma, 1 + self._sigma, 3)
        added = self._draws.uniform(-self._sigma, self._sigma, 3)
        if happens:
            for key in results.get("img_fields", ["img"]):
                if results[key].dtype != np.uint8:
                    raise ValueError("StainJitter needs pixels from 0 to 255: it stands before Normalize")
                pixels = np.ascontiguousarray(results[key][..., ::-1])  # images are BGR inside a pipeline
                results[key] = np.ascontiguousarray(restained(pixels, factors, added)[..., ::-1])
        return results
