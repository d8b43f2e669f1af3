"""What `pretrain` and `finetune` share: one training, with its data, checkpoints and verdict recorded."""

import dataclasses
import functools
import json
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hubmap_ml.data import PreparedData
from hubmap_ml.spec import InputError, StageInputs, encode_config, without_credentials
from hubmap_ml.stages import inputs, weight_files, weight_origins
from hubmap_ml.stages.generations import generation_tags
from hubmap_ml.stages.leaks import record_training_images
from hubmap_ml.stages.learnt_labels import with_pseudo_labels
from hubmap_ml.stages.running import Running
from hubmap_ml.stages.session import Outcome
from hubmap_ml.stages.upstream import Prepared
from hubmap_ml.tracking import FoundRun, StageRun, forget, interrupted, link

if TYPE_CHECKING:
    from hubmap_ml.training import FitData, FitInputs

log = logging.getLogger(__name__)


def fit_and_record(
    at: Running,
    member: str,
    wanted: StageInputs,
    prepared: Prepared,
    *,
    start: FoundRun | None,
    taught: FoundRun | None = None,
) -> Outcome:
    """Train one network; checkpoints go to the artifact folder ``checkpoints/best`` and ``checkpoints/last``.

    What is computed depends on ``wanted`` alone; the session says only where, and with how many workers. ``taught``
    made the pseudo-labels that are learnt from beside the truth.
    """
    from hubmap_ml.training import FitInputs, Trainer, fit_on_ranks, open_trainer

    session, values = at.session, wanted.values
    config = inputs.training_config(session, wanted, member)
    notes = _dropped_precision(at, member, wanted)
    data = prepared.data
    train, valid = data.images.rows_of(values["train"]), data.images.rows_of(values["valid"])
    at.recorder.data(encode_config(config), "member_config.json")
    at.recorder.params(
        {
            "member": member,
            "model": config["model"]["type"],
            "epochs": config["runner"]["max_epochs"],
            "batch": config["batch"]["global"],
            "optimizer": config["optimizer"]["type"],
            "lr": config["optimizer"].get("lr", "default"),
            "images/train": len(train),
            "images/valid": len(valid),
            "starts_from": _starts_from(at, member, wanted, start),
            **({"ema": config["ema"]["momentum"]} if config.get("ema") else {}),
        }
    )
    log_images(at.run, data, train, session.experiment.name, "training")
    if len(valid):
        log_images(at.run, data, valid, session.experiment.name, "validation")
    at.run.tag(generation_tags([run.tags for run in (start, taught) if run is not None]))
    weights = None if start is None else start.artifact(f"checkpoints/{values['start_from']}")
    named = session.experiment.members[member].weights
    told: list[dict[str, Any]] = []
    if "weights" in values and named is not None:
        told = weight_origins.seen_by(inputs.origins_of_weights(wanted), named)
        weights = weight_files.as_safetensors(
            named, session.experiment.folder, digest=values["weights"]["sha256"]
        )
    seen = [*data.images.ids[train], *values.get("pseudo", ())]
    record_training_images(at, wanted.stage, seen, start=start, weights=told, taught=taught)
    fit_inputs = FitInputs(
        config=config,
        categories=data.annotations.categories,
        seed=values["seed"],
        metric=values["metric"],
        postprocess=values["postprocess"],
        init_weights=weights,
    )
    resume_from = None
    if not session.reproduces:
        resume_from = _checkpoint_to_go_on_from(at, values["trainer"], fit_inputs)
    processes = session.processes
    fit: Trainer = open_trainer(values["trainer"])
    if processes.world > 1:
        at.recorder.params({"nproc": processes.nproc, "nodes": processes.nodes})
        fit = functools.partial(fit_on_ranks, values["trainer"], processes)
    material = fit_data(data, train, valid, workers=session.workers, device=session.device)
    if taught is not None:
        log_images(
            at.run, data, data.images.rows_of(values["pseudo"]), session.experiment.name, "pseudo-labelled"
        )
        learnt = with_pseudo_labels(at, data, values, material.train, taught)
        material = dataclasses.replace(material, train=learnt)
    result = fit(
        fit_inputs,
        material,
        at.recorder,
        resume_from,
    )
    forget(at.run.client, session.experiment.name, at.run.key, own=at.run.run_id)
    if notes or result.notes:
        at.run.tag({"hubmap.note": "; ".join([*notes, *result.notes])})
    scored = len(valid) > 0
    for name, folder in (("best", result.best), ("last", result.last)):
        if name not in session.experiment.keep.checkpoints or (name == "best" and not scored):
            continue
        for file in ("weights.safetensors", "config.json"):  # a finished training has nothing to resume
            at.recorder.artifact(folder / file, f"checkpoints/{name}")
    at.recorder.forget_checkpoints()
    if not scored:
        return at.finish(
            f"trained on all {len(train)} images of its pool: nothing is held out that could score it"
        )
    last, best = result.headline[-1], result.best_score
    at.recorder.metrics({"best_score": best, "best_epoch": result.best_epoch}, step=0)
    return at.finish(
        f"{values['metric']} {last:.3f} at the last epoch; best {best:.3f} at epoch {result.best_epoch}, "
        "chosen on these tiles",
        headline=last,
        details={"best": best, "best_epoch": result.best_epoch},
    )


