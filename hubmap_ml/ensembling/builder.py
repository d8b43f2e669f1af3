"""Building an ensemble: members chosen and fused, its own post-processing tuned, all of it cross-fitted.

A member brings its candidates after its own tuned score and suppression by box, with masks still soft; thresholds on
pixels are the ensemble's own.

Two results that must not be confused. The *procedure* is scored: for each held-out fold members, weights, fusion and
post-processing are chosen by the other folds' images alone (`fit` never sees the fold), and members come with the
thresholds that the other folds chose. The *registered* ensemble is what the procedure makes of all folds.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hubmap_ml.ensembling.choosing import Choosing, Chosen, best_fusion, choose
from hubmap_ml.ensembling.forward_selection import Limits, Selection
from hubmap_ml.ensembling.member_scores import MemberScores
from hubmap_ml.ensembling.recheck import Recheck, recheck_boxes
from hubmap_ml.ensembling.score_scales import ScoreScale, fit_score_map
from hubmap_ml.fusion import FusionOptions, ScoreMap, fuse_by_class, fuse_weighted
from hubmap_ml.instances import Annotations, PredictionSet
from hubmap_ml.metrics import evaluate
from hubmap_ml.postprocess import Step, apply_steps, candidate_steps, parse_steps
from hubmap_ml.spec import InputError
from hubmap_ml.tuning import Progress, Study, of_class, run_study, run_study_per_class
from hubmap_ml.tuning.folding import fold_rows


@dataclass(frozen=True)
class MemberSteps:
    """A member's tuned post-processing.

    Attributes:
        steps: fitted on all folds: what is registered.
        held_out: for each fold the steps that the other folds chose; empty where nothing was cross-fitted.
    """

    steps: tuple[Step, ...]
    held_out: Mapping[int, tuple[Step, ...]] = dataclasses.field(default_factory=dict)


@dataclass(frozen=True)
class Recipe:
    """An ensemble as data.

    Attributes:
        weights: of each member, the greatest 1; 0 for one that is not in it. By class the greatest of its weights.
        class_weights: for each class the weights of its own; empty where classes share ``weights``.
        options: how members are fused.
        steps: what comes after.
        selections: what forward selection found, by class, or under ``""``.
    """

    weights: tuple[float, ...]
    options: FusionOptions
    steps: tuple[Step, ...]
    class_weights: Mapping[str, tuple[float, ...]] = dataclasses.field(default_factory=dict)
    selections: Mapping[str, Selection] = dataclasses.field(default_factory=dict)

    @property
    def chosen(self) -> tuple[int, ...]:
        """The members that are in it."""
        return tuple(member for member, weight in enumerate(self.weights) if weight > 0)

    def fuse(
        self,
        inputs: Sequence[PredictionSet],
        *,
        names: Sequence[str] | None = None,
        without: int | None = None,
    ) -> PredictionSet | None:
        """Fuse what members bring; ``without`` leaves one out, and None is returned where nobody is left to speak."""

        def left(weights: Sequence[float]) -> list[float]:
            return [0.0 if member == without else weight for member, weight in enumerate(weights)]

        weights = [left(own) for own in self.class_weights.values()] or [left(self.weights)]
        if not all(any(own) for own in weights):
            return None
        if self.class_weights:
            return fuse_by_class(
                inputs, dict(zip(self.class_weights, weights, strict=True)), self.options, names=names
            )
        return fuse_weighted(inputs, weights[0], self.options, names=names)


@dataclass(frozen=True)
class HeldOut:
    """What the procedure made without a fold.

    Attributes:
        rows: the fold's images.
        recipe: chosen by the other folds.
        inputs: what members bring on the fold's images, with thresholds that the other folds chose.
        final: the fold's predictions.
        score: of them; NaN without truths.
    """

    rows: NDArray[np.int64]
    recipe: Recipe
    inputs: tuple[PredictionSet, ...]
    final: PredictionSet
    score: float


@dataclass(frozen=True)
class EnsembleStudy:
    """An ensemble on out-of-fold predictions.

    Attributes:
        recipe: fitted on all folds: what is registered.
        fused: the members' fused candidates, masks soft, with steps fitted on all folds.
        study: the study of the ensemble's own post-processing on them. ``cross_fitted``, ``held_out_values`` and
            ``chosen`` are the whole procedure's; NaN and None where a member has no thresholds for a fold.
        held_out: by fold's number; those folds that can be cross-fitted.
        score_maps: what each member's scores went through, fitted on all folds; () where they stay as they are.
        check: the fused boxes beside ensemble-boxes' (see ``recheck_boxes``).
    """

    recipe: Recipe
    fused: PredictionSet
    study: Study
    held_out: Mapping[int, HeldOut]
    check: Recheck
    score_maps: tuple[ScoreMap, ...] = ()

    @property
    def cross_fitted(self) -> PredictionSet | None:
        """Final predictions of the procedure, each fold's by what the others chose; None unless all folds have them."""
        if set(self.held_out) != set(self.study.folds):
            return None
        together = join_folds([part.final for part in self.held_out.values()])
        return together.take_images(together.images.rows_of(list(self.fused.images.ids)))


