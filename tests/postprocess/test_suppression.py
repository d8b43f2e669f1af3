import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hubmap_ml.fusion import non_maximum_suppression, soft_suppression
from hubmap_ml.spec import InputError
from tests.postprocess.dense import decided_set, same_sets, seeds, stepped
from tests.random_scenes import predictions


@given(
    seed=seeds,
    by=st.sampled_from(["box", "mask"]),
    measure=st.sampled_from(["iou", "ios"]),
    across=st.booleans(),
)
@settings(max_examples=40, deadline=None)
def test_each_image_is_suppressed_as_fusion_does_it(seed, by, measure, across):
    found = decided_set(seed)
    values = {"iou": 0.4, "by": by, "measure": measure, "across_classes": across}
    result = stepped(found, nms=values)
    for row in range(len(found.images)):
        expected = non_maximum_suppression(
            found.image(row), iou_threshold=0.4, by=by, measure=measure, across_classes=across
        )
        assert result.image(row).source.tolist() == expected.source.tolist()
    assert same_sets(stepped(result, nms=values), result)


def test_what_is_inside_another_is_suppressed_over_the_smaller_one():
    found = predictions(1, count=40)
    assert len(stepped(found, nms={"iou": 0.5, "measure": "ios"})) < len(stepped(found, nms={"iou": 0.5}))
    found = found.replace(labels=np.arange(len(found)) % 2)
    assert len(stepped(found, nms={"iou": 0.5, "across_classes": True})) < len(
        stepped(found, nms={"iou": 0.5})
    )


@pytest.mark.parametrize("method", ["linear", "gaussian"])
def test_soft_suppression_re_scores_and_re_sorts(method):
    found = predictions(1, count=40)
    values = {"method": method, "iou": 0.3, "sigma": 0.2, "min_score": 0.02}
    result = stepped(found, soft_nms=values)
    expected = soft_suppression(found, method=method, iou_threshold=0.3, sigma=0.2, min_score=0.02)
    assert np.array_equal(result.scores, expected.scores)
    assert np.array_equal(result.boxes, expected.boxes)
    for row in range(len(found.images)):
        assert (np.diff(result.image(row).scores) <= 0).all()
    # What comes after goes by the new scores.
    best = stepped(found, soft_nms=values, score=0.5, max_per_image=3)
    for row in range(len(found.images)):
        scores = result.image(row).scores
        assert np.array_equal(best.image(row).scores, scores[scores >= np.float32(0.5)][:3])


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ({"method": "hard"}, "soft_nms.method is 'hard'; allowed: linear, gaussian"),
        ({"iou": 0}, "soft_nms.iou is 0; a number above 0 to 1"),
        ({"sigma": 0}, "soft_nms.sigma is 0; a number above 0"),
        ({"min_score": 2}, "soft_nms.min_score is 2; a number from 0 to 1"),
        ({"thr": 2}, "unknown key 'thr'; allowed: method, iou, sigma, min_score"),
        (0.5, "soft_nms is 0.5; a mapping of method, iou, sigma, min_score"),
    ],
)
def test_bad_values_are_one_line(value, words):
    with pytest.raises(InputError, match=words):
        stepped(predictions(0), soft_nms=value)
