"""Five hundred simulated comparisons: how often the interval on these slides holds the gain that is known."""

import numpy as np
import pytest

from tests.metrics.simulated import World, covered

WORLDS = (
    World(2, 10, 0.15, 0.0),
    World(4, 10, 0.3, 0.7),
    World(4, 10, 0.3, 1.0),
    World(4, 14, 0.0, 1.0),
    World(8, 8, 0.15, 1.0),
)


@pytest.mark.long
def test_the_interval_covers_the_known_gain():
    shares = {}
    for number, world in enumerate(WORLDS):
        inside = covered(world, range(1000 * number, 1000 * number + 100), repeats=400, resamples=2000)
        shares[str(world)] = float(np.mean(inside))
    assert 0.88 <= np.mean(list(shares.values())) <= 0.97, shares
    assert min(shares.values()) >= 0.84, shares
