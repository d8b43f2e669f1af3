"""What a prediction run shows of its held-out images: a page, and pictures of the tiles that cost most."""

import numpy as np
from numpy.typing import NDArray

from hubmap_ml.data import PreparedData
from hubmap_ml.instances import Annotations, PredictionSet
from hubmap_ml.metrics import (
    Folded,
    SortedDetections,
    found_from,
    influence,
    judge,
    precision_recall,
    sort_detections,
)
from hubmap_ml.metrics.error_anatomy import LEFT_OUT, RIGHT
from hubmap_ml.stages.running import Running
from hubmap_ml.stages.tiles import TileMaker
from hubmap_ml.viz import HeldOutPage, truth_and_prediction, write_held_out_page

PAGE = "held_out.html"
WORST = 6


def show_held_out(
    at: Running, data: PreparedData, truth: Annotations, final: PredictionSet, metric: str, verdict: str
) -> None:
    """Write the page, and log the worst tiles as pictures ``val/worst_tiles``, the worst at step 0.

    Args:
        at: the run that shows them.
        data: knows the pictures.
        truth, final: of the same images; final predictions.
        metric: the experiment's.
        verdict: the score in words.
    """
    if truth.iscrowd.all():
        return
    found = sort_detections(truth, final, iou_threshold=found_from(metric))
    pulls = influence(
        Folded.build(
            found.truth.images,
            np.zeros(len(truth.images), np.int16),
            [judge(metric, found.truth, found.predictions)],
        )
    )[0]
    worst = [int(row) for row in np.argsort(-pulls, kind="stable") if pulls[row] > 0][:WORST]
    ids = [str(name) for name in found.truth.images.ids]
    maker = TileMaker(data, found)
    notes = {ids[row]: f"pulls the score by {pulls[row]:+.4f}" for row in worst}
    words = "Held-out tiles that pull the score down most, before tuning."
    gallery = maker.gallery("Worst tiles", words, [ids[row] for row in worst], notes, None, metric)
    for step, tile in enumerate(gallery.tiles):
        rows = np.flatnonzero(tile.scores >= gallery.threshold)
        picture = truth_and_prediction(
            tile.image,
            tile.truth,
            found.predictions.image(ids.index(tile.name)).take(rows),
            kinds=[tile.kinds[row] for row in rows],
            finds=tile.finds[rows],
            caption=tile.name,
        )
        at.recorder.image(picture, key="val/worst_tiles", step=step)
    recall, precision = _curve(found)
    page = HeldOutPage(
        title=f"{at.session.experiment.name} · held out",
        verdict=verdict,
        recall=recall,
        precision=precision,
        categories=[category.name for category in found.truth.categories],
        confusion=confusion(found, gallery.threshold),
        threshold=gallery.threshold,
        gallery=gallery,
    )
    at.recorder.artifact(write_held_out_page(at.recorder.folder / PAGE, page))


def confusion(found: SortedDetections, threshold: float) -> NDArray[np.int64]:
    """Count truths by class and by what was predicted for them.

    Args:
        found: of K classes.
        threshold: detections of lower score do not count.

    Returns:
        int64 (K + 1, K + 1): rows are truths' classes, and nothing; columns predicted classes, and nothing.
    """
    n = len(found.truth.categories)
    table = np.zeros((n + 1, n + 1), np.int64)
    names = [category.name for category in found.truth.categories]
    label_of = [names.index(one.name) if one.name in names else n for one in found.predictions.categories]
    seen = np.zeros(len(found.truth), np.bool_)
    for row in np.argsort(-found.predictions.scores, kind="stable"):
        kind = found.kinds[row]
        if found.predictions.scores[row] < threshold or kind == LEFT_OUT:
            continue
        about = int(found.concerns[row])
        stands = about >= 0 and not seen[about] and kind in (RIGHT, "classification")
        if stands:
            seen[about] = True
        table[int(found.truth.labels[about]) if stands else n, label_of[found.predictions.labels[row]]] += 1
    for row in np.flatnonzero(~seen & ~found.truth.iscrowd):
        table[int(found.truth.labels[row]), n] += 1
    return table


def _curve(found: SortedDetections) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    order = np.argsort(-found.predictions.scores, kind="stable")
    counted = [row for row in order if found.kinds[row] != LEFT_OUT]
    hits = np.array([found.kinds[row] == RIGHT for row in counted], np.bool_)
    return precision_recall(hits, int((~found.truth.iscrowd).sum()))
