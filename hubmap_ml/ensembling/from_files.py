"""An ensemble of anyone's predictions: best single, plain WBF and weighted WBF, compared by cross-fitted scores.

No experiment, no training, no store: predictions of named members, one truth. Every way is a fixed list of settings;
each setting is scored on each fold of images, and the setting that scores a fold was chosen on the others
(``cross_fitted`` is exact for lists that were fixed beforehand). What is recommended is chosen again on all folds, and
both scores are said.

Members that were trained on these very images look better than they are: nothing here can see that.
"""

import dataclasses
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hubmap_ml.fusion import FusionOptions, fuse, options_to_data
from hubmap_ml.instances import Annotations, Images, PredictionSet
from hubmap_ml.metrics import evaluate
from hubmap_ml.postprocess import apply_steps, parse_steps
from hubmap_ml.spec import InputError
from hubmap_ml.tuning import cross_fitted

SCORES = (0.0, 0.1, 0.3, 0.5)
IOU_THRESHOLDS = (0.45, 0.55, 0.65)
MASK_THRESHOLDS = (0.4, 0.5, 0.6)
SINGLE, PLAIN, WEIGHTED = "best single", "plain WBF", "weighted WBF"
MOST_MEMBERS = 12

Setting = dict[str, Any]
Told = Callable[[str, int, int], None]
"""Called after each fusion: what is tried, how many are done, how many there are."""


@dataclass(frozen=True)
class Way:
    """A way to predict and what it scores.

    Attributes:
        name: a member, ``best single``, ``plain WBF`` or ``weighted WBF``.
        refitted: best score of its settings over all folds, chosen on these images: too hopeful.
        cross_fitted: each fold scored with the setting that the other folds choose; NaN where fewer than two folds have
            a score.
        fold_scores: what stands behind ``cross_fitted``, NaN for folds without truths.
        setting: the one that does best over all folds.
        n_settings: how many were tried.
    """

    name: str
    refitted: float
    cross_fitted: float
    fold_scores: tuple[float, ...]
    setting: Setting
    n_settings: int


@dataclass(frozen=True)
class Comparison:
    """Ways compared.

    Attributes:
        members: each member alone.
        ways: best single, plain WBF, weighted WBF.
        folds: int (M,), fold of each image of the truth.
        split: how the folds came about, in words.
        fold_images: images of each fold.
        metric: its name.
    """

    members: tuple[Way, ...]
    ways: tuple[Way, ...]
    folds: NDArray[np.int64]
    split: str
    fold_images: tuple[int, ...]
    metric: str

    @property
    def best(self) -> Way:
        """The way with the highest cross-fitted score; the simpler one of equals."""
        return max(self.ways, key=lambda way: (way.cross_fitted, -self.ways.index(way)))


def compare_files(
    truth: Annotations,
    members: Mapping[str, PredictionSet],
    *,
    metric: str = "ap60",
    n_folds: int = 5,
    seed: int = 0,
    told: Told | None = None,
) -> Comparison:
    """Compare single members with fusions of them.

    Args:
        truth: annotations of all images.
        members: by name, at least two, about the truth's images and with masks.
        metric: as ``metrics.evaluate`` names it.
        n_folds: where the images are in no folds of their own.
        seed: of the split.
        told: see ``Told``.

    Raises:
        InputError: fewer than two members or too many, members without masks or of other images, or a truth that
            cannot be split.
    """
    if not 2 <= len(members) <= MOST_MEMBERS:
        raise InputError(
            f"an ensemble of {len(members)} members: give between 2 and {MOST_MEMBERS} files of predictions"
        )
    for name, one in members.items():
        if one.masks is None:
            raise InputError(f"{name}: these predictions have no masks, and an ensemble of masks needs them")
    folds, split = folds_of_images(truth.images, n_folds=n_folds, seed=seed)
    numbers = np.unique(folds)
    truths = [truth.take_images(np.flatnonzero(folds == number)) for number in numbers]
    images = np.array([len(part.images) for part in truths])

    def scored(predictions: PredictionSet) -> list[float]:
        return [evaluate(metric, part, _of_images(predictions, part.images)).value for part in truths]

    singles: list[Way] = []
    pooled: list[tuple[Setting, list[float]]] = []
    for name, one in members.items():
        tried = [({"member": name, **setting}, scored(made)) for setting, made in _decided(one)]
        singles.append(_way(name, tried, images))
        pooled += tried
    fused: dict[bool, list[tuple[Setting, list[float]]]] = {True: [], False: []}
    jobs = list(itertools.product(_weightings(len(members)), IOU_THRESHOLDS))
    for done, (weights, iou_threshold) in enumerate(jobs, start=1):
        options = FusionOptions(iou_threshold=iou_threshold, skip_score=0.0)
        together = fuse(list(members.values()), options, weights=weights, names=list(members))
        told_setting = {"weights": dict(zip(members, weights, strict=True)), **_plain(options)}
        tried = [({**told_setting, **setting}, scored(made)) for setting, made in _decided(together)]
        fused[len(set(weights)) == 1] += tried
        if told is not None:
            told("fusions", done, len(jobs))
    ways = (
        _way(SINGLE, pooled, images),
        _way(PLAIN, fused[True], images),
        _way(WEIGHTED, fused[True] + fused[False], images),
    )
    return Comparison(tuple(singles), ways, folds, split, tuple(images.tolist()), metric)


