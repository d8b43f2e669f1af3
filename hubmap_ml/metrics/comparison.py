"""Several sets of final predictions on the same images: scores with intervals, and gains over the first, paired."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hubmap_ml.instances import Annotations, PredictionSet
from hubmap_ml.metrics.intervals import (
    RESAMPLES,
    Folded,
    Interval,
    new_slides_interval,
    percentile_interval,
    resample,
    slide_units,
    slides_of,
)
from hubmap_ml.metrics.judged import value_of
from hubmap_ml.metrics.judging import judge
from hubmap_ml.metrics.resampling_units import Units, blocks_in_slides, whole_slides
from hubmap_ml.spec import InputError

BETTER, WORSE, OPEN = "better", "worse", "not told apart"


@dataclass(frozen=True)
class ScoredSet:
    """One set's score.

    Attributes:
        name: of the set.
        value: mean of the folds' scores weighted by images (the headline).
        pooled: all images as one fold.
        on_these, on_new: 95 % intervals of ``value`` on these slides and on new ones.
        worst_slide, worst_value: the slide with the lowest score; "" and NaN where no slides are known.
        n_instances: predicted on these images.
    """

    name: str
    value: float
    pooled: float
    on_these: Interval
    on_new: Interval
    worst_slide: str
    worst_value: float
    n_instances: int


@dataclass(frozen=True)
class Gain:
    """How far one set is above another on the same images, paired.

    Attributes:
        before, after: names of the sets.
        value: the second's headline less the first's.
        on_these, on_new: 95 % intervals of it.
        probability: share of the draws on these slides in which the second is ahead; NaN where nothing was drawn.
        worst_slide, worst_value: the slide with the lowest gain; "" and NaN where no slides are known.
    """

    before: str
    after: str
    value: float
    on_these: Interval
    on_new: Interval
    probability: float
    worst_slide: str
    worst_value: float

    @property
    def verdict(self) -> str:
        """``BETTER`` or ``WORSE`` on these slides, or ``OPEN`` where the interval holds 0 or there is none."""
        if not self.on_these.excludes_zero:
            return OPEN
        return BETTER if self.value > 0 else WORSE

    def in_words(self) -> str:
        """The verdict as sentences."""
        size = f"{self.value:+.4f}, 95 % {self.on_these.in_words('+.4f')}"
        if self.on_these.low is None:
            first = f"{self.after} {self.value:+.4f} against {self.before}: {self.on_these.words}"
        elif self.verdict == OPEN:
            first = f"{self.after} and {self.before} cannot be told apart on these slides ({size})"
        else:
            first = f"{self.after} is {self.verdict} than {self.before} on these slides ({size})"
        if self.on_new.low is None:
            return f"{first}; on new slides {self.on_new.words}"
        new = f"95 % {self.on_new.in_words('+.4f')}"
        held = "the same holds" if self.on_new.excludes_zero and self.verdict != OPEN else "not certain"
        return f"{first}; on new slides {held} ({new})"


@dataclass(frozen=True)
class SlideScores:
    """A slide's images, truths, and the score of each set (NaN without truths)."""

    slide: str
    n_images: int
    n_truths: int
    values: tuple[float, ...]


@dataclass(frozen=True)
class Comparison:
    """All that is said of several sets.

    Attributes:
        metric: its name.
        n_images, n_truths, n_folds: what was scored; a truth in a crowd is none.
        scores: of each set.
        gains: of each set but the first over the first.
        slides: the table by slide; () where the files name none.
    """

    metric: str
    n_images: int
    n_truths: int
    n_folds: int
    scores: tuple[ScoredSet, ...]
    gains: tuple[Gain, ...]
    slides: tuple[SlideScores, ...]


