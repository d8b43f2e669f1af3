import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hubmap_ml.instances import Instances, PredictionSet
from hubmap_ml.spec import InputError
from tests.postprocess.dense import CLASSES, decided_set, same_sets, seeds, stepped
from tests.random_scenes import images


@given(seed=seeds, rule=st.sampled_from(["majority", "score_sum"]))
@settings(max_examples=80, deadline=None)
def test_every_instance_gets_the_class_of_its_image(seed, rule):
    found = decided_set(seed)
    result = stepped(found, image_class={"rule": rule})
    for image in range(len(found.images)):
        one = found.image(image)
        if len(one):
            counts = [int((one.labels == label).sum()) for label in range(3)]
            sums = [float(one.scores[one.labels == label].sum()) for label in range(3)]  # eighths: exact
            pairs = list(zip(counts, sums, strict=True))
            if rule == "score_sum":
                pairs = [(total, count) for count, total in pairs]
            assert set(result.image(image).labels.tolist()) == {pairs.index(max(pairs))}
    assert same_sets(result.replace(labels=found.labels), found)
    assert same_sets(stepped(result, image_class={"rule": rule}), result)


@pytest.mark.parametrize(
    ("labels", "scores", "rule", "expected"),
    [
        ([0, 1, 1], [0.9, 0.2, 0.1], "majority", 1),
        ([0, 1, 1], [0.9, 0.2, 0.1], "score_sum", 0),
        ([2, 1], [0.5, 0.25], "majority", 2),
        ([2, 1], [0.5, 0.5], "majority", 1),
        ([2, 1, 1], [0.5, 0.25, 0.25], "score_sum", 1),
        ([2, 1], [0.5, 0.5], "score_sum", 1),
    ],
)
def test_ties_are_decided_by_the_other_measure_and_then_by_the_order_of_classes(
    labels, scores, rule, expected
):
    one = Instances.build(np.zeros((len(labels), 4)), scores, labels, masks=None, height=8, width=8)
    found = PredictionSet.from_instances(images(1, height=8, width=8), CLASSES, [one])
    assert set(stepped(found, image_class={"rule": rule}).labels.tolist()) == {expected}


def test_an_unknown_rule_is_one_line():
    with pytest.raises(InputError, match="image_class.rule is 'most'; allowed: majority, score_sum"):
        stepped(decided_set(0), image_class={"rule": "most"})
