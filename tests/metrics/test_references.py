"""The metrics and their second telling agree on scenes full of ties, empty images, crowds and categories."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hubmap_ml.instances import BitMasks
from hubmap_ml.metrics import METRICS, CocoOptions, coco_evaluation, evaluate
from hubmap_ml.metrics.pairing import pair_up
from hubmap_ml.metrics.references import coco_by_pycocotools, score_by_reference
from hubmap_ml.spec import InputError
from tests.metrics.scenes import random_scene

seeds = st.integers(0, 2**32 - 1)


def scene(seed, n_categories):
    rng = np.random.default_rng(seed)
    truth, found = random_scene(
        rng, count=6, crowds=True, n_categories=n_categories, side=40, most_truths=7, most_found=15
    )
    areas = np.where(rng.random(len(truth)) < 0.3, rng.integers(1, 1600, len(truth)), truth.areas)
    return truth.replace(areas=areas), found  # a file may count areas otherwise than by pixels


options = st.builds(
    CocoOptions,
    iou_thresholds=st.one_of(
        st.just(CocoOptions().iou_thresholds),
        st.lists(st.sampled_from([0.05, 1 / 3, 0.4, 0.5, 0.6, 0.75, 0.9, 1.0]), min_size=1, max_size=8, unique=True),
        st.just(tuple(np.linspace(0.05, 1, 39).tolist())),  # more than one word of bits
    ),
    area_ranges=st.sampled_from(
        [
            dict(CocoOptions().area_ranges),
            {"all": (0, 1e10)},
            {"all": (0, 1e10), "16": (16, 16), "tiny": (0, 48), "rest": (48, 500), "none": (5000, 6000)},
        ]
    ),
    max_detections=st.sampled_from([(1, 10, 100), (1,), (3,), (2, 4, 7), (5, 500)]),
)  # fmt: skip


@given(seed=seeds, n_categories=st.integers(1, 2), options=options)
@settings(max_examples=150, deadline=None)
def test_cocos_tables_are_pycocotools_to_the_bit(seed, n_categories, options):
    truth, found = scene(seed, n_categories)
    precision, recall = coco_by_pycocotools(
        pair_up(truth, found), iou_thresholds=options.iou_thresholds, area_ranges=options.area_ranges,
        max_detections=options.max_detections,
    )  # fmt: skip
    ours = coco_evaluation(truth, found, options)
    assert np.array_equal(ours.precision, precision[..., -1])
    assert np.array_equal(ours.recall, recall)


@given(seed=seeds, n_categories=st.integers(1, 2), metric=st.sampled_from(METRICS))
@settings(max_examples=120, deadline=None)
def test_every_metric_is_its_reference(seed, n_categories, metric):
    truth, found = scene(seed, n_categories)
    if seed % 2:
        found = found.replace(file_order=np.random.default_rng(seed).permutation(len(found)))
    fast, slow = evaluate(metric, truth, found).value, score_by_reference(metric, truth, found)
    assert math.isnan(fast) == math.isnan(slow)
    assert math.isnan(fast) or abs(fast - slow) <= (0 if metric == "coco_segm" else 1e-12)


def test_masks_without_pixels_and_no_images():
    truth, found = scene(3, 2)
    hollow = found.replace(masks=type(found.masks).from_bits(BitMasks.empty(len(found))))
    for metric in METRICS:
        assert evaluate(metric, truth, hollow).value == pytest.approx(
            score_by_reference(metric, truth, hollow)
        )


def test_an_unknown_metric_is_refused():
    with pytest.raises(InputError, match="no metric 'map'"):
        score_by_reference("map", *scene(0, 1))


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"iou_thresholds": (0.0, 0.5)}, "IoU threshold 0"),
        ({"iou_thresholds": ()}, "at least one"),
        ({"area_ranges": {}}, "at least one"),
        ({"max_detections": (10, 1)}, "ascending"),
        ({"max_detections": ()}, "ascending"),
    ],
)
def test_bad_options_are_refused(values, words):
    with pytest.raises(InputError, match=words):
        CocoOptions(**values)
