"""`evaluate`: score anyone's predictions against a COCO truth file; no experiment, no store, no torch."""

import json
import logging
import math
from pathlib import Path

from hubmap_ml.instances import Annotations, PredictionSet, read_coco, read_coco_results, read_predictions
from hubmap_ml.metrics import METRICS, Score
from hubmap_ml.metrics import evaluate as score
from hubmap_ml.spec import InputError
from hubmap_ml.submission import format_of

log = logging.getLogger(__name__)


def run(truth: Path, predictions: Path, metric: str) -> Score:
    """Score a file of predictions.

    Args:
        truth: COCO json.
        predictions: COCO results json, a folder of our Parquet, or a submission csv of a known competition.
        metric: ``ap60``, ``coco_segm``, ``dice`` or ``dsb_map``.

    Raises:
        InputError: a file that is missing or malformed, or an unknown metric.
    """
    if metric not in METRICS:
        raise InputError(f"metric {metric!r} is unknown; known: {', '.join(METRICS)}")
    annotations = read_coco(truth)
    found = read_any_predictions(predictions, annotations)
    scored = score(metric, annotations, found)
    missing = len(annotations.images) - scored.n_images
    if missing:
        log.warning("%d images of %s are not in %s and do not count", missing, truth, predictions)
    return scored


def read_any_predictions(path: Path, truth: Annotations) -> PredictionSet:
    """Read predictions in any format that the platform knows, about the images of ``truth``."""
    if path.is_dir():
        return read_predictions(path)
    if path.suffix == ".csv":
        return format_of(path).read(path, images=truth.images, categories=truth.categories)
    if path.suffix == ".json":
        return read_coco_results(path, truth.images, truth.categories)
    raise InputError(
        f"{path}: predictions are a COCO results .json, a folder with our Parquet, or a submission .csv"
    )


def show(result: Score, *, as_json: bool) -> None:
    """Print a score: a few lines for people, or one JSON line."""
    from rich.console import Console

    if as_json:
        line = {
            "metric": result.metric,
            "value": result.value if math.isfinite(result.value) else None,
            "n_images": result.n_images,
            "n_instances": result.n_instances,
            "details": dict(result.details),
        }
        print(json.dumps(line))
        return
    console = Console(highlight=False)
    console.print(f"[bold]{result.metric} {result.value:.4f}[/] on {result.n_images} images")
    for name, value in result.details.items():
        console.print(f"  {name} {value:.4f}")
