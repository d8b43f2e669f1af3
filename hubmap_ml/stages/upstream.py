"""Finding what a stage starts from: by stage key, over all runs of the store.

Cheap upstream (`prepare`) runs by itself. A missing training upstream stops with the command to type, or runs where
``with_upstream`` allows it.
"""

import dataclasses
import logging
import shlex
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hubmap_ml.data import PreparedData, open_prepared
from hubmap_ml.instances import Annotations, read_coco
from hubmap_ml.spec import DoneElsewhere, InputError, StageInputs
from hubmap_ml.stages import inputs
from hubmap_ml.stages.session import Outcome, Session
from hubmap_ml.tracking import FoundRun, find_run

log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Prepared:
    """Prepared data and the run that made it."""

    run: FoundRun
    data: PreparedData

    @property
    def digest(self) -> str:
        """Digest of the data's bytes that matter."""
        return self.data.digest


def prepared(session: Session) -> Prepared:
    """Return the prepared data of an experiment, preparing it where no finished run did."""
    from hubmap_ml.stages import prepare

    raw, raw_digest = prepare.raw_folder(session)
    wanted = inputs.prepare(session, raw_digest)
    found = find_run(session.experiment.name, wanted.key)
    if found is None:
        log.info("no prepared data yet: running prepare first")
        with suppress(DoneElsewhere):
            prepare.work(session)
        found = find_run(session.experiment.name, wanted.key)
        if found is None:
            raise RuntimeError("prepare finished, and its run cannot be found by its key")
    return Prepared(found, opened(found, raw))


def opened(run: FoundRun, raw: Path) -> PreparedData:
    """Open what a prepare run made; ``raw`` is where the images lie today."""
    return dataclasses.replace(open_prepared(run.artifact("prepared")), raw=raw)


def required(
    session: Session, wanted: StageInputs, *, member: str, fold: int | None, make: Callable[[], Outcome]
) -> FoundRun:
    """Return the finished run with the wanted key.

    Raises:
        InputError: there is none and the session does not allow to make it; with the command to type.
    """
    found = find_run(session.experiment.name, wanted.key)
    if found is None and session.with_upstream:
        log.info("%s of %s is missing: running it first", wanted.stage, member)
        with suppress(DoneElsewhere):
            make()
        found = find_run(session.experiment.name, wanted.key)
    if found is None:
        raise InputError(missing(session, wanted.stage, member, fold))
    return found


def missing(session: Session, stage: str, member: str, fold: int | None) -> str:
    """Say which run is missing, and the command that makes it with the same settings."""
    parameters = {key: value for key, value in session.words.items() if value} | {"member": member}
    if fold is not None:
        parameters["fold"] = str(fold)
    words = " ".join(f"-P {key}={shlex.quote(value)}" for key, value in parameters.items())
    where = f"{stage} of member {member!r}" + ("" if fold is None else f", fold {fold}")
    command = f"mlflow run . -e {stage} {words}"
    return f"no finished {where} with these settings; run '{command}' first, or add -P with_upstream=true"


def pretrain_fold(session: Session, member: str, fold: int, data: PreparedData) -> int | None:
    """Return the fold that stage 1 must not see; None where its pool holds no image of any fold."""
    part = session.experiment.members[member].pretrain
    assert part is not None
    rows = pool_rows(session, part.pool, data)
    return fold if np.any(data.images.folds[rows] >= 0) else None


def pool_rows(session: Session, pool: str, data: PreparedData) -> NDArray[np.int64]:
    """Return the rows of a named pool among the training images."""
    return data.pool(session.experiment.data.pools[pool])


def hidden_truth(data: PreparedData) -> Annotations | None:
    """Return the truth of the test images, which only generated data has; never used to choose anything."""
    return None if data.hidden_truth is None else read_coco(data.hidden_truth)


def pretrained(session: Session, member: str, fold: int, at: Prepared) -> FoundRun | None:
    """Return the stage 1 run that a fold's stage 2 starts from; None for a member of one stage."""
    from hubmap_ml.stages import pretrain

    if session.experiment.members[member].pretrain is None:
        return None
    without = pretrain_fold(session, member, fold, at.data)
    wanted = inputs.pretrain(session, member, at.run.key, at.digest, without_fold=without)
    return required(
        session, wanted, member=member, fold=without, make=lambda: pretrain.work(session, member, fold)
    )


def finetuned(session: Session, member: str, fold: int, at: Prepared) -> FoundRun:
    """Return the stage 2 run of a fold."""
    from hubmap_ml.stages import finetune

    wanted = finetune_inputs(session, member, fold, at, pretrained(session, member, fold, at))
    return required(
        session, wanted, member=member, fold=fold, make=lambda: finetune.work(session, member, fold)
    )


def finetune_inputs(
    session: Session, member: str, fold: int, at: Prepared, start: FoundRun | None
) -> StageInputs:
    """Return the inputs of a fold's stage 2."""
    keys = (at.run.key,) if start is None else (at.run.key, start.key)
    return inputs.finetune(session, member, fold, keys, at.digest)


def predicted(session: Session, member: str, fold: int, at: Prepared) -> FoundRun:
    """Return the prediction run of a fold's network."""
    from hubmap_ml.stages import predict

    trained = finetuned(session, member, fold, at)
    wanted = inputs.predict(session, member, (trained.key,), at.digest)
    return required(
        session, wanted, member=member, fold=fold, make=lambda: predict.work(session, member, fold)
    )


def predictions_of(session: Session, member: str, at: Prepared) -> list[FoundRun]:
    """Return the prediction runs of all of a member's folds, in order of the folds."""
    return [predicted(session, member, fold, at) for fold in session.experiment.folds_of(member)]


def tuned(session: Session, member: str, at: Prepared) -> tuple[FoundRun, list[FoundRun]]:
    """Return a member's threshold study and the prediction runs that it used."""
    from hubmap_ml.stages import tune

    runs = predictions_of(session, member, at)
    wanted = inputs.tune(session, tuple(run.key for run in runs), at.digest)
    found = required(session, wanted, member=member, fold=None, make=lambda: tune.work(session, member))
    return found, runs
