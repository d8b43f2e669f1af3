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

from hubmap_ml.data import PreparedData, open_prepared
from hubmap_ml.instances import Annotations, read_coco
from hubmap_ml.spec import ALL_DATA, DoneElsewhere, InputError, StageInputs
from hubmap_ml.stages import inputs, splits
from hubmap_ml.stages.session import Outcome, Session, place_of
from hubmap_ml.tracking import DATA_DIGEST, FoundRun, find_run, get_run, open_store

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
    found = _recorded(session, "prepare") or find_run(session.experiment.name, wanted.key)
    if session.recorded and found is not None:
        check_raw(found, raw, raw_digest)
    if found is None:
        log.info("no prepared data yet: running prepare first")
        with suppress(DoneElsewhere):
            prepare.work(session)
        found = find_run(session.experiment.name, wanted.key)
        if found is None:
            raise RuntimeError("prepare finished, and its run cannot be found by its key")
    return Prepared(found, opened(found, raw))


def check_raw(prepared_by: FoundRun, raw: Path, raw_digest: str) -> None:
    """Refuse raw data that are not those which a recorded `prepare` read."""
    recorded = prepared_by.tags.get(DATA_DIGEST, "")
    if recorded != raw_digest[:64]:
        raise InputError(
            f"the raw data in {raw} (digest {raw_digest[:12]}) are not those that run {prepared_by.run_id[:12]} read "
            f"(digest {recorded[:12] or 'unknown'}); pass --raw with the folder that holds them"
        )


def _recorded(
    session: Session, stage: str, member: str | None = None, fold: int | None = None
) -> FoundRun | None:
    run_id = session.recorded.get(place_of(stage, member, fold))
    return None if run_id is None else get_run(open_store(), run_id)


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
    found = _recorded(session, wanted.stage, member, fold) or find_run(session.experiment.name, wanted.key)
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
    what = "labels" if stage == "pseudo_label" else "member"
    parameters = {key: value for key, value in session.words.items() if value} | {what: member}
    if fold is not None and (fold != ALL_DATA or stage == "pseudo_label"):
        parameters["fold"] = str(fold)
    words = " ".join(f"-P {key}={shlex.quote(value)}" for key, value in parameters.items())
    which = "" if fold is None else ", all data" if fold == ALL_DATA else f", fold {fold}"
    entry = stage.replace("_", "-")
    where = f"{entry} of {what} {member!r}{which}"
    command = f"mlflow run . -e {entry} {words}"
    return f"no finished {where} with these settings; run '{command}' first, or add -P with_upstream=true"


def hidden_truth(data: PreparedData) -> Annotations | None:
    """Return the truth of the test images, which only generated data has; never used to choose anything."""
    return None if data.hidden_truth is None else read_coco(data.hidden_truth)


def pretrained(session: Session, member: str, fold: int, at: Prepared) -> FoundRun | None:
    """Return the stage 1 run that a fold's stage 2 starts from; None for a member of one stage."""
    from hubmap_ml.stages import pretrain

    if session.experiment.members[member].pretrain is None:
        return None
    return required(
        session,
        inputs.pretrain(session, member, fold, at.data),
        member=member,
        fold=splits.pretrain_fold(session, member, fold, at.data),
        make=lambda: pretrain.work(session, member, fold),
    )


def pseudo_labelled(session: Session, member: str, fold: int, at: Prepared) -> FoundRun | None:
    """Return the run that made the pseudo-labels of a fold's stage 1; None for a member that learns from none."""
    from hubmap_ml.stages import pseudo_label

    part = session.experiment.members[member].pretrain
    if part is None or part.pseudo is None:
        return None
    labels = part.pseudo
    return required(
        session,
        inputs.pseudo_label(session, labels, fold, at.data),
        member=labels,
        fold=fold,
        make=lambda: pseudo_label.work(session, labels, fold),
    )


def finetuned(session: Session, member: str, fold: int, at: Prepared) -> FoundRun:
    """Return the stage 2 run of a fold."""
    from hubmap_ml.stages import finetune

    wanted = inputs.finetune(session, member, fold, at.data)
    found = _recorded(session, "finetune", member, fold) or find_run(session.experiment.name, wanted.key)
    if found is not None:
        return found
    pretrained(session, member, fold, at)  # where both are missing, the first of them is the one to name
    return required(
        session, wanted, member=member, fold=fold, make=lambda: finetune.work(session, member, fold)
    )


def predicted(session: Session, member: str, fold: int, at: Prepared) -> FoundRun:
    """Return the prediction run of a fold's network; of an external member the run that took its predictions in."""
    from hubmap_ml.stages import predict

    wanted = inputs.predict(session, member, fold, at.data)
    found = _recorded(session, "predict", member, fold) or find_run(session.experiment.name, wanted.key)
    if found is not None:
        return found
    if session.experiment.members[member].is_predictions:  # cheap: nothing is predicted, it is only taken in
        session = dataclasses.replace(session, with_upstream=True)
    else:
        finetuned(session, member, fold, at)
    return required(
        session, wanted, member=member, fold=fold, make=lambda: predict.work(session, member, fold)
    )


def predictions_of(session: Session, member: str, at: Prepared) -> list[FoundRun]:
    """Return the prediction runs of all of a member's folds, in order of the folds."""
    return [predicted(session, member, fold, at) for fold in session.experiment.folds_of(member)]


def tuned(session: Session, member: str, at: Prepared) -> FoundRun:
    """Return a member's threshold study; of a refit member that of its recipe."""
    from hubmap_ml.stages import tune

    member = session.experiment.recipe_of(member)
    wanted = inputs.tune(session, member, at.data)
    found = _recorded(session, "tune", member) or find_run(session.experiment.name, wanted.key)
    if found is not None:
        return found
    predictions_of(session, member, at)
    return required(session, wanted, member=member, fold=None, make=lambda: tune.work(session, member))
