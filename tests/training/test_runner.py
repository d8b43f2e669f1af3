"""Epochs run without mmcv's pauses; losses that are no numbers change no weight and end the training."""

import time
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader

from hubmap_ml.spec import InputError
from hubmap_ml.training.mmdet.batches import EpochOrder
from hubmap_ml.training.mmdet.runner import EpochRunner


class OneWeight(nn.Module):
    """Its loss is what the batch says, times its weight."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))

    def train_step(self, batch: dict[str, Any], _: Any) -> dict[str, Any]:
        loss = self.weight * batch["loss"]
        return {"loss": loss, "log_vars": {"loss": float(loss.detach())}, "num_samples": 1}


def runner(losses: list[float], *, epochs: int = 1) -> tuple[EpochRunner, list[tuple[dict[str, float], int]]]:
    heard: list[tuple[dict[str, float], int]] = []
    model = OneWeight()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    made = EpochRunner(
        model,
        optimizer=optimizer,
        max_epochs=epochs,
        device=torch.device("cpu"),
        seed=0,
        on_iteration=lambda values, step, *_: heard.append((values, step)),
    )
    made.register_training_hooks({"policy": "fixed"}, {"grad_clip": {"max_norm": 1e9}}, timer_config=None)
    order = EpochOrder(np.zeros(len(losses), bool), batch=1, seed=0)
    order.__class__ = InOrder

    class Losses(torch.utils.data.Dataset):
        def __len__(self) -> int:
            return len(losses)

        def __getitem__(self, key: tuple[int, int]) -> float:
            return losses[key[1]]

    loader = DataLoader(
        Losses(), batch_sampler=order, collate_fn=lambda parts: {"loss": torch.tensor(parts[0])}
    )
    made.start(loader)
    return made, heard


class InOrder(EpochOrder):
    """One after the other."""

    def __iter__(self) -> Any:
        return iter([[(self.epoch, number)] for number in range(len(self))])


NAN, INF = float("nan"), float("inf")


def test_an_epoch_steps_once_a_batch_and_says_what_it_did() -> None:
    made, heard = runner([1.0, 2.0])
    made.train_epoch()
    assert float(made.model.weight.detach()) == pytest.approx(1 - 0.1 * (1 + 2))
    assert [step for _, step in heard] == [1, 2]
    assert heard[0][0]["loss"] == 1.0
    assert heard[0][0]["lr"] == 0.1
    assert heard[1][0]["grad_norm"] == pytest.approx(2.0)
    assert (made.epoch, made.iter) == (1, 2)


def test_epochs_follow_each_other_without_a_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []
    monkeypatch.setattr(time, "sleep", pauses.append)
    made, _ = runner([1.0], epochs=3)
    for _ in range(3):
        made.train_epoch()
    made.finish()
    assert pauses == []  # mmcv's own sleeps two seconds an epoch and one at the end


def test_a_batch_without_a_finite_loss_changes_no_weight() -> None:
    made, heard = runner([NAN, 1.0, INF, NAN, 1.0])
    made.train_epoch()
    assert float(made.model.weight.detach()) == pytest.approx(1 - 0.2)
    assert len(heard) == 5


def test_three_in_a_row_end_the_training_and_are_named() -> None:
    made, _ = runner([1.0, NAN, INF, NAN, 1.0])
    with pytest.raises(
        InputError, match=r"not finite in iterations 2, 3, 4 \(epoch 1\); lower optimizer\.lr"
    ):
        made.train_epoch()
    assert float(made.model.weight.detach()) == pytest.approx(0.9)
