"""Monotone maps of scores, so that members who speak louder do not count for more before they are fused.

A map keeps the order of a member's own scores. ``rank_map`` says what share of the member's scores is lower; that needs
no truths. ``calibration_map`` says how often a score was right (isotonic regression, scikit-learn's).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hubmap_ml.instances import PredictionSet
from hubmap_ml.spec import InputError

RANK_KNOTS = 201
OWN_SHARE = 1e-3
"""What of the score itself is added to a calibrated one, so that equal frequencies keep the order of their scores."""


@dataclass(frozen=True)
class ScoreMap:
    """A map that is linear between its knots and flat beyond them.

    Attributes:
        scores: ascending, no two equal, at least one.
        values: of each, in [0, 1], not descending.

    Raises:
        InputError: knots that are none of this.
    """

    scores: tuple[float, ...]
    values: tuple[float, ...]

    def __post_init__(self) -> None:
        good = len(self.scores) == len(self.values) > 0 and bool(
            np.isfinite([*self.scores, *self.values]).all()
        )
        if (
            not good
            or (np.diff(self.scores) <= 0).any()
            or (np.diff(self.values) < 0).any()
            or not 0 <= self.values[0] <= self.values[-1] <= 1
        ):
            raise InputError(
                "a map of scores needs ascending scores, and values in [0, 1] that do not descend"
            )

    def of(self, scores: ArrayLike) -> NDArray[np.float32]:
        """Return the values of scores."""
        return np.interp(np.asarray(scores, np.float64), self.scores, self.values).astype(np.float32)

    def apply(self, predictions: PredictionSet) -> PredictionSet:
        """Return predictions with mapped scores."""
        return predictions.replace(scores=self.of(predictions.scores))

    def to_data(self) -> dict[str, list[float]]:
        """Return the knots as JSON-able data."""
        return {"scores": list(self.scores), "values": list(self.values)}


def map_from_data(data: Mapping[str, Any]) -> ScoreMap:
    """Read what ``ScoreMap.to_data`` wrote."""
    return ScoreMap(tuple(data["scores"]), tuple(data["values"]))


IDENTITY = ScoreMap((0.0, 1.0), (0.0, 1.0))


def rank_map(scores: ArrayLike) -> ScoreMap:
    """Return the map to the share of these scores that are at most as high; the identity where there are none."""
    found = np.sort(np.asarray(scores, np.float64))
    if len(found) == 0:
        return IDENTITY
    knots = np.unique(np.quantile(found, np.linspace(0, 1, RANK_KNOTS)))
    shares = np.searchsorted(found, knots, side="right") / len(found)
    return ScoreMap(tuple(knots.tolist()), tuple(shares.tolist()))


def calibration_map(scores: ArrayLike, right: ArrayLike) -> ScoreMap:
    """Return the map to how often a score was right.

    Args:
        scores: (N,) in [0, 1].
        right: (N,) whether each was.

    Returns:
        Isotonic regression and ``OWN_SHARE`` of the score itself; the identity where there are no scores.
    """
    from sklearn.isotonic import IsotonicRegression

    found = np.asarray(scores, np.float64)
    if len(found) == 0:
        return IDENTITY
    fitted = IsotonicRegression(y_min=0.0, y_max=1.0, out_of_bounds="clip")
    fitted.fit(found, np.asarray(right, np.float64))
    knots = np.unique([0.0, *np.asarray(fitted.X_thresholds_, np.float64), 1.0])
    values = (1 - OWN_SHARE) * np.asarray(fitted.predict(knots), np.float64) + OWN_SHARE * knots
    return ScoreMap(tuple(knots.tolist()), tuple(np.maximum.accumulate(values).clip(0, 1).tolist()))
