"""What `pretrain` and `finetune` share: one training, with its data, checkpoints and verdict recorded."""

import json

import numpy as np
from numpy.typing import NDArray

from hubmap_ml.data import PreparedData
from hubmap_ml.spec import encode_config
from hubmap_ml.stages.running import Running
from hubmap_ml.stages.session import Outcome
from hubmap_ml.stages.upstream import Prepared
from hubmap_ml.tracking import FoundRun, StageRun, forget, interrupted, link


def fit_and_record(
    at: Running,
    member: str,
    stage: str,
    prepared: Prepared,
    train: NDArray[np.int64],
    valid: NDArray[np.int64],
    *,
    start: FoundRun | None,
) -> Outcome:
    """Train one network; checkpoints go to the artifact folder ``checkpoints/best`` and ``checkpoints/last``."""
    from hubmap_ml.training import FitData, FitInputs, open_trainer

    session = at.session
    experiment = session.experiment
    config = session.member_config(member, stage)
    assert config is not None
    declared = experiment.members[member]
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
            "starts_from": f"pretrain {start.run_id}" if start else "random weights",
        }
    )
    data = prepared.data
    log_images(at.run, data, train, experiment.name, "training")
    log_images(at.run, data, valid, experiment.name, "validation")
    weights = None
    if start is not None:
        assert declared.pretrain is not None
        weights = start.artifact(f"checkpoints/{declared.pretrain.checkpoint}")
    earlier = interrupted(at.run.client, experiment.name, at.run.key, own=at.run.run_id)
    if earlier is not None:
        link(at.run.client, earlier[0], at.run.run_id)
        at.recorder.progress(f"going on from run {earlier[0].run_id}")
    fit = open_trainer(declared.trainer)
    result = fit(
        FitInputs(
            config=config,
            categories=data.annotations.categories,
            seed=experiment.seed,
            metric=experiment.metric,
            postprocess=experiment.postprocess,
            init_weights=weights,
        ),
        FitData(
            train=data.annotations_of(train),
            valid=data.annotations_of(valid),
            image_root=data.raw,
            workers=session.workers,
            device=session.device,
        ),
        at.recorder,
        None if earlier is None else earlier[1],
    )
    forget(at.run.client, experiment.name, at.run.key, own=at.run.run_id)
    for note in result.notes:
        at.run.tag({"hubmap.note": note})
    for name, folder in (("best", result.best), ("last", result.last)):
        for file in ("weights.safetensors", "config.json"):  # a finished training has nothing to resume
            at.recorder.artifact(folder / file, f"checkpoints/{name}")
    last, best = result.headline[-1], result.headline[result.best_epoch - 1]
    at.recorder.metrics({"best_score": best, "best_epoch": result.best_epoch}, step=0)
    return at.finish(
        f"{experiment.metric} {last:.3f} at the last epoch; best {best:.3f} at epoch {result.best_epoch}, "
        "chosen on these tiles",
        headline=last,
        details={"best": best, "best_epoch": result.best_epoch},
    )


def log_images(run: StageRun, data: PreparedData, rows: NDArray[np.int64], name: str, context: str) -> None:
    """Log a set of images as a dataset input with its digest."""
    from hubmap_ml.spec import digest_of

    digest = digest_of({"data": data.digest, "images": [str(name) for name in data.images.ids[rows]]})
    run.dataset(
        f"{name}/{context}",
        digest,
        context=context,
        source=f"prepared data {data.digest[:12]}",
        profile=json.dumps({"images": len(rows)}),
    )
