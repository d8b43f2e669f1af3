"""`ensemble` without ceremony: anyone's prediction files, alone and fused; no experiment, no store, no torch."""

import json
import math
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from hubmap_ml.ensembling import Comparison, Way, compare_files, comparison_to_data
from hubmap_ml.instances import PredictionSet, read_coco
from hubmap_ml.metrics import METRICS
from hubmap_ml.spec import InputError
from hubmap_ml.stages.evaluate import read_any_predictions
from hubmap_ml.stages.progress import progress_bar
from hubmap_ml.viz import ReportData, ReportRow, write_page


def run(
    truth: Path,
    predictions: Sequence[Path],
    report: Path,
    *,
    metric: str = "ap60",
    folds: int = 5,
    seed: int = 0,
) -> Comparison:
    """Compare prediction files with fusions of them, and write a page about it.

    Args:
        truth: COCO json.
        predictions: two or more files of any format that ``evaluate`` reads, about the truth's images.
        report: the page to write; the same figures lie beside it as ``.json``.
        metric: ``ap60``, ``coco_segm`` or ``dsb_map``.
        folds: where the truth's images are in no folds of their own.
        seed: of the split.

    Raises:
        InputError: files that are missing or malformed, the same file twice, an unknown metric, or too few folds.
    """
    if metric not in METRICS:
        raise InputError(f"metric {metric!r} is unknown; known: {', '.join(METRICS)}")
    if folds < 2:
        raise InputError(f"--folds is {folds}: two are the fewest")
    annotations = read_coco(truth)
    members: dict[str, PredictionSet] = {}
    for path, name in zip(predictions, _names(predictions), strict=True):
        found = read_any_predictions(path, annotations)
        rows = annotations.images.has(list(found.images.ids))
        if not rows.all():
            missing = annotations.images.ids[~rows][0]
            raise InputError(
                f"{path} says nothing of image {missing!r} and {int((~rows).sum()) - 1} others of {truth}; "
                "give predictions of all images, or a truth of those that were predicted"
            )
        members[name] = found.take_images(found.images.rows_of(list(annotations.images.ids)))
    with progress_bar("comparing") as shown:
        done = compare_files(
            annotations, members, metric=metric, n_folds=folds, seed=seed,
            told=lambda what, at, of: shown(at, of, what),
        )  # fmt: skip
    write_page(report, _page(done, truth))
    report.with_suffix(".json").write_text(json.dumps(comparison_to_data(done), indent=1), encoding="utf-8")
    return done


def show(done: Comparison, report: Path) -> None:
    """Print the comparison: a line a member and a way."""
    from rich.console import Console

    console = Console(highlight=False)
    for way in (*done.members, *done.ways):
        mark = "[bold]" if way is done.best else ""
        console.print(
            f"{mark}{way.name}: {done.metric} {way.cross_fitted:.4f} cross-fitted, {way.refitted:.4f} refitted"
        )
    console.print(f"{done.split}; {report}")


def _names(paths: Sequence[Path]) -> list[str]:
    """Short names that tell files apart: the stem, or the path where two stems are equal."""
    stems = [path.stem for path in paths]
    names = [stem if stems.count(stem) == 1 else str(path) for stem, path in zip(stems, paths, strict=True)]
    if len(set(names)) != len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise InputError(f"{twice} is given twice; each file of predictions is one member")
    return names


def _page(done: Comparison, truth: Path) -> ReportData:
    single, best = done.ways[0], done.best
    gain = best.cross_fitted - single.cross_fitted
    verdict = f"{best.name} is best: {done.metric} {best.cross_fitted:.4f} cross-fitted"
    if best is not single and math.isfinite(gain):
        verdict += f", {gain:+.4f} over the best single member"
    rows = [ReportRow(way.name, out_of_fold=way.refitted, cross_fitted=way.cross_fitted, note=_said(way))
            for way in done.members]  # fmt: skip
    rows += [ReportRow(way.name, kind="ensemble", out_of_fold=way.refitted, cross_fitted=way.cross_fitted,
                       badge="best" if way is best else "", note=_said(way)) for way in done.ways]  # fmt: skip
    return ReportData(
        title=f"Ensemble of {len(done.members)} members on {truth.name}",
        verdict=verdict,
        metric=done.metric,
        rows=rows,
        how_scored=[
            f"{sum(done.fold_images)} images in {done.split}: {', '.join(map(str, done.fold_images))} images a fold.",
            "Cross-fitted: each fold is scored with the setting (member, weights, thresholds) that does best on the "
            "other folds. The other figure is the best setting's on all folds, chosen on these very images.",
            "All ways choose from lists that were fixed beforehand; how many settings stands beside each.",
            "Masks are fused: the weighted mean of the masks of a cluster of boxes, then a threshold.",
            "If a member was trained on these images, its score and every weight it gets are too high.",
        ],
        generated=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
    )


def _said(way: Way) -> str:
    told = []
    for key, value in way.setting.items():
        if key == "weights":
            told.append("weights " + ", ".join(f"{name} {weight:g}" for name, weight in value.items()))
        else:
            told.append(f"{key.replace('_', ' ')} {value}")
    folds = ", ".join("–" if math.isnan(score) else f"{score:.3f}" for score in way.fold_scores)
    return f"{'; '.join(told)} (of {way.n_settings} settings); by fold {folds}"
