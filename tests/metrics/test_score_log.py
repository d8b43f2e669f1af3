"""What a log says: whom to trust, which ranks are inverted, which two to keep."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hubmap_ml.metrics import ScoreLogFindings, read_score_log
from hubmap_ml.spec import LoggedSubmission
from hubmap_ml.submission import read_score_table

PUBLISHED = Path(__file__).parents[1] / "submission" / "sartorius_submissions.md"


def simulated(
    n: int = 20, *, cv_noise: float, board_noise: float, seed: int = 0, sign: int = 1
) -> list[LoggedSubmission]:
    """Submissions of known quality, seen through noise; all private scores are known."""
    rng = np.random.default_rng(seed)
    quality = rng.normal(0.5, 0.03, n)
    cv, public, private = (quality + rng.normal(0, noise, n) for noise in (cv_noise, board_noise, 0.002))
    return [
        LoggedSubmission(
            f"v{k}", model=f"m{k}", cv=float(sign * cv[k]), public=float(public[k]), private=float(private[k]),
            cv_metric="ap60", folds="5 stratified", leaderboard_metric="ap60",
        )
        for k in range(n)
    ]  # fmt: skip


def without_private(items: list[LoggedSubmission]) -> list[LoggedSubmission]:
    return [dataclasses.replace(one, private=None) for one in items]


def test_a_published_log_says_what_its_authors_did_not_see() -> None:
    found = read_score_log(read_score_table(PUBLISHED).submissions)
    assert found.trust == "leaderboard"
    assert found.verdict.startswith(
        "Trust the leaderboard: CV is coco_segm, the leaderboard dsb_map, and they point in opposite directions "
        "(Spearman -0.95 over 4 submissions, too few"
    )
    (group,) = found.groups
    assert len(group.inversions) == 5
    worst = group.inversions[0]
    assert {worst.ahead.name, worst.behind.name} == {
        "MS R-CNN epoch 6, no thresholds",
        "MS R-CNN epoch 6, thresholds",
    }
    assert found.boards.n == 16
    assert found.boards.agrees
    assert [one.name for one in found.keep] == ["NMW v3", "Detectron2 a"]


def test_cv_is_trusted_where_it_ranks_as_the_leaderboard_does() -> None:
    found = read_score_log(without_private(simulated(cv_noise=0.005, board_noise=0.02)))
    assert found.trust == "cv"
    assert "Trust CV: it ranks submissions as the leaderboard does (Spearman +0." in found.verdict
    best_cv = max(found.submissions, key=lambda one: one.cv or 0)
    best_public = max(found.submissions, key=lambda one: one.public or 0)
    assert found.keep[0] is best_cv
    assert best_public in found.keep or best_cv is best_public


def test_the_leaderboard_is_trusted_where_cv_turns_its_order_round() -> None:
    found = read_score_log(without_private(simulated(cv_noise=0.005, board_noise=0.02, sign=-1)))
    assert found.trust == "leaderboard"
    assert "look for a leak" in found.verdict
    assert [one.public for one in found.keep] == sorted(
        (one.public for one in found.submissions), reverse=True
    )[:2]  # type: ignore[type-var]


@pytest.mark.parametrize(("noises", "trust"), [((0.003, 0.06), "cv"), ((0.06, 0.003), "leaderboard")])
def test_private_scores_decide_where_they_are_known(noises: tuple[float, float], trust: str) -> None:
    found = read_score_log(simulated(40, cv_noise=noises[0], board_noise=noises[1]))
    assert found.trust == trust
    assert "ranks the private leaderboard better than" in found.verdict


def test_few_submissions_say_how_many_are_missing() -> None:
    found = read_score_log(without_private(simulated(6, cv_noise=0.03, board_noise=0.03, seed=1)))
    assert found.trust == "open"
    assert found.verdict.startswith("Neither can be called: Spearman")
    assert found.groups[0].public.missing
    assert f"about {found.groups[0].public.missing} more submissions would tell" in found.verdict
    weak = read_score_log(without_private(simulated(6, cv_noise=0.03, board_noise=0.03, seed=5)))
    assert "were the true coefficient 0.5, about 27 more submissions would tell" in weak.verdict


def test_metrics_and_fold_schemes_are_not_mixed_and_the_competitions_own_leads() -> None:
    items = simulated(8, cv_noise=0.01, board_noise=0.01)
    others = [
        dataclasses.replace(one, name=f"w{k}", cv_metric="coco_segm") for k, one in enumerate(items * 2)
    ]
    grouped = [dataclasses.replace(one, name=f"g{k}", folds="by slide") for k, one in enumerate(items[:3])]
    found = read_score_log([*others, *grouped, *items])
    assert [(group.cv_metric, group.folds, group.public.n) for group in found.groups] == [
        ("ap60", "5 stratified", 8),
        ("ap60", "by slide", 3),
        ("coco_segm", "5 stratified", 16),
    ]
    assert found.verdict == found.groups[0].words


def test_the_second_to_keep_is_of_another_model_where_cv_and_leaderboard_choose_one() -> None:
    items = [
        LoggedSubmission("a", model="m", cv=0.9, public=0.9),
        LoggedSubmission("b", model="m", cv=0.8, public=0.8),
        LoggedSubmission("c", model="n", cv=0.7, public=0.7),
    ]
    assert [one.name for one in read_score_log(items).keep] == ["a", "c"]
    assert [one.name for one in read_score_log(items[:2]).keep] == ["a", "b"]
    assert [one.name for one in read_score_log(items[:1]).keep] == ["a"]


scores = st.none() | st.floats(0, 1).map(lambda value: round(value, 2))
logs = st.lists(
    st.builds(
        LoggedSubmission,
        name=st.uuids().map(str),
        public=scores,
        private=scores,
        cv=scores,
        cv_metric=st.sampled_from(["", "ap60", "dice"]),
        leaderboard_metric=st.sampled_from(["", "ap60"]),
        model=st.sampled_from(["", "m", "n"]),
    ),
    max_size=12,
)


@given(logs)
@settings(deadline=None, max_examples=60)
def test_any_log_is_read(items: list[LoggedSubmission]) -> None:
    found: ScoreLogFindings = read_score_log(items)
    assert found.verdict
    assert found.keep_words
    known = [one for one in items if one.public is not None or one.cv is not None]
    assert len(found.keep) <= min(2, len(known))
    assert len({one.name for one in found.keep}) == len(found.keep)
    assert sum(len(group.submissions) for group in found.groups) == sum(one.cv is not None for one in items)
    for group in found.groups:
        for pair in group.inversions:
            assert pair.by_cv > 0
            assert pair.by_board > 0
