import json
from pathlib import Path

import numpy as np
import pytest

from hubmap_ml.ensembling import LabelCounts, LabelRule, as_annotations, pseudo_labels
from hubmap_ml.fusion import FusionOptions, MaskFusion
from hubmap_ml.instances import (
    BitMasks,
    Instances,
    Masks,
    PredictionSet,
    join_annotations,
    read_coco,
    write_coco,
)
from hubmap_ml.spec import InputError
from tests.random_scenes import CATEGORIES, images

VOTES = FusionOptions(masks=MaskFusion("votes", vote_share=0.5), skip_score=0.01)
SIDE = 32


def square(x: int, y: int, side: int) -> np.ndarray:
    mask = np.zeros((SIDE, SIDE), bool)
    mask[y : y + side, x : x + side] = True
    return mask


def opinion(found: dict[int, list[tuple[int, int, int, float]]], count: int = 4) -> PredictionSet:
    """A teacher: by image the squares (x, y, side, score) that it sees."""
    each = []
    for row in range(count):
        squares = found.get(row, [])
        if not squares:
            each.append(Instances.empty(SIDE, SIDE))
            continue
        masks = Masks.from_bits(BitMasks.from_dense([square(x, y, side) for x, y, side, _ in squares]))
        boxes = np.array([[x, y, x + side, y + side] for x, y, side, _ in squares], np.float32)
        scores = np.array([score for *_, score in squares], np.float32)
        each.append(Instances.build(boxes, scores, 0, masks=masks, height=SIDE, width=SIDE))
    return PredictionSet.from_instances(images(count, height=SIDE, width=SIDE), CATEGORIES, each)


A = opinion({0: [(2, 2, 10, 0.9), (20, 20, 8, 0.8)], 1: [(5, 5, 3, 0.9)]})
B = opinion({0: [(2, 2, 10, 0.7)], 1: [(5, 5, 3, 0.9)]})


def test_what_two_teachers_see_becomes_a_label_and_every_image_stays() -> None:
    labels, counts = pseudo_labels([A, B], LabelRule(VOTES, score=0.5), names=["a", "b"])
    assert list(labels.images.ids) == list(A.images.ids), "images without labels are entries too"
    assert np.diff(labels.offsets).tolist() == [1, 1, 0, 0]
    assert labels.scores[0] == pytest.approx(0.8)
    # What one of two teachers saw at .8 counts .4: fused scores are shared out over all teachers.
    assert counts == LabelCounts(fused=3, under_score=1, labels=2)


def test_agreement_counts_teachers_and_not_boxes() -> None:
    twice = opinion({0: [(2, 2, 10, 0.9), (2, 2, 10, 0.8)]})
    nothing = opinion({})
    rule = LabelRule(VOTES, score=0.1, agreement=2)
    labels, counts = pseudo_labels([twice, nothing], rule, names=["a", "b"])
    assert len(labels) == 0
    assert counts.under_agreement == 1
    labels, counts = pseudo_labels([A, B], rule, names=["a", "b"])
    assert (counts.labels, counts.under_agreement) == (2, 1)


def test_small_labels_are_dropped_and_counted() -> None:
    labels, counts = pseudo_labels([A, B], LabelRule(VOTES, score=0.5, min_area=10), names=["a", "b"])
    assert (counts.under_area, counts.labels) == (1, 1)
    assert labels.masks is not None
    assert labels.masks.bits.areas().tolist() == [100]


def test_members_without_a_common_pixel_leave_no_empty_label() -> None:
    """The reference fell over an empty fused mask."""
    left, right = np.zeros((SIDE, SIDE), bool), np.zeros((SIDE, SIDE), bool)
    left[2:12, 2:7], right[2:12, 7:12] = True, True
    each = []
    for mask in (left, right):
        found = Instances.build(
            np.array([[2, 2, 12, 12]], np.float32),
            np.array([0.9], np.float32),
            0,
            masks=Masks.from_bits(BitMasks.from_dense([mask])),
            height=SIDE,
            width=SIDE,
        )
        each.append(PredictionSet.from_instances(images(1, height=SIDE, width=SIDE), CATEGORIES, [found]))
    rule = LabelRule(FusionOptions(masks=MaskFusion("intersection")), score=0.5)
    labels, counts = pseudo_labels(each, rule, names=["a", "b"])
    assert len(labels) == 0
    assert counts == LabelCounts(fused=1, without_pixels=1)


@pytest.mark.parametrize("agreement", [0, 3])
def test_more_agreement_than_teachers_is_refused(agreement: int) -> None:
    with pytest.raises(InputError, match="2 teachers"):
        pseudo_labels([A, B], LabelRule(VOTES, agreement=agreement), names=["a", "b"])


@pytest.mark.parametrize("count", [1, 99, 100, 199])
def test_no_tile_is_lost_in_the_written_file(tmp_path: Path, count: int) -> None:
    """The reference wrote at every hundredth tile and lost the last 99."""
    teacher = opinion({row: [(2, 2, 6, 0.9)] for row in range(count) if row % 3}, count)
    labels, _ = pseudo_labels([teacher], LabelRule(VOTES), names=["a"])
    write_coco(tmp_path / "labels.json", as_annotations(labels), info={"generation": 2})
    back = read_coco(tmp_path / "labels.json")
    assert list(back.images.ids) == list(teacher.images.ids)
    assert np.diff(back.offsets).tolist() == [int(row % 3 > 0) for row in range(count)]
    assert json.loads((tmp_path / "labels.json").read_text())["info"] == {"generation": 2}


def test_labels_join_the_truth_of_other_images() -> None:
    labels, _ = pseudo_labels([A, B], LabelRule(VOTES), names=["a", "b"])
    made = as_annotations(labels)
    truth = made.replace(images=images(4, height=SIDE, width=SIDE, prefix="truth"))
    both = join_annotations(truth, made)
    assert [*both.images.ids] == [*truth.images.ids, *made.images.ids]
    assert np.diff(both.offsets).tolist() == [1, 1, 0, 0, 1, 1, 0, 0]
    assert len(set(both.ids.tolist())) == len(both) == 4
    assert np.array_equal(both.masks.bits.areas(), np.tile(made.masks.bits.areas(), 2))
    with pytest.raises(InputError, match="both"):
        join_annotations(made, made)
