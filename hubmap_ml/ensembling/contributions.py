"""What each member adds to an ensemble, and what the ensemble adds to each member: paired, on held-out folds.

A member is left out of the cross-fitted ensembles with everything else as it was (weights of the others, fusion,
thresholds): its contribution there, not that of building without it.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from hubmap_ml.ensembling.builder import EnsembleStudy, join_folds
from hubmap_ml.instances import Annotations, PredictionSet
from hubmap_ml.metrics import Comparison, Gain, Interval, compare_sets
from hubmap_ml.postprocess import Step, apply_steps

ENSEMBLE = "the ensemble"
RESAMPLES = 2000


@dataclass(frozen=True)
class Difference:
    """How far the ensemble is above something else on the same images.

    Attributes:
        value: difference of the headlines.
        on_these, on_new: 95 % intervals on these slides and on new ones.
        probability: P(difference > 0) on these slides; NaN where that is not estimable.
    """

    value: float
    on_these: Interval
    on_new: Interval
    probability: float


@dataclass(frozen=True)
class Contribution:
    """A member beside the ensemble, all cross-fitted.

    Attributes:
        name: of the member.
        folds: held-out folds whose ensemble it is in.
        added: the ensemble against itself without the member; None where the member is in none, or nothing would be
            left.
        score: of the member alone.
        above: the ensemble against the member alone.
    """

    name: str
    folds: int
    added: Difference | None
    score: float
    above: Difference


@dataclass(frozen=True)
class Worth:
    """The ensemble's cross-fitted score with its interval, and every member's part in it."""

    comparison: Comparison
    contributions: tuple[Contribution, ...]


def contributions(
    metric: str,
    truth: Annotations,
    study: EnsembleStudy,
    alone: Mapping[str, PredictionSet],
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Worth | None:
    """Compare the cross-fitted ensemble with itself without each member, and with each member alone.

    Args:
        metric, truth, resamples, seed: as for ``compare_sets``.
        study: the ensemble.
        alone: final predictions of every member on the same images, cross-fitted, in the study's order of members.

    Returns:
        None where not all folds were cross-fitted.
    """
    whole = study.cross_fitted
    if whole is None:
        return None
    sets = {ENSEMBLE: whole}
    names = list(alone)
    for member, name in enumerate(names):
        left = _without(study, member)
        if left is not None:
            sets[_left_out(name)] = left
    sets |= {_by_itself(name): found for name, found in alone.items()}
    found = compare_sets(metric, truth, sets, resamples=resamples, seed=seed)
    gains = {gain.after: _turned(gain) for gain in found.gains}
    scores = {score.name: score.value for score in found.scores}
    return Worth(
        found,
        tuple(
            Contribution(
                name,
                sum(member in part.recipe.chosen for part in study.held_out.values()),
                gains.get(_left_out(name)),
                scores[_by_itself(name)],
                gains[_by_itself(name)],
            )
            for member, name in enumerate(names)
        ),
    )


def _without(study: EnsembleStudy, member: int) -> PredictionSet | None:
    """Return the cross-fitted predictions without a member; None where it is in no fold's ensemble, or alone in one."""
    if not any(member in part.recipe.chosen for part in study.held_out.values()):
        return None
    parts: list[PredictionSet] = []
    for part in study.held_out.values():
        found: PredictionSet | None = part.final
        if member in part.recipe.chosen:
            found = part.recipe.fuse(part.inputs, without=member)
            found = None if found is None else apply_steps(found, part.recipe.steps)
        if found is None:
            return None
        parts.append(found)
    return join_folds(parts)


def cross_fitted_alone(
    candidates: PredictionSet, held_out: Mapping[int, tuple[Step, ...]], study: EnsembleStudy
) -> PredictionSet:
    """Return a member's own final predictions, each fold by the steps that the other folds chose.

    Args:
        candidates: of the member, over the study's images.
        held_out: its steps for each fold.
        study: knows the folds.
    """
    return join_folds(
        [
            apply_steps(candidates.take_images(part.rows), held_out[number])
            for number, part in study.held_out.items()
        ]
    )


def _left_out(name: str) -> str:
    return f"without {name}"


def _by_itself(name: str) -> str:
    return f"{name} alone"


def _turned(gain: Gain) -> Difference:
    """The ensemble's gain over a set, from the set's gain over the ensemble."""
    return Difference(0.0 - gain.value, _negated(gain.on_these), _negated(gain.on_new), 1 - gain.probability)


def _negated(interval: Interval) -> Interval:
    if interval.low is None or interval.high is None:
        return interval
    return Interval(0.0 - interval.high, 0.0 - interval.low, interval.words)  # no -0.0
