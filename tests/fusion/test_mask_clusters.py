"""Clusters by the overlap of masks."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as coco

from hubmap_ml.fusion import FusionOptions, MaskFusion, fuse
from hubmap_ml.instances import BitMasks, Instances, Masks, PredictionSet
from hubmap_ml.spec import InputError
from tests.random_scenes import CATEGORIES, images, predictions

HEIGHT, WIDTH = 96, 128


@given(
    seed=st.integers(0, 2**31), iou_threshold=st.floats(0.2, 0.8), method=st.sampled_from(["wbf", "nmw", "nms"]),
    bits=st.sampled_from([0.0, 0.5, 1.0]),
)  # fmt: skip
@settings(max_examples=30, deadline=None)
def test_each_joins_the_seed_that_it_shares_most_pixels_with(seed, iou_threshold, method, bits):
    members = [
        predictions([seed, k], objects_seed=seed % 5, count=15, n_objects=4, bits=bits) for k in range(3)
    ]
    fused = fuse(members, FusionOptions(method=method, iou_threshold=iou_threshold, by="mask"))
    stacked = PredictionSet.stack_sources(members, ["member_0", "member_1", "member_2"])
    found = {tuple(np.split(fused.member_rows, fused.cluster_offsets[1:-1])[k]) for k in range(len(fused))}
    expected = set()
    pixels = stacked.masks.binarize(0.5, HEIGHT, WIDTH)
    texts = [{"size": [HEIGHT, WIDTH], "counts": text} for text in pixels.to_rle(HEIGHT, WIDTH)]
    for image in range(len(stacked.images)):
        rows = np.arange(stacked.offsets[image], stacked.offsets[image + 1])
        clusters = []
        for row in sorted(rows, key=lambda r: (-stacked.scores[r], r)):
            overlap = [
                coco.iou([texts[row]], [texts[one[0]]], [0])[0, 0]
                if stacked.labels[row] == stacked.labels[one[0]]
                else 0
                for one in clusters
            ]
            best = int(np.argmax(overlap)) if overlap else -1
            if best >= 0 and overlap[best] > iou_threshold:
                clusters[best].append(row)
            else:
                clusters.append([row])
        expected |= {tuple(one) for one in clusters}
    assert found == expected


def member(*masks_and_scores):
    boxes = [[0, 0, 40, 40]] * len(masks_and_scores)
    masks = Masks.from_bits(BitMasks.from_dense([mask for mask, _ in masks_and_scores]))
    scores = [score for _, score in masks_and_scores]
    found = Instances.build(boxes, scores, masks=masks, height=HEIGHT, width=WIDTH)
    return PredictionSet.from_instances(images(1), CATEGORIES, [found])


def test_two_objects_in_one_box_stay_two():
    upper, lower = np.zeros((2, HEIGHT, WIDTH), bool)
    upper[:18, :40] = True
    lower[20:40, :40] = True
    members = [member((upper, 0.9), (lower, 0.8)), member((upper, 0.7), (lower, 0.6))]
    by_box = fuse(members, FusionOptions(by="box"))
    by_mask = fuse(members, FusionOptions(by="mask", masks=MaskFusion("union")))
    assert len(by_box) == 1
    assert len(by_mask) == 2
    assert by_mask.masks.bits.areas().tolist() == [upper.sum(), lower.sum()]
    assert np.allclose(by_mask.scores, [0.8, 0.7])


def test_boxes_alone_cannot_be_clustered_by_mask():
    bare = predictions(0).replace(masks=None)
    with pytest.raises(InputError, match="needs masks"):
        fuse([bare, bare], FusionOptions(by="mask"))


def test_options_that_do_not_fit_are_refused():
    for broken, words in (
        ({"method": "soup"}, "allowed: wbf, nmw, nms"),
        ({"by": "contour"}, "allowed: box, mask"),
        ({"method": "nms", "conf_type": "max"}, "an option of wbf"),
    ):
        with pytest.raises(InputError, match=words):
            FusionOptions(**broken)
