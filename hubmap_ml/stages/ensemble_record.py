"""What is kept of an ensemble as data: its members and weights, how sure its score is, what each member adds."""

import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from hubmap_ml.ensembling import EnsembleStudy, PairDiversity, Recheck, Recipe, Worth
from hubmap_ml.fusion import options_to_data
from hubmap_ml.postprocess import steps_to_data

RESULT = "ensemble.json"
PAGE = "ensemble.md"


def recipe_to_data(recipe: Recipe, names: Sequence[str]) -> dict[str, Any]:
    """Return an ensemble as JSON-able data, members by name; those that were not chosen have no weight."""

    def named(weights: Sequence[float]) -> dict[str, float]:
        return {name: weight for name, weight in zip(names, weights, strict=True) if weight > 0}

    return {
        "weights": named(recipe.weights),
        "class_weights": {label: named(weights) for label, weights in recipe.class_weights.items()},
        "fusion": options_to_data(recipe.options),
        "steps": steps_to_data(recipe.steps),
        "selection": {
            label: {
                "path": [named(counts) for counts in found.path],
                "seen": list(found.seen),
                "cross_fitted": list(found.cross_fitted),
            }
            for label, found in recipe.selections.items()
        },
    }


def ensemble_to_data(
    study: EnsembleStudy,
    names: Sequence[str],
    pairs: Sequence[PairDiversity],
    worth: Worth | None,
    costs: Sequence[float],
) -> dict[str, Any]:
    """Return all that was found out about an ensemble."""
    found = {
        "members": list(names),
        "registered": recipe_to_data(study.recipe, names),
        "by_fold": {
            str(number): {**recipe_to_data(part.recipe, names), "score": part.score}
            for number, part in study.held_out.items()
        },
        "refitted": study.study.value,
        "cross_fitted": study.study.cross_fitted,
        "costs_s_per_image": dict(zip(names, costs, strict=True)) if costs else {},
        "diversity": [dataclasses.asdict(pair) for pair in pairs],
        "contributions": [dataclasses.asdict(one) for one in worth.contributions] if worth else [],
        "score": dataclasses.asdict(worth.comparison.scores[0]) if worth else {},
        "slides": [dataclasses.asdict(slide) for slide in worth.comparison.slides] if worth else [],
    }
    numbers: dict[str, Any] = json.loads(json.dumps(found), parse_constant=lambda _: None)  # NaN is no JSON
    return numbers


def metrics_of(
    study: EnsembleStudy, names: Sequence[str], worth: Worth | None, best: str
) -> dict[str, float]:
    """Return the figures by name, the finite ones; ``best`` names the member that gains are told over."""
    found = {
        "score/base": study.study.base_value,
        "score/tuned": study.study.value,
        "score/cross_fitted": study.study.cross_fitted,
        **_checked(study.check),
        **{f"weight/{name}": weight for name, weight in zip(names, study.recipe.weights, strict=True)},
    }
    if worth is not None:
        interval = worth.comparison.scores[0].on_these
        if interval.low is not None and interval.high is not None:
            found |= {"score/cross_fitted_low": interval.low, "score/cross_fitted_high": interval.high}
        for one in worth.contributions:
            found[f"alone/{one.name}"] = one.score
            found[f"above/{one.name}"] = one.above.value
            if one.name == best:
                found |= {
                    "gain/cross_fitted": one.above.value,
                    **one.above.on_these.to_metrics("gain/cross_fitted"),
                }
            if one.added is not None:
                found[f"added/{one.name}"] = one.added.value
    return {name: value for name, value in found.items() if math.isfinite(value)}


def _checked(check: Recheck) -> dict[str, float]:
    """Return what the comparison with ensemble-boxes found; clusters by mask were not compared."""
    found = {"check/images": float(len(check.images))}
    return found | ({"check/max_box_difference": check.difference} if check.images else {})


def gain_in_words(worth: Worth | None, best: str) -> str:
    """Say how far the ensemble is above its best member, both cross-fitted; nothing where that is not known."""
    above = [one.above for one in worth.contributions if one.name == best] if worth else []
    if not above:
        return ""
    return f", gain over it {above[0].value:+.3f} (95 % on these slides {above[0].on_these.in_words('+.3f')})"


