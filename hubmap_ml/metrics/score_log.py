"""What a log of submissions says: does cross-validation rank as the leaderboard does, and which two to keep.

CV scores of different metrics or fold schemes are not comparable: each combination is a group of its own.
Submissions of one team resemble each other, which no interval here knows.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from hubmap_ml.metrics.intervals import Interval
from hubmap_ml.metrics.rank_agreement import (
    POWER,
    RankAgreement,
    dependent_difference,
    rank_agreement,
    submissions_needed,
)
from hubmap_ml.metrics.shake_up import ShakeUp, shake_up
from hubmap_ml.spec import LoggedSubmission

Trust = Literal["cv", "leaderboard", "open"]
SUPPOSED = 0.5
"""The coefficient that is supposed where the one found is too weak to plan by."""

RULES = (
    "Trust, where at least five private scores are known: whichever of CV and public leaderboard ranks the private "
    "one better, if the interval of the difference excludes 0. Else CV, if the interval of its Spearman coefficient "
    "with the public leaderboard lies above 0; the leaderboard, if it lies below 0, or if it tells nothing and CV is "
    "another metric than the leaderboard's; else it is open.",
    "Two to keep: the best by CV (in the group that the verdict is about) and the best on the public leaderboard; "
    "where they are one, the next by what is trusted, of another model if there is one. Both by the leaderboard where "
    "that is trusted.",
    f"Submissions missing: until the 95 % interval of the Spearman coefficient excludes 0 in {POWER:.0%} of the "
    "cases, if the coefficient found is the true one.",
)


@dataclass(frozen=True)
class Inversion:
    """Two submissions of which CV prefers one and the leaderboard the other.

    Attributes:
        ahead: the one that CV prefers.
        behind: the one that the leaderboard prefers.
        board: which leaderboard.
        by_cv, by_board: how far they are apart, both positive.
    """

    ahead: LoggedSubmission
    behind: LoggedSubmission
    board: str
    by_cv: float
    by_board: float

    def in_words(self) -> str:
        """Return it as a sentence."""
        return (
            f"{self.ahead.name} is {self.by_cv:.4f} better than {self.behind.name} in CV and {self.by_board:.4f} "
            f"worse on the {self.board} leaderboard"
        )


@dataclass(frozen=True)
class Group:
    """Submissions whose CV scores are comparable.

    Attributes:
        cv_metric, folds: of all of them; "" where not said.
        submissions: with a CV score.
        public, private: agreement of CV with either leaderboard.
        over_public: how much better CV ranks the private leaderboard than the public one does, 95 %.
        inversions: against the public leaderboard (the private one where no public score is known), largest first.
        trust, words: the verdict on this group.
    """

    cv_metric: str
    folds: str
    submissions: tuple[LoggedSubmission, ...]
    public: RankAgreement
    private: RankAgreement
    over_public: Interval
    inversions: tuple[Inversion, ...]
    trust: Trust
    words: str

    @property
    def name(self) -> str:
        """Metric and fold scheme as a phrase."""
        return f"{self.cv_metric or 'metric not said'}, {self.folds or 'folds not said'}"


@dataclass(frozen=True)
class ScoreLogFindings:
    """What a score log says.

    Attributes:
        submissions: all, in the log's order.
        groups: the one that the verdict is about first.
        boards: agreement of the two leaderboards.
        moves: from public to private, and from CV to public, where pairs are known.
        trust, verdict: what to believe, in words.
        keep: two submissions for the private board, or fewer.
        keep_words: why these.
    """

    submissions: tuple[LoggedSubmission, ...]
    groups: tuple[Group, ...]
    boards: RankAgreement
    moves: tuple[ShakeUp, ...]
    trust: Trust
    verdict: str
    keep: tuple[LoggedSubmission, ...]
    keep_words: str


def read_score_log(submissions: Sequence[LoggedSubmission]) -> ScoreLogFindings:
    """Say what a log says."""
    groups = sorted(_groups(submissions), key=_is_about_the_competition, reverse=True)
    boards = _agreement(submissions, "public", "private")
    moves = [_moves(submissions, "public", "private", boards)]
    if groups:
        moves.append(_moves(groups[0].submissions, "cv", "public", groups[0].public))
    trust: Trust = groups[0].trust if groups else "leaderboard"
    verdict = (
        groups[0].words if groups else "No CV score is in the log: there is only the leaderboard to go by"
    )
    if not submissions:
        verdict = "The log is empty: add a submission with 'hubmap-ml score add'"
    keep, words = _keep(submissions, groups, trust)
    return ScoreLogFindings(
        tuple(submissions),
        tuple(groups),
        boards,
        tuple(move for move in moves if move.n >= 2),
        trust,
        verdict,
        keep,
        words,
    )


def _groups(submissions: Sequence[LoggedSubmission]) -> list[Group]:
    found: dict[tuple[str, str], list[LoggedSubmission]] = {}
    for one in submissions:
        if one.cv is not None:
            found.setdefault((one.cv_metric, one.folds), []).append(one)
    return [_group(metric, folds, items) for (metric, folds), items in found.items()]


def _group(metric: str, folds: str, items: list[LoggedSubmission]) -> Group:
    public, private = (_agreement(items, "cv", board) for board in ("public", "private"))
    all_three = [one for one in items if one.public is not None and one.private is not None]
    over_public = dependent_difference(*(_values(all_three, name) for name in ("private", "cv", "public")))
    trust, words = _verdict(items, metric, public, over_public)
    board = "public" if public.n else "private"
    return Group(
        metric,
        folds,
        tuple(items),
        public,
        private,
        over_public,
        tuple(_inversions(items, board)),
        trust,
        words,
    )


def _is_about_the_competition(group: Group) -> tuple[bool, int, int]:
    same = any(one.leaderboard_metric == group.cv_metric != "" for one in group.submissions)
    return same, group.public.n, len(group.submissions)


def _verdict(
    items: Sequence[LoggedSubmission], metric: str, public: RankAgreement, over_public: Interval
) -> tuple[Trust, str]:
    board_metrics = {one.leaderboard_metric for one in items} - {""}
    other = bool(metric and board_metrics and metric not in board_metrics)
    unlike = f"CV is {metric}, the leaderboard {' and '.join(sorted(board_metrics))}" if other else ""
    found = public.in_words()
    if over_public.excludes_zero and over_public.low is not None and over_public.high is not None:
        winner: Trust = "cv" if over_public.low > 0 else "leaderboard"
        name, loser = ("CV", "the public leaderboard") if winner == "cv" else ("the public leaderboard", "CV")
        ahead = sorted((abs(over_public.low), abs(over_public.high)))
        return winner, (
            f"Trust {name}: it ranks the private leaderboard better than {loser} does, by {ahead[0]:.2f} to "
            f"{ahead[1]:.2f} in Spearman's coefficient"
        )
    if public.agrees:
        though = f", though {unlike}" if unlike else ""
        return "cv", f"Trust CV: it ranks submissions as the leaderboard does ({found}){though}"
    if public.contradicts:
        why = f": {unlike}" if unlike else "; look for a leak, or for folds unlike the competition's images"
        return "leaderboard", f"Trust the leaderboard: CV ranks the other way round ({found}){why}"
    if unlike:
        opposite = math.isfinite(public.spearman) and public.spearman < 0
        but = "they point in opposite directions" if opposite else "nothing shows that they rank alike"
        return "leaderboard", f"Trust the leaderboard: {unlike}, and {but} ({found})"
    return "open", f"Neither can be called: {found}; {_how_many_more(public)}"


def _how_many_more(public: RankAgreement) -> str:
    if not math.isfinite(public.spearman):
        return "hand in submissions whose CV differs"
    if public.missing is not None:
        return f"about {public.missing} more submissions would tell, if it is truly so"
    needed = (submissions_needed(SUPPOSED) or 0) - public.n
    if needed <= 0:
        return "if they agree at all, then too little to choose by"
    return f"were the true coefficient {SUPPOSED:g}, about {needed} more submissions would tell"


def _inversions(items: Sequence[LoggedSubmission], board: str) -> list[Inversion]:
    """Return pairs in opposite orders, those first that are far apart on both, as a share of either's range."""
    known = [one for one in items if getattr(one, board) is not None]
    ranges = [_range(_values(known, name)) for name in ("cv", board)]
    found = []
    for one in known:
        for other in known:
            by_cv = one.cv - other.cv if one.cv is not None and other.cv is not None else 0.0
            by_board = getattr(other, board) - getattr(one, board)
            if by_cv > 0 and by_board > 0:
                found.append(Inversion(one, other, board, by_cv, by_board))
    return sorted(found, key=lambda pair: -min(pair.by_cv / ranges[0], pair.by_board / ranges[1]))


