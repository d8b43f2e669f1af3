"""`pseudo-label`: trained members, or a registered version, label a pool of images for the students of a fold.

For fold k the teachers' networks of fold k look at the images: none of them saw fold k, so that a student's score on it
stays one. Their candidates go through the experiment's own steps on scores and boxes, not through tuned ones:
thresholds tuned on fold k's truth would tell the student of it.
"""

import json
import logging
import shutil
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from hubmap_ml.data import PreparedData
from hubmap_ml.ensembling import LabelCounts, LabelRule, as_annotations, pseudo_labels
from hubmap_ml.fusion import options_from_data
from hubmap_ml.instances import PredictionSet, write_annotations, write_coco, write_predictions
from hubmap_ml.postprocess import candidate_steps, parse_steps, steps_to_data
from hubmap_ml.predictor import Predictor, network_digests, open_predictor, write_predictor
from hubmap_ml.serving import load_predictor
from hubmap_ml.spec import ALL_DATA, LEAK_TAG, InputError, StageInputs
from hubmap_ml.stages import inputs, splits, upstream
from hubmap_ml.stages.file_digests import digest_of_file
from hubmap_ml.stages.finetune import check_fold
from hubmap_ml.stages.fitting import PSEUDO_LABELS, log_images
from hubmap_ml.stages.leaks import in_words, record_teachers_images, report_leaks
from hubmap_ml.stages.progress import progress_bar
from hubmap_ml.stages.promote import REFIT_RUNS_TAG, member_tree
from hubmap_ml.stages.running import Running, running
from hubmap_ml.stages.session import Outcome, Session, open_session
from hubmap_ml.tracking import CHAMPION, STAGE, UPSTREAM, FoundRun, Version, by_uri, get_run, open_store

log = logging.getLogger(__name__)

COCO = "pseudo_labels.json"
SCORED = "labels"
GENERATION_TAG = "hubmap.generation"
LABELS_TAG = "hubmap.labels"
CHUNK = 32


@dataclass(frozen=True)
class _Teacher:
    """One who labels.

    Attributes:
        name: member, or the address of a version.
        predictor: opened.
        runs: which trained its networks.
    """

    name: str
    predictor: Predictor
    runs: tuple[FoundRun, ...]

    def to_data(self) -> dict[str, Any]:
        """Return who it is, with the digests of its networks' weights."""
        return {
            "name": self.name,
            "runs": [run.run_id for run in self.runs],
            "weights": network_digests(self.predictor.folder),
        }


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


def taught_by(session: Session, labels: str, model: str) -> Session:
    """Return the session with a registered version as the one teacher of some labels.

    Students find what it makes once the experiment names the same version (``model: models:/NAME/NUMBER``).

    Args:
        model: ``champion``, the experiment's own, ``models:/NAME@ALIAS`` or ``models:/NAME/NUMBER``.

    Raises:
        InputError: there is no such version.
    """
    experiment = session.experiment
    uri = f"models:/{experiment.name}.ensemble@{CHAMPION}" if model == CHAMPION else model
    version = by_uri(open_store(), uri)
    block = experiment.pseudo_label[labels].model_copy(
        update={"teachers": None, "model": version.uri, "weights": None, "agreement": 1}
    )
    blocks = {**experiment.pseudo_label, labels: block}
    return replace(session, experiment=experiment.model_copy(update={"pseudo_label": blocks}))


