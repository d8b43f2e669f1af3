"""`import-predictions`: predictions made elsewhere become the folder of an external member, checked.

Read are COCO results, the csv of a known competition, what Detectron2 and Ultralytics leave, and our Parquet. Nothing
of the foreign tool is needed and nothing of it is executed. Neither a run nor a version is made: the stages do that for
the member that names the folder.
"""

import hashlib
import logging
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hubmap_ml.data import PreparedData
from hubmap_ml.instances import (
    Images,
    PredictionSet,
    read_coco_results,
    read_detectron2_results,
    read_predictions,
    read_ultralytics_results,
    write_predictions,
)
from hubmap_ml.instances.foreign_results import DETECTRON2_FILE
from hubmap_ml.spec import InputError, LeakLevel
from hubmap_ml.stages import splits, upstream
from hubmap_ml.stages.candidates import MERGE
from hubmap_ml.stages.imported_predictions import (
    OUT_OF_FOLD,
    TABLES,
    TEST,
    Imported,
    open_import,
    write_manifest,
)
from hubmap_ml.stages.session import Session, open_session
from hubmap_ml.submission import format_of
from hubmap_ml.submission.tables import read_table

log = logging.getLogger(__name__)

FORMATS = ("auto", "coco", "csv", "detectron2", "ultralytics", "parquet")
IMPORTED = "imported"


@dataclass(frozen=True)
class Foreign:
    """How a foreign file is to be read.

    Attributes:
        kind: one of `FORMATS`.
        first_class: number of the first class where the file counts classes; None tells from the file.
    """

    kind: str = "auto"
    first_class: int | None = None

    def __post_init__(self) -> None:
        if self.kind not in FORMATS:
            raise InputError(f"--format is {self.kind!r}; known: {', '.join(FORMATS)}")


def run(
    predictions: Path,
    *,
    experiment: str,
    member: str,
    leak: str,
    test: Path | None = None,
    test_leak: str = "",
    sets: Mapping[str, Path] | None = None,
    out: Path | None = None,
    kind: str = "auto",
    first_class: int | None = None,
    raw: str = "",
) -> Imported:
    """Import the predictions of an external member.

    Args:
        predictions: out-of-fold predictions of the images that the experiment's folds are made of.
        experiment: whose images and classes they speak of; it need not name the member yet.
        member: its name.
        leak: the leak level of the out-of-fold predictions (see ``spec.LeakLevel``): nobody here can find it out.
        test: predictions of the test images, without which no ensemble takes the member.
        test_leak: the leak level of the test and further predictions; by default that of ``leak``.
        sets: further predictions, by the pool whose images they are of.
        out: the folder to write; by default ``imported/MEMBER`` beside the experiment's file.
        kind: one of `FORMATS`.
        first_class: see `Foreign`.
        raw: folder of raw files, in place of the experiment's own.

    Raises:
        InputError: what cannot be read or does not fit the experiment's images and classes, an unknown pool or level,
            or an import that lies there already.
    """
    session = open_session(experiment=experiment, raw=raw)
    level = LeakLevel.named(leak)
    how = Foreign(kind, first_class)
    named = session.experiment.members.get(member)
    if out is None:
        folder = session.experiment.folder / (
            named.predictions if named is not None and named.predictions else f"{IMPORTED}/{member}"
        )
    else:
        folder = out
    if folder.exists():
        raise InputError(f"{folder}: exists already; remove it, or name another folder with --out")
    data = upstream.prepared(session).data
    wanted: dict[str, tuple[Path, NDArray[np.int64]]] = {OUT_OF_FOLD: (predictions, _in_folds(session, data))}
    if test is not None:
        wanted[TEST] = (test, splits.test_rows(data))
    for name, path in (sets or {}).items():
        if name in (OUT_OF_FOLD, TEST):
            raise InputError(f"--set {name}={path}: {name!r} is given without --set")
        if name not in session.experiment.data.pools:
            pools = ", ".join(session.experiment.data.pools)
            raise InputError(f"--set {name}={path}: {name!r} is no pool of the experiment; pools: {pools}")
        wanted[name] = (path, splits.pool_rows(session, name, data))
    read = {
        name: read_foreign(path, data.images.take(rows), data, how) for name, (path, rows) in wanted.items()
    }
    read[OUT_OF_FOLD] = _whole_folds(read[OUT_OF_FOLD])
    if TEST in read and len(read[TEST].images) != len(wanted[TEST][1]):
        raise InputError(
            f"{test}: has {len(read[TEST].images)} of the {len(wanted[TEST][1])} test images; give all of them"
        )
    for name, found in read.items():
        if _views(found) != _views(read[OUT_OF_FOLD]):
            raise InputError(
                f"{wanted[name][0]}: was predicted with other views than {predictions}; one member looks at all its "
                "images in one way"
            )
    beside = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir(parents=True)
    for name, found in read.items():
        write_predictions(beside / name, found)
    write_manifest(
        beside,
        {name: (found, _source(wanted[name][0], how)) for name, found in read.items()},
        data.categories,
        leak_level=level,
        test_leak_level=LeakLevel.named(test_leak) if test_leak else level,
    )
    beside.rename(folder)
    return open_import(folder)


