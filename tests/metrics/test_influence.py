import numpy as np
import pytest

from hubmap_ml.metrics import evaluate, headline
from hubmap_ml.metrics.influence import influence
from hubmap_ml.metrics.intervals import Folded
from hubmap_ml.metrics.judging import judge
from tests.random_scenes import images, predictions, truths


@pytest.mark.parametrize("metric", ["ap60", "dsb_map"])
def test_an_image_pulls_by_what_the_others_score_without_it(metric):
    table = images(300 if metric == "dsb_map" else 9, n_folds=3, height=32, width=32)
    target = truths(1, table=table, n_objects=2)
    found = predictions(1, table=table, objects_seed=1, count=4)
    sets = Folded.build(table, table.folds, [judge(metric, target, found)])
    pulls = influence(sets)
    assert pulls.shape == (1, len(table))

    def score(rows):
        parts = [rows[table.folds[rows] == fold] for fold in range(3)]
        return headline([evaluate(metric, target.take_images(p), found.take_images(p)) for p in parts])

    everything = np.arange(len(table))
    for row in (0, 4, len(table) - 1):
        expected = score(np.delete(everything, row)) - score(everything)
        assert pulls[0, row] == pytest.approx(expected, abs=1e-12)
