"""How much better one set of final predictions is than another on the same images: the comparison of two, in short."""

from dataclasses import dataclass

from hubmap_ml.instances import Annotations, PredictionSet
from hubmap_ml.metrics.comparison import compare_sets
from hubmap_ml.metrics.intervals import RESAMPLES, Interval


@dataclass(frozen=True)
class PairedGain:
    """Two scores on the same images, and how far the second is above the first.

    Attributes:
        metric: its name.
        n_images: images that both predicted.
        before, after: headlines, NaN where the images hold no truth.
        on_these, on_new: 95 % intervals of the gain, on these slides and on new ones.
        probability: P(gain > 0) on these slides, see ``comparison.probability_of_gain``; NaN where it is not estimable.
        words: the verdict.
        after_on_these: 95 % interval of the second score, on these slides.
    """

    metric: str
    n_images: int
    before: float
    after: float
    on_these: Interval
    on_new: Interval
    probability: float
    words: str
    after_on_these: Interval

    @property
    def gain(self) -> float:
        """The second score less the first."""
        return self.after - self.before

    @property
    def low(self) -> float | None:
        """Lower end of the interval on these slides."""
        return self.on_these.low

    @property
    def high(self) -> float | None:
        """Upper end of the interval on these slides."""
        return self.on_these.high


def paired_gain(
    metric: str,
    truth: Annotations,
    before: PredictionSet,
    after: PredictionSet,
    *,
    names: tuple[str, str] = ("the first", "the second"),
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> PairedGain:
    """Compare two sets of final predictions on the images that both predicted.

    Args:
        metric, truth, resamples, seed: as for ``compare_sets``.
        before, after: final predictions.
        names: what the words call them.

    Raises:
        InputError: what ``compare_sets`` refuses.
    """
    found = compare_sets(
        metric, truth, dict(zip(names, (before, after), strict=True)), resamples=resamples, seed=seed
    )
    gain = found.gains[0]
    return PairedGain(
        metric=metric,
        n_images=found.n_images,
        before=found.scores[0].value,
        after=found.scores[1].value,
        on_these=gain.on_these,
        on_new=gain.on_new,
        probability=gain.probability,
        words=gain.in_words(),
        after_on_these=found.scores[1].on_these,
    )
