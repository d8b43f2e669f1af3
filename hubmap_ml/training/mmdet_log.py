"""Logs of mmdet 2 (mmcv's ``TextLoggerHook``): what a training elsewhere said, as data.

Here the text log; `mmdet_json_log` reads the ``.log.json`` that is written beside it. Read are the lines of iterations
(``Epoch [1][20/114]``) and of evaluations (``Epoch(val) [1][29]``); the others say nothing that these do not.
"""

import math
import re
import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from hubmap_ml.spec import InputError

_LINE = re.compile(
    r"^(?P<at>\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3}) - .*?Epoch"
    r"(?:\((?P<val>val)\) \[(?P<scored>\d+)\]\[\d+\]|\s?\[(?P<epoch>\d+)\]\[(?P<iteration>\d+)/(?P<length>\d+)\])"
    r"\s+(?P<values>.*)$"
)


@dataclass(frozen=True)
class LoggedIteration:
    """One line of training, the means since the line before it.

    Attributes:
        at: when it was written; None where the log does not say.
        epoch, iteration: from 1; the iteration counts inside the epoch.
        values: ``lr``, ``time`` and ``data_time`` in seconds, ``memory`` in MiB, loss parts; the finite ones.
    """

    at: datetime | None
    epoch: int
    iteration: int
    values: Mapping[str, float]


@dataclass(frozen=True)
class LoggedScores:
    """One line of evaluation, after ``epoch`` (from 1); ``values`` such as ``segm_mAP_50``."""

    at: datetime | None
    epoch: int
    values: Mapping[str, float]


@dataclass(frozen=True)
class MmdetLog:
    """A whole log, in the order of training; where an epoch was trained twice, its last time.

    Attributes:
        epoch_length: iterations an epoch.
        length_is_known: whether the log says so; else ``epoch_length`` is the last one logged, the least it can be.
    """

    epoch_length: int
    iterations: tuple[LoggedIteration, ...]
    scores: tuple[LoggedScores, ...]
    length_is_known: bool = True

    def step(self, line: LoggedIteration) -> int:
        """Return the iterations done when a line was written, over all epochs."""
        return (line.epoch - 1) * self.epoch_length + line.iteration

    @property
    def epochs(self) -> int:
        """How many epochs were trained, the last one perhaps in part."""
        return self.iterations[-1].epoch

    @property
    def total_iterations(self) -> int:
        """Iterations of all epochs; of an unfinished last one those that were logged."""
        last = self.iterations[-1]
        done = bool(self.scores) and self.scores[-1].epoch >= last.epoch
        return self.epochs * self.epoch_length if done else self.step(last)

    def best(self, name: str) -> LoggedScores:
        """Return the evaluation with the highest value of a score, the first of equals.

        Raises:
            InputError: no evaluation has it.
        """
        having = [line for line in self.scores if name in line.values]
        if not having:
            known = sorted({key for line in self.scores for key in line.values})
            raise InputError(f"the log has no score {name!r}; there is {', '.join(known) or 'no evaluation'}")
        return max(having, key=lambda line: line.values[name])

    @property
    def iteration_s(self) -> float:
        """The median of the seconds an iteration took; NaN where the log does not say."""
        times = [line.values["time"] for line in self.iterations if "time" in line.values]
        return statistics.median(times) if times else math.nan

    @property
    def peak_memory_mib(self) -> float:
        """The highest memory on a device in MiB; NaN where the log does not say."""
        return max(
            (line.values["memory"] for line in self.iterations if "memory" in line.values), default=math.nan
        )

    @property
    def wall_s(self) -> float:
        """Seconds from the first iteration's beginning to the last line, evaluations included; NaN without a clock."""
        first = self.iterations[0]
        times = [line.at for line in self.iterations] + [line.at for line in self.scores]
        last = max((at for at in times if at is not None), default=None)
        if first.at is None or last is None:
            return math.nan
        before = first.values.get("time", 0.0) * first.iteration
        return (last - first.at).total_seconds() + before


def read_mmdet_log(path: Path) -> MmdetLog:
    """Read a text log.

    Raises:
        InputError: no such file, no training in it, or epochs of several lengths.
    """
    try:
        text = path.read_text(errors="replace")
    except OSError as error:
        raise InputError(f"{path}: cannot read the log ({error.strerror}); check the path") from None
    iterations: dict[tuple[int, int], LoggedIteration] = {}
    scores: dict[int, LoggedScores] = {}
    lengths: set[int] = set()
    for found in filter(None, map(_LINE.match, text.splitlines())):
        at = datetime.strptime(found["at"], "%Y-%m-%d %H:%M:%S,%f")
        values = _values(found["values"])
        if found["val"]:
            epoch = int(found["scored"])
            scores[epoch] = LoggedScores(at, epoch, values)
            continue
        epoch, iteration = int(found["epoch"]), int(found["iteration"])
        lengths.add(int(found["length"]))
        iterations[epoch, iteration] = LoggedIteration(at, epoch, iteration, values)
    if not iterations:
        raise InputError(
            f"{path}: no line 'Epoch [1][20/114] …' as mmdet 2 writes; give the text log (.log) of one training"
        )
    if len(lengths) > 1:
        several = " and ".join(map(str, sorted(lengths)))
        raise InputError(f"{path}: its epochs have {several} iterations; give the log of one training")
    return MmdetLog(
        epoch_length=lengths.pop(),
        iterations=tuple(iterations[key] for key in sorted(iterations)),
        scores=tuple(scores[key] for key in sorted(scores)),
    )


def _values(text: str) -> dict[str, float]:
    """The numbers of ``lr: 1.9e-03, eta: 0:35:40, …``; what is none (``eta``, several at once) is left out."""
    found = {}
    for part in text.split(", "):
        name, _, value = part.partition(": ")
        try:
            number = float(value)
        except ValueError:
            continue
        if math.isfinite(number):
            found[name.strip()] = number
    return found
