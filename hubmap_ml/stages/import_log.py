"""`import-log`: a training elsewhere, from its mmdet log, as a run that lies under ours in the same plots.

Losses and learning rates are metrics at the iteration, scores at the epoch, under the names that our own trainings
use. Their scores mean what they meant there: mmdet's evaluation may have looked at flipped views, on other images.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from hubmap_ml.spec import InputError
from hubmap_ml.tracking import MEMBER, open_store, search, stage_run
from hubmap_ml.training.mmdet_log import LoggedIteration, MmdetLog, read_mmdet_log

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


def run(file: str, *, experiment: str = "reference", name: str = "") -> Imported:
    """Make a run of a log; a log that is one already is not taken twice.

    Args:
        file: text log of mmdet 2.
        experiment: in whose runs it belongs.
        name: of the run, and member that it stands beside; the file's name where none is given.

    Raises:
        InputError: a log that cannot be read, or without a training in it.
    """
    path = Path(file)
    log = read_mmdet_log(path)
    verdict = in_words(log)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    same = f"tags.`{DIGEST}` = '{digest}' and attributes.status = 'FINISHED'"
    for found in search(same, client=open_store()):
        return Imported(found.run_id, verdict, new=False)
    title = name or path.stem
    tags = {DIGEST: digest, MEMBER: title}
    with stage_run(experiment=experiment, stage=STAGE, name=f"{title}, imported", tags=tags) as made:
        made.recorder.params({"epochs": log.epochs, "epoch_length": log.epoch_length, "log": path.name})
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
    hours, seconds = divmod(round(log.wall_s), 3600)
    cost = (
        f"{log.epochs} epochs of {log.epoch_length} iterations, {log.iteration_s:.2f} s each, "
        f"{log.peak_memory_mib:,.0f} MiB, {hours}:{seconds // 60:02}:{seconds % 60:02}"
    )
    try:
        best = log.best(SCORE)
    except InputError:
        return f"no {SCORE} in the log; {cost}"
    last = log.scores[-1].values.get(SCORE, best.values[SCORE])
    return f"{SCORE} {best.values[SCORE]:.4f} at epoch {best.epoch} (last {last:.4f}); {cost}"


def _metrics(line: LoggedIteration) -> dict[str, float]:
    return {TIMES.get(key, f"train/{key}"): value for key, value in line.values.items()}
