"""Means of a few iterations reach the recorder once each, at the step of the last."""

import json
from pathlib import Path

import pytest

from hubmap_ml.spec import NullRecorder
from hubmap_ml.training.mmdet.iteration_log import LOG_EVERY, IterationLog


def written(folder: Path) -> dict[tuple[str, int], float]:
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    values = {(line["key"], line["step"]): line["value"] for line in lines}
    assert len(values) == len(lines)  # each (metric, step) once
    return values


def test_means_are_written_every_few_iterations_and_at_the_end(tmp_path: Path) -> None:
    log = IterationLog(NullRecorder(tmp_path), max_epochs=1, epoch_length=13)
    for step in range(1, 14):
        log({"loss": float(step), "lr": step / 100}, step, 0.5, 0.1)
    means = log.end_epoch()
    values = written(tmp_path)
    assert values[("train/loss", LOG_EVERY)] == pytest.approx(5.5)
    assert values[("train/loss", 13)] == pytest.approx(12.0)
    assert values[("train/lr", LOG_EVERY)] == 0.1
    assert values[("time/iteration_s", 13)] == 0.5
    assert means["train/loss"] == pytest.approx(7.0)
    assert means["train/lr"] == 0.13


def test_an_epoch_that_ends_on_the_beat_is_not_written_twice(tmp_path: Path) -> None:
    log = IterationLog(NullRecorder(tmp_path), max_epochs=2, epoch_length=LOG_EVERY)
    for step in range(1, 2 * LOG_EVERY + 1):
        log({"loss": 1.0}, step, 0.1, 0.0)
        if step % LOG_EVERY == 0:
            assert log.end_epoch()["train/loss"] == 1.0
    assert {step for _, step in written(tmp_path)} == {LOG_EVERY, 2 * LOG_EVERY}


def test_values_that_are_not_finite_stay_out_of_the_means(tmp_path: Path) -> None:
    log = IterationLog(NullRecorder(tmp_path), max_epochs=1, epoch_length=2)
    log({"loss": float("nan")}, 1, 0.1, 0.0)
    log({"loss": 3.0}, 2, 0.1, 0.0)
    assert log.end_epoch()["train/loss"] == 3.0


def test_each_line_says_how_long_it_takes_yet(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "hubmap_ml")
    log = IterationLog(NullRecorder(tmp_path), max_epochs=2, epoch_length=LOG_EVERY)
    for step in range(1, 2 * LOG_EVERY + 1):
        log({"loss": 1.0}, step, 7.0, 0.0)
    assert caplog.messages == [
        f"epoch 1/2, iteration {LOG_EVERY}/{LOG_EVERY}, loss 1, 1 min 10 s of training left",
        f"epoch 2/2, iteration {LOG_EVERY}/{LOG_EVERY}, loss 1",
    ]
