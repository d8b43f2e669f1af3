"""A rate that follows the score is reduced when torch's ReduceLROnPlateau would, whoever interrupts the training."""

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hubmap_ml.spec import InputError
from hubmap_ml.training.mmdet.plateau import reductions
from tests.training.learning_rates import learning_rates


def member(epochs: int, **options: Any) -> dict[str, Any]:
    return {
        "optimizer": {"type": "SGD", "lr": 1.0},
        "lr_config": {"policy": "Plateau", **options},
        "runner": {"type": "EpochBasedRunner", "max_epochs": epochs},
    }


def torchs(scores: list[float], **options: Any) -> list[float]:
    """The rate of each epoch, by torch."""
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    schedule = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, mode="max", eps=0, **options)
    rates = []
    for score in scores:
        rates.append(optimizer.param_groups[0]["lr"])
        schedule.step(score)
    return rates


SCORES = [0.1, 0.2, 0.2, 0.15, 0.3, 0.3, 0.3, float("nan"), 0.29, 0.31]


@pytest.mark.parametrize(
    "options",
    [
        {"factor": 0.5, "patience": 0},
        {"factor": 0.1, "patience": 1, "cooldown": 2},
        {"factor": 0.5, "patience": 0, "threshold": 0.2, "min_lr": 0.2},
    ],
)
@pytest.mark.parametrize("after", [0, 1, 5, 9])
def test_the_rate_of_each_iteration_is_torchs(options: dict[str, Any], after: int) -> None:
    config = member(len(SCORES), **options)
    expected = [rate for rate in torchs(SCORES, **options) for _ in range(2)]
    assert len(set(expected)) > 1
    assert learning_rates(config, epoch_length=2, after=after, scores=SCORES) == expected[2 * after :]


def test_it_may_warm_up() -> None:
    config = member(3, patience=0, factor=0.5, warmup="linear", warmup_iters=4, warmup_ratio=0.2)
    rates = learning_rates(config, epoch_length=3, scores=[0.5, 0.4, 0.3])
    assert rates == pytest.approx([0.2, 0.4, 0.6, 0.8, 1, 1, 0.5, 0.5, 0.5])


@given(
    scores=st.lists(st.sampled_from([-0.2, 0.0, 0.3, 0.30001, 0.5, float("nan")]), max_size=25),
    patience=st.integers(0, 3),
    cooldown=st.integers(0, 3),
    threshold=st.sampled_from([0.0, 1e-4, 0.5]),
)
def test_as_many_reductions_as_torch_makes(
    scores: list[float], patience: int, cooldown: int, threshold: float
) -> None:
    options = {"patience": patience, "cooldown": cooldown, "threshold": threshold}
    expected = [
        round(-torch.tensor(rate).log2().item()) for rate in torchs([*scores, 0.0], factor=0.5, **options)
    ]
    assert [reductions(scores[:n], **options) for n in range(len(scores) + 1)] == expected


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"factor": 1.0}, "factor must be over 0 and under 1, not 1.0"),
        ({"patience": -1}, "patience must be a whole number from 0, not -1"),
        ({"by_epoch": False}, "a plateau is one of epochs"),
        ({"mode": "max"}, "unexpected keyword argument 'mode'"),
    ],
)
def test_a_plateau_that_cannot_be_is_one_line(options: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said) as caught:
        learning_rates(member(1, **options), epoch_length=1)
    assert "\n" not in str(caught.value)
