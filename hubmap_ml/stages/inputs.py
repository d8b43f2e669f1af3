"""What each stage's result depends on: one `StageInputs` a stage, built from the part of the experiment it declares.

Keys are pure functions of the experiment and the prepared data: no run needs to exist for them. A stage names its
images by their ids in order and by a digest of their own pixels and annotations, so that a stray file, another pool or
another number of folds leaves alone what does not look at it. The work takes its values from here (`values`), not from
the experiment.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hubmap_ml.data import PreparedData
from hubmap_ml.ensembling import line_of
from hubmap_ml.spec import ALL_DATA, FUSION_OF_TEACHERS, Experiment, InputError, StageInputs
from hubmap_ml.stages import (
    imported_predictions,
    imported_work_dir,
    initial_weights,
    precision,
    splits,
    weight_files,
    weight_origins,
)
from hubmap_ml.stages.file_digests import digest_of_file
from hubmap_ml.stages.session import Session


def prepare(session: Session, raw_digest: str) -> StageInputs:
    """Inputs of `prepare`; raw files, generated or not, are identified by their names and bytes."""
    data = session.experiment.data.model_dump(mode="json", exclude={"raw", "synthetic", "pools"})
    data["folded_pool"] = session.experiment.data.pools[session.experiment.data.folds.pool]
    return StageInputs("prepare", data, (), raw_digest)


def pseudo_label(session: Session, labels: str, fold: int, data: PreparedData) -> StageInputs:
    """Inputs of `pseudo-label` for the students of a fold; upstream are networks that teach."""
    experiment = session.experiment
    declared = experiment.pseudo_label[labels]
    rows = splits.labelled(session, labels, fold, data).rows
    networks = splits.teaching_networks(session, labels, fold)
    own = {"pool", "shared", "touching"} | (set() if declared.model is None else set(FUSION_OF_TEACHERS))
    values: dict[str, Any] = {
        **declared.model_dump(mode="json", exclude=own),
        "categories": list(experiment.data.types),
        "images": _ids(data, rows),
    }
    if declared.model is None:
        teachers = {name: experiment.members[name] for name in declared.teachers or ()}
        values |= {
            "networks": [f"{teacher}/{k}" for teacher, k in networks],
            "checkpoints": {name: member.finetune.checkpoint for name, member in teachers.items()},
            "predict": {
                name: member.predict.model_dump(mode="json", exclude={"batch"})
                for name, member in teachers.items()
            },
            "merge_iou": experiment.merge_iou,
            "postprocess": list(experiment.postprocess),
        }
    upstream = tuple(finetune(session, teacher, k, data).key for teacher, k in networks)
    return StageInputs("pseudo_label", values, upstream, data.digest_of(rows))


def pretrain(session: Session, member: str, fold: int, data: PreparedData) -> StageInputs:
    """Inputs of `pretrain`; the fold counts only through the images that it leaves out and who labelled others."""
    part = session.experiment.members[member].pretrain
    split = splits.pretrain_split(session, member, fold, data)
    values, upstream, digest = _training(
        session, member, "pretrain", split, data, upstream=(), start_from=None
    )
    if part is not None and part.pseudo is not None:
        rows = splits.pseudo_rows(session, member, fold, data)
        values["pseudo"] = _ids(data, rows)
        upstream = (pseudo_label(session, part.pseudo, fold, data).key,)
        digest = data.digest_of([*split.train, *split.valid, *rows])
    return StageInputs("pretrain", values, upstream, digest)


def finetune(session: Session, member: str, fold: int, data: PreparedData) -> StageInputs:
    """Inputs of `finetune` on one fold; upstream is stage 1, where there is one."""
    start = session.experiment.members[member].pretrain
    split = splits.finetune_split(session, member, fold, data)
    return StageInputs(
        "finetune",
        *_training(
            session,
            member,
            "finetune",
            split,
            data,
            upstream=() if start is None else (pretrain(session, member, fold, data).key,),
            start_from=None if start is None else start.checkpoint,
        ),
    )


def predict(session: Session, member: str, fold: int, data: PreparedData) -> StageInputs:
    """Inputs of `predict` for the network of one fold; ``scoring`` is that of the plain score that it reports.

    Those of an external member are what was imported for it.
    """
    declared = session.experiment.members[member]
    held_out = splits.finetune_split(session, member, fold, data).valid
    test = splits.test_rows(data)
    if declared.is_predictions:
        made = {
            "imported": imported_predictions.imported(session, member).digest,
            "held_out": _ids(data, held_out),
            "test": _ids(data, test),
            "scoring": scoring(session.experiment),
        }
        return StageInputs("predict", made, (), data.digest_of([*held_out, *test]))
    values = {
        **declared.predict.model_dump(mode="json", exclude={"batch"}),  # memory and time only
        "checkpoint": declared.finetune.checkpoint,
        "fold": fold,
        "held_out": _ids(data, held_out),
        "test": _ids(data, test),
        "scoring": scoring(session.experiment),
    }
    upstream = (finetune(session, member, fold, data).key,)
    return StageInputs("predict", values, upstream, data.digest_of([*held_out, *test]))


def tune(session: Session, member: str, data: PreparedData) -> StageInputs:
    """Inputs of `tune` for one member; upstream are its predict runs by fold."""
    experiment = session.experiment
    folds = experiment.folds_of(member)
    held_out = [splits.finetune_split(session, member, fold, data).valid for fold in folds]
    return StageInputs(
        "tune",
        {**scoring(experiment), "tune": experiment.tune.model_dump(mode="json", exclude={"storage"})},
        tuple(predict(session, member, fold, data).key for fold in folds),
        data.digest_of(np.concatenate(held_out)),
    )


def promote(session: Session, members: Sequence[str], data: PreparedData) -> StageInputs:
    """Inputs of `promote` for these members; how many of them are promoted is decided anew at every call."""
    values = {
        "members": list(members),
        "min_score": session.experiment.promote.min_score,
        "min_overlap": session.experiment.promote.min_overlap,
        "overlap": {member: splits.overlap(session, member, data) for member in members},
        "metric": session.experiment.metric,
        "line": line(session, data),
    }
    keys = tuple(key for member in members for key in _networks_and_study(session, member, data))
    return StageInputs("promote", values, keys, data.digest)


def _networks_and_study(session: Session, member: str, data: PreparedData) -> tuple[str, ...]:
    """Return the keys behind a member: its study's, and of a refit member its own network's too."""
    recipe = session.experiment.recipe_of(member)
    study = tune(session, recipe, data).key
    return (study,) if recipe == member else (study, predict(session, member, ALL_DATA, data).key)


def ensemble(session: Session, members: Mapping[str, str], data: PreparedData) -> StageInputs:
    """Inputs of `ensemble`; ``members`` are the promoted ones, with the stage keys that their versions carry."""
    experiment = session.experiment
    values = {
        **scoring(experiment),
        "members": list(members),
        "ensemble": experiment.ensemble.model_dump(mode="json"),
        "champion": experiment.champion.model_dump(mode="json"),
        "tune": experiment.tune.model_dump(mode="json", include={"seed", "space", "per_class"}),
        "line": line(session, data),
    }
    return StageInputs("ensemble", values, tuple(members.values()), data.digest)


def submit(session: Session, source: str, upstream: str, data: PreparedData, sample: Path) -> StageInputs:
    """Inputs of `submit`.

    Args:
        session: experiment and settings.
        source: the registered version that predicts, or empty for stored predictions.
        upstream: stage key of that version, or digest of the predictions.
        data: its test images are predicted.
        sample: the competition's own sample, where there is one.
    """
    rows = splits.test_rows(data)
    values = {
        "format": session.experiment.data.format,
        "metric": session.experiment.metric,
        "source": source,
        "images": _ids(data, rows),
        "hidden_truth": _file(data.hidden_truth),
        "sample": _file(sample),
    }
    return StageInputs("submit", values, (upstream,), data.digest_of(rows))


def report(
    session: Session,
    upstream: Sequence[str],
    data: PreparedData,
    badges: Mapping[str, str],
    about: str = "",
) -> StageInputs:
    """Inputs of `report`.

    Args:
        session: experiment and settings.
        upstream: keys of the runs that it shows.
        data: what they looked at.
        badges: what the registry says.
        about: a member or the ensemble; empty for the whole experiment.
    """
    special = {"about": about} if about else {}
    values = {
        **special,
        **scoring(session.experiment),
        "badges": dict(badges),
        "hidden_truth": _file(data.hidden_truth),
        "checkpoints": {
            name: member.finetune.checkpoint for name, member in session.experiment.members.items()
        },
    }
    return StageInputs("report", values, tuple(upstream), data.digest)


def main(session: Session, data_digest: str) -> StageInputs:
    """Inputs of `main`: the whole experiment without its raw folder, members' configurations resolved."""
    experiment = session.experiment
    document = experiment.model_dump(mode="json", exclude={"data": {"raw"}, "tune": {"storage"}})
    configs = {
        f"{member}.{stage}": session.member_config(member, stage)
        for member in experiment.members
        for stage in ("pretrain", "finetune")
    }
    return StageInputs("main", {"experiment": document, "configs": configs}, (), data_digest)


