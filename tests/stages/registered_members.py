"""A store with promoted members and nothing trained: stored predictions stand for networks, everything else is real."""

import dataclasses
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from hubmap_ml.data import SyntheticTissue, generate
from hubmap_ml.ensembling import version_tags
from hubmap_ml.instances import Annotations, Instances, Masks, PredictionSet, SoftMasks, write_predictions
from hubmap_ml.predictor import write_predictor
from hubmap_ml.spec import LEAK_TAG
from hubmap_ml.stages import inputs, promote, upstream
from hubmap_ml.stages.leaks import TEST_LEAK_TAG
from hubmap_ml.stages.session import Session, open_session
from hubmap_ml.tracking import PROMOTED, experiment_id, open_store, point_alias, register_folder

MEMBERS = Path(__file__).parents[2] / "experiments" / "tiny" / "members"
TISSUE = SyntheticTissue(
    seed=5,
    tile_size=64,
    slides=2,
    clean_per_slide=12,
    noisy_per_slide=1,
    unlabelled_per_slide=1,
    test_per_slide=1,
)
STEPS = [{"score": 0.05}, {"nms": {"iou": 0.5, "by": "box"}}, {"mask_threshold": 0.5}]
LEAKS = {LEAK_TAG: "none", TEST_LEAK_TAG: "none"}


def experiment_text(name: str, extra: str = "") -> str:
    """Return an experiment file over raw files in ``raw``."""
    return f"""
name: {name}
data: {{raw: raw, folds: {{n: 2}}, pools: {{finetune: {{dataset: 1}}}}}}
postprocess: {json.dumps(STEPS)}
members:
  good: &member
    finetune: {{config: {MEMBERS}/maskrcnn_stage2.py}}
  fair: *member
  poor: *member
tune: {{trials: 3, space: {{score: [0.01, 0.5]}}}}
{extra}
"""


def candidates(truth: Annotations, seed: int, noise: float) -> PredictionSet:
    """Detections around the true boxes, and false ones; less noise is a better member."""
    rng = np.random.default_rng(seed)
    found = []
    for row in range(len(truth.images)):
        one = truth.image(row)
        height, width = int(truth.images.heights[row]), int(truth.images.widths[row])
        true = one.boxes[rng.random(len(one.boxes)) > noise]
        size = np.tile(true[:, 2:] - true[:, :2], 2)
        near = true + rng.normal(0, noise / 4, true.shape) * size
        wrong = rng.uniform(0, 0.6, (3, 2)) * [width, height]
        false = np.concatenate([wrong, wrong + rng.uniform(0.1, 0.3, (3, 2)) * [width, height]], 1)
        boxes = np.clip(np.concatenate([near, false]), 0, [width, height, width, height]).astype(np.float32)
        boxes[:, 2:] = np.maximum(boxes[:, 2:], boxes[:, :2] + 1)
        scores = np.concatenate([rng.uniform(0.4, 1, len(near)), rng.uniform(0.05, 0.3 + noise, 3)])
        disc = np.hypot(*np.meshgrid(np.linspace(-1, 1, 14), np.linspace(-1, 1, 14))) < 0.95
        crops = [np.where(disc, 230, 10).astype(np.uint8)] * len(boxes)
        order = np.argsort(-scores, kind="stable")
        found.append(
            Instances.build(
                boxes[order], scores[order], np.zeros(len(boxes)),
                masks=Masks.from_soft(SoftMasks.from_crops(crops, boxes[order])), height=height, width=width,
            )
        )  # fmt: skip
    return PredictionSet.from_instances(truth.images, truth.categories, found, ("none",))


def make(
    folder: Path, name: str = "table", *, extra: str = "", costs: Mapping[str, float] | None = None
) -> Session:
    """Make an experiment in a folder, prepare its data, and register its members as promoted; returns its session.

    The current store and work folder are used.
    """
    if not (folder / "raw").exists():
        generate(folder / "raw", TISSUE)
    (folder / "experiment.yaml").write_text(experiment_text(name, extra))
    session = open_session(experiment=str(folder / "experiment.yaml"), raw=str(folder / "raw"))
    prepared = upstream.prepared(session)
    data, client = prepared.data, open_store()
    store = experiment_id(client, name)
    for number, (member, noise) in enumerate({"good": 0.15, "fair": 0.3, "poor": 0.8}.items()):
        runs = []
        for fold in range(2):
            rows = np.flatnonzero(data.images.folds == fold)
            run = client.create_run(
                store, tags={"hubmap.experiment": name, "hubmap.stage": "predict", **LEAKS}
            )
            found = candidates(data.annotations_of(rows), 10 * number + fold, noise)
            write_predictions(_empty(folder / "making"), found)
            client.log_artifacts(run.info.run_id, str(folder / "making"), "out_of_fold")
            client.set_terminated(run.info.run_id)
            runs.append(run.info.run_id)
        tuned = client.create_run(store, tags={"hubmap.experiment": name, "hubmap.stage": "tune", **LEAKS})
        study: dict[str, Any] = {
            "best_steps": STEPS, "folds": [0, 1], "chosen": [{"score": 0.05}] * 2, "value": 0.5, "cross_fitted": 0.5,
        }  # fmt: skip
        client.log_dict(tuned.info.run_id, study, "study.json")
        client.set_terminated(tuned.info.run_id)
        leaves = {f"leaves/{member}_fold{fold}": folder / "making" for fold in range(2)}
        merge = {"rule": "match_mean", "iou_threshold": session.experiment.merge_iou}
        tree = {
            "kind": "steps", "name": member, "steps": STEPS, "child": {
                "kind": "folds", **merge, "children": [
                    {"kind": "views", **merge, "children": [{"kind": "stored", "path": leaf}]} for leaf in leaves
                ]},
        }  # fmt: skip
        predictor = _empty(folder / "predictor")
        write_predictor(predictor, tree=tree, leaves=leaves, categories=data.annotations.categories)
        client.log_artifacts(tuned.info.run_id, str(predictor), "member")
        cost = {"hubmap.s_per_image": str(costs[member])} if costs else {}
        version = register_folder(
            client, name=promote.model_name(session, member), run_id=tuned.info.run_id, artifact="member",
            tags={
                **version_tags(0.5, inputs.line(session, data)), **LEAKS, **cost,
                "hubmap.stage_key": f"key of {member}", "hubmap.tune_run": tuned.info.run_id,
                "hubmap.predict_runs": ",".join(runs), "hubmap.member": member,
            },
            description="",
        )  # fmt: skip
        point_alias(client, version.name, PROMOTED, version)
    return session


def with_ensemble(session: Session, **values: Any) -> Session:
    """Return the session with other values of the experiment's ``ensemble``; ``champion`` holds those of that part."""
    champion = session.experiment.champion.model_copy(update=values.pop("champion", {}))
    ensemble = session.experiment.ensemble.model_copy(update=values)
    changed = session.experiment.model_copy(update={"ensemble": ensemble, "champion": champion})
    return dataclasses.replace(session, experiment=changed)


def _empty(folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    return folder