def work(session: Session, labels: str, fold: int) -> Outcome:
    """Label the pool.

    Args:
        labels: name of a block of ``pseudo_label``.
        fold: whose students learn from it; ``ALL_DATA`` for those that hold nothing out.

    Raises:
        InputError: no such fold, images of the pool that touch or repeat held-out ones, or a teacher that is not there.
    """
    experiment = session.experiment
    declared = experiment.pseudo_label[labels]
    with running(session, "pseudo_label", fold=fold, subject=labels) as at:
        if not (fold == ALL_DATA or 0 <= fold < experiment.data.folds.n):
            raise InputError(
                f"fold {fold} is none of 0 to {experiment.data.folds.n - 1}, nor {ALL_DATA} for students of all data"
            )
        prepared = upstream.prepared(session)
        data = prepared.data
        chosen = splits.labelled(session, labels, fold, data)
        _refuse(declared.touching, declared.pool, fold, data, chosen)
        wanted = inputs.pseudo_label(session, labels, fold, data)
        if done := at.reuse(wanted):
            return done
        rule = _rule(wanted)
        networks = _networks(session, labels, fold, prepared)
        behind = [run for runs in networks.values() for run in runs]
        version = None
        if declared.model is not None:
            version = by_uri(at.run.client, declared.model)
            behind = networks_behind(at.run.client, version)
        at.run.identify(
            wanted, upstream_runs=[prepared.run.run_id, *dict.fromkeys(run.run_id for run in behind)]
        )
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
            if version is not None:
                opened = load_predictor(version.uri, device=session.device)
                teachers = [_Teacher(version.uri, opened, tuple(behind))]
            else:
                teachers = [
                    _member(session, wanted, name, runs, data, place / name)
                    for name, runs in networks.items()
                ]
            who = [teacher.to_data() for teacher in teachers]
            log_images(at.run, data, chosen.rows, experiment.name, "pseudo-labelled")
            found, counts = _label(teachers, rule, data, chosen.rows, wanted)
        finally:
            shutil.rmtree(place, ignore_errors=True)
        left_out = [str(name) for name in data.images.ids[chosen.touching]]
        return _keep(at, labels, wanted, found, counts, who, leaks, left_out, fold)


def networks_behind(client: Any, version: Version) -> list[FoundRun]:
    """Return the trainings whose networks a registered version predicts with, those of all its members.

    Raises:
        InputError: the version does not say which; what its networks saw cannot be told then.
    """
    members = json.loads(version.tags.get("hubmap.members", "[]"))
    each = [by_uri(client, uri) for uri in members] or [version]
    found: dict[str, FoundRun] = {}
    for member in each:
        named = member.tags.get(REFIT_RUNS_TAG) or member.tags.get("hubmap.predict_runs", "")
        for predicted in (run_id for run_id in named.split(",") if run_id):
            upstream_runs = get_run(client, predicted).tags.get(UPSTREAM, "").split(",")
            for run in (get_run(client, run_id) for run_id in upstream_runs if run_id):
                if run.tags.get(STAGE) == "finetune":
                    found[run.run_id] = run
    if not found:
        raise InputError(
            f"{version.uri} does not say what trained it, so what its labels have seen cannot be told; "
            "name a version that promote or ensemble registered"
        )
    return list(found.values())


def _refuse(touching: str, pool: str, fold: int, data: PreparedData, chosen: splits.Labelled) -> None:
    """Refuse images of the pool that touch or repeat held-out ones, or say that they are left out.

    Raises:
        InputError: there are such images and they are not to be left out; or no other.
    """
    if len(chosen.touching):
        first = data.images.ids[chosen.touching[0]]
        said = f"{len(chosen.touching)} of pool {pool!r} touch or repeat images held out in fold {fold} ({first} first)"
        if touching == "refuse":
            raise InputError(f"{said}; take them out of the pool, or say touching: leave_out")
        log.warning("%s: left out", said)
    if not len(chosen.rows):
        raise InputError(
            f"pool {pool!r} holds no image that may be labelled for fold {fold}; name another pool"
        )


def _rule(wanted: StageInputs) -> LabelRule:
    """Return the rule that the inputs declare."""
    values = wanted.values
    return LabelRule(
        options_from_data(values),
        score=values["score"],
        agreement=values["agreement"],
        mask_threshold=values["mask_threshold"],
        min_area=values["min_area"],
    )


def _networks(
    session: Session, labels: str, fold: int, prepared: upstream.Prepared
) -> dict[str, tuple[FoundRun, ...]]:
    """Return the trainings of each teaching member's networks for a fold; none where a version teaches."""
    found: dict[str, tuple[FoundRun, ...]] = {}
    for teacher in session.experiment.pseudo_label[labels].teachers or ():
        folds = splits.teaching_folds(session, labels, teacher, fold)
        for k in folds:
            check_fold(session, teacher, k)
        found[teacher] = tuple(upstream.finetuned(session, teacher, k, prepared) for k in folds)
    return found