def join_folds(parts: Sequence[PredictionSet]) -> PredictionSet:
    """Return final predictions of several folds as one set; of whom they come is lost, folds may differ in that."""
    return PredictionSet.concatenate([
        part.replace(
            cluster_offsets=None, member_rows=None, sources=("ensemble",), source=np.zeros(len(part), np.int16),
            properties={},
        ) for part in parts
    ])  # fmt: skip


def member_input(candidates: PredictionSet, steps: Sequence[Step]) -> PredictionSet:
    """Return what a member brings to a fusion.

    Args:
        candidates: its candidates, views and folds merged.
        steps: its tuned post-processing; only its leading steps without pixels are applied.
    """
    return apply_steps(candidates, candidate_steps(steps))


def ensemble_study(
    truth: Annotations,
    candidates: Sequence[PredictionSet],
    *,
    members: Sequence[MemberSteps],
    base_steps: Sequence[Step],
    space: Mapping[str, Any],
    metric: str = "ap60",
    trials: int = 30,
    seed: int = 0,
    folds: ArrayLike | None = None,
    names: Sequence[str] | None = None,
    options: FusionOptions | None = None,
    weights: Sequence[float] | None = None,
    choosing: Choosing | None = None,
    thresholds_per_class: bool = False,
    score_scale: ScoreScale = "raw",
    progress: Progress | None = None,
) -> EnsembleStudy:
    """Choose and fuse members by their out-of-fold predictions and tune what comes after.

    Args:
        truth: annotations that hold the members' images.
        candidates: of each member, views merged, over the same images.
        members: their tuned steps, in the same order.
        base_steps, space, metric, trials, seed, folds, progress: as for ``run_study``; folds are the first member's.
        names: of the members.
        options: as for ``fusion.fuse``; members are compared by them.
        weights: of the members where all are taken; equal by default.
        choosing: how members, weights and fusion are chosen; all of them, fused as ``options`` say, by default.
        thresholds_per_class: search thresholds for each class.
        score_scale: what members' scores are brought to before (see ``fit_score_map``); for the score of a fold it is
            fitted on the others.

    Raises:
        InputError: what fusion, choosing and ``run_study`` refuse.
        FusionMismatch: the boxes are not ensemble-boxes'.
    """
    of_image = np.asarray(candidates[0].images.folds if folds is None else folds)
    truth = truth.take_images(truth.images.rows_of(list(candidates[0].images.ids)))
    options, how = options or FusionOptions(), choosing or Choosing()
    if weights is not None:
        how = dataclasses.replace(how, weights=tuple(float(weight) for weight in weights))
    fit = _Fit(options, how, base_steps, space, metric, trials, seed, thresholds_per_class)

    everything = np.arange(len(of_image))
    plain = [member_input(item, own.steps) for item, own in zip(candidates, members, strict=True)]
    inputs, maps = _on_one_scale(score_scale, truth, plain, everything)
    recipe, study = fit(truth, inputs, of_image, progress)
    fused = recipe.fuse(inputs, names=names)
    assert fused is not None
    numbers, rows = fold_rows(of_image, len(of_image))
    held_out, settings = {}, {}
    for number, part in zip(numbers, rows, strict=True):
        if len(numbers) > 1 and all(number in member.held_out for member in members):
            others = np.setdiff1d(everything, part)
            if truth.take_images(others).iscrowd.all():
                continue  # the other folds hold nothing to choose by
            own = [
                member_input(item, member.held_out[number])
                for item, member in zip(candidates, members, strict=True)
            ]
            scaled, _ = _on_one_scale(score_scale, truth, own, others)
            held_out[number], settings[number] = _held_out(fit, truth, scaled, of_image, part, others)
    found = dataclasses.replace(
        study,
        cross_fitted=_average(study, held_out),
        chosen=tuple(settings.get(number) for number in numbers),
        held_out_values=tuple(
            held_out[number].score if number in held_out else float("nan") for number in numbers
        ),
    )
    return EnsembleStudy(recipe, fused, found, held_out, _recheck(recipe, fused, inputs), maps)


