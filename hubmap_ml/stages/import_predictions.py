"""`import-predictions`: predictions made elsewhere become the folder of an external member, checked.

`foreign_predictions` says what is read. Nothing of the foreign tool is needed and nothing of it is executed. Neither a
run nor a version is made: the stages do that for the member that names the folder. Without an experiment there is no
member either: the same files become our Parquet, for the commands that take anyone's predictions.
"""

import logging
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hubmap_ml.data import PreparedData
from hubmap_ml.instances import PredictionSet, write_predictions
from hubmap_ml.spec import InputError, LeakLevel
from hubmap_ml.stages import splits, upstream
from hubmap_ml.stages.candidates import MERGE
from hubmap_ml.stages.foreign_predictions import AUTO, Foreign, read_foreign, read_listed, source_in_words
from hubmap_ml.stages.import_folders import as_named, folder_to_write, refuse_existing, written_whole
from hubmap_ml.stages.imported_predictions import (
    OUT_OF_FOLD,
    TEST,
    Imported,
    open_import,
    write_manifest,
)
from hubmap_ml.stages.session import Session, open_session

log = logging.getLogger(__name__)


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
    how: Foreign = AUTO,
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
        how: the format of all these files.
        raw: folder of raw files, in place of the experiment's own.

    Raises:
        InputError: what cannot be read or does not fit the experiment's images and classes, an unknown pool or level,
            or an import that lies there already.
    """
    session = open_session(experiment=experiment, raw=raw)
    level = LeakLevel.named(leak)
    test_level = LeakLevel.named(test_leak) if test_leak else level
    folder = folder_to_write(session, member, out)
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
        name: read_foreign(path, data.images.take(rows), data.categories, how)
        for name, (path, rows) in wanted.items()
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
    with written_whole(folder) as beside:
        for name, found in read.items():
            write_predictions(beside / name, found)
        write_manifest(
            beside,
            {name: (found, source_in_words(wanted[name][0], how)) for name, found in read.items()},
            data.categories,
            leak_level=level,
            test_leak_level=test_level,
        )
    return open_import(folder)


def convert(predictions: Path, listed: Path, out: Path, how: Foreign = AUTO) -> PredictionSet:
    """Write foreign predictions as our Parquet, without an experiment.

    Args:
        predictions: file or folder.
        listed: which images and classes there are, see `read_listed`.
        out: the folder to write.
        how: the format of the file.

    Raises:
        InputError: as `read_foreign` and `read_listed`, or the folder is there already.
    """
    refuse_existing(out)
    found = read_foreign(predictions, *read_listed(listed), how)
    write_predictions(out, found)
    return found


def show_converted(found: PredictionSet, out: Path) -> str:
    """Say what was written and what it is good for."""
    return (
        f"{out}: {len(found.scores)} instances on {len(found.images)} images; give it as --predictions to evaluate, "
        "tune, compare and ensemble"
    )


def show(found: Imported, member: str, experiment: str) -> str:
    """Say what was imported and what to write into the experiment's file."""
    told = "; ".join(f"{name}: {len(ids)} images" for name, ids in found.ids.items())
    return (
        f"{found.folder}: {told}; leak level {found.leak_level} (declared). Name it in {experiment} under members: "
        f"{member}: {{kind: external, predictions: {as_named(found.folder, experiment)}}}"
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
