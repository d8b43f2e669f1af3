"""`import-log`: a training elsewhere, from its mmdet log, as a run that lies under ours in the same plots.

Losses and learning rates are metrics at the iteration, scores at the epoch, under the names that our own trainings
use. Their scores mean what they meant there: mmdet's evaluation may have looked at flipped views, on other images.
"""

import hashlib
import math
from dataclasses import dataclass
from pathlib import Path

from hubmap_ml.spec import InputError
from hubmap_ml.tracking import MEMBER, open_store, search, stage_run
from hubmap_ml.training.mmdet_json_log import SUFFIX, read_any_log
from hubmap_ml.training.mmdet_log import LoggedIteration, MmdetLog

STAGE = "import-log"
DIGEST = "hubmap.imported_log"
SCORE = "segm_mAP"
TIMES = {"time": "time/iteration_s", "data_time": "time/data_s", "memory": "system/device_memory_mib"}


@dataclass(frozen=True)
class Imported:
    """Where a log went: a new run, or the one that held it already."""

    run_id: str
    verdict: str
    new: bool


def run(file: str, *, experiment: str = "reference", name: str = "", epoch_length: int = 0) -> Imported:
    """Make a run of a log; a log that is one already is not taken twice.

    Args:
        file: log of mmdet 2: the text, or the ``.log.json`` beside it.
        experiment: in whose runs it belongs.
        name: of the run, and member that it stands beside; the file's name where none is given.
        epoch_length: iterations an epoch, which a ``.log.json`` does not say; 0 asks the text log beside it.

    Raises:
        InputError: a log that cannot be read, or without a training in it.
    """
    path = Path(file)
    log = read_any_log(path, epoch_length=epoch_length)
    verdict = in_words(log)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    if path.suffix == SUFFIX:  # the same lines at other steps are another run
        digest = hashlib.sha256(f"{digest} {log.epoch_length}".encode()).hexdigest()
    same = f"tags.`{DIGEST}` = '{digest}' and attributes.status = 'FINISHED'"
    for found in search(same, client=open_store()):
        return Imported(found.run_id, verdict, new=False)
    title = name or Path(path.name.removesuffix(SUFFIX)).stem
    tags = {DIGEST: digest, MEMBER: title}
    with stage_run(experiment=experiment, stage=STAGE, name=f"{title}, imported", tags=tags) as made:
        at_least = "" if log.length_is_known else "at least "
        made.recorder.params(
            {"epochs": log.epochs, "epoch_length": f"{at_least}{log.epoch_length}", "log": path.name}
        )
        for line in log.iterations:
            made.recorder.metrics(_metrics(line), step=log.step(line))
        for scores in log.scores:
            values = {f"val_coco/{key}": value for key, value in scores.values.items()}
            made.recorder.metrics(values, step=scores.epoch)
        made.recorder.artifact(path)
        made.say(verdict)
    return Imported(made.run_id, verdict, new=True)


def in_words(log: MmdetLog) -> str:
    """Say the best and the last epoch, and what they cost."""
    length = f"{log.epoch_length}" if log.length_is_known else f"at least {log.epoch_length}"
    cost = f"{log.epochs} epochs of {length} iterations"
    for value, words in (
        (log.iteration_s, f"{log.iteration_s:.2f} s each"),
        (log.peak_memory_mib, f"{log.peak_memory_mib:,.0f} MiB"),
        (log.wall_s, _clock(log.wall_s)),
    ):
        cost += "" if math.isnan(value) else f", {words}"
    try:
        best = log.best(SCORE)
    except InputError:
        return f"no {SCORE} in the log; {cost}"
    last = log.scores[-1].values.get(SCORE, best.values[SCORE])
    return f"{SCORE} {best.values[SCORE]:.4f} at epoch {best.epoch} (last {last:.4f}); {cost}"


def _clock(seconds: float) -> str:
    """``1:02:03``."""
    if math.isnan(seconds):
        return ""
    hours, rest = divmod(round(seconds), 3600)
    return f"{hours}:{rest // 60:02}:{rest % 60:02}"


def _metrics(line: LoggedIteration) -> dict[str, float]:
    return {TIMES.get(key, f"train/{key}"): value for key, value in line.values.items()}