def _on_one_scale(
    scale: ScoreScale, truth: Annotations, inputs: Sequence[PredictionSet], fitted_on: NDArray[np.int64]
) -> tuple[list[PredictionSet], tuple[ScoreMap, ...]]:
    """Bring members' scores to a scale that some of the images fit; also returns what they went through."""
    seen = truth.take_images(fitted_on)
    fitted = [fit_score_map(scale, seen, item.take_images(fitted_on)) for item in inputs]
    maps = tuple(one for one in fitted if one is not None)
    if not maps:
        return list(inputs), ()
    return [one.apply(item) for one, item in zip(maps, inputs, strict=True)], maps


@dataclass(frozen=True)
class _Fit:
    """The procedure: everything is chosen by the images that it is called with."""

    options: FusionOptions
    how: Choosing
    base_steps: Sequence[Step]
    space: Mapping[str, Any]
    metric: str
    trials: int
    seed: int
    thresholds_per_class: bool

    def __call__(
        self,
        truth: Annotations,
        inputs: Sequence[PredictionSet],
        folds: NDArray[Any],
        progress: Progress | None = None,
    ) -> tuple[Recipe, Study]:
        """Return the ensemble that these images choose, and the study of its post-processing."""
        joint, scores = self._chosen(truth, inputs, folds, range(len(inputs)))
        by_class = self._by_class(truth, inputs, folds, joint) if self.how.per_class else {}
        weights = joint.weights
        if by_class:
            weights = tuple(np.max([one.weights for one in by_class.values()], axis=0).tolist())
        found = Recipe(
            weights,
            self.options,
            tuple(self.base_steps),
            {name: one.weights for name, one in by_class.items()},
            {
                name: one.selection
                for name, one in (by_class or {"": joint}).items()
                if one.selection is not None
            },
        )

        def score(options: FusionOptions) -> float:
            if not by_class:
                return scores.value(weights, options)
            fused = dataclasses.replace(found, options=options).fuse(inputs)
            return float("nan") if fused is None else scores.value_of(fused)

        if len(found.chosen) > 1:
            found = dataclasses.replace(found, options=best_fusion(score, self.options, self.how.fusion))
        fused = found.fuse(inputs)
        assert fused is not None
        study = (run_study_per_class if self.thresholds_per_class else run_study)(
            truth, fused, base_steps=self.base_steps, space=self.space, metric=self.metric, trials=self.trials,
            seed=self.seed, folds=folds, cross_fit=False, progress=progress,
        )  # fmt: skip
        return dataclasses.replace(found, steps=parse_steps(study.best_steps)), study

    def _chosen(
        self,
        truth: Annotations,
        inputs: Sequence[PredictionSet],
        folds: NDArray[Any],
        library: Sequence[int],
        limits: Limits | None = None,
    ) -> tuple[Chosen, MemberScores]:
        scores = MemberScores(
            truth, inputs, folds=folds, metric=self.metric, base_steps=self.base_steps, space=self.space
        )
        how = self.how if limits is None else dataclasses.replace(self.how, limits=limits)
        return choose(scores, library, self.options, how), scores

    def _by_class(
        self, truth: Annotations, inputs: Sequence[PredictionSet], folds: NDArray[Any], joint: Chosen
    ) -> dict[str, Chosen]:
        """Let each class choose; within limits, among the members that all classes together chose."""
        limited = self.how.limits.budget_s is not None or self.how.limits.max_members is not None
        library = [member for member, weight in enumerate(joint.weights) if weight > 0 or not limited]
        found = {}
        for label, category in enumerate(truth.categories):
            if not (~truth.iscrowd & (truth.labels == label)).any():
                found[category.name] = dataclasses.replace(joint, selection=None)
                continue
            own = [of_class(item, category.name) for item in inputs]
            found[category.name], _ = self._chosen(
                of_class(truth, category.name), own, folds, library, Limits()
            )
        return found


