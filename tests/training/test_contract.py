"""Trainers are found by name."""

import pytest

from hubmap_ml.spec import InputError
from hubmap_ml.training import open_trainer


def test_a_trainer_is_opened_by_name() -> None:
    from hubmap_ml.training.mmdet.trainer import fit

    assert open_trainer("mmdet") is fit


def test_an_unknown_trainer_is_refused_with_what_there_is() -> None:
    with pytest.raises(InputError, match="'lightning' is not known; there are mmdet"):
        open_trainer("lightning")
