"""`tune --truth`: a threshold study on anyone's COCO files; no experiment, no store, no torch."""

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from hubmap_ml.instances import Annotations, PredictionSet, read_coco
from hubmap_ml.postprocess import Step, parse_steps, steps_to_data
from hubmap_ml.spec import InputError
from hubmap_ml.spec.identity import digest_of
from hubmap_ml.stages import study_record
from hubmap_ml.stages.evaluate import read_any_predictions
from hubmap_ml.stages.progress import progress_bar
from hubmap_ml.tuning import (
    Assessment,
    Space,
    Study,
    assess,
    parse_space,
    run_study,
    run_study_per_class,
    setting_of,
)

POSTPROCESS: Sequence[Mapping[str, Any]] = (
    {"score": 0.0},
    {"nms": {"iou": 1.0, "by": "box"}},
    {"mask_threshold": 0.5},
    {"min_area": 0},
    {"max_per_image": 1_000_000},
)
"""Steps that leave predictions as they are: what is given is what is compared with."""

LARGEST_AREA = 0.25
"""The default space tries smallest areas up to this quantile of the truths' areas."""


@dataclasses.dataclass(frozen=True)
class TunedFiles:
    """What came out, for the command line."""

    study: Study
    assessment: Assessment
    verdict: str
    report: Path | None

    def to_data(self) -> dict[str, Any]:
        """Return all of it as JSON-able data."""
        found = study_record.study_to_data(self.study, self.assessment)
        return {**found, "verdict": self.verdict, "report": None if self.report is None else str(self.report)}


def run(
    truth: Path,
    predictions: Path,
    *,
    space: Path | None = None,
    report: Path | None = None,
    metric: str = "ap60",
    trials: int = 300,
    sampler: str = "tpe",
    per_class: bool = False,
    folds: int = 5,
    seed: int = 0,
    storage: str | None = None,
) -> TunedFiles:
    """Tune post-processing values on stored predictions.

    Args:
        truth: COCO json.
        predictions: COCO results json, a folder of our Parquet, or a submission csv of a known competition.
        space: yaml with ``postprocess`` and ``space`` as in an experiment, or the space alone; by default score, NMS
            IoU, mask threshold (of soft masks) and smallest area.
        report: where to write the page; beside it, ``NAME.parquet`` holds the trials and ``NAME.json`` the findings.
        metric, trials, sampler, per_class, seed, storage: as in ``tune`` of an experiment.
        folds: folds to cross-fit, where the truth names none; images of a group (or slide) stay together.

    Raises:
        InputError: a file that is missing or malformed, and what ``tuning.run_study`` refuses.
    """
    annotations = read_coco(truth)
    found = read_any_predictions(predictions, annotations)
    found = found.take_images(np.flatnonzero(annotations.images.has(list(found.images.ids))))
    if len(found.images) == 0:
        raise InputError(
            f"{predictions}: none of its images is in {truth}; are these files of the same data?"
        )
    document = _space_file(space)
    steps = parse_steps(document.get("postprocess") or POSTPROCESS)
    declared = document.get("space") or _default_space(annotations, found)
    of_image = _folds(annotations, found, folds, seed)
    parsed = parse_space(declared, steps, "space", deduplicated_at=1.0)
    options: dict[str, Any] = {"metric": metric, "trials": trials, "sampler": sampler, "seed": seed}
    identity = {"truth": _digest(truth), "predictions": _digest(predictions), "space": declared,
                "steps": steps_to_data(steps), "folds": of_image.tolist(), **options}  # fmt: skip
    with progress_bar("trials") as shown:
        study = (run_study_per_class if per_class else run_study)(
            annotations,
            found,
            base_steps=steps,
            space=declared,
            folds=of_image,
            storage=storage,
            name=f"{predictions.stem}.{digest_of(identity)[:16]}",
            deduplicated_at=1.0,
            progress=lambda done, total, best: shown(done, total, f"· best {best:.4f}"),
            **options,
        )
    assessment = assess(study, annotations, found, base_steps=steps, space=parsed, folds=of_image, seed=seed)
    verdict = (
        f"{metric} {study_record.in_words(study.cross_fitted, study.value)}, {study.base_value:.3f} as given"
    )
    if report is not None:
        _write(report, study, assessment, parsed, steps, predictions.name, verdict)
    return TunedFiles(study, assessment, verdict, report)