def _held_out(
    fit: _Fit,
    truth: Annotations,
    inputs: Sequence[PredictionSet],
    folds: NDArray[Any],
    part: NDArray[np.int64],
    others: NDArray[np.int64],
) -> tuple[HeldOut, dict[str, Any]]:
    """Let the other folds choose, and score the fold."""
    recipe, study = fit(
        truth.take_images(others), [item.take_images(others) for item in inputs], folds[others]
    )
    own = tuple(item.take_images(part) for item in inputs)
    fused = recipe.fuse(own)
    assert fused is not None
    final = apply_steps(fused, recipe.steps)
    score = evaluate(fit.metric, truth.take_images(part), final).value
    return HeldOut(part, recipe, own, final, score), study.best_setting


def _recheck(recipe: Recipe, fused: PredictionSet, inputs: Sequence[PredictionSet]) -> Recheck:
    """Compare with ensemble-boxes what each set of weights fused."""
    found = []
    for name, weights in (recipe.class_weights or {"": recipe.weights}).items():
        chosen = [k for k, weight in enumerate(weights) if weight > 0]
        own = [inputs[k] if not name else of_class(inputs[k], name) for k in chosen]
        voices = [weights[k] for k in chosen]
        found.append(
            recheck_boxes(
                of_class(fused, name) if name else fused, own, recipe.options,
                weights=None if len(set(voices)) == 1 else voices,
            )
        )  # fmt: skip
    return max(found, key=lambda one: one.difference)


def _average(study: Study, held_out: Mapping[int, HeldOut]) -> float:
    """Mean of the folds' scores weighted by images; NaN where a fold that has a score of its own lacks this one."""
    counted = np.isfinite(study.fold_values)
    if len(study.folds) < 2 or not counted.any():
        return float("nan")
    scores = np.array(
        [held_out[number].score if number in held_out else np.nan for number in study.folds], np.float64
    )
    return float(np.average(scores[counted], weights=np.asarray(study.fold_images, np.float64)[counted]))


def members_named(names: Sequence[str], wanted: Sequence[str]) -> None:
    """Check a fixed list of members.

    Raises:
        InputError: one of them is not promoted.
    """
    missing = [name for name in wanted if name not in names]
    if missing:
        raise InputError(
            f"ensemble.fixed names {missing[0]!r}, which is not promoted; promoted: {', '.join(names) or 'none'}"
        )
