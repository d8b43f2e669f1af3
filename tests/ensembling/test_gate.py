import dataclasses
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hubmap_ml.ensembling import (
    FoldRecord,
    MemberRecord,
    VersionRecord,
    champion,
    check_member,
    promoted,
    version_tags,
)
from hubmap_ml.spec import LeakLevel


def record(*folds, expected=(0, 1), headline=0.5, leak=LeakLevel.NONE):
    return MemberRecord("r50", expected, folds, headline, "data", leak)


def test_a_trial_that_failed_and_images_that_few_others_know_are_findings():
    good = record(fold(0), fold(1))
    for changes, check, words in (
        ({"trial": "ValueError: no"}, "trial", "ValueError: no"),
        ({"reproduces": False, "reproduction": "image 3 differs"}, "reproduces", "image 3 differs"),
        ({"overlap": 0.05}, "overlap", "predicted 5%"),
    ):
        result = check_member(dataclasses.replace(good, **changes), min_overlap=0.1)
        assert failed(result) == [check]
        assert words in result.verdict


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, "2 folds"),
        ({"expected_folds": (3,)}, "single fold: its thresholds were tuned on the images that score it"),
        ({"proxy_of": "demo.r50"}, "none: by proxy of demo.r50"),
    ],
)
def test_what_a_score_is_stands_in_the_tags(changes, said):
    tags = check_member(dataclasses.replace(record(fold(0), fold(1)), **changes)).tags()
    assert tags["hubmap.own_cv"] == said
    assert tags.get("hubmap.score_by_proxy_of") == changes.get("proxy_of")


def fold(number, *, digest=None, score=0.5, problem=""):
    return FoldRecord(number, f"run_{number}", digest or f"weights_{number}", score, problem)


def failed(result):
    return [finding.check for finding in result.findings if not finding.passed]


def test_a_complete_member_passes():
    result = check_member(record(fold(1), fold(0)))
    assert result.passed
    assert result.verdict == "passed"
    assert promoted([VersionRecord("demo.r50", 1, result.tags())], line="data", best=1)


@pytest.mark.parametrize(
    ("folds", "headline", "check", "words"),
    [
        ([fold(0)], 0.5, "folds", r"folds \[0\] of \[0, 1\]"),
        ([], 0.5, "folds", "folds"),
        ([fold(0), fold(0, digest="other"), fold(1)], 0.5, "folds", r"\[0, 0, 1\]"),
        (
            [fold(0), fold(1, problem="config.json is missing")],
            0.5,
            "loads",
            "fold 1: config.json is missing",
        ),
        ([fold(0), fold(1, score=math.nan)], 0.5, "finite", "fold 1"),
        ([fold(0), fold(1)], math.inf, "finite", "the headline"),
        ([fold(0), fold(1, digest="weights_0")], 0.5, "distinct", "1 weights in 2 folds"),
        ([fold(0), fold(1)], 0.1, "score", "headline 0.1000, at least 0.2 wanted"),
    ],
)
def test_each_check_fails_alone_and_says_why(folds, headline, check, words):
    result = check_member(record(*folds, headline=headline), min_score=0.2)
    assert failed(result) == [check]
    assert not result.passed
    with pytest.raises(AssertionError, match=words):
        raise AssertionError(result.verdict)
    assert result.tags()[f"hubmap.gate.{check}"].startswith("FAILED")
    assert not promoted([VersionRecord("demo.r50", 1, result.tags())], line="data", best=1)


def test_a_headline_that_is_no_number_fails_also_the_score():
    assert set(failed(check_member(record(fold(0), fold(1), headline=math.nan)))) == {"finite", "score"}


@pytest.mark.parametrize("level", list(LeakLevel))
def test_scored_images_that_were_trained_on_fail_the_gate_and_lesser_leaks_are_told(level):
    result = check_member(record(fold(0), fold(1), leak=level))
    assert failed(result) == (["leak"] if level in (LeakLevel.DUPLICATE, LeakLevel.TRAINED_ON) else [])
    tags = result.tags()
    assert tags["hubmap.leak_level"] == str(level)
    assert tags["hubmap.gate.leak"] == f"{'ok' if result.passed else 'FAILED'}: leak level {level}"
    promotable = promoted([VersionRecord("demo.r50", 1, tags)], line="data", best=1)
    assert bool(promotable) == result.passed


def version(name, number, headline, *, data="data", verdict="passed"):
    return VersionRecord(name, number, version_tags(headline, data, verdict=verdict))


def test_of_each_member_the_best_version_and_of_these_the_best():
    versions = [
        version("a", 1, 0.5),
        version("a", 2, 0.7),
        version("b", 1, 0.6),
        version("c", 1, 0.4),
        version("d", 1, 0.9, data="older data"),
        version("e", 1, 0.9, verdict="failed: folds [0] of [0, 1]"),
    ]
    chosen = promoted(versions, line="data", best=2)
    assert [(v.name, v.version) for v in chosen] == [("a", 2), ("b", 1)]


def test_equal_headlines_keep_the_earlier_version():
    assert promoted([version("a", 2, 0.5), version("a", 1, 0.5)], line="data", best=1)[0].version == 1
    assert champion([version("a", 3, 0.5), version("a", 2, 0.5)], line="data").version == 2


def test_the_champion_is_the_best_that_passed_on_this_data():
    versions = [
        version("e", 1, 0.5),
        version("e", 2, 0.6),
        version("e", 3, 0.9, data="other"),
        version("e", 4, 0.55),
    ]
    assert champion(versions, line="data").version == 2
    assert champion(versions, line="nothing yet") is None


def test_versions_without_our_tags_are_never_promoted():
    assert promoted([VersionRecord("a", 1, {})], line="data", best=5) == ()
    assert champion([VersionRecord("a", 1, {"hubmap.headline": "high"})], line="data") is None


records = st.builds(
    version, st.sampled_from("abc"), st.integers(1, 9), st.floats(0, 1) | st.just(math.nan),
    data=st.sampled_from(["data", "other"]), verdict=st.sampled_from(["passed", "failed: x"]),
)  # fmt: skip


@given(st.lists(records, unique_by=lambda v: (v.name, v.version)), st.randoms())
def test_promotion_does_not_depend_on_the_order_in_which_versions_are_read(versions, random):
    shuffled = list(versions)
    random.shuffle(shuffled)
    for rule in (
        lambda found: promoted(found, line="data", best=2),
        lambda f: champion(f, line="data"),
    ):
        assert rule(versions) == rule(shuffled)