def show(result: TunedFiles, *, as_json: bool) -> None:
    """Print what came out: a few lines for people, or one JSON line."""
    from rich.console import Console
    from rich.table import Table

    if as_json:
        print(json.dumps(result.to_data()))
        return
    console = Console(highlight=False)
    console.print(f"[bold]{result.verdict}[/]", soft_wrap=True)
    gains = {"cross-fitted": result.assessment.cross_fitted, "in sample": result.assessment.in_sample}
    for name, gain in gains.items():
        if gain is not None:
            interval = gain.on_these.in_words("+.4f")
            console.print(f"  gain {name} {gain.gain:+.4f} (95 % {interval})", soft_wrap=True)
    table = Table(box=None, pad_edge=False)
    for head in ("value", "chosen", "by fold", "importance"):
        table.add_column(head)
    for name, best in result.study.best_setting.items():
        spread = result.assessment.stability.get(name)
        weight = result.assessment.importance.get(name)
        by_fold = "" if spread is None else ", ".join(_short(value) for value in spread.values)
        table.add_row(name, _short(best), by_fold, "" if weight is None else f"{100 * weight:.0f} %")
    console.print(table)
    if result.report is not None:
        console.print(f"report {result.report}", soft_wrap=True)


def _digest(path: Path) -> str:
    """Return the SHA-256 of a file's bytes, or of all files of a folder."""
    found = hashlib.sha256()
    for file in sorted(path.iterdir()) if path.is_dir() else [path]:
        with file.open("rb") as content:
            found.update(hashlib.file_digest(content, "sha256").digest())
    return found.hexdigest()


def _short(value: Any) -> str:
    return str(value) if isinstance(value, str | bool) else f"{value:.4g}"


def _space_file(path: Path | None) -> dict[str, Any]:
    if path is None:
        return {}
    try:
        document = yaml.safe_load(path.read_text())
    except OSError as error:
        raise InputError(f"{path}: cannot read the space ({error.strerror}); check the path") from None
    except yaml.YAMLError as error:
        raise InputError(f"{path}: not valid YAML ({getattr(error, 'problem', error)})") from None
    if not isinstance(document, dict):
        raise InputError(
            f"{path}: a mapping is expected: names of values to ranges, or 'postprocess' and 'space'"
        )
    if "space" not in document and "postprocess" not in document:
        return {"space": document}
    unknown = set(document) - {"space", "postprocess"}
    if unknown:
        raise InputError(
            f"{path}: unknown key {min(unknown)!r}; allowed beside each other: postprocess, space"
        )
    return document


def _default_space(truth: Annotations, predictions: PredictionSet) -> dict[str, Any]:
    """Return ranges that fit the files: scores as they occur, areas up to those of small truths."""
    scores = predictions.scores
    low, high = (float(np.quantile(scores, q)) for q in (0.0, 0.99)) if len(scores) else (0.0, 1.0)
    areas = truth.areas[~truth.iscrowd]
    largest = max(1, int(np.quantile(areas, LARGEST_AREA))) if len(areas) else 1
    found: dict[str, Any] = {"score": [min(low, high), high], "nms_iou": [0.1, 1.0], "min_area": [0, largest]}
    if predictions.masks is not None and not predictions.masks.all_bits:
        found["mask_threshold"] = [0.2, 0.8]
    return found


def _folds(truth: Annotations, predictions: PredictionSet, n: int, seed: int) -> NDArray[np.int64]:
    """Return each image's fold: the truth's own, or ``n`` of groups (else slides, else images) drawn at random."""
    images = truth.images.take(truth.images.rows_of(list(predictions.images.ids)))
    if (images.folds >= 0).all():
        return images.folds.astype(np.int64)
    for column in (images.groups, images.slides):
        if (column != "").all() and len(set(column)) >= 2:
            groups = column
            break
    else:
        groups = images.ids
    names, place = np.unique(groups.astype(str), return_inverse=True)
    n = min(n, len(names))
    if n < 2:
        return np.zeros(len(images), np.int64)
    of_group = np.random.default_rng(seed).permutation(len(names)) % n
    return np.asarray(of_group[place], np.int64)


def _write(
    report: Path,
    study: Study,
    assessment: Assessment,
    space: Space,
    steps: Sequence[Step],
    title: str,
    verdict: str,
) -> None:
    report.parent.mkdir(parents=True, exist_ok=True)
    study.trials.to_parquet(report.with_suffix(".parquet"))
    found = study_record.study_to_data(study, assessment)
    report.with_suffix(".json").write_text(json.dumps(found, indent=1))
    study_record.write_page(
        report, study, assessment, space, title=title, verdict=verdict,
        base_setting=setting_of(steps, list(study.best_setting)),
    )  # fmt: skip