def _member(
    session: Session,
    wanted: StageInputs,
    member: str,
    runs: tuple[FoundRun, ...],
    data: PreparedData,
    folder: Path,
) -> _Teacher:
    """Open a member's networks as one predictor of candidates: views and folds merged, masks soft."""
    checkpoint = wanted.values["checkpoints"][member]
    leaves = [f"leaves/{run.run_id}" for run in runs]
    steps = steps_to_data(candidate_steps(parse_steps(wanted.values["postprocess"])))
    folder.parent.mkdir(parents=True, exist_ok=True)
    write_predictor(
        folder,
        tree=member_tree(session, member, list(steps), leaves),
        leaves={
            leaf: run.artifact(f"checkpoints/{checkpoint}") for leaf, run in zip(leaves, runs, strict=True)
        },
        categories=data.annotations.categories,
    )
    return _Teacher(member, open_predictor(folder, session.device), runs)


def _label(
    teachers: list[_Teacher], rule: LabelRule, data: PreparedData, rows: splits.Rows, wanted: StageInputs
) -> tuple[PredictionSet, LabelCounts]:
    """Label some images, a few at a time; every one of them is in the result, empty or not."""
    names = [teacher.name for teacher in teachers]
    weights = wanted.values["weights"]
    weight_of = None if weights is None else [weights.get(name, 1.0) for name in names]
    parts: list[PredictionSet] = []
    total = LabelCounts()
    with progress_bar("pseudo-labels") as progress:
        for start in range(0, len(rows), CHUNK):
            some = rows[start : start + CHUNK]
            opinions = [teacher.predictor.predict(data.sources(some)) for teacher in teachers]
            found, counts = pseudo_labels(opinions, rule, names=names, weights=weight_of)
            parts.append(found)
            total += counts
            progress(start + len(some), len(rows))
    together = PredictionSet.concatenate(parts)
    if list(together.images.ids) != wanted.values["images"]:
        raise RuntimeError("the labels do not hold every image that was to be labelled")
    return together, total


def _keep(
    at: Running,
    labels: str,
    wanted: StageInputs,
    found: PredictionSet,
    counts: LabelCounts,
    who: list[dict[str, Any]],
    leaks: dict[str, str],
    left_out: list[str],
    fold: int,
) -> Outcome:
    """Write the labels as COCO json, as Parquet for students, and with their scores; end the run."""
    generation = wanted.values["generation"]
    folder = at.recorder.folder
    made = as_annotations(found)
    empty = int((np.diff(made.offsets) == 0).sum())
    info = {
        "description": f"pseudo-labels {labels} of experiment {at.session.experiment.name}",
        "generation": generation,
        "run": at.run.run_id,
        "stage_key": wanted.key,
        "fold": fold,
        "teachers": who,
        "rule": {
            key: wanted.values[key]
            for key in ("score", "min_area", "agreement", "mask_threshold", "method", "iou_threshold", "masks",
                        "vote_share", "clip", "by", "conf_type", "skip_score", "weights")
        },
        "data_digest": wanted.data_digest,
        "images": len(made.images),
        "empty_images": empty,
        "counts": asdict(counts),
        "left_out": left_out,
        "leak_level": leaks[LEAK_TAG],
    }  # fmt: skip
    write_coco(folder / COCO, made, info=info)
    write_annotations(folder / PSEUDO_LABELS, made)
    write_predictions(folder / SCORED, found)
    for name in (COCO, PSEUDO_LABELS, SCORED):
        at.recorder.artifact(folder / name)
    at.run.tag(
        {
            GENERATION_TAG: generation,
            LABELS_TAG: labels,
            "hubmap.labels_sha256": digest_of_file(folder / COCO),
            "hubmap.teachers": ",".join(item["name"] for item in who),
        }
    )
    at.recorder.params({"labels": labels, "generation": generation, "teachers": len(who)})
    at.recorder.metrics(
        {
            "images": len(made.images),
            "empty_images": empty,
            "left_out_images": len(left_out),
            **{f"instances/{name}": value for name, value in asdict(counts).items()},
        },
        step=0,
    )
    apart = f", {len(left_out)} images left out (they touch or repeat held-out ones)" if left_out else ""
    return at.finish(
        f"generation {generation}: {counts.labels} labels on {len(made.images)} images, {empty} of them empty{apart}; "
        f"by {', '.join(item['name'] for item in who)}, who stand to fold {fold} at leak level {in_words(leaks)}",
        details={"labels": counts.labels, "images": len(made.images), "leak_level": leaks[LEAK_TAG]},
    )
