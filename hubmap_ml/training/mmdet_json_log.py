"""The ``.log.json`` of mmdet 2 (mmcv's ``TextLoggerHook``): one JSON object a line, read as the text log is.

It says neither when a line was written nor how many iterations an epoch has. The latter is taken from who asks, or from
the text log that mmdet writes beside it (``a.log`` of ``a.log.json``); else the last iteration logged stands for it.
"""

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from hubmap_ml.spec import InputError
from hubmap_ml.training.mmdet_log import LoggedIteration, LoggedScores, MmdetLog, read_mmdet_log

SUFFIX = ".json"
_PLACE = ("mode", "epoch", "iter")
_OF_TRAINING = ("lr", "memory", "time", "data_time")  # lines of evaluation repeat these


def read_any_log(path: Path, *, epoch_length: int = 0) -> MmdetLog:
    """Read a log of mmdet 2: the ``.log.json`` by its name, else the text log.

    Args:
        path: the file.
        epoch_length: iterations an epoch, of a log that does not say; 0 where it is not known.

    Raises:
        InputError: as `read_mmdet_json_log` and `read_mmdet_log`; a text log says by itself how long its epochs are.
    """
    if path.suffix == SUFFIX:
        return read_mmdet_json_log(path, epoch_length=epoch_length)
    if epoch_length:
        raise InputError(
            f"{path}: a text log says how long its epochs are; --epoch-length is for a .log.json"
        )
    return read_mmdet_log(path)


def read_mmdet_json_log(path: Path, *, epoch_length: int = 0) -> MmdetLog:
    """Read a ``.log.json``; where an epoch was trained twice, its last time counts.

    Args:
        path: the file.
        epoch_length: iterations an epoch; 0 takes it from the text log beside the file, if there is one.

    Raises:
        InputError: no such file, no training in it, or epochs that are longer than ``epoch_length``.
    """
    try:
        text = path.read_text(errors="replace")
    except OSError as error:
        raise InputError(f"{path}: cannot read the log ({error.strerror}); check the path") from None
    iterations: dict[tuple[int, int], LoggedIteration] = {}
    scores: dict[int, LoggedScores] = {}
    for mode, epoch, iteration, line in _lines(text):
        if mode == "val":
            scores[epoch] = LoggedScores(None, epoch, _numbers(line, without=(*_PLACE, *_OF_TRAINING)))
        elif mode == "train":
            iterations[epoch, iteration] = LoggedIteration(
                None, epoch, iteration, _numbers(line, without=_PLACE)
            )
    if not iterations:
        raise InputError(
            f'{path}: no line {{"mode": "train", "epoch": 1, "iter": 20, …}} as mmdet 2 writes; give the .log.json '
            "of one training"
        )
    longest = max(iteration for _, iteration in iterations)
    length = epoch_length or _length_beside(path)
    if length and length < longest:
        raise InputError(f"{path}: it has iteration {longest} of an epoch, so an epoch cannot have {length}")
    return MmdetLog(
        epoch_length=length or longest,
        iterations=tuple(iterations[key] for key in sorted(iterations)),
        scores=tuple(scores[key] for key in sorted(scores)),
        length_is_known=bool(length),
    )


def _lines(text: str) -> Iterator[tuple[str, int, int, Mapping[str, Any]]]:
    """Mode, epoch, iteration and content of each line; a training that was killed may leave half a line."""
    for row in text.splitlines():
        try:
            line = json.loads(row)
            yield str(line["mode"]), int(line["epoch"]), int(line["iter"]), line
        except (ValueError, KeyError, TypeError):
            continue


def _numbers(line: Mapping[str, Any], *, without: tuple[str, ...]) -> dict[str, float]:
    """The finite numbers of a line; learning rates of several optimisers each by its name."""
    rates = line.get("lr")
    named = {f"lr_{key}": value for key, value in rates.items()} if isinstance(rates, Mapping) else {}
    return {
        key: float(value)
        for key, value in {**line, **named}.items()
        if key not in without
        and isinstance(value, int | float)
        and not isinstance(value, bool)
        and math.isfinite(value)
    }


def _length_beside(path: Path) -> int:
    """Iterations an epoch by the text log of the same training; 0 without one that can be read."""
    try:
        return read_mmdet_log(path.with_suffix("")).epoch_length
    except InputError:
        return 0
