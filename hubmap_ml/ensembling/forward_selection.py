"""Forward selection of members with replacement (Caruana, Niculescu-Mizil, Crew, Ksikes, ICML 2004).

The ensemble begins with the best of the members sorted by their own score, and a member is added each round, one that
is in it already allowed: how often it was picked is its weight. Rounds are fixed beforehand; how many of them are kept
is decided by cross-fitting. Bagging builds an ensemble from each of several random halves of the library and adds them.

Knows neither images nor fusion: whoever calls gives a table of scores for any counts.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hubmap_ml.spec import InputError

Counts = tuple[int, ...]
"""How often each member of the library is in an ensemble."""

Table = Callable[[Counts], NDArray[np.float64]]
"""The score of an ensemble at each of S settings on each of K folds, (S, K); NaN on a fold without truths."""

BAG_SHARE = 0.5
"""Share of the library in a bag (section 2.3 of the paper)."""


@dataclass(frozen=True)
class Limits:
    """What an ensemble may be.

    Attributes:
        costs: seconds an image of each member; () where nobody asks.
        budget_s: seconds an image of all its members together, at most; None for no limit.
        max_members: distinct members, at most; None for no limit.
    """

    costs: tuple[float, ...] = ()
    budget_s: float | None = None
    max_members: int | None = None

    def allow(self, counts: Sequence[float]) -> bool:
        """Whether an ensemble stays within the limits; a member costs the same however often it was picked."""
        chosen = [member for member, count in enumerate(counts) if count > 0]
        if self.max_members is not None and len(chosen) > self.max_members:
            return False
        return self.budget_s is None or sum(self.costs[member] for member in chosen) <= self.budget_s

    def in_words(self) -> str:
        """The limits as words, for an error."""
        told = [] if self.max_members is None else [f"max_members {self.max_members}"]
        return " and ".join(
            told if self.budget_s is None else [*told, f"budget_s_per_tile {self.budget_s:g}"]
        )


@dataclass(frozen=True)
class Forward:
    """How members are selected.

    Attributes:
        rounds: picks in all, at least 1.
        bags: random halves of the library that are searched; 1 searches the whole library once.
        seed: of the bags.
    """

    rounds: int = 10
    bags: int = 1
    seed: int = 0


@dataclass(frozen=True)
class Selection:
    """What forward selection found.

    Attributes:
        counts: of the chosen prefix.
        path: the ensemble after each pick; with bags the sum of the bags' ensembles.
        seen: (R,) score of each prefix on the folds that it was built by.
        cross_fitted: (R,) score of each prefix by cross-fitting: for each fold a path built by the other folds; empty
            with a single fold.
    """

    counts: Counts
    path: tuple[Counts, ...]
    seen: tuple[float, ...]
    cross_fitted: tuple[float, ...]


def forward_selection(
    table: Table,
    n_members: int,
    fold_images: Sequence[int],
    *,
    library: Sequence[int] | None = None,
    how: Forward | None = None,
    limits: Limits | None = None,
) -> Selection:
    """Select members by their scores on K folds.

    Args:
        table: see ``Table``.
        n_members: length of the counts.
        fold_images: images of each fold: what folds weigh.
        library: the members that may be picked; all by default.
        how, limits: see there.

    Returns:
        The prefix with the best cross-fitted score, the shortest among equals; by the score on the folds themselves
        where a single fold has truths.

    Raises:
        InputError: no member alone is within the limits.
    """
    how, limits = how or Forward(), limits or Limits()
    weights = np.asarray(fold_images, np.float64)
    within = range(n_members) if library is None else library
    alone = [member for member in within if limits.allow(single(member, n_members))]
    if not alone:
        raise InputError(f"ensemble: no member is within {limits.in_words()}; raise the limit")
    usable = np.flatnonzero(np.isfinite(table(single(alone[0], n_members))).all(axis=0)).tolist()
    path = _path(table, n_members, alone, weights, usable, how, limits)
    seen = np.array([_best(table(counts), weights, usable)[0] for counts in path])
    fitted = np.zeros(0)
    if len(usable) > 1:
        fitted = np.zeros(len(path))
        for k in usable:
            others = [j for j in usable if j != k]
            for place, counts in enumerate(_path(table, n_members, alone, weights, others, how, limits)):
                scores = table(counts)
                fitted[place] += scores[_best(scores, weights, others)[1], k] * weights[k]
        fitted /= weights[usable].sum()
    chosen = int(np.argmax(fitted if len(fitted) else seen))
    return Selection(path[chosen], path, tuple(seen.tolist()), tuple(fitted.tolist()))


def single(member: int, n_members: int) -> Counts:
    """Return the ensemble of one member."""
    return tuple(int(member == k) for k in range(n_members))


def _best(
    scores: NDArray[np.float64], weights: NDArray[np.float64], folds: Sequence[int]
) -> tuple[float, int]:
    """Return the best mean over folds among the settings, and the earliest setting that has it."""
    if not folds:
        return -math.inf, 0
    means = scores[:, folds] @ weights[folds] / weights[folds].sum()
    place = int(np.argmax(means))
    return float(means[place]), place


def _path(
    table: Table,
    n_members: int,
    library: Sequence[int],
    weights: NDArray[np.float64],
    folds: Sequence[int],
    how: Forward,
    limits: Limits,
) -> tuple[Counts, ...]:
    """Return the ensemble after each pick, built by some folds."""

    def score(counts: Counts) -> float:
        return _best(table(counts), weights, folds)[0]

    size = max(1, math.ceil(len(library) * BAG_SHARE))
    rng = np.random.default_rng(how.seed)
    bags = [sorted(rng.choice(library, size, replace=False).tolist()) for _ in range(how.bags)]
    if how.bags == 1:
        bags = [list(library)]
    paths = [_grown(score, n_members, bag, how.rounds, limits) for bag in bags]
    sums = [
        tuple(int(total) for total in np.sum([path[place] for path in paths], axis=0))
        for place in range(how.rounds)
    ]
    return tuple(_within(counts, limits) for counts in sums)


def _grown(
    score: Callable[[Counts], float], n_members: int, library: Sequence[int], rounds: int, limits: Limits
) -> list[Counts]:
    """Sorted start, then the best pick each round; what was picked earlier stays."""
    ranked = sorted(library, key=lambda member: -score(single(member, n_members)))
    sorted_start: list[Counts] = []
    counts = (0,) * n_members
    for member in ranked:
        if len(sorted_start) < rounds and limits.allow(_plus(counts, member)):
            counts = _plus(counts, member)
            sorted_start.append(counts)
    best = int(np.argmax([score(counts) for counts in sorted_start]))
    path = sorted_start[: best + 1]
    while len(path) < rounds:
        options = [_plus(path[-1], member) for member in ranked]
        path.append(max((counts for counts in options if limits.allow(counts)), key=score))
    return path


def _plus(counts: Counts, member: int) -> Counts:
    return tuple(count + (k == member) for k, count in enumerate(counts))


def _within(counts: Counts, limits: Limits) -> Counts:
    """Leave out the members that the fewest bags picked, until what is left is within the limits."""
    left = list(counts)
    while not limits.allow(left):
        rarest = min((member for member in range(len(left)) if left[member]), key=lambda m: (left[m], -m))
        left[rarest] = 0
    return tuple(left)
