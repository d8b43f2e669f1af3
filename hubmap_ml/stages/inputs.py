"""What each stage's result depends on: one `StageInputs` a stage, built from the part of the experiment it declares."""

from collections.abc import Sequence
from typing import Any

from hubmap_ml.spec import Experiment, StageInputs
from hubmap_ml.stages.session import Session


def prepare(session: Session, raw_digest: str) -> StageInputs:
    """Inputs of `prepare`; generated tissue is identified by its parameters, raw files by their bytes."""
    data = session.experiment.data.model_dump(mode="json", exclude={"raw", "pools"})
    data["folded_pool"] = session.experiment.data.pools[session.experiment.data.folds.pool]
    return StageInputs("prepare", data, (), raw_digest)


def pretrain(
    session: Session, member: str, upstream: str, data_digest: str, *, without_fold: int | None
) -> StageInputs:
    """Inputs of `pretrain`; ``without_fold`` is None where the pool holds no image of any fold."""
    experiment = session.experiment
    part = experiment.members[member].pretrain
    assert part is not None
    return StageInputs(
        "pretrain",
        {
            **_training(session, member, "pretrain", part.pool),
            "valid": part.valid,
            "without_fold": without_fold,
        },
        (upstream,),
        data_digest,
    )


def finetune(
    session: Session, member: str, fold: int, upstream: Sequence[str], data_digest: str
) -> StageInputs:
    """Inputs of `finetune` on one fold; ``upstream`` is prepare's key and, where there is a stage 1, pretrain's."""
    declared = session.experiment.members[member]
    start = declared.pretrain.checkpoint if declared.pretrain else None
    return StageInputs(
        "finetune",
        {**_training(session, member, "finetune", declared.finetune.pool), "fold": fold, "start_from": start},
        tuple(upstream),
        data_digest,
    )


def predict(session: Session, member: str, upstream: Sequence[str], data_digest: str) -> StageInputs:
    """Inputs of `predict` for the network of one fold."""
    declared = session.experiment.members[member]
    return StageInputs(
        "predict",
        {"predict": declared.predict.model_dump(mode="json"), "checkpoint": declared.finetune.checkpoint},
        tuple(upstream),
        data_digest,
    )


def tune(session: Session, upstream: Sequence[str], data_digest: str) -> StageInputs:
    """Inputs of `tune` for one member; ``upstream`` are its predict runs' keys by fold."""
    experiment = session.experiment
    return StageInputs(
        "tune",
        {**scoring(experiment), "tune": experiment.tune.model_dump(mode="json")},
        tuple(upstream),
        data_digest,
    )


def promote(session: Session, upstream: Sequence[str], data_digest: str) -> StageInputs:
    """Inputs of `promote`; ``upstream`` are the members' tune keys."""
    experiment = session.experiment
    values = {"members": sorted(experiment.members), "promote": experiment.promote.model_dump(mode="json")}
    return StageInputs("promote", {**values, "metric": experiment.metric}, tuple(upstream), data_digest)


def ensemble(session: Session, upstream: Sequence[str], data_digest: str) -> StageInputs:
    """Inputs of `ensemble`; ``upstream`` are the stage keys of the member versions that it fuses."""
    experiment = session.experiment
    values = {**scoring(experiment), "ensemble": experiment.ensemble.model_dump(mode="json")}
    values["tune"] = experiment.tune.model_dump(mode="json")
    return StageInputs("ensemble", values, tuple(upstream), data_digest)


def report(session: Session, upstream: Sequence[str], data_digest: str) -> StageInputs:
    """Inputs of `report`; ``upstream`` are the keys of the runs that it shows."""
    return StageInputs("report", scoring(session.experiment), tuple(upstream), data_digest)


def main(session: Session, data_digest: str) -> StageInputs:
    """Inputs of `main`: the whole experiment without its raw folder, members' configurations resolved."""
    experiment = session.experiment
    document = experiment.model_dump(mode="json", exclude={"data": {"raw"}})
    configs = {
        f"{member}.{stage}": session.member_config(member, stage)
        for member in experiment.members
        for stage in ("pretrain", "finetune")
    }
    return StageInputs("main", {"experiment": document, "configs": configs}, (), data_digest)


def submit(session: Session, upstream: str, data_digest: str) -> StageInputs:
    """Inputs of `submit`; ``upstream`` is the digest of what predicts."""
    return StageInputs("submit", {"format": session.experiment.data.format}, (upstream,), data_digest)


def scoring(experiment: Experiment) -> dict[str, Any]:
    """Return what turns candidates into a score."""
    return {
        "metric": experiment.metric,
        "merge_iou": experiment.merge_iou,
        "postprocess": list(experiment.postprocess),
    }


def _training(session: Session, member: str, stage: str, pool: str) -> dict[str, Any]:
    experiment = session.experiment
    kept = sorted(experiment.keep.checkpoints)
    # A run that kept both serves every later wish; one that kept less is another result.
    less = {} if kept == ["best", "last"] else {"checkpoints": kept}
    return {
        **less,
        "categories": list(experiment.data.types),
        "pool": experiment.data.pools[pool],
        "config": session.member_config(member, stage),
        "trainer": experiment.members[member].trainer,
        "seed": experiment.seed,
        "metric": experiment.metric,
        "postprocess": list(experiment.postprocess),
    }
