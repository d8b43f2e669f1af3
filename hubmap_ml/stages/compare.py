"""`compare`: anyone's predictions against a truth file, side by side; no experiment, no store, no torch.

Scores with intervals, paired gains over the first file, what each set gets wrong, and the images that cost it most.
"""

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hubmap_ml.instances import Annotations, PredictionSet, read_annotations, read_coco
from hubmap_ml.metrics import (
    METRICS,
    Comparison,
    ErrorAnatomy,
    Folded,
    WorstImage,
    common_folds,
    common_images,
    compare_sets,
    error_anatomy,
    found_from,
    influence,
    judge,
    worst_images,
)
from hubmap_ml.spec import InputError
from hubmap_ml.stages.evaluate import read_any_predictions


@dataclass(frozen=True)
class Compared:
    """What a comparison found.

    Attributes:
        comparison: scores and gains.
        anatomies: of each set, in the same order.
        worst: for each set the images that cost it most.
        notes: what a reader must know about the files.
    """

    comparison: Comparison
    anatomies: tuple[ErrorAnatomy, ...]
    worst: tuple[tuple[WorstImage, ...], ...]
    notes: tuple[str, ...]

    @property
    def verdict(self) -> str:
        """The first thing to know."""
        if self.comparison.gains:
            return ". ".join(gain.in_words() for gain in self.comparison.gains)
        score = self.comparison.scores[0]
        return (
            f"{score.name}: {self.comparison.metric} {score.value:.4f}, 95 % {score.on_these.in_words('.4f')}"
        )

    def to_data(self) -> dict[str, Any]:
        """Return all of it as JSON-able data; what is no number is null."""
        anatomies = []
        for anatomy in self.anatomies:
            data = {
                field.name: getattr(anatomy, field.name)
                for field in dataclasses.fields(anatomy)
                if field.name not in ("per_image", "kinds")
            }
            anatomies.append({**data, "kinds": [dataclasses.asdict(kind) for kind in anatomy.kinds]})
        gains = [
            {**dataclasses.asdict(gain), "verdict": gain.verdict, "words": gain.in_words()}
            for gain in self.comparison.gains
        ]
        found = {
            **dataclasses.asdict(self.comparison),
            "gains": gains,
            "verdict": self.verdict,
            "errors": anatomies,
            "worst_images": [[dataclasses.asdict(image) for image in part] for part in self.worst],
            "notes": list(self.notes),
        }
        return _plain(found)  # type: ignore[no-any-return]


def run(
    truth: Path, predictions: Sequence[Path], metric: str = "ap60", *, resamples: int = 2000, worst: int = 50
) -> Compared:
    """Compare files of predictions.

    Args:
        truth: COCO json, or a folder of our Parquet. Its images may say ``slide``, place ``i``, ``j`` and ``fold``.
        predictions: of each set a COCO results json, a folder of our Parquet, or a submission csv.
        metric: as ``metrics.METRICS``.
        resamples: draws of each bootstrap, at least 100.
        worst: images to name for each set.

    Raises:
        InputError: a file that is missing or malformed, an unknown metric, the same file twice, no common image.
    """
    if metric not in METRICS:
        raise InputError(f"metric {metric!r} is unknown; known: {', '.join(METRICS)}")
    if not predictions:
        raise InputError("no predictions are given: name one file or more after --predictions")
    if resamples < 100:
        raise InputError(f"--resamples is {resamples}: an interval needs at least 100")
    names = _names(predictions)
    annotations = read_annotations(truth) if truth.is_dir() else read_coco(truth)
    sets = [read_any_predictions(path, annotations) for path in predictions]
    comparison = compare_sets(metric, annotations, dict(zip(names, sets, strict=True)), resamples=resamples)
    common, found = common_images(annotations, sets)
    folds = common_folds(common, found)
    anatomies = tuple(
        error_anatomy(common, item, iou_threshold=found_from(metric), folds=folds) for item in found
    )
    pulls = influence(Folded.build(common.images, folds, [judge(metric, common, item) for item in found]))
    return Compared(
        comparison,
        anatomies,
        tuple(
            worst_images(common.images, of_set, anatomy, most=worst)
            for of_set, anatomy in zip(pulls, anatomies, strict=True)
        ),
        tuple(_notes(truth, annotations, common, names, found)),
    )


def _names(paths: Sequence[Path]) -> list[str]:
    """Short names of the files: their stems, or where two are the same, their paths."""
    stems = [path.stem for path in paths]
    if len(set(stems)) == len(stems):
        return stems
    full = [str(path) for path in paths]
    if len(set(full)) < len(full):
        raise InputError(f"{next(name for name in full if full.count(name) > 1)} is given twice")
    return full


def _notes(
    path: Path,
    truth: Annotations,
    common: Annotations,
    names: Sequence[str],
    sets: Sequence[PredictionSet],
) -> list[str]:
    notes = []
    if missing := len(truth.images) - len(common.images):
        notes.append(
            f"{missing} of {len(truth.images)} images of {path} are not in all sets and do not count."
        )
    for name, item in zip(names, sets, strict=True):
        if empty := int((np.diff(item.offsets) == 0).sum()):
            notes.append(
                f"{name} predicts nothing on {empty} of {len(item.images)} images; every truth on them is missed."
            )
    if not (common.images.slides != "").any():
        notes.append(
            "The truth names no slides: images are drawn singly, and where neighbouring tiles are among them intervals "
            'are too narrow. Give the images "slide" and their place "i", "j" in the truth file.'
        )
    return notes


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