def members_in_words(recipe: Recipe, names: Sequence[str]) -> str:
    """Name the chosen members, with their weights where these differ."""
    if recipe.class_weights:
        return "; ".join(
            f"{label}: {_weighted(names, weights)}" for label, weights in recipe.class_weights.items()
        )
    return _weighted(names, recipe.weights)


def _weighted(names: Sequence[str], weights: Sequence[float]) -> str:
    chosen = {name: weight for name, weight in zip(names, weights, strict=True) if weight > 0}
    if len(set(chosen.values())) == 1:
        return ", ".join(chosen)
    return ", ".join(f"{name} {weight:.2g}" for name, weight in chosen.items())


def weights_to_data(
    recipe: Recipe,
) -> tuple[list[float] | None, Mapping[str, list[float]] | None]:
    """Return the weights of the chosen members, and those of each class, as a fusion node of a predictor has them."""
    chosen = recipe.chosen
    if recipe.class_weights:
        return None, {label: [weights[k] for k in chosen] for label, weights in recipe.class_weights.items()}
    weights = [recipe.weights[k] for k in chosen]
    return (None if len(set(weights)) == 1 else weights), None


def page(found: Mapping[str, Any], metric: str) -> str:
    """Return what ``ensemble_to_data`` gave as Markdown, for people."""
    registered = found["registered"]
    lines = [
        f"# Ensemble: {metric} {_told(found['cross_fitted'])} cross-fitted, {_told(found['refitted'])} refitted",
        "",
        "The first score is the procedure's: each fold's members, weights, fusion and thresholds were chosen by the "
        "other folds. The second is the registered ensemble's, chosen on all folds."
        + (
            f" 95 % of the first on these slides: {_interval(found['score']['on_these'])}."
            if found["score"]
            else ""
        ),
        "",
        f"Fusion: `{json.dumps(registered['fusion'])}`  ",
        f"Post-processing: `{json.dumps(registered['steps'])}`",
        "",
        *_table(
            ["member", "weight", *(f"without fold {number}" for number in found["by_fold"]), "s/image"],
            [
                [
                    name,
                    _told(registered["weights"].get(name, 0.0), "g"),
                    *(_told(one["weights"].get(name, 0.0), "g") for one in found["by_fold"].values()),
                    _told(found["costs_s_per_image"].get(name), ".2f"),
                ]
                for name in found["members"]
            ],
        ),
    ]
    if found["contributions"]:
        lines += ["", "What each member adds, and what the ensemble adds to it (95 % on these slides):", ""]
        lines += _table(
            ["member", "alone", "added by it", "ensemble above it"],
            [
                [one["name"], _told(one["score"]), _difference(one["added"]), _difference(one["above"])]
                for one in found["contributions"]
            ],
        )
    if found["diversity"]:
        lines += ["", "How members differ (truths found by one only, by both, by neither):", ""]
        lines += _table(
            [
                "pair",
                "disagreeing detections",
                "correlation of hits",
                "only first",
                "only second",
                "both",
                "neither",
            ],
            [
                [
                    f"{one['first']} and {one['second']}",
                    _told(one["disagreeing"], ".1%"),
                    _told(one["hit_correlation"], ".2f"),
                    *(str(one[key]) for key in ("only_first", "only_second", "both", "neither")),
                ]
                for one in found["diversity"]
            ],
        )
    return "\n".join(lines) + "\n"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return [f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *rows)]


def _told(value: float | None, form: str = ".4f") -> str:
    return "–" if value is None else f"{value:{form}}"


def _difference(found: Mapping[str, Any] | None) -> str:
    if found is None:
        return "–"
    return f"{found['value']:+.4f} ({_interval(found['on_these'], '+.4f')})"


def _interval(found: Mapping[str, Any], form: str = ".4f") -> str:
    low, high = found["low"], found["high"]
    return str(found["words"]) if low is None else f"{low:{form}} to {high:{form}}"
