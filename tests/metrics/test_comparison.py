"""Several sets on common images: scores with both intervals, the table by slide, and verdicts in words."""

import numpy as np
import pytest

from hubmap_ml.metrics import Gain, Interval, compare_sets, evaluate, score_interval
from hubmap_ml.spec import InputError
from tests.random_scenes import images, predictions, truths


def on_slides(table, n_slides):
    return table.replace(slides=np.array([f"s{k % n_slides:02}" for k in range(len(table))], object))


def scene(count, n_slides):
    table = on_slides(images(count, n_folds=1), n_slides)
    target = truths(1, table=table, empty=(2,))
    good = predictions(1, table=table, objects_seed=1, count=12)
    poor = good.take(np.arange(len(good)) % 3 == 0)  # two of three finds are lost
    return target, good, poor


def test_two_sets_on_few_slides():
    target, good, poor = scene(24, 3)
    found = compare_sets("ap60", target, {"poor": poor, "good": good}, resamples=400)
    assert [score.value for score in found.scores] == [
        pytest.approx(evaluate("ap60", target, item).value, abs=1e-12) for item in (poor, good)
    ]
    assert (found.n_images, found.n_truths, found.n_folds) == (24, len(target), 1)
    gain = found.gains[0]
    assert gain.value == pytest.approx(found.scores[1].value - found.scores[0].value)
    assert gain.verdict == "better"
    assert gain.probability > 0.95
    assert gain.in_words().startswith("good is better than poor on these slides (+")
    assert gain.in_words().endswith("; on new slides not estimable from 3 slides")
    for score in found.scores:
        assert score.on_these.words == "bootstrap over 24 images on 3 slides"
        assert score.on_these.low < score.value < score.on_these.high
        assert score.on_new.words == "not estimable from 3 slides"
        assert score.pooled == score.value  # one fold
    for row in found.slides:
        rows = np.flatnonzero(target.images.slides == row.slide)
        assert row.n_images == len(rows) == 8
        for item, value in zip((poor, good), row.values, strict=True):
            assert value == pytest.approx(
                evaluate("ap60", target.take_images(rows), item.take_images(rows)).value
            )
    worst = min(found.slides, key=lambda row: row.values[1])
    assert (found.scores[1].worst_slide, found.scores[1].worst_value) == (worst.slide, worst.values[1])
    least = min(found.slides, key=lambda row: row.values[1] - row.values[0])
    assert (gain.worst_slide, gain.worst_value) == (least.slide, least.values[1] - least.values[0])


def test_more_slides_say_more_about_new_ones():
    target, good, poor = scene(30, 6)
    found = compare_sets("ap60", target, {"poor": poor, "good": good}, resamples=200)
    assert found.gains[0].on_new.words == "t interval over the scores of 6 slides"
    assert "on new slides the same holds" in found.gains[0].in_words()
    target, good, poor = scene(32, 16)
    found = compare_sets("ap60", target, {"poor": poor, "good": good}, resamples=200)
    assert found.gains[0].on_new.words == "bootstrap over 16 slides"


def test_the_order_of_the_sets_turns_the_verdict_round():
    target, good, poor = scene(24, 3)
    found = compare_sets("ap60", target, {"good": good, "poor": poor}, resamples=200)
    assert found.gains[0].verdict == "worse"


def test_one_score_has_the_interval_that_it_has_beside_others():
    target, good, poor = scene(24, 3)
    interval = score_interval("ap60", target, good, resamples=200)
    assert (
        interval
        == compare_sets("ap60", target, {"poor": poor, "good": good}, resamples=200).scores[1].on_these
    )
    assert interval.to_metrics("val/score") == {
        "val/score_low": interval.low,
        "val/score_high": interval.high,
    }
    nothing = score_interval("ap60", target.take_images([2]), good)
    assert nothing == Interval(None, None, "not estimable from 1 images without a truth")
    assert nothing.to_metrics("val/score") == {}


def test_no_truth_on_the_common_images_is_refused():
    target, good, _ = scene(24, 3)
    with pytest.raises(InputError, match="hold no truth"):
        compare_sets("ap60", target.take_images([2]), {"good": good})
    with pytest.raises(InputError, match="no metric 'map'"):
        compare_sets("map", target, {"good": good})


@pytest.mark.parametrize(
    ("these", "new", "words"),
    [
        ((0.01, 0.03), None, "b is better than a on these slides (+0.0200, 95 % +0.0100 to +0.0300); on new slides "
         "why"),
        ((-0.01, 0.05), (-0.1, 0.2), "b and a cannot be told apart on these slides (+0.0200, 95 % -0.0100 to +0.0500); "
         "on new slides not certain (95 % -0.1000 to +0.2000)"),
        ((0.01, 0.03), (0.005, 0.2), "b is better than a on these slides (+0.0200, 95 % +0.0100 to +0.0300); on new "
         "slides the same holds (95 % +0.0050 to +0.2000)"),
        (None, None, "b +0.0200 against a: why; on new slides why"),
    ],
)  # fmt: skip
def test_verdicts_in_words(these, new, words):
    def interval(ends):
        return Interval(None, None, "why") if ends is None else Interval(*ends, "how")

    gain = Gain("a", "b", 0.02, interval(these), interval(new), 0.9, "", float("nan"))
    assert gain.in_words() == words
