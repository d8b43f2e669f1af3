"""Every fusion of boxes beside ensemble-boxes 1.0.9, on cases that are hard on purpose (a test says how hard)."""

import warnings
from dataclasses import dataclass

import ensemble_boxes
import numpy as np
import pytest

from hubmap_ml.fusion import CONFIDENCE_TYPES, FusionOptions, fuse
from hubmap_ml.instances import PredictionSet
from tests.random_scenes import images, predictions

HEIGHT, WIDTH = 96, 128
SIZE = np.array([WIDTH, HEIGHT, WIDTH, HEIGHT], float)
WAYS = [("wbf", conf_type) for conf_type in CONFIDENCE_TYPES] + [("nmw", "avg"), ("nms", "avg")]


@dataclass(frozen=True)
class Case:
    members: list[PredictionSet]
    weights: list[float]
    iou_threshold: float
    skip_score: float


def case(seed):
    rng = np.random.default_rng([99, seed])
    table = images(1, height=HEIGHT, width=WIDTH)
    members = [
        predictions(
            [seed, k], table=table, objects_seed=seed, count=int(rng.integers(5, 30)), n_objects=4
        ).replace(masks=None)
        for k in range(rng.integers(2, 7))
    ]
    weights = rng.uniform(0.2, 4, len(members)).tolist()
    return Case(members, weights, float(rng.uniform(0.25, 0.8)), float(rng.choice([0, 0.05, 0.3])))


CASES = [case(seed) for seed in range(60)]


def reference(case, method, conf_type):
    found = [member.image(0) for member in case.members]
    chosen = [one.scores >= np.float32(case.skip_score) for one in found]
    lists = (
        [one.boxes[rows].astype(float) / SIZE for one, rows in zip(found, chosen, strict=True)],
        [one.scores[rows].astype(float) for one, rows in zip(found, chosen, strict=True)],
        [one.labels[rows] for one, rows in zip(found, chosen, strict=True)],
    )
    options = {"weights": case.weights, "iou_thr": case.iou_threshold}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if method == "wbf":
            return ensemble_boxes.weighted_boxes_fusion(*lists, conf_type=conf_type, **options)
        theirs = {"nmw": ensemble_boxes.non_maximum_weighted, "nms": ensemble_boxes.nms}[method]
        return theirs(*lists, **options)


def ours(case, method, conf_type):
    options = FusionOptions(
        method=method, iou_threshold=case.iou_threshold, skip_score=case.skip_score, conf_type=conf_type
    )
    return fuse(case.members, options, weights=case.weights)


def in_order(boxes, scores, labels):
    order = np.lexsort((boxes[:, 0].round(4), np.round(scores, 6), labels))
    return boxes[order], np.asarray(scores)[order], np.asarray(labels)[order]


@pytest.mark.parametrize(("method", "conf_type"), WAYS)
def test_boxes_and_scores_are_those_of_ensemble_boxes(method, conf_type):
    for one in CASES:
        found = ours(one, method, conf_type)
        boxes, scores, labels = in_order(found.boxes.astype(float) / SIZE, found.scores, found.labels)
        expected = in_order(*reference(one, method, conf_type))
        assert labels.tolist() == expected[2].astype(int).tolist()
        assert np.abs(scores - expected[1]).max(initial=0) < 1e-5
        assert np.abs(boxes - expected[0]).max(initial=0) < 1e-5


@pytest.mark.parametrize("method", ["wbf", "nmw", "nms"])
def test_weights_that_are_not_given_are_theirs(method):
    for one in CASES[:10]:
        found = fuse(
            one.members,
            FusionOptions(method=method, iou_threshold=one.iou_threshold, skip_score=one.skip_score),
        )
        plain = Case(one.members, None, one.iou_threshold, one.skip_score)
        _, expected, _ = reference(plain, method, "avg")
        assert np.abs(np.sort(found.scores) - np.sort(expected)).max(initial=0) < 1e-5


def test_most_cases_are_hard():
    """Clusters of at least three boxes, unequal weights, two labels: few cases would let a wrong formula pass."""
    fused = [ours(one, "wbf", "avg") for one in CASES]
    hard = [
        np.diff(found.cluster_offsets).max() >= 3
        and np.mean(np.diff(found.cluster_offsets) >= 3) > 0.2
        and len(set(found.labels.tolist())) == 2
        and len(set(one.weights)) == len(one.weights) > 1
        for one, found in zip(CASES, fused, strict=True)
    ]
    assert np.mean(hard) > 0.75
    # Members that say nothing in a cluster, and members that say something twice, tell the confidence types apart.
    for conf_type in CONFIDENCE_TYPES[1:]:
        other = [ours(one, "wbf", conf_type) for one in CASES]
        assert (
            np.mean(
                [
                    np.abs(np.sort(a.scores) - np.sort(b.scores)).max() > 1e-3
                    for a, b in zip(fused, other, strict=True)
                ]
            )
            > 0.9
        )


@pytest.mark.parametrize("method", ["wbf", "nmw", "nms"])
def test_clusters_hold_every_instance_that_takes_part_once(method):
    for one in CASES[:20]:
        found = ours(one, method, "avg")
        stacked = PredictionSet.stack_sources(one.members, [f"member_{k}" for k in range(len(one.members))])
        owner = np.repeat(np.arange(len(found)), np.diff(found.cluster_offsets))
        assert np.array_equal(stacked.labels[found.member_rows], found.labels[owner])
        size = (stacked.boxes[:, 2:] - stacked.boxes[:, :2]).prod(axis=1)
        taking_part = np.flatnonzero((stacked.scores >= np.float32(one.skip_score)) & (size > 0))
        assert sorted(found.member_rows.tolist()) == taking_part.tolist()
        assert (np.diff(found.scores) <= 0).all()
