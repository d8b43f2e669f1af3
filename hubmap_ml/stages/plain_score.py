"""The score of held-out candidates as they are, before tuning."""

from collections.abc import Mapping
from typing import Any

from hubmap_ml.data import PreparedData
from hubmap_ml.instances import PredictionSet
from hubmap_ml.metrics import Interval, Score, evaluate, score_interval
from hubmap_ml.postprocess import apply_steps, parse_steps
from hubmap_ml.stages.candidates import merge_views
from hubmap_ml.stages.held_out_page import show_held_out
from hubmap_ml.stages.running import Running


def plain_score(
    at: Running, data: PreparedData, candidates: PredictionSet, scoring: Mapping[str, Any]
) -> tuple[Score, Interval]:
    """Score candidates by the experiment's plain post-processing; score and interval are logged, and shown on a page.

    Args:
        at: the run that logs.
        data: holds the truth.
        candidates: of held-out images.
        scoring: as in ``inputs.scoring``.
    """
    merged = merge_views(candidates, scoring["merge_iou"])
    truth = data.annotations_of(data.images.rows_of([str(name) for name in candidates.images.ids]))
    final = apply_steps(merged, parse_steps(scoring["postprocess"]))
    score = evaluate(scoring["metric"], truth, final)
    interval = score_interval(scoring["metric"], truth, final)
    at.recorder.metrics({f"val/{key}": value for key, value in score.details.items()}, step=0)
    at.recorder.metrics(interval.to_metrics("val/score"), step=0)
    words = (
        f"{scoring['metric']} {score.value:.3f} on {score.n_images} held-out images before tuning, "
        f"95 % on these slides {interval.in_words()}"
    )
    show_held_out(at, data, truth, final, scoring["metric"], words)
    return score, interval
