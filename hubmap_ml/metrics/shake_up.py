"""How far submissions move between two rankings: seen, and expected where only the agreement of the rankings is known.

Expected: scores are drawn in pairs from two normal distributions whose correlation has the Kendall coefficient that was
found (Greiner's relation, ρ = sin(π τ / 2)), ranked twice, and the moves counted. The ends of Kendall's interval give
the ends of the moves.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from hubmap_ml.metrics.intervals import Interval
from hubmap_ml.metrics.rank_agreement import RankAgreement

DRAWS = 4000


@dataclass(frozen=True)
class Move:
    """What a ranking of n does between two scores, on average.

    Attributes:
        places: places that a submission moves, up or down.
        first_falls: places that the first falls.
        first_stays: share of cases in which the first stays first.
    """

    places: float
    first_falls: float
    first_stays: float


@dataclass(frozen=True)
class ShakeUp:
    """Moves between two scores of n submissions.

    Attributes:
        origin, target: names of the scores.
        seen: places that a submission moved, on average; ties share their places' mean.
        expected: for another set of n with the same agreement; None where the agreement is not known.
        interval: of the expected places.
    """

    origin: str
    target: str
    n: int
    seen: float
    expected: Move | None
    interval: Interval


def shake_up(
    origin: str, target: str, before: Sequence[float], after: Sequence[float], agreement: RankAgreement
) -> ShakeUp:
    """Return the moves from one score to another.

    Args:
        origin, target: their names.
        before, after: scores of the same submissions.
        agreement: of the two.
    """
    n = len(before)
    seen = float(np.abs(stats.rankdata(before) - stats.rankdata(after)).mean()) if n else math.nan
    kendall = agreement.kendall_interval
    if not math.isfinite(agreement.kendall) or kendall.low is None or kendall.high is None:
        return ShakeUp(origin, target, n, seen, None, Interval(None, None, kendall.words))
    ends = (expected_move(n, kendall.high).places, expected_move(n, kendall.low).places)
    interval = Interval(*ends, "at the ends of Kendall's interval")
    return ShakeUp(origin, target, n, seen, expected_move(n, agreement.kendall), interval)


def expected_move(n: int, kendall: float, *, draws: int = DRAWS, seed: int = 0) -> Move:
    """Return the moves of n submissions between two rankings with a Kendall coefficient.

    Args:
        kendall: in [-1, 1].
        draws: rankings that are drawn.
        seed: same seed, same draws.
    """
    rho = math.sin(math.pi * min(max(kendall, -1.0), 1.0) / 2)
    rng = np.random.default_rng(seed)
    before, noise = rng.standard_normal((2, draws, n))
    first, second = _places(before), _places(rho * before + math.sqrt(1 - rho**2) * noise)
    ends_at = second[first == 0]
    return Move(float(np.abs(first - second).mean()), float(ends_at.mean()), float((ends_at == 0).mean()))


def _places(scores: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return the places of each row's scores, 0 for the highest: int64 (draws, n)."""
    order = np.argsort(-scores, axis=1)
    places = np.empty_like(order)
    np.put_along_axis(places, order, np.broadcast_to(np.arange(scores.shape[1]), order.shape), axis=1)
    return places
