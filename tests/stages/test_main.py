import math

import pytest

from hubmap_ml.spec import InputError
from hubmap_ml.stages.main import require_floor
from hubmap_ml.stages.session import open_session


def test_the_demo_refuses_an_ensemble_under_its_floor() -> None:
    experiment = open_session(experiment="demo").experiment
    assert experiment.min_ensemble_test_score == 0.6
    require_floor(experiment, 0.6)
    for score in (0.599, 0.0, math.nan, None):
        with pytest.raises(InputError, match="asks for 0.6"):
            require_floor(experiment, score)


def test_without_a_floor_every_score_will_do() -> None:
    experiment = open_session(experiment="tiny").experiment
    require_floor(experiment, 0.0)
    require_floor(experiment, None)
