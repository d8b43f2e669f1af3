import numpy as np
import pytest

from hubmap_ml.ensembling import compare_files, folds_of_images
from hubmap_ml.instances import Images, Instances, Masks, PredictionSet
from hubmap_ml.metrics import evaluate
from hubmap_ml.postprocess import apply_steps, parse_steps
from hubmap_ml.spec import InputError
from tests.random_scenes import CATEGORIES, images, predictions, truths

TABLE = images(8, n_folds=4)


def bits(one):
    return one.replace(masks=Masks.from_bits(one.masks.binarize(0.5, 96, 128)))


def noisy_truth(truth, seed, *, share, strays=0):
    """A member that finds a random share of the truths, with falling scores, and as many strays."""
    rng = np.random.default_rng(seed)
    found = []
    for row in range(len(truth.images)):
        rows = np.arange(truth.offsets[row], truth.offsets[row + 1])
        rows = rows[rng.random(len(rows)) < share]
        masks = truth.masks.take(rows)
        found.append(Instances.build(
            truth.boxes[rows], rng.uniform(0.4, 1, len(rows)), truth.labels[rows], masks=masks, height=96, width=128,
        ))  # fmt: skip
    return PredictionSet.from_instances(truth.images, CATEGORIES, found)


def test_members_that_miss_different_objects_are_better_together():
    truth = truths(3, table=TABLE)
    members = {f"m{k}": noisy_truth(truth, k, share=0.6) for k in range(3)}
    found = compare_files(truth, members)
    single, plain, weighted = found.ways
    assert [way.name for way in found.ways] == ["best single", "plain WBF", "weighted WBF"]
    assert plain.cross_fitted > single.cross_fitted + 0.1
    assert found.best in (plain, weighted)
    assert single.refitted == max(way.refitted for way in found.members)
    assert weighted.refitted >= plain.refitted


def test_a_bad_member_does_not_get_the_word():
    truth = truths(3, table=TABLE)
    good = noisy_truth(truth, 0, share=0.95)
    members = {
        "good": good,
        "bad": bits(predictions(5, table=TABLE, objects_seed=77)),
        "worse": bits(predictions(6, table=TABLE, objects_seed=78)),
    }
    found = compare_files(truth, members)
    assert found.ways[0].setting["member"] == "good"
    assert found.best is found.ways[0]


def test_the_refitted_score_is_what_the_setting_gives_and_no_fold_chooses_for_itself():
    truth = truths(3, table=TABLE)
    members = {f"m{k}": predictions(k, table=TABLE, objects_seed=3, count=12) for k in range(2)}
    found = compare_files(truth, members)
    assert np.array_equal(found.folds, TABLE.folds)
    assert "own folds" in found.split
    for way in found.members:
        steps = parse_steps(
            [{"mask_threshold": way.setting["mask_threshold"]}, {"score": way.setting["score"]}]
        )
        made = apply_steps(members[way.name], steps)
        parts = [np.flatnonzero(TABLE.folds == fold) for fold in range(4)]
        scores = [evaluate("ap60", truth.take_images(rows), made.take_images(rows)).value for rows in parts]
        assert way.refitted == pytest.approx(np.mean(scores))
        assert way.cross_fitted <= way.refitted + 1e-12


def test_slides_stay_together_and_folds_are_of_like_size():
    table = (
        images(30, n_folds=1).replace(folds=np.full(30, -1, np.int16))
        if hasattr(images(1), "replace")
        else None
    )
    slides = [f"slide_{k % 7}" for k in range(30)]
    table = Images.build(ids=[str(k) for k in range(30)], heights=9, widths=9, slides=slides)
    folds, said = folds_of_images(table, n_folds=5, seed=1)
    assert "whole slides" in said
    assert len(np.unique(folds)) == 5
    for slide in set(slides):
        assert len({folds[k] for k in range(30) if slides[k] == slide}) == 1
    assert np.array_equal(folds, folds_of_images(table, n_folds=5, seed=1)[0])
    bare = Images.build(ids=[str(k) for k in range(31)], heights=9, widths=9)
    folds, said = folds_of_images(bare, n_folds=5, seed=1)
    assert "no slides are known" in said
    assert np.ptp(np.bincount(folds)) <= 1
    assert not np.array_equal(folds, folds_of_images(bare, n_folds=5, seed=2)[0])


def test_what_cannot_be_compared_is_said():
    truth = truths(3, table=TABLE)
    one = predictions(1, table=TABLE, objects_seed=3)
    with pytest.raises(InputError, match="an ensemble of 1 members"):
        compare_files(truth, {"a": one})
    with pytest.raises(InputError, match="b: these predictions have no masks"):
        compare_files(truth, {"a": one, "b": one.replace(masks=None)})
    with pytest.raises(InputError, match="no image of the truth holds an annotation"):
        compare_files(truths(3, table=TABLE, empty=range(8)), {"a": one, "b": one})
    with pytest.raises(InputError, match="fewer than two images"):
        folds_of_images(TABLE.take([0]), n_folds=5, seed=0)
