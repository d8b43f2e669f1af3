"""`pseudo-label`: trained members, or a registered version, label a pool of images for the students of a fold.

For fold k the teachers' networks of fold k look at the images: none of them saw fold k, so that a student's score on it
stays one. Their candidates go through the experiment's own steps on scores and boxes, not through tuned ones:
thresholds tuned on fold k's truth would tell the student of it.
"""

import logging
import shutil
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np

from hubmap_ml.data import PreparedData
from hubmap_ml.ensembling import LabelCounts, as_annotations
from hubmap_ml.instances import PredictionSet, write_annotations, write_coco, write_predictions
from hubmap_ml.spec import ALL_DATA, FUSION_OF_TEACHERS, LEAK_TAG, InputError, StageInputs
from hubmap_ml.stages import inputs, splits, upstream
from hubmap_ml.stages.file_digests import digest_of_file
from hubmap_ml.stages.fitting import log_images
from hubmap_ml.stages.generations import generation_in
from hubmap_ml.stages.leaks import in_words, record_teachers_images, report_leaks
from hubmap_ml.stages.learnt_labels import COCO, PSEUDO_LABELS
from hubmap_ml.stages.progress import progress_bar
from hubmap_ml.stages.running import Running, running
from hubmap_ml.stages.session import Outcome, Session, open_session
from hubmap_ml.stages.teachers import Teachers, networks_of, opened, taught_by
from hubmap_ml.tracking import GENERATION, LABELS

log = logging.getLogger(__name__)

SCORED = "labels"
CHUNK = 32


def run(
    *,
    experiment: str = "demo",
    labels: str = "",
    fold: int = 0,
    model: str = "",
    raw: str = "",
    set: str = "",
    workers: int = -1,
    device: str = "auto",
    with_upstream: bool = False,
    fresh: bool = False,
    parent: str = "",
) -> Outcome:
    """Make the pseudo-labels of an experiment for a fold's students (the entry point; see `work`).

    ``model`` labels in place of the declared teachers: see `taught_by`.
    """
    session = open_session(
        experiment=experiment,
        raw=raw,
        set=set,
        workers=workers,
        device=device,
        with_upstream=with_upstream,
        fresh=fresh,
        parent=parent,
    )
    labels = session.experiment.labels_named(labels)
    return work(taught_by(session, labels, model) if model else session, labels, fold)


def work(session: Session, labels: str, fold: int) -> Outcome:
    """Label the pool.

    Args:
        labels: name of a block of ``pseudo_label``.
        fold: whose students learn from it; ``ALL_DATA`` for those that hold nothing out.

    Raises:
        InputError: no such fold, images of the pool that touch or repeat scored ones, or a teacher that is not there.
    """
    experiment = session.experiment
    with running(session, "pseudo_label", fold=fold, subject=labels) as at:
        if not (fold == ALL_DATA or 0 <= fold < experiment.data.folds.n):
            raise InputError(
                f"fold {fold} is none of 0 to {experiment.data.folds.n - 1}, nor {ALL_DATA} for students of all data"
            )
        prepared = upstream.prepared(session)
        data = prepared.data
        chosen = checked_pool(session, labels, fold, data)
        wanted = inputs.pseudo_label(session, labels, fold, data)
        if done := at.reuse(wanted):
            return done
        networks = networks_of(session, labels, fold, prepared)
        behind = list({run.run_id: run for runs in networks.values() for run in runs}.values())
        at.run.identify(wanted, upstream_runs=[prepared.run.run_id, *(run.run_id for run in behind)])
        generation = 1 + max(generation_in(run.tags) for run in behind)
        at.run.tag({GENERATION: generation, LABELS: labels})
        record_teachers_images(at, behind)
        held_out = np.flatnonzero((data.images.folds == fold) & (fold != ALL_DATA))
        leaks = report_leaks(
            at,
            data,
            at.run.found(),
            held_out=list(data.images.ids[held_out]),
            test=list(data.images.ids[splits.test_rows(data)]),
        )
        place = at.recorder.folder / "teachers"
        shutil.rmtree(place, ignore_errors=True)
        try:
            teachers = opened(session, wanted, networks, data, place)
            who = teachers.to_data()
            log_images(at.run, data, chosen.rows, experiment.name, "pseudo-labelled")
            found, counts = _label(teachers, data, chosen.rows)
        finally:
            shutil.rmtree(place, ignore_errors=True)
        info = {
            "description": f"pseudo-labels {labels} of experiment {experiment.name}",
            "generation": generation,
            "run": at.run.run_id,
            "stage_key": wanted.key,
            "fold": fold,
            "teachers": who,
            "rule": _rule_as_data(wanted),
            "data_digest": wanted.data_digest,
            "leak_level": leaks[LEAK_TAG],
            "left_out": [str(name) for name in data.images.ids[chosen.touching]],
        }
        return _keep(at, found, counts, info, leaks)


