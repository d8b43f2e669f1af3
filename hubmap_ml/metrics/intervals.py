"""How sure a score is, said for two questions.

"On these slides": what would other tiles of the same slides give? A bootstrap over blocks of neighbouring tiles, each
slide's drawn from its own. "On new slides": what would other slides give? With few slides nobody can know; a t interval
over the slides' scores from five of them, a bootstrap over whole slides from fifteen, else the words that say so.
(A bootstrap over 2–5 slides calls 9–25 % of null gains significant where 2.5 % were promised.)

Every draw is scored as the headline is: each fold on its drawn images, folds weighted by how many of those they have.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from hubmap_ml.instances import Images
from hubmap_ml.metrics.judged import Judged
from hubmap_ml.metrics.resampling_kernels import LANES, draw_units
from hubmap_ml.metrics.resampling_units import Units, whole_slides

RESAMPLES = 2000
CONFIDENCE = 0.95
FEWEST_UNITS = 10
SLIDES_FOR_T = 5
SLIDES_FOR_BOOTSTRAP = 15
_DRAWS_AT_ONCE = 512


@dataclass(frozen=True)
class Interval:
    """A 95 % interval, or the words why there is none.

    Attributes:
        low, high: both or neither.
        words: how it was made, or ``"not estimable from …"``.
    """

    low: float | None
    high: float | None
    words: str

    def in_words(self, form: str = ".3f") -> str:
        """``"0.512 to 0.561"`` with the numbers in the given form, or the words why not."""
        if self.low is None or self.high is None:
            return self.words
        return f"{self.low:{form}} to {self.high:{form}}"

    def to_metrics(self, name: str) -> dict[str, float]:
        """``{"NAME_low": …, "NAME_high": …}`` for a record; empty where there is none."""
        if self.low is None or self.high is None:
            return {}
        return {f"{name}_low": self.low, f"{name}_high": self.high}

    @property
    def excludes_zero(self) -> bool:
        """Whether it lies on one side of zero."""
        return self.low is not None and self.high is not None and (self.low > 0 or self.high < 0)


@dataclass(frozen=True, eq=False)
class Folded:
    """Sets of predictions for the same M images, judged, with the images' folds.

    Attributes:
        images: the table of images.
        rows: for each fold its images, int64.
        judged: for each set, for each fold.
    """

    images: Images
    rows: tuple[NDArray[np.int64], ...]
    judged: tuple[tuple[Judged, ...], ...]

    @staticmethod
    def build(images: Images, folds: NDArray[np.int16], judged: Sequence[Judged]) -> "Folded":
        """Split what was judged on all images into folds."""
        rows = tuple(np.flatnonzero(folds == fold) for fold in np.unique(folds))
        return Folded(images, rows, tuple(tuple(item.take(part) for part in rows) for item in judged))

    def headlines(self, weights: NDArray[np.int32]) -> NDArray[np.float64]:
        """Score draws of images as the headline is: (sets, K, LANES); NaN for a draw without truths.

        Args:
            weights: (K, M, LANES).
        """
        total = np.zeros((len(self.judged), len(weights), LANES))
        weight = np.zeros_like(total)
        for fold, rows in enumerate(self.rows):
            drawn = np.ascontiguousarray(weights[:, rows])
            n_images = drawn.sum(axis=1, dtype=np.float64)
            for number, parts in enumerate(self.judged):
                found = parts[fold].values(drawn)
                known = ~np.isnan(found)
                total[number] += np.where(known, found * n_images, 0.0)
                weight[number] += np.where(known, n_images, 0.0)
        return np.divide(total, weight, out=np.full(total.shape, np.nan), where=weight > 0)

    def once(self, rows: NDArray[np.int64] | None = None) -> NDArray[np.float64]:
        """Score the images as they are, or only some of them: (sets,)."""
        weights = np.zeros((1, len(self.images), LANES), np.int32)
        weights[:, slice(None) if rows is None else rows] = 1
        return self.headlines(weights)[:, 0, 0]


def resample(sets: Folded, units: Units, *, resamples: int = RESAMPLES, seed: int = 0) -> NDArray[np.float64]:
    """Score draws of units with replacement, inside their strata; every set is scored on the same draws.

    Args:
        resamples: draws.
        seed: same seed, same draws.

    Returns:
        float64 (sets, resamples); NaN for a draw without truths.
    """
    rng = np.random.default_rng(seed)
    _, first, sizes = np.unique(units.strata, return_index=True, return_counts=True)
    first, sizes = np.repeat(first, sizes), np.repeat(sizes, sizes)
    found = []
    for start in range(0, resamples, _DRAWS_AT_ONCE):
        groups = -(-min(_DRAWS_AT_ONCE, resamples - start) // LANES)
        uniforms = rng.random((groups * LANES, len(units)))
        values = sets.headlines(draw_units(uniforms, first, sizes, units.of_image))
        found.append(values.reshape(len(sets.judged), -1))
    return np.asarray(np.concatenate(found, axis=1)[:, :resamples])


def percentile_interval(values: NDArray[np.float64], units: Units) -> Interval:
    """Return the interval of resampled values, widened for few units.

    A percentile interval is too narrow by √((n − H)/n) for n units in H strata and takes the normal quantile where
    the t quantile belongs; the levels are moved so that it is right for a mean (Hesterberg 2015, "What Teachers Should
    Know About the Bootstrap", section 5.3: the expanded percentile interval).
    """
    known = values[~np.isnan(values)]
    if len(units) < FEWEST_UNITS or units.freedom < FEWEST_UNITS // 2 or not len(known):
        return Interval(None, None, f"not estimable from {units.words}")
    stretch = np.sqrt(len(units) / units.freedom)
    level = stats.norm.sf(stretch * stats.t.isf((1 - CONFIDENCE) / 2, units.freedom))
    low, high = np.quantile(known, [level, 1 - level])
    return Interval(float(low), float(high), f"bootstrap over {units.words}")


def new_slides_interval(
    by_slide: NDArray[np.float64], n_slides: int, resampled: NDArray[np.float64] | None, units: Units
) -> Interval:
    """Return the interval for other slides, where there are slides enough.

    Args:
        by_slide: score (or gain) of each slide that has one.
        n_slides: slides that are known; 0 where the files name none.
        resampled: of draws of whole slides; only looked at from ``SLIDES_FOR_BOOTSTRAP`` slides.
        units: the slides.
    """
    if not n_slides:
        return Interval(None, None, "not estimable: the files name no slides")
    n = len(by_slide)
    if n < SLIDES_FOR_T:
        return Interval(None, None, f"not estimable from {n} {'slide' if n == 1 else 'slides'}")
    if n >= SLIDES_FOR_BOOTSTRAP and resampled is not None:
        return percentile_interval(resampled, units)
    half = stats.t.isf((1 - CONFIDENCE) / 2, n - 1) * by_slide.std(ddof=1) / np.sqrt(n)
    mean = by_slide.mean()
    return Interval(float(mean - half), float(mean + half), f"t interval over the scores of {n} slides")


def slides_of(images: Images) -> tuple[tuple[str, ...], list[NDArray[np.int64]]]:
    """Return the known slides and the rows of each."""
    names = tuple(str(name) for name in np.unique(images.slides.astype(str)) if name)
    return names, [np.flatnonzero(images.slides == name) for name in names]


def slide_units(images: Images, n_slides: int) -> Units | None:
    """Return slides as units where a bootstrap over them is allowed, else None."""
    return whole_slides(images) if n_slides >= SLIDES_FOR_BOOTSTRAP else None
