"""`diff`: what two runs were told differently, and how much better the second one's out-of-fold predictions are."""

import dataclasses
import logging
from collections.abc import Mapping
from typing import Any

import numpy as np

from hubmap_ml.instances import PredictionSet, read_predictions
from hubmap_ml.metrics import PairedGain, paired_gain
from hubmap_ml.postprocess import Step, apply_steps, parse_steps
from hubmap_ml.spec import Change, InputError, config_changes, decode_config
from hubmap_ml.stages.candidates import merge_views, out_of_fold
from hubmap_ml.stages.record import document, document_or_none, original, prepared_for
from hubmap_ml.stages.tune import read_study
from hubmap_ml.tracking import STAGE, UPSTREAM, FoundRun, get_run, open_store, run_named
from hubmap_ml.tuning import with_setting

log = logging.getLogger(__name__)

DOCUMENTS = ("experiment.json", "member_config.json", "stage_inputs.json")


@dataclasses.dataclass(frozen=True)
class RunDifference:
    """Two runs side by side.

    Attributes:
        changes: by document, what differs.
        gain: of the second over the first; None where one of them has no out-of-fold predictions.
        words: how each was scored, or why it was not.
    """

    before: str
    after: str
    changes: Mapping[str, list[Change]]
    gain: PairedGain | None
    words: tuple[str, ...]

    def to_data(self) -> dict[str, Any]:
        """Return all of it as JSON-able data."""
        gain = self.gain and {
            **dataclasses.asdict(self.gain),
            "gain": self.gain.gain,
            "low": self.gain.low,
            "high": self.gain.high,
        }
        changes = {name: [dataclasses.asdict(item) for item in found] for name, found in self.changes.items()}
        return {
            "before": self.before,
            "after": self.after,
            "changes": changes,
            "gain": gain,
            "words": self.words,
        }


def run(before: str, after: str) -> RunDifference:
    """Compare two runs, by their ids or unique beginnings of them.

    Raises:
        InputError: no such runs.
    """
    client = open_store()
    one, other = (original(run_named(client, name)) for name in (before, after))
    changes = {}
    for name in DOCUMENTS:
        found = config_changes(*(_told(run_, name) for run_ in (one, other)))
        if found:
            changes[name] = found
    words: list[str] = []
    gain = _gain(one, other, words)
    return RunDifference(one.run_id, other.run_id, changes, gain, tuple(words))


def _told(run_: FoundRun, name: str) -> Any:
    """Return a document as it was meant; a training's configuration is said once, by its own document."""
    found = document_or_none(run_, name)
    if found is None:
        return {}
    if name == "stage_inputs.json":
        values = {key: value for key, value in found.get("values", {}).items() if key != "config"}
        return {**found, "values": values}
    return decode_config(found)


def _gain(one: FoundRun, other: FoundRun, words: list[str]) -> PairedGain | None:
    try:
        sets = []
        for name, run_ in (("first", one), ("second", other)):
            found, how = final_predictions(run_)
            sets.append(found)
            words.append(f"{name}: {how}")
        metrics = [document(run_, "experiment.json")["metric"] for run_ in (one, other)]
        data = [prepared_for(run_) for run_ in (one, other)]
    except InputError as error:
        words.append(f"no gain: {error}")
        return None
    if metrics[0] != metrics[1]:
        words.append(f"the runs have the metrics {metrics[0]} and {metrics[1]}: both scored by {metrics[0]}")
    if data[0].digest != data[1].digest:
        words.append("the runs were made with different data: both scored against the first one's truths")
    truth = data[0].annotations
    known = truth.images.has(list(sets[1].images.ids))
    try:
        return paired_gain(metrics[0], truth, sets[0], sets[1].take_images(np.flatnonzero(known)))
    except InputError as error:
        words.append(f"no gain: {error}")
        return None


def final_predictions(run_: FoundRun) -> tuple[PredictionSet, str]:
    """Return a run's out-of-fold predictions after post-processing, and how they came about, in words.

    Raises:
        InputError: the run has none.
    """
    stage = run_.tags.get(STAGE, "")
    if stage == "ensemble":
        return read_predictions(run_.artifact("out_of_fold")), "ensemble, thresholds refitted on these images"
    if stage == "predict":
        spec = document(run_, "experiment.json")
        candidates = merge_views(read_predictions(run_.artifact("out_of_fold")), spec["merge_iou"])
        return apply_steps(candidates, parse_steps(spec["postprocess"])), "candidates before tuning"
    if stage == "tune":
        return _tuned(run_), "each fold with the thresholds that the other folds chose"
    raise InputError(
        f"run {run_.run_id[:12]} ({stage or 'no stage of ours'}) has no out-of-fold predictions; name a predict, tune "
        "or ensemble run"
    )


def _tuned(run_: FoundRun) -> PredictionSet:
    study = read_study(run_)
    spec = document(run_, "experiment.json")
    names = [name for name in run_.tags.get(UPSTREAM, "").split(",") if name]
    runs = [original(get_run(run_.client, name)) for name in names]
    candidates, folds = out_of_fold(
        [item for item in runs if item.tags.get(STAGE) == "predict"], spec["merge_iou"]
    )
    best = parse_steps(study["best_steps"])
    parts = []
    for fold, chosen in zip(study["folds"], study["chosen"], strict=True):
        steps: tuple[Step, ...] = best if chosen is None else with_setting(best, chosen)
        parts.append(apply_steps(candidates.take_images(np.flatnonzero(folds == fold)), steps))
    return PredictionSet.concatenate(parts)