def checked_pool(session: Session, labels: str, fold: int, data: PreparedData) -> splits.Labelled:
    """Return the images to be labelled.

    Raises:
        InputError: images that touch or repeat scored ones, and they are not to be left out; or no other.
    """
    block = session.experiment.pseudo_label[labels]
    chosen = splits.labelled(session, labels, fold, data)
    if len(chosen.touching):
        first = data.images.ids[chosen.touching[0]]
        of_fold = "" if fold == ALL_DATA else f"images held out in fold {fold} or "
        said = (
            f"{len(chosen.touching)} of {len(chosen.touching) + len(chosen.rows)} images of pool {block.pool!r} "
            f"touch or repeat {of_fold}test images ({first} first)"
        )
        if block.touching == "refuse":
            raise InputError(
                f"pseudo-labels {labels!r}: {said}; take them out of the pool, or say touching: leave_out"
            )
        log.warning("%s: left out", said)
    if not len(chosen.rows):
        raise InputError(
            f"pool {block.pool!r} holds no image that may be labelled for fold {fold}; name another pool"
        )
    return chosen


def _label(teachers: Teachers, data: PreparedData, rows: splits.Rows) -> tuple[PredictionSet, LabelCounts]:
    """Label some images, a few at a time; every one of them is in the result, empty or not."""
    parts: list[PredictionSet] = []
    total = LabelCounts()
    with progress_bar("pseudo-labels") as progress:
        for start in range(0, len(rows), CHUNK):
            some = rows[start : start + CHUNK]
            found, counts = teachers.label(data, some)
            parts.append(found)
            total += counts
            progress(start + len(some), len(rows))
    together = PredictionSet.concatenate(parts)
    if list(together.images.ids) != list(data.images.ids[rows]):
        raise RuntimeError("the labels do not hold every image that was to be labelled")
    return together, total


def _rule_as_data(wanted: StageInputs) -> dict[str, Any]:
    """Return the values that decide what becomes a label; those of the teachers' fusion where there is one."""
    keys = ("score", "agreement", "min_area", "mask_threshold", *FUSION_OF_TEACHERS)
    return {key: wanted.values[key] for key in keys if key in wanted.values}


def _keep(
    at: Running,
    found: PredictionSet,
    counts: LabelCounts,
    info: Mapping[str, Any],
    leaks: Mapping[str, str],
) -> Outcome:
    """Write the labels as COCO json, as Parquet for students, and with their scores; end the run."""
    folder = at.recorder.folder
    made = as_annotations(found)
    empty, left_out = int((np.diff(made.offsets) == 0).sum()), len(info["left_out"])
    teachers = [item["name"] for item in info["teachers"]]
    figures = {"images": len(made.images), "empty_images": empty}
    write_coco(folder / COCO, made, info={**info, **figures, "counts": asdict(counts)})
    write_annotations(folder / PSEUDO_LABELS, made)
    write_predictions(folder / SCORED, found)
    for name in (COCO, PSEUDO_LABELS, SCORED):
        at.recorder.artifact(folder / name)
    at.run.tag({"hubmap.labels_sha256": digest_of_file(folder / COCO), "hubmap.teachers": ",".join(teachers)})
    at.recorder.params({"generation": info["generation"], "teachers": len(teachers)})
    at.recorder.metrics(
        {
            **figures,
            "left_out_images": left_out,
            **{f"instances/{name}": value for name, value in asdict(counts).items()},
        },
        step=0,
    )
    apart = f", {left_out} left out (they touch or repeat scored images)" if left_out else ""
    return at.finish(
        f"generation {info['generation']}: {counts.labels} labels on {len(made.images)} images, {empty} of them "
        f"empty{apart}; by {', '.join(teachers)}, who stand to fold {info['fold']} at leak level {in_words(leaks)}",
        details={"labels": counts.labels, "images": len(made.images), "leak_level": leaks[LEAK_TAG]},
    )
