"""How often the champion moves where there is nothing to gain: at most as often as the policy says.

Tiles are simulated as scores, so that thousands of comparisons cost seconds; draws, blocks and probability are the real
ones. The margin is three standard errors of the share that is counted.
"""

import numpy as np
import pytest

from hubmap_ml.ensembling import Challenge
from hubmap_ml.instances import Images
from hubmap_ml.metrics.comparison import probability_of_gain
from hubmap_ml.metrics.intervals import Folded, resample
from hubmap_ml.metrics.judged import ImageScores
from hubmap_ml.metrics.resampling_units import blocks_in_slides

ROUNDS = 400
RESAMPLES = 400
TILE = 64


def tiles(slides: int, side: int) -> Images:
    """Square slides of ``side`` x ``side`` tiles in two folds."""
    at = np.array([(i, j) for _ in range(slides) for i in range(side) for j in range(side)])
    of = np.repeat(np.arange(slides), side * side)
    return Images.build(
        ids=[f"t{k}" for k in range(len(at))], heights=TILE, widths=TILE, slides=[str(s) for s in of],
        positions=at * TILE, folds=np.arange(len(at)) % 2,
    )  # fmt: skip


def probability(
    images: Images, before: np.ndarray, after: np.ndarray, seed: int
) -> tuple[float, float, float]:
    """P(gain > 0), the gain, and the gain on the slide that lost most."""
    truths = np.ones((1, len(images)), np.int64)
    judged = [ImageScores(scores[None], truths) for scores in (before, after)]
    units = blocks_in_slides(images)
    folded = Folded.build(images, images.folds, judged)
    draws = resample(folded, units, resamples=RESAMPLES, seed=seed)
    slides = [
        after[images.slides == s].mean() - before[images.slides == s].mean() for s in np.unique(images.slides)
    ]
    once = folded.once()
    return probability_of_gain(draws[1] - draws[0], units), float(once[1] - once[0]), float(min(slides))


def moved(slides: int, side: int, *, gain: float, slide_loss: float, seed: int) -> float:
    """Share of rounds in which the policy moves the champion; neighbouring tiles share half of their differences."""
    rng = np.random.default_rng(seed)
    images = tiles(slides, side)
    unit = blocks_in_slides(images).of_image
    count = 0
    for number in range(ROUNDS):
        before = rng.uniform(0.3, 0.8, len(images))
        shared = rng.normal(0, 0.03, unit.max() + 1)[unit]
        after = before + gain + shared + rng.normal(0, 0.03, len(images))
        found, value, worst = probability(images, before, after, number)
        count += Challenge(value, found, worst, 0.9, slide_loss).won
    return count / ROUNDS


@pytest.mark.parametrize(("slides", "side"), [(2, 6), (4, 4), (3, 8)])
def test_without_a_gain_the_champion_moves_at_most_as_often_as_the_policy_says(slides, side):
    margin = 3 * np.sqrt(0.1 * 0.9 / ROUNDS)
    assert moved(slides, side, gain=0.0, slide_loss=1.0, seed=1) <= 0.1 + margin


def test_sparing_every_slide_makes_it_rarer_still_and_a_true_gain_moves_it():
    spared = moved(4, 4, gain=0.0, slide_loss=0.0, seed=2)
    assert spared <= 0.1
    assert spared < moved(4, 4, gain=0.0, slide_loss=1.0, seed=2)
    assert moved(4, 4, gain=0.05, slide_loss=0.02, seed=2) > 0.9


def test_a_worse_ensemble_hardly_ever_moves_it():
    assert moved(3, 6, gain=-0.02, slide_loss=1.0, seed=3) <= 0.02
