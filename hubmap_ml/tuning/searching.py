"""The search itself: trials one after the other, by the list that was fixed beforehand and by adaptive samplers.

An adaptive sampler runs once on all folds and once for each held-out fold, told only what the other folds score, so
that no truth of a held-out fold steers what may be chosen for it. All of these share the fixed list.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from hubmap_ml.tuning.cross_fitting import ALL, objective
from hubmap_ml.tuning.ledger import InMemory, Ledger, Shared, Trial
from hubmap_ml.tuning.sampling import ADAPTIVE, Proposer, fixed_list, fixed_trials
from hubmap_ml.tuning.space import Space
from hubmap_ml.tuning.step_values import Setting

Progress = Callable[[int, int, float], None]
"""Called after each trial with trials done, trials in all, and the best value so far."""


@dataclass(frozen=True)
class Plan:
    """Which trial is whose.

    Attributes:
        fixed: settings that were fixed beforehand; every choice is made from them.
        own: trials that an adaptive sampler adds for each of ``parts``.
        parts: held-out folds (places among the folds), and ``ALL`` first.
    """

    fixed: tuple[Setting, ...]
    own: int
    parts: tuple[int, ...]

    @property
    def total(self) -> int:
        """Trials in all; the base steps are none of them."""
        return len(self.fixed) + self.own * len(self.parts)

    def part_of(self, number: int) -> int | None:
        """Return whose trial a number is; None: everyone's."""
        return None if number < len(self.fixed) else self.parts[(number - len(self.fixed)) % len(self.parts)]


def plan_trials(space: Space, sampler: str, trials: int, seed: int, held_out: Sequence[int]) -> Plan:
    """Plan a study in which every choice is made from ``trials`` settings, the base steps among them.

    Args:
        held_out: folds to cross-fit; empty for none.
    """
    count = fixed_trials(sampler, trials)
    settings = fixed_list(space, sampler, count - 1, seed)
    adds = sampler in ADAPTIVE and bool(space.varied)
    return Plan(tuple(settings), trials - count if adds else 0, (ALL, *held_out))


@dataclass
class Found:
    """The trials of a search in the order of their numbers, the base steps first.

    Attributes:
        settings: what each tried.
        scores: (T, K) score on each fold, as the search scores.
        parts: whose each is: a held-out fold, ``ALL``, or None for everyone's.
    """

    settings: list[Setting] = field(default_factory=list)
    scores: NDArray[np.float64] = field(default_factory=lambda: np.zeros((0, 0)))
    parts: list[int | None] = field(default_factory=list)

    def candidates(self, part: int) -> NDArray[np.int64]:
        """Return the rows that a choice may be made from without having seen the held-out fold."""
        return np.array([row for row, own in enumerate(self.parts) if own is None or own == part], np.int64)


def search(
    score: Callable[[Setting], Sequence[float]],
    base: Setting,
    space: Space,
    plan: Plan,
    weights: NDArray[np.float64],
    *,
    sampler: str,
    seed: int,
    storage: str | None = None,
    name: str = "study",
    progress: Progress | None = None,
) -> Found:
    """Try all settings of a plan.

    Args:
        score: returns a setting's score on each fold.
        base: the setting of the base steps.
        weights: images of each fold.
        storage, name: as for ``ledger.Shared``; in memory by default.
    """
    proposers = {
        part: Proposer(space, sampler, seed + place) for place, part in enumerate(plan.parts) if plan.own
    }
    base_scores = np.array([score(base)], np.float64)
    best = float(objective(base_scores, weights)[0])
    done: dict[int, Trial] = {}

    def propose(number: int) -> Setting:
        part = plan.part_of(number)
        return plan.fixed[number] if part is None else proposers[part].propose(number)

    ledger: Ledger = (
        InMemory(plan.total, propose)
        if storage is None
        else Shared(storage, name, space, plan.total, propose)
    )
    _teach(proposers, Trial(-1, base, tuple(base_scores[0])), None, weights)
    while True:
        for (
            trial
        ) in ledger.news():  # what others did, and what an earlier call did, counts for the next proposal
            done[trial.number] = trial
            best = max(best, _value(trial.scores, weights, ALL))
            _teach(proposers, trial, plan.part_of(trial.number), weights)
        if progress is not None:
            progress(len(done) + 1, plan.total + 1, best)
        taken = ledger.take()
        if taken is None:
            break
        scores = score(taken[1])
        ledger.finish(*taken, scores, _value(scores, weights, ALL))
    for trial in ledger.news():
        done[trial.number] = trial
    rows = [done[number] for number in sorted(done)]
    return Found(
        [base, *(trial.setting for trial in rows)],
        np.concatenate([base_scores, np.array([trial.scores for trial in rows]).reshape(len(rows), -1)])
        if rows
        else base_scores,
        [None, *(plan.part_of(trial.number) for trial in rows)],
    )


def _teach(
    proposers: dict[int, Proposer], trial: Trial, part: int | None, weights: NDArray[np.float64]
) -> None:
    for own, proposer in proposers.items():
        if part is None or part == own:
            proposer.tell(trial.setting, _value(trial.scores, weights, own))


def _value(scores: Sequence[float], weights: NDArray[np.float64], held_out: int) -> float:
    return float(objective(np.array([scores], np.float64), weights, held_out)[0])
