"""What cross-fitting promises: on predictions that know nothing of the truth, choosing gains nothing."""

import numpy as np
import pytest

from hubmap_ml.instances import Annotations, BitMasks, Category, Images, Instances, Masks, PredictionSet
from hubmap_ml.postprocess import parse_steps
from hubmap_ml.tuning import run_study
from hubmap_ml.tuning.cross_fitting import cross_fitted
from hubmap_ml.tuning.searching import plan_trials, search
from hubmap_ml.tuning.space import Parameter, Space

CELLS = 8
SIDE = 16
VESSEL = (Category(1, "vessel"),)


def blind(rng, tiles=12, folds=3):
    """Tiles with one truth in a cell drawn at random, and a detection in every cell, of random area and score.

    Whatever is kept of m >= 1 detections of a tile, the truth is among it with probability m / CELLS, and TP / (TP +
    FP + FN) is then 1 / m: each setting's expected score is 1 / CELLS.
    """
    table = Images.build(
        ids=[f"tile {k}" for k in range(tiles)],
        heights=SIDE,
        widths=SIDE * CELLS,
        folds=np.arange(tiles) % folds,
    )
    truths, found = [], []
    for _ in range(tiles):
        masks = []
        for cell, rows in enumerate(rng.permutation(np.arange(4, 4 + CELLS))):
            mask = np.zeros((SIDE, SIDE * CELLS), bool)
            mask[:rows, SIDE * cell : SIDE * cell + 8] = True
            masks.append(mask)
        truths.append([masks[rng.integers(CELLS)]])
        bits = BitMasks.from_dense(masks)
        scores = 0.1 + 0.8 * rng.random(CELLS)
        scores[np.argmax([mask.sum() for mask in masks])] = 0.95  # something is left at every setting
        found.append(
            Instances.build(
                bits.tight_boxes(), scores, masks=Masks.from_bits(bits), height=SIDE, width=SIDE * CELLS
            )
        )
    truth = Annotations.from_dense(table, VESSEL, truths)
    return truth, PredictionSet.from_instances(table, VESSEL, found)


@pytest.mark.parametrize(("sampler", "trials", "repeats"), [("qmc", 24, 40), ("tpe", 12, 20)])
def test_on_predictions_independent_of_the_truth_only_the_in_sample_gain_is_above_zero(
    sampler, trials, repeats
):
    steps = parse_steps([{"score": 0.5}, {"min_area": 48}])
    space = {"score": [0.0, 0.9], "min_area": [0, 80]}
    in_sample, honest = [], []
    for seed in range(repeats):
        truth, found = blind(np.random.default_rng(seed))
        study = run_study(
            truth,
            found,
            base_steps=steps,
            space=space,
            metric="dsb_map",
            trials=trials,
            seed=seed,
            sampler=sampler,
        )
        in_sample.append(study.value - study.base_value)
        honest.append(study.cross_fitted - study.base_value)
    error = np.std(honest) / np.sqrt(repeats)
    assert abs(np.mean(honest)) < 3 * error
    assert np.mean(in_sample) > 3 * np.std(in_sample) / np.sqrt(repeats)
    assert np.mean(in_sample) > np.mean(honest) + 3 * error


@pytest.mark.parametrize(("sampler", "repeats"), [("tpe", 20), ("cmaes", 30), ("random", 150)])
def test_no_sampler_gains_from_noise(sampler, repeats):
    """Each fold's score is a wavy surface of its own, with mean 0 over its random phases at every point."""
    space = Space((Parameter("score", 0, 1), Parameter("mask_threshold", 0, 1)))
    weights = np.ones(3)
    in_sample, honest = [], []
    for seed in range(repeats):
        rng = np.random.default_rng(seed)
        waves, phases = rng.normal(0, 6, (3, 4, 2)), rng.uniform(0, 2 * np.pi, (3, 4))

        def score(setting, waves=waves, phases=phases):
            x = np.array([setting["score"], setting["mask_threshold"]])
            return np.cos(waves @ x + phases).sum(axis=1)

        plan = plan_trials(space, sampler, 24, seed, (0, 1, 2))
        base = {"score": 0.5, "mask_threshold": 0.5}
        found = search(score, base, space, plan, weights, sampler=sampler, seed=seed)
        fitted = cross_fitted(found.scores, weights, [found.candidates(k) for k in range(3)])
        own = found.candidates(-1)
        in_sample.append(found.scores[own].mean(axis=1).max() - found.scores[0].mean())
        honest.append(fitted.value - found.scores[0].mean())
    assert np.mean(in_sample) > 1
    assert abs(np.mean(honest)) < 3 * np.std(honest) / np.sqrt(repeats)