def line(session: Session, data: PreparedData) -> str:
    """Return the line that an experiment's scores stand in: data, metric and folds."""
    folds = session.experiment.data.folds.model_dump(mode="json")
    return line_of(data_digest=data.digest, metric=session.experiment.metric, folds=folds)


def scoring(experiment: Experiment) -> dict[str, Any]:
    """Return what turns candidates into a score."""
    return {
        "metric": experiment.metric,
        "merge_iou": experiment.merge_iou,
        "postprocess": list(experiment.postprocess),
    }


def origins_of_weights(wanted: StageInputs) -> list[str]:
    """Return the runs that trained the named weights which a training starts from."""
    return list(wanted.values.get("weights", {}).get("runs", ()))


def training_config(session: Session, wanted: StageInputs, member: str) -> dict[str, Any]:
    """Return the configuration to train with: the one of the inputs, local weight files by their path again."""
    original = session.member_config(member, wanted.stage)
    assert original is not None
    return initial_weights.by_path(wanted.values["config"], original)


def _training(
    session: Session,
    member: str,
    stage: str,
    split: splits.Split,
    data: PreparedData,
    *,
    upstream: tuple[str, ...],
    start_from: str | None,
) -> tuple[dict[str, Any], tuple[str, ...], str]:
    """Return values, upstream and data digest of a training."""
    experiment = session.experiment
    config = session.member_config(member, stage)
    if config is None:
        raise InputError(f"nothing is trained for member {member!r}: it was made elsewhere; run predict")
    if config.get("fp16") is not None and not precision.on_gpu(session.device):
        config = {key: value for key, value in config.items() if key != "fp16"}
    kept = sorted(experiment.keep.checkpoints)
    # A run that kept both serves every later wish; one that kept less is another result.
    special: dict[str, Any] = {} if kept == ["best", "last"] else {"checkpoints": kept}
    elsewhere = imported_work_dir.imported(session, member)
    if elsewhere is not None:
        special["imported"] = {str(fold): digest for fold, digest in elsewhere.digests.items()}
        special["leak_level"] = str(elsewhere.leak_level)
    named = experiment.members[member].weights
    if named is not None and not upstream:
        digest = weight_files.digest(named, experiment.folder)
        special["weights"] = {"sha256": digest, "ema": named.ema}
        if made := weight_origins.origins(named, digest=digest):
            special["weights"]["runs"] = made  # what these have seen decides what a score is worth
    values = {
        **special,
        "categories": list(experiment.data.types),
        "config": initial_weights.by_content(config),
        "precision": "single" if config.get("fp16") is None else "half",
        "trainer": experiment.members[member].trainer,
        "seed": experiment.seed,
        "metric": experiment.metric,
        "postprocess": list(experiment.postprocess),
        "start_from": start_from,
        "train": _ids(data, split.train),
        "valid": _ids(data, split.valid),
    }
    return values, upstream, data.digest_of([*split.train, *split.valid])


def _ids(data: PreparedData, rows: splits.Rows) -> list[str]:
    return [str(name) for name in data.images.ids[rows]]


def _file(path: Path | None) -> str | None:
    return digest_of_file(path) if path is not None and path.is_file() else None
