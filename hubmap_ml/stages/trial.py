"""A member's predictor on trial: used in a process of its own, its recorded candidates asked for again."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hubmap_ml.data import FileImage, PreparedData
from hubmap_ml.ensembling import Reproduction, compare_candidates, compare_scores
from hubmap_ml.instances import Images, PredictionSet, read_predictions
from hubmap_ml.postprocess import parse_steps
from hubmap_ml.predictor import Trial, try_predictor
from hubmap_ml.spec import InputError
from hubmap_ml.stages.candidates import merge_views
from hubmap_ml.stages.predict import DEVICE_TAG, OUT_OF_FOLD, TEST
from hubmap_ml.stages.session import Session
from hubmap_ml.stages.worker import TorchWorker, WorkerError
from hubmap_ml.tracking import FoundRun

SAMPLE = 2
"""Images of each network whose recorded candidates are asked for again."""

TIMED = 3
"""Images that the whole predictor is timed on; the first only warms it up."""


@dataclass(frozen=True)
class Verdict:
    """A trial and, for each network, what became of its recorded candidates.

    Attributes:
        trial: load, cost, problem.
        reproductions: by leaf.
    """

    trial: Trial
    reproductions: Mapping[str, Reproduction]

    @property
    def reproduces(self) -> bool:
        """Whether all recorded candidates were found again."""
        return not self.trial.problem and not any(item.problem for item in self.reproductions.values())

    @property
    def in_words(self) -> str:
        """How well the candidates were found again, in one line."""
        if self.trial.problem:
            return "could not be asked"
        for leaf, item in self.reproductions.items():
            if item.problem:
                return f"{leaf}: {item.problem}"
        found = list(self.reproductions.values())
        if not found:
            return "no image was predicted that could be asked for again"
        return (
            f"{sum(item.n_instances for item in found)} candidates of {sum(item.n_images for item in found)} images "
            f"found again (scores to {max(item.score for item in found):.1e}, boxes to "
            f"{max(item.box for item in found):.1e}, {min(item.pixels for item in found):.2%} of pixels)"
        )


def on_trial(
    session: Session, folder: Path, leaves: Mapping[str, FoundRun], data: PreparedData, member: str
) -> Verdict:
    """Try a predictor in a fresh process.

    Args:
        session: experiment and device.
        folder: the predictor's.
        leaves: for each of its networks, the run that predicted with it.
        data: where the images lie.
        member: whose views and score floor the candidates have.
    """
    recorded = {leaf: _recorded(run) for leaf, run in leaves.items()}
    again = {leaf: _images(data, item.images.ids) for leaf, item in recorded.items() if item is not None}
    shown = [image for images in again.values() for image in images] or _images(data, data.images.ids[:1])
    timed = list({str(row.ids[0]): (row, source) for row, source in shown}.values())[:TIMED]
    out = folder.parent / f"{folder.name}.trial"
    try:
        with TorchWorker() as fresh:
            trial: Trial = fresh.call(_try, folder, timed, again, out, session.device)
    except (InputError, WorkerError) as error:
        return Verdict(Trial(str(error).strip().splitlines()[-1]), {})
    if trial.problem:
        return Verdict(trial, {})
    compared = {}
    floor = session.experiment.members[member].predict.score
    for number, leaf in enumerate(again):
        before, after = recorded[leaf], read_predictions(out / str(number))
        assert before is not None
        if leaves[leaf].tags.get(DEVICE_TAG, trial.device) == trial.device:
            compared[leaf] = compare_candidates(before, after, floor=floor)
        else:
            compared[leaf] = _scores(session, data, before, after)
    return Verdict(trial, compared)


def _try(
    folder: Path,
    timed: Sequence[tuple[Images, FileImage]],
    again: Mapping[str, Sequence[tuple[Images, FileImage]]],
    out: Path,
    device: str,
) -> Trial:
    return try_predictor(folder, timed=timed, again=again, out=out, device=device)


def _recorded(run: FoundRun) -> PredictionSet | None:
    """Return what a network predicted for a sample of its held-out images, or of its test images where it has none."""
    for name in (OUT_OF_FOLD, TEST):
        try:
            stored = read_predictions(run.artifact(name))
        except InputError:
            continue
        if len(stored.images):
            return stored.take_images(_spread(len(stored.images)))
    return None


def _spread(n: int) -> NDArray[np.int64]:
    return np.unique(np.linspace(0, n - 1, min(n, SAMPLE)).round().astype(np.int64))


def _images(data: PreparedData, ids: Iterable[object]) -> list[tuple[Images, FileImage]]:
    return list(data.sources(data.images.rows_of([str(name) for name in ids])))


def _scores(
    session: Session, data: PreparedData, before: PredictionSet, after: PredictionSet
) -> Reproduction:
    experiment = session.experiment
    merged = [merge_views(item, experiment.merge_iou) for item in (before, after)]
    truth = data.annotations_of(data.images.rows_of([str(name) for name in before.images.ids]))
    return compare_scores(truth, *merged, metric=experiment.metric, steps=parse_steps(experiment.postprocess))
