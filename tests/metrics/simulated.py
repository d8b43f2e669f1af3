"""Simulated comparisons of two networks, whose true gain is known.

Slides differ, and neighbouring tiles of a slide resemble each other: how easy a tile is varies smoothly over it, and
both networks see that. The true gain is that of very many tiles of the *same* slides: what "on these slides" asks.
"""

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter

from hubmap_ml.instances import Images
from hubmap_ml.metrics.intervals import Folded, percentile_interval, resample
from hubmap_ml.metrics.judged import EVERY_RECALL, RankedDetections
from hubmap_ml.metrics.resampling_units import blocks_in_slides

TILE = 512


@dataclass(frozen=True)
class World:
    """How comparisons are drawn.

    Attributes:
        slides: number of slides, of ``side`` x ``side`` tiles each.
        gain: what the second network adds to the chance of finding an object.
        reach: width in tiles of what smooths ease and gain over a slide (at 1, tiles two apart correlate by .18); 0
            not at all.
        spread: how much ease varies, within slides; slides vary by as much.
        folds: images are in them at random.
    """

    slides: int
    side: int
    gain: float
    reach: float
    spread: float = 0.6
    folds: int = 5
    seed: int = 0

    @property
    def slide_levels(self):
        """Ease of each slide and what the second network gains on it; the same in every comparison."""
        rng = np.random.default_rng([self.seed, 99])
        return rng.normal(0, self.spread, self.slides), rng.normal(
            self.gain, 0.3 * abs(self.gain), self.slides
        )

    def draw(self, rng, *, equal=False):
        """One comparison: images, folds and both networks' judged detections; ``equal`` ones differ by chance alone."""
        tiles, slides, positions, ease, extra = [], [], [], [], []
        levels, gains = self.slide_levels
        for slide in range(self.slides):
            field, gain_field = (_field(rng, self.side, self.reach) for _ in range(2))
            i, j = np.mgrid[: self.side, : self.side].reshape(2, -1) * TILE
            positions.append(np.stack([i, j], 1))
            slides += [f"slide {slide}"] * len(i)
            ease.append(levels[slide] + self.spread * field)
            extra.append(gains[slide] + 0.5 * self.spread * gain_field)
        count = len(slides)
        images = Images.build(
            ids=[f"{k}" for k in range(count)],
            heights=TILE,
            widths=TILE,
            slides=slides,
            positions=np.concatenate(positions),
            folds=rng.permutation(count) % self.folds,
        )
        tiles = np.concatenate(ease)
        n_truths = rng.poisson(6 * np.exp(0.3 * tiles))
        shared = rng.normal(0, 0.7, int(n_truths.sum()))  # an object is hard for both
        other = tiles + (0.0 if equal else np.concatenate(extra))
        sets = [_network(rng, n_truths, logit, shared) for logit in (tiles, other)]
        return images, sets

    def folded(self, rng, *, equal=False):
        images, sets = self.draw(rng, equal=equal)
        return Folded.build(images, images.folds, sets)


def _field(rng, side, reach):
    """Noise of variance 1 over a slide: half of it smooth, half of each tile's own."""
    own = rng.normal(0, 1, side * side)
    if not reach:
        return own
    wide = rng.normal(0, 1, (side + 40, side + 40))
    smooth = gaussian_filter(wide, reach, mode="wrap")[20 : 20 + side, 20 : 20 + side]
    return (smooth * 2 * np.sqrt(np.pi) * reach).reshape(-1) * np.sqrt(0.5) + own * np.sqrt(0.5)


def _network(rng, n_truths, logit, shared):
    """Judged detections: an object is found with the tile's chance, and wrong finds are more where tiles are hard."""
    of_truth = np.repeat(np.arange(len(n_truths)), n_truths)
    found = rng.random(len(of_truth)) < 1 / (1 + np.exp(-(0.6 + logit[of_truth] + shared)))
    wrong = rng.poisson(8 * np.exp(-0.5 * logit))
    of_wrong = np.repeat(np.arange(len(wrong)), wrong)
    images = np.concatenate([of_truth[found], of_wrong]).astype(np.int32)
    hits = np.arange(len(images)) < found.sum()
    scores = rng.normal(np.where(hits, 1.2 + 0.5 * logit[images], -0.3), 1.0)
    order = np.argsort(-scores, kind="stable")
    return RankedDetections((images[order],), (hits[order],), n_truths[None].astype(np.int64), EVERY_RECALL)


def true_gain(world, repeats=150):
    """The gain on very many tiles: the mean over comparisons drawn for this alone."""
    rng = np.random.default_rng([world.seed, 7])
    gains = [np.diff(world.folded(rng).once())[0] for _ in range(repeats)]
    return float(np.mean(gains))


def covered(world, seeds, *, repeats=150, resamples=600):
    """For each seed a comparison: whether its interval on these slides holds the true gain."""
    true = true_gain(world, repeats)
    inside = []
    for seed in seeds:
        sets = world.folded(np.random.default_rng([world.seed, 1, seed]))
        units = blocks_in_slides(sets.images)
        draws = resample(sets, units, resamples=resamples, seed=seed)
        interval = percentile_interval(draws[1] - draws[0], units)
        inside.append(interval.low <= true <= interval.high)
    return inside
