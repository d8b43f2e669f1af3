"""`submit`: the registered champion predicts the test images, and the competition's csv is written and read back."""

import dataclasses
import logging
from pathlib import Path
from typing import Any

import numpy as np

from hubmap_ml.data import PreparedData
from hubmap_ml.instances import PredictionSet, read_predictions, write_predictions
from hubmap_ml.metrics import evaluate
from hubmap_ml.serving import load_predictor
from hubmap_ml.spec import InputError, StageInputs
from hubmap_ml.stages import inputs, splits, upstream
from hubmap_ml.stages.file_digests import digest_of_files
from hubmap_ml.stages.fitting import log_images
from hubmap_ml.stages.running import Running, running
from hubmap_ml.stages.score_log import log_own
from hubmap_ml.stages.session import Outcome, Session, open_session
from hubmap_ml.submission import FORMATS, SubmissionFormat, submission_format
from hubmap_ml.tracking import CHAMPION, FoundRun, Version, by_uri

log = logging.getLogger(__name__)

PREDICTIONS = "predictions"
FILE = "submission.csv"
SAMPLE = "sample_submission.csv"


def run(
    *,
    experiment: str = "demo",
    raw: str = "",
    model: str = "",
    predictions: str = "",
    device: str = "auto",
    fresh: bool = False,
    parent: str = "",
) -> Outcome:
    """Write the submission of an experiment (the entry point; see `work`)."""
    return work(
        open_session(experiment=experiment, raw=raw, device=device, fresh=fresh, parent=parent),
        model,
        predictions,
    )


def work(session: Session, model: str, predictions: str) -> Outcome:
    """Predict the test images and write the csv.

    Args:
        session: experiment and settings.
        model: a registered model; empty is the experiment's champion ensemble.
        predictions: folder of stored predictions to submit instead; nothing that needs torch is then loaded.
    """
    experiment = session.experiment
    with running(session, "submit") as at:
        submission_format(experiment.data.format)  # before the work, if there is none
        prepared = upstream.prepared(session)
        data = prepared.data
        rows = splits.test_rows(data)
        if len(rows) == 0:
            raise InputError(f"{data.raw}: there are no test images to submit (test/)")
        log_images(at.run, data, rows, experiment.name, "test")
        version = None
        if predictions:
            source = predictions
            stored = read_predictions(Path(predictions))
            digest = digest_of_files(Path(predictions))
            at.run.identify(inputs.submit(session, "", digest, data, data.raw / SAMPLE))
            found = stored.take_images(stored.images.rows_of(list(data.images.ids[rows])))
        else:
            version = submitted_version(session, at.run.client, model)
            source = version.uri
            at.run.identify(identity(session, version, data), upstream_runs=[version.run_id])
            at.run.tag({"hubmap.model": source})
            found = load_predictor(source, device=session.device).predict(data.sources(rows))
        at.recorder.params({"model": source})
        return _write(at, data, found, source, version)


def is_possible(session: Session, data: PreparedData) -> bool:
    """Whether there are test images, and a format of submission for them; says so where not."""
    if session.experiment.data.format not in FORMATS:
        log.info("nothing to submit: %s has no format of submission", session.experiment.data.format)
    elif len(splits.test_rows(data)) == 0:
        log.info("nothing to submit: %s holds no test images", data.raw)
    else:
        return True
    return False


def submitted_version(session: Session, client: Any, model: str = "") -> Version:
    """Return the registered version that a submission is made with; the champion ensemble where none is named."""
    return by_uri(client, model or f"models:/{session.experiment.name}.ensemble@{CHAMPION}")


def identity(session: Session, version: Version, data: PreparedData) -> StageInputs:
    """Return the inputs of a submission by a registered version."""
    key = version.tags.get("hubmap.stage_key", version.uri)
    return inputs.submit(session, version.uri, key, data, data.raw / SAMPLE)


def brought_up_to_date(found: FoundRun, outcome: Outcome) -> Outcome:
    """Return what an earlier submission reported, with its file where it lies today."""
    return dataclasses.replace(outcome, details={**outcome.details, "file": str(found.artifact(FILE))})


def _write(
    at: Running, data: PreparedData, found: PredictionSet, source: str, version: Version | None
) -> Outcome:
    folder = at.recorder.folder / PREDICTIONS
    write_predictions(folder, found)
    at.recorder.artifact(folder)
    file = at.recorder.folder / FILE
    sample = data.raw / SAMPLE
    written = submission_format(at.session.experiment.data.format)
    written.write(file, found, sample_submission=sample if sample.is_file() else None)
    _check(written, file, found)
    at.recorder.artifact(file)
    kept = at.run.found().artifact(FILE)
    log_own(at.run, at.session.experiment, file, version)
    at.recorder.metrics({"images": len(found.images), "instances": len(found.scores)}, step=0)
    score = None
    truth = upstream.hidden_truth(data)
    if truth is not None:
        score = evaluate(at.session.experiment.metric, truth, found).value
        at.recorder.metrics({"test/score": score}, step=0)
    said = "" if score is None else f"; {at.session.experiment.metric} {score:.3f} on the hidden test"
    return at.finish(
        f"{len(found.scores)} instances on {len(found.images)} test images, by {source}{said}",
        headline=score,
        details={"file": str(kept), "test_score": score, "predictions": PREDICTIONS},
    )


def _check(written: SubmissionFormat, file: Path, found: PredictionSet) -> None:
    """Read the csv back: the masks in it must be the predicted ones of the classes that it holds."""
    back = written.read(file, images=found.images, categories=found.categories)
    if not written.HAS_CLASSES:  # all masks are in it, as the first class
        found = found.replace(labels=np.zeros_like(found.labels))
    held = set(back.labels.tolist())
    if _pixels(back) != [item for item in _pixels(found) if item[1] in held]:
        raise RuntimeError(f"{file} does not give back the masks that were written")


def _pixels(predictions: PredictionSet) -> list[tuple[int, int, str]]:
    """Return (row of the image, label, run lengths) of every instance of one pixel or more, sorted."""
    assert predictions.masks is not None
    heights, widths = predictions.heights_of_instances(), predictions.widths_of_instances()
    bits = predictions.masks.binarize(0.5, heights, widths)
    rows = zip(
        predictions.image_rows(), predictions.labels, bits.to_rle(heights, widths), bits.areas(), strict=True
    )
    return sorted((int(row), int(label), text) for row, label, text, area in rows if area > 0)