def _moves(items: Sequence[LoggedSubmission], origin: str, target: str, agreement: RankAgreement) -> ShakeUp:
    both = [one for one in items if getattr(one, origin) is not None and getattr(one, target) is not None]
    return shake_up(origin, target, _values(both, origin), _values(both, target), agreement)


def _keep(
    submissions: Sequence[LoggedSubmission], groups: Sequence[Group], trust: Trust
) -> tuple[tuple[LoggedSubmission, ...], str]:
    by_board = _ranked(submissions, "public")
    by_cv = _ranked(groups[0].submissions if groups else (), "cv")
    if not by_board or not by_cv:
        ranked, name = (by_board, "public leaderboard") if by_board else (by_cv, "CV")
        if not ranked:
            return (), "no scores, nothing to choose by"
        return _two(ranked[0], ranked), f"the best by {name}, the only score there is to choose by"
    if trust == "leaderboard":
        return _two(
            by_board[0], by_board
        ), "the best two of different models on the public leaderboard, which is trusted here"
    if by_board[0] is not by_cv[0]:
        return (by_cv[0], by_board[0]), "the best by CV, and the best on the public leaderboard"
    ranked, name = (by_cv, "CV") if trust == "cv" else (by_board, "the public leaderboard")
    return _two(
        ranked[0], ranked
    ), f"the best by CV and leaderboard alike, and the next of another model by {name}"


def _two(first: LoggedSubmission, ranked: Sequence[LoggedSubmission]) -> tuple[LoggedSubmission, ...]:
    """Return the first and the best of another model, or simply the next."""
    others = [one for one in ranked if one is not first]
    unlike = [one for one in others if not one.model or one.model != first.model] or others
    return (first, *unlike[:1])


def _ranked(items: Sequence[LoggedSubmission], name: str) -> list[LoggedSubmission]:
    known = [one for one in items if getattr(one, name) is not None]
    return sorted(known, key=lambda one: -getattr(one, name))


def _agreement(items: Sequence[LoggedSubmission], first: str, second: str) -> RankAgreement:
    both = [one for one in items if getattr(one, first) is not None and getattr(one, second) is not None]
    return rank_agreement(_values(both, first), _values(both, second))


def _values(items: Sequence[LoggedSubmission], name: str) -> list[float]:
    return [float(getattr(one, name)) for one in items if getattr(one, name) is not None]


def _range(values: Sequence[float]) -> float:
    return (max(values) - min(values)) or 1.0 if values else 1.0


__all__ = ["RULES", "Group", "Inversion", "ScoreLogFindings", "Trust", "read_score_log"]
