import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hubmap_ml.ensembling import compare_candidates
from hubmap_ml.instances import Category, Images, Instances, Masks, PredictionSet, SoftMasks

FLOOR = 0.001


def candidates(seed: int, counts=(30, 0, 12)) -> PredictionSet:
    rng = np.random.default_rng(seed)
    images = Images.build(ids=[f"i{k}" for k in range(len(counts))], heights=[100] * 3, widths=[80] * 3)
    found = []
    for n in counts:
        corners = rng.uniform(0, 60, (n, 2))
        boxes = np.hstack([corners, corners + rng.uniform(5, 20, (n, 2))]).astype(np.float32)
        scores = np.sort(rng.uniform(0.01, 1, n))[::-1].astype(np.float32)
        crops = list(rng.integers(0, 255, (n, 28, 28)).astype(np.uint8))
        masks = Masks.from_soft(SoftMasks.from_crops(crops, boxes))
        labels, source = rng.integers(0, 2, n), rng.integers(0, 2, n)
        found.append(Instances.build(boxes, scores, labels, masks=masks, source=source, height=100, width=80))
    return PredictionSet.from_instances(
        images, (Category(1, "a"), Category(2, "b")), found, ("none", "hflip")
    )


def change(found: PredictionSet, **arrays) -> PredictionSet:
    return found.replace(**arrays)


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 10**6))
def test_the_order_within_an_image_does_not_matter(seed):
    found = candidates(seed)
    rng = np.random.default_rng(seed)
    order = np.concatenate(
        [rng.permutation(np.arange(a, b)) for a, b in zip(found.offsets[:-1], found.offsets[1:], strict=True)]
    ).astype(np.int64)
    result = compare_candidates(found, found.take(order), floor=FLOOR)
    assert (result.problem, result.score, result.box, result.pixels) == ("", 0, 0, 1)
    assert (result.n_images, result.n_instances) == (3, 42)


def test_small_differences_are_said_and_pass():
    found = candidates(1)
    other = change(found, scores=found.scores + np.float32(5e-5), boxes=found.boxes + np.float32(5e-3))
    result = compare_candidates(found, other, floor=FLOOR)
    assert not result.problem
    assert result.score == pytest.approx(5e-5, rel=0.01)
    assert result.box == pytest.approx(5e-5, rel=0.01)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        (lambda found: change(found, scores=found.scores * np.float32(0.99)), "have no counterpart"),
        (lambda found: change(found, boxes=found.boxes + np.float32(0.5)), "have no counterpart"),
        (lambda found: change(found, labels=1 - found.labels), "have no counterpart"),
        (lambda found: found.take(np.arange(1, 42)), "1 of 30 candidates recorded have no counterpart"),
        (lambda found: found.take_images([0, 2, 1]), "other images"),
    ],
)
def test_a_difference_is_named(changed, said):
    found = candidates(2)
    assert said in compare_candidates(found, changed(found), floor=FLOOR).problem


def test_one_more_candidate_is_a_difference_too():
    found = candidates(3)
    assert "found now" in compare_candidates(found.take(np.arange(1, 42)), found, floor=FLOOR).problem


def test_candidates_at_the_floor_may_come_and_go():
    found = candidates(4)
    scores = found.scores.copy()
    scores[29] = FLOOR + 5e-5
    found = change(found, scores=scores)
    without = found.take(np.delete(np.arange(42), 29))
    assert not compare_candidates(found, without, floor=FLOOR).problem


@pytest.mark.parametrize(("share", "passes"), [(0.0005, True), (0.01, False)])
def test_masks_agree_on_nearly_all_pixels(share, passes):
    found = candidates(5)
    rng = np.random.default_rng(5)
    values = found.masks.soft.values.copy()
    far = rng.random(len(values)) < share
    values[far] ^= 64
    values[~far] = np.where(values[~far] < 255, values[~far] + 1, 254)  # a step everywhere is allowed
    soft = SoftMasks(values, found.masks.soft.offsets, found.masks.soft.shapes, found.masks.soft.boxes)
    result = compare_candidates(found, change(found, masks=Masks.from_soft(soft)), floor=FLOOR)
    assert (not result.problem) == passes
    assert result.pixels == pytest.approx(1 - share, abs=0.004)