def _starts_from(at: Running, member: str, wanted: StageInputs, start: FoundRun | None) -> str:
    """What a training's first weights are, in words."""
    named = at.session.experiment.members[member].weights
    if "weights" in wanted.values and named is not None:
        return f"{without_credentials(named.source)} (sha256 {wanted.values['weights']['sha256'][:12]})"
    return f"pretrain {start.run_id}" if start else "random weights"


def _checkpoint_to_go_on_from(at: Running, trainer: str, wanted: "FitInputs") -> Path | None:
    """Return the furthest whole checkpoint of an interrupted training with these inputs, and link its run.

    One that is damaged is named; the one before it counts then, or the start: it never fails the stage.
    """
    from hubmap_ml.training import check_resumable

    run, experiment = at.run, at.session.experiment.name
    for found in interrupted(run.client, experiment, run.key, own=run.run_id):
        try:
            folder = found.fetch()
            check_resumable(trainer, folder, wanted)
        except InputError as error:
            log.warning("a checkpoint of run %s is passed over: %s", found.run.run_id, error)
            continue
        link(run.client, found.run, run.run_id)
        at.recorder.progress(
            f"going on from run {found.run.run_id}, iteration {found.iterations} ({found.place})"
        )
        return folder
    return None


def fit_data(
    data: PreparedData, train: NDArray[np.int64], valid: NDArray[np.int64], *, workers: int, device: str
) -> "FitData":
    """The data of a training: the cleaned truth of what is trained on, the raw truth of what is scored."""
    from hubmap_ml.training import FitData

    return FitData(
        train=data.training_annotations_of(train),
        valid=data.annotations_of(valid) if len(valid) else None,
        image_root=data.raw,
        workers=workers,
        device=device,
    )


def _dropped_precision(at: Running, member: str, wanted: StageInputs) -> list[str]:
    """Say once that a member asked for half precision and does not get it here; return the note to keep."""
    from hubmap_ml.training.mmdet.trainer import FP16_DROPPED

    asked = at.session.member_config(member, wanted.stage)
    if asked is not None and asked.get("fp16") is not None and wanted.values["precision"] == "single":
        log.warning(FP16_DROPPED)
        return [FP16_DROPPED]
    return []


def log_images(run: StageRun, data: PreparedData, rows: NDArray[np.int64], name: str, context: str) -> None:
    """Log a set of images as a dataset input with its digest."""
    run.dataset(
        f"{name}/{context}",
        data.digest_of(rows),
        context=context,
        source=f"prepared data {data.digest[:12]}",
        profile=json.dumps({"images": len(rows)}),
    )
