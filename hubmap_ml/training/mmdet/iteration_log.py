"""Losses and learning rates of iterations, averaged over a few and handed to the recorder."""

import math
from collections import defaultdict
from collections.abc import Mapping

from hubmap_ml.spec import Recorder
from hubmap_ml.spec.durations import duration

LOG_EVERY = 10


class IterationLog:
    """Collects iterations.

    Every `LOG_EVERY` iterations, and at an epoch's end, the means since the last time become metrics
    ``train/...`` and ``time/...`` at the step of the last iteration; a learning rate is the last one, not a
    mean. Values that are not finite stay out of the means.

    Args:
        recorder: receives the metrics.
        max_epochs: for the progress line.
        epoch_length: iterations an epoch.
    """

    def __init__(self, recorder: Recorder, *, max_epochs: int, epoch_length: int) -> None:
        self._recorder = recorder
        self._max_epochs = max_epochs
        self._epoch_length = epoch_length
        self._window: dict[str, list[float]] = defaultdict(list)
        self._epoch: dict[str, list[float]] = defaultdict(list)
        self._step = 0

    def __call__(self, values: dict[str, float], step: int, seconds: float, waited: float) -> None:
        """Hear about one iteration (see `runner.IterationListener`)."""
        self._step = step
        named = {f"train/{key}": value for key, value in values.items()}
        named |= {"time/iteration_s": seconds, "time/data_s": waited}
        for key, value in named.items():
            if math.isfinite(value):
                self._window[key].append(value)
                self._epoch[key].append(value)
        if step % LOG_EVERY == 0:
            self._send()

    def state(self) -> dict[str, dict[str, list[float]]]:
        """What was heard and not said yet, for a checkpoint."""
        return {
            "window": {key: list(items) for key, items in self._window.items()},
            "epoch": {key: list(items) for key, items in self._epoch.items()},
        }

    def restore(self, state: Mapping[str, Mapping[str, list[float]]], *, step: int) -> None:
        """Go on from a `state`, after ``step`` iterations."""
        self._window.update({key: list(items) for key, items in state["window"].items()})
        self._epoch.update({key: list(items) for key, items in state["epoch"].items()})
        self._step = step

    def end_epoch(self) -> dict[str, float]:
        """Send what is left, and return the epoch's means."""
        self._send()
        means = _means(self._epoch)
        self._epoch.clear()
        return means

    def _send(self) -> None:
        if not self._window:
            return
        means = _means(self._window)
        self._window.clear()
        self._recorder.metrics(means, step=self._step)
        done = self._step - 1
        rate = means.get("time/iteration_s", math.nan)
        left = (self._max_epochs * self._epoch_length - self._step) * rate
        self._recorder.progress(
            f"epoch {done // self._epoch_length + 1}/{self._max_epochs}, "
            f"iteration {done % self._epoch_length + 1}/{self._epoch_length}, "
            f"loss {means.get('train/loss', math.nan):.4g}"
            + (f", {duration(left)} of training left" if left > 0 else "")
        )


def _means(values: dict[str, list[float]]) -> dict[str, float]:
    return {key: items[-1] if key == "train/lr" else sum(items) / len(items) for key, items in values.items()}
