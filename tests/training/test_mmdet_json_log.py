"""The .log.json of a training says what its text log says; mmcv's own hook writes both."""

import json
import logging
import math
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from mmcv.runner import EpochBasedRunner, Hook, TextLoggerHook
from torch import nn
from torch.utils.data import DataLoader

from hubmap_ml.spec import InputError
from hubmap_ml.training.mmdet_json_log import read_any_log, read_mmdet_json_log
from hubmap_ml.training.mmdet_log import MmdetLog, read_mmdet_log
from tests.reference_logs import train, written


class Network(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))

    def train_step(self, batch: torch.Tensor, optimizer: object) -> dict[str, Any]:
        loss = float(batch.sum())
        return {"loss": self.weight.sum(), "log_vars": {"loss_cls": loss / 3, "loss": loss}, "num_samples": 1}


class Scored(Hook):  # type: ignore[misc]
    """As mmdet's EvalHook leaves its scores for the logger."""

    def after_train_epoch(self, runner: EpochBasedRunner) -> None:
        runner.log_buffer.clear()
        runner.log_buffer.output |= {
            "eval_iter_num": 29,
            "segm_mAP": 0.1 * (runner.epoch + 1),
            "segm_mAP_copypaste": "0.1 0.2",
        }
        runner.log_buffer.ready = True


@pytest.fixture
def both(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two epochs of five iterations, every second one logged; returns the folder of the .log and .log.json."""
    monkeypatch.setattr(time, "sleep", lambda _: None)  # mmcv waits seconds an epoch
    network = Network()
    said = logging.getLogger("mmdet.example")
    said.setLevel(logging.INFO)
    handler = logging.FileHandler(tmp_path / "a.log")
    handler.setFormatter(logging.Formatter("%(asctime)s - %(name)s - %(levelname)s - %(message)s"))
    said.addHandler(handler)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.0125)
    meta = {"config": "lr = 1", "seed": 69, "exp_name": "example.py"}
    runner = EpochBasedRunner(
        network, optimizer=optimizer, work_dir=str(tmp_path), logger=said, meta=meta, max_epochs=2
    )
    runner.timestamp = "a"
    runner.register_training_hooks(lr_config=None, timer_config={"type": "IterTimerHook"})
    runner.register_hook(Scored())
    runner.register_hook(TextLoggerHook(interval=2), priority="VERY_LOW")
    runner.run([DataLoader(torch.arange(1.0, 6.0), batch_size=1)], [("train", 1)])
    said.removeHandler(handler)
    handler.close()
    return tmp_path


def points(log: MmdetLog) -> list[tuple[int, dict[str, float]]]:
    return [(log.step(line), dict(line.values)) for line in log.iterations]


def test_both_logs_of_a_training_say_the_same(both: Path) -> None:
    text, ours = read_mmdet_log(both / "a.log"), read_any_log(both / "a.log.json")
    assert json.loads((both / "a.log.json").read_text().splitlines()[0])["exp_name"] == "example.py"
    assert (ours.epoch_length, ours.length_is_known, ours.total_iterations) == (5, True, 10)
    assert [step for step, _ in points(ours)] == [step for step, _ in points(text)] == [2, 4, 7, 9]
    for (_, one), (_, other) in zip(points(ours), points(text), strict=True):
        assert set(one) == set(other) == {"lr", "time", "data_time", "loss_cls", "loss"}
        assert one == pytest.approx(other, abs=6e-4)  # the text has three or four digits
    assert points(ours)[0][1]["loss"] == 1.5
    assert [(line.epoch, line.values) for line in ours.scores] == [
        (line.epoch, pytest.approx(line.values)) for line in text.scores
    ]
    assert ours.best("segm_mAP").epoch == 2
    assert math.isnan(ours.wall_s)


def test_without_the_text_beside_it_the_length_is_given_or_the_least_it_can_be(both: Path) -> None:
    (both / "a.log").unlink()
    path = both / "a.log.json"
    least = read_mmdet_json_log(path)
    assert (least.epoch_length, least.length_is_known) == (4, False)
    given = read_mmdet_json_log(path, epoch_length=5)
    assert given.length_is_known
    assert [step for step, _ in points(given)] == [2, 4, 7, 9]
    for wrong in (3, -1):
        with pytest.raises(InputError, match=f"iteration 4 of an epoch, so an epoch cannot have {wrong}"):
            read_mmdet_json_log(path, epoch_length=wrong)


def test_half_a_line_and_what_is_no_number_are_left_out(tmp_path: Path) -> None:
    lines = [
        {"mode": "train", "epoch": 1, "iter": 20, "lr": {"a": 0.1, "b": 0.2}, "loss": math.nan, "ok": True},
        {"mode": "train", "epoch": 1, "iter": 20, "lr": 0.3, "loss": 2},
        {"mode": "train", "epoch": 2, "iter": 20, "lr": {"a": 0.1, "b": 0.2}, "loss": math.nan, "ok": True},
    ]
    path = tmp_path / "b.log.json"
    path.write_text("\n".join([*map(json.dumps, lines), '{"mode": "train", "epoch": 2, "it']))
    assert points(read_mmdet_json_log(path)) == [
        (20, {"lr": 0.3, "loss": 2.0}),
        (40, {"lr_a": 0.1, "lr_b": 0.2}),
    ]


def test_what_is_no_log_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "c.json"
    for content in ("", "[1, 2]\n3", '{"mode": "val", "epoch": 1, "iter": 29, "segm_mAP": 0.5}'):
        path.write_text(content)
        with pytest.raises(InputError, match="no line .* as mmdet 2 writes") as caught:
            read_any_log(path)
        assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match="cannot read the log"):
        read_any_log(tmp_path / "none.log.json")
    with pytest.raises(InputError, match="a text log says how long"):
        read_any_log(written(tmp_path, train(1, 20)), epoch_length=30)