def folds_of_images(images: Images, *, n_folds: int, seed: int) -> tuple[NDArray[np.int64], str]:
    """Return the fold of each image, and in words how it came about.

    The file's own folds where every image has one; else whole slides (or groups) together, the largest first into the
    lightest fold; else images by themselves, shuffled by ``seed``.

    Raises:
        InputError: fewer than two images.
    """
    if len(images) < 2:
        raise InputError(
            "the truth has fewer than two images: nothing can be chosen on some and scored on others"
        )
    if (images.folds >= 0).all() and len(np.unique(images.folds)) > 1:
        return images.folds.astype(np.int64), "the truth file's own folds"
    for names, what in ((images.slides, "slides"), (images.groups, "groups")):
        if all(names) and len(set(names)) > 1:
            of_image = np.unique(names.astype(str), return_inverse=True)[1]
            n = min(n_folds, int(of_image.max()) + 1)
            return _balanced(of_image, n, seed), f"{n} folds of whole {what} (seed {seed})"
    n = min(n_folds, len(images))
    return _balanced(
        np.arange(len(images)), n, seed
    ), f"{n} folds of single images (seed {seed}): no slides are known"


def _balanced(group: NDArray[np.int64], n_folds: int, seed: int) -> NDArray[np.int64]:
    """Put whole groups into folds, the largest first (equals in random order) into the fold with the fewest images."""
    sizes = np.bincount(group)
    shuffled = np.random.default_rng(seed).permutation(len(sizes))
    fold_of_group, filled = np.zeros(len(sizes), np.int64), np.zeros(n_folds, np.int64)
    for one in shuffled[np.argsort(-sizes[shuffled], kind="stable")]:
        fold = int(np.argmin(filled))
        fold_of_group[one] = fold
        filled[fold] += sizes[one]
    return np.asarray(fold_of_group[group])


def _of_images(predictions: PredictionSet, images: Images) -> PredictionSet:
    return predictions.take_images(predictions.images.rows_of(list(images.ids)))


def _decided(predictions: PredictionSet) -> Iterator[tuple[Setting, PredictionSet]]:
    """The predictions at each threshold on masks (where they are soft) and on scores."""
    assert predictions.masks is not None
    for mask_threshold in (0.5,) if predictions.masks.all_bits else MASK_THRESHOLDS:
        pixels = apply_steps(predictions, parse_steps([{"mask_threshold": mask_threshold}]))
        for score in SCORES:
            yield (
                {"mask_threshold": mask_threshold, "score": score},
                apply_steps(pixels, parse_steps([{"score": score}])),
            )


def _weightings(n: int) -> list[tuple[float, ...]]:
    """Weightings of n members, fixed beforehand: all equal, each one twice, each one half."""
    found = [(1.0,) * n]
    for factor in (2.0, 0.5):
        found += [tuple(factor if k == chosen else 1.0 for k in range(n)) for chosen in range(n)]
    return list(dict.fromkeys(found))


def _plain(options: FusionOptions) -> Setting:
    return {
        key: value for key, value in options_to_data(options).items() if key in ("method", "iou_threshold")
    }


def _way(name: str, tried: Sequence[tuple[Setting, list[float]]], images: NDArray[np.int64]) -> Way:
    table = np.array([scores for _, scores in tried])
    weights = images.astype(np.float64)
    honest = cross_fitted(table, weights)
    usable = np.isfinite(table).all(axis=0)
    if not usable.any():
        raise InputError("no image of the truth holds an annotation: there is nothing to score")
    overall = table[:, usable] @ weights[usable] / weights[usable].sum()
    best = int(np.argmax(overall))
    return Way(
        name, float(overall[best]), honest.value, tuple(honest.held_out.tolist()), tried[best][0], len(tried)
    )


def comparison_to_data(comparison: Comparison) -> dict[str, Any]:
    """Return a comparison as JSON-able data."""
    data = dataclasses.asdict(comparison)
    return {**data, "folds": comparison.folds.tolist(), "best": comparison.best.name}