def read_foreign(path: Path, images: Images, data: PreparedData, how: Foreign) -> PredictionSet:
    """Read foreign predictions as ours.

    Args:
        path: file or folder.
        images: those that it may speak of.
        data: whose classes it speaks of.
        how: its format.

    Returns:
        Predictions over the images that it speaks of (in a format that lists no empty ones: all), with the
        experiment's own table of images and categories.

    Raises:
        InputError: it cannot be read, names other images, sizes or classes, has no masks, or scores outside 0 to 1.
    """
    kind = _kind(path) if how.kind == "auto" else how.kind
    categories = data.categories
    if kind == "parquet":
        found = _ours(path, images, data)
    elif kind == "csv":
        named = read_table(path, ("id",))["id"].tolist()
        found = format_of(path).read(
            path, images=images.take(np.flatnonzero(np.isin(images.ids, named))), categories=categories
        )
    elif kind == "detectron2":
        found = read_detectron2_results(path, images, categories, first_class=how.first_class)
    elif kind == "ultralytics":
        found = read_ultralytics_results(path, images, categories, first_class=how.first_class)
    else:
        found = read_coco_results(path, images, categories)
    if found.masks is None:
        raise InputError(f"{path}: these predictions have no masks; export them with masks")
    if len(found.images) == 0:
        raise InputError(
            f"{path}: says nothing of the images that were asked for; are these files of the same data?"
        )
    if len(found.scores) and not (found.scores.min() >= 0 and found.scores.max() <= 1):
        raise InputError(
            f"{path}: scores from {found.scores.min():g} to {found.scores.max():g}; they must lie between 0 and 1"
        )
    return found.replace(
        cluster_offsets=None,
        member_rows=None,
        file_order=None,
        sources=found.sources if len(found.sources) > 1 else (IMPORTED,),
    )


def show(found: Imported, member: str, session_file: str) -> str:
    """Say what was imported and what to write into the experiment's file."""
    told = "; ".join(f"{name}: {len(ids)} images" for name, ids in found.ids.items())
    return (
        f"{found.folder}: {told}; leak level {found.leak_level} (declared). Name it in {session_file} under members: "
        f"{member}: {{kind: external, predictions: {found.folder}}}"
    )


def _in_folds(session: Session, data: PreparedData) -> NDArray[np.int64]:
    rows = splits.pool_rows(session, session.experiment.data.folds.pool, data)
    return np.asarray(rows[data.images.folds[rows] >= 0], np.int64)


def _views(found: PredictionSet) -> tuple[object, ...]:
    """The views of predictions, and how they are to be merged."""
    return found.sources, found.properties.get(MERGE)


def _whole_folds(found: PredictionSet) -> PredictionSet:
    """Leave out folds of which nothing was predicted: results list no empty images, so these were not looked at."""
    counts = np.diff(found.offsets)
    folds = found.images.folds
    seen = np.array([counts[folds == fold].any() for fold in folds], np.bool_)
    if not seen.any():
        raise InputError(
            "the out-of-fold predictions hold no instance at all; are these files of the same data?"
        )
    left_out = sorted(set(folds[~seen].tolist()))
    if left_out:
        log.warning("nothing was predicted in folds %s: they are taken as not predicted", left_out)
    empty = int((counts[seen] == 0).sum())
    if empty:
        log.info("%d of %d images have no instance", empty, int(seen.sum()))
    return found.take_images(np.flatnonzero(seen))


def _kind(path: Path) -> str:
    if path.is_dir():
        if all((path / name).is_file() for name in TABLES):
            return "parquet"
        return (
            "detectron2" if list(path.glob("*.pth")) or (path / DETECTRON2_FILE).is_file() else "ultralytics"
        )
    if path.suffix == ".csv":
        return "csv"
    if path.suffix == ".json":
        return "detectron2" if path.name == DETECTRON2_FILE else "coco"
    raise InputError(
        f"{path}: no predictions are known by this name; say which with --format {'|'.join(FORMATS[1:])}"
    )


def _ours(path: Path, images: Images, data: PreparedData) -> PredictionSet:
    """Our Parquet over our table of images; other images in it are left out."""
    found = read_predictions(path)
    names = [category.name for category in found.categories]
    if names != [category.name for category in data.categories]:
        wanted = ", ".join(category.name for category in data.categories)
        raise InputError(f"{path}: has the categories {', '.join(names)}; the experiment has {wanted}")
    kept = found.take_images(np.flatnonzero(images.has(list(found.images.ids))))
    table = images.take(images.rows_of(list(kept.images.ids)))
    other = (table.heights != kept.images.heights) | (table.widths != kept.images.widths)
    if other.any():
        raise InputError(
            f"{path}: image {table.ids[other][0]!r} has another size than in the experiment's data"
        )
    return kept.replace(images=table, categories=data.categories)


def _source(path: Path, how: Foreign) -> str:
    kind = _kind(path) if how.kind == "auto" else how.kind
    if path.is_dir():
        return f"{kind}, folder {path.name}"
    with path.open("rb") as file:
        return f"{kind}, {path.name}, sha256 {hashlib.file_digest(file, 'sha256').hexdigest()}"
