"""Choosing members, their weights and the way they are fused, by the scores on some folds and nothing else."""

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from hubmap_ml.ensembling.forward_selection import Forward, Limits, Selection, forward_selection
from hubmap_ml.ensembling.member_scores import MemberScores
from hubmap_ml.fusion import FusionOptions, options_from_data, options_to_data
from hubmap_ml.spec import InputError
from hubmap_ml.tuning.sampling import silent

Select = Literal["all", "forward"]

LOWEST_WEIGHT = 0.1
"""Of a member whose weight is searched, where the greatest is 1."""


@dataclass(frozen=True)
class Choosing:
    """How an ensemble's members and fusion are chosen.

    Attributes:
        select: every member, or those that forward selection picks.
        weights: of the members where all are taken; equal by default.
        forward, limits: see there.
        weight_trials: trials of Optuna over the chosen members' weights; 0 leaves them.
        fusion: values of ``FusionOptions`` by name that are tried for the chosen members.
        per_class: whether each class chooses its own members.
        seed: of the search of weights.
    """

    select: Select = "all"
    weights: tuple[float, ...] | None = None
    forward: Forward = field(default_factory=Forward)
    limits: Limits = field(default_factory=Limits)
    weight_trials: int = 0
    fusion: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    per_class: bool = False
    seed: int = 0


@dataclass(frozen=True)
class Chosen:
    """Members and their weights.

    Attributes:
        weights: of each member, the greatest 1; 0 for one that is not in it.
        selection: what forward selection found, where it was asked.
    """

    weights: tuple[float, ...]
    selection: Selection | None = None


def choose(scores: MemberScores, library: Sequence[int], options: FusionOptions, how: Choosing) -> Chosen:
    """Choose members and weights by the scores on the folds that ``scores`` knows.

    Args:
        scores: of all members.
        library: those that may be chosen.
        options: the fusion that members are compared by.
        how: see ``Choosing``.

    Raises:
        InputError: the members that are all to be taken, or every one alone, exceed the limits.
    """
    selection = None
    given = how.weights or (1.0,) * scores.n_members
    weights = tuple(weight if member in library else 0.0 for member, weight in enumerate(given))
    if how.select == "forward" and len(library) > 1:
        selection = forward_selection(
            lambda counts: scores.table(counts, options),
            scores.n_members,
            scores.fold_images,
            library=library,
            how=how.forward,
            limits=how.limits,
        )
        weights = selection.counts
    elif not how.limits.allow(weights):
        raise InputError(
            f"ensemble: the members together exceed {how.limits.in_words()}; raise it, name fewer members, or use "
            "select: forward"
        )
    if how.weight_trials and sum(weight > 0 for weight in weights) > 1:
        weights = _searched(scores, weights, options, how)
    return Chosen(tuple(weight / max(weights) for weight in weights), selection)


def best_fusion(
    score: Callable[[FusionOptions], float], options: FusionOptions, values: Mapping[str, Sequence[Any]]
) -> FusionOptions:
    """Return the way of fusing with the best score, the given one among equals."""
    tried = fusion_variants(options, values)
    found = [score(one) for one in tried] if len(tried) > 1 else [0.0]
    return tried[max(range(len(tried)), key=lambda k: -math.inf if math.isnan(found[k]) else found[k])]


def fusion_variants(options: FusionOptions, values: Mapping[str, Sequence[Any]]) -> list[FusionOptions]:
    """Return the options themselves, then every other combination of the given values.

    Raises:
        InputError: a name that fusion does not have, or values that do not fit each other.
    """
    base = options_to_data(options)
    for name in values:
        if name not in base:
            raise InputError(
                f"ensemble.space: fusion has no value {name!r}; it has {', '.join(sorted(base))}"
            )
    found = [options]
    for combination in itertools.product(*values.values()):
        tried = options_from_data({**base, **dict(zip(values, combination, strict=True))})
        if tried not in found:
            found.append(tried)
    return found


def _searched(
    scores: MemberScores, weights: Sequence[float], options: FusionOptions, how: Choosing
) -> tuple[float, ...]:
    """Search the weights of the members that are in it by Optuna's TPE, beginning with the given ones."""
    import optuna

    members = [member for member, weight in enumerate(weights) if weight > 0]

    def whole(trial: optuna.trial.BaseTrial) -> tuple[float, ...]:
        found = [0.0] * len(weights)
        for member in members:
            found[member] = trial.suggest_float(f"weight_{member}", LOWEST_WEIGHT, 1.0, log=True)
        return tuple(found)

    def score(tried: tuple[float, ...]) -> float:
        value = scores.value(tried, options)
        return -math.inf if math.isnan(value) else value

    with silent():
        sampler = optuna.samplers.TPESampler(seed=how.seed, multivariate=True)
        study = optuna.create_study(direction="maximize", sampler=sampler)
        greatest = max(weights)
        study.enqueue_trial(
            {f"weight_{member}": max(weights[member] / greatest, LOWEST_WEIGHT) for member in members}
        )
        study.optimize(lambda trial: score(whole(trial)), n_trials=how.weight_trials)
        return whole(optuna.trial.FixedTrial(study.best_params))