def score_interval(
    metric: str,
    truth: Annotations,
    predictions: PredictionSet,
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Interval:
    """Return the 95 % interval on these slides of one set's headline; arguments as for ``compare_sets``.

    Images without any truth have no interval, in words.
    """
    shared, found = common_images(truth, [predictions])
    if shared.iscrowd.all():
        return Interval(None, None, f"not estimable from {len(shared.images)} images without a truth")
    sets = Folded.build(shared.images, common_folds(shared, found), [judge(metric, shared, found[0])])
    blocks = blocks_in_slides(shared.images)
    return percentile_interval(resample(sets, blocks, resamples=resamples, seed=seed)[0], blocks)


def common_images(
    truth: Annotations, sets: Sequence[PredictionSet]
) -> tuple[Annotations, list[PredictionSet]]:
    """Bring truth and sets to the images that all of them know, in the first set's order.

    Raises:
        InputError: there is none.
    """
    names = list(sets[0].images.ids)
    for images in (truth.images, *(item.images for item in sets[1:])):
        names = [name for name, known in zip(names, images.has(names), strict=True) if known]
    if not names:
        raise InputError("truth and predictions have no image in common: there is nothing to compare")
    cut = [item.take_images(item.images.rows_of(names)) for item in sets]
    return truth.take_images(truth.images.rows_of(names)), cut


def compare_sets(
    metric: str,
    truth: Annotations,
    sets: Mapping[str, PredictionSet],
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Comparison:
    """Score sets of final predictions on the images that truth and all sets know.

    Args:
        metric: as ``judge`` knows it.
        truth: slides and positions are its images'; folds are the sets', which know who predicted what, else the
            truth's. All images are one fold where two sets disagree.
        sets: by name, at least one.
        resamples: draws of each bootstrap.
        seed: same seed, same intervals.

    Raises:
        InputError: no image in common, no truth on them, and what ``judge`` refuses.
    """
    truth, found = common_images(truth, list(sets.values()))
    if truth.iscrowd.all():
        raise InputError(f"the {len(truth.images)} common images hold no truth: there is nothing to score")
    judged = [judge(metric, truth, item) for item in found]
    folded = Folded.build(truth.images, common_folds(truth, found), judged)
    names, slide_rows = slides_of(truth.images)
    values = folded.once()
    by_slide = np.array([folded.once(rows) for rows in slide_rows]).reshape(len(names), len(found))
    blocks, slides = blocks_in_slides(truth.images), whole_slides(truth.images)
    draws = resample(folded, blocks, resamples=resamples, seed=seed)
    slide_draws = None
    if slide_units(truth.images, len(names)) is not None:
        slide_draws = resample(folded, slides, resamples=resamples, seed=seed)
    counts = np.bincount(truth.image_rows()[~truth.iscrowd], minlength=len(truth.images))

    def intervals(weights: NDArray[np.float64]) -> tuple[Interval, Interval, str, float]:
        """Both intervals and the worst slide of a sum of the sets with weights: one set, or a difference."""
        of_slides = by_slide @ weights
        has = ~np.isnan(of_slides)
        new = new_slides_interval(
            of_slides[has], len(names), None if slide_draws is None else weights @ slide_draws, slides
        )
        worst = int(np.nanargmin(of_slides)) if has.any() else -1
        name, value = (names[worst], float(of_slides[worst])) if has.any() else ("", float("nan"))
        return percentile_interval(weights @ draws, blocks), new, name, value

    scores, gains = [], []
    unit = np.eye(len(found))
    for k, name in enumerate(sets):
        these, new, slide, worst = intervals(unit[k])
        n_instances = len(found[k])
        pooled = value_of(judged[k])
        scores.append(ScoredSet(name, float(values[k]), pooled, these, new, slide, worst, n_instances))
        if k:
            these, new, slide, worst = intervals(unit[k] - unit[0])
            difference = float(values[k] - values[0])
            gains.append(
                Gain(
                    scores[0].name, name, difference, these, new,
                    _probability(draws[k] - draws[0], blocks), slide, worst,
                )
            )  # fmt: skip
    table = tuple(
        SlideScores(name, len(rows), int(counts[rows].sum()), tuple(float(v) for v in by_slide[k]))
        for k, (name, rows) in enumerate(zip(names, slide_rows, strict=True))
    )
    return Comparison(
        metric, len(truth.images), int(counts.sum()), len(folded.rows), tuple(scores), tuple(gains), table
    )


def _probability(gains: NDArray[np.float64], units: Units) -> float:
    """Share of draws with a gain, those without any difference by halves."""
    known = gains[~np.isnan(gains)]
    if percentile_interval(gains, units).low is None:
        return float("nan")
    return float((known > 0).mean() + 0.5 * (known == 0).mean())


def common_folds(truth: Annotations, sets: Sequence[PredictionSet]) -> NDArray[np.int16]:
    """Return the folds of common images: the sets' where they know some, else the truth's; one where two disagree."""
    known = [item.images.folds for item in sets if (item.images.folds >= 0).any()]
    if any(not np.array_equal(folds, known[0]) for folds in known):
        return np.zeros(len(truth.images), np.int16)
    return known[0] if known else truth.images.folds
