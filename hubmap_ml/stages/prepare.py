"""`prepare`: raw competition files to checked annotations, images with slide and position, and folds."""

import json
import logging
from collections import Counter
from pathlib import Path

import numpy as np

from hubmap_ml.data import SyntheticTissue, assign_folds, convert, generate, select_pool, write_prepared
from hubmap_ml.spec import STAGE_VERSION, InputError, digest_of
from hubmap_ml.stages import inputs
from hubmap_ml.stages.file_digests import digest_of_files
from hubmap_ml.stages.progress import progress_bar
from hubmap_ml.stages.running import running
from hubmap_ml.stages.session import Outcome, Session, open_session
from hubmap_ml.tracking import work_folder

log = logging.getLogger(__name__)


def run(
    *,
    experiment: str = "demo",
    raw: str = "",
    set: str = "",
    workers: int = -1,
    fresh: bool = False,
    parent: str = "",
) -> Outcome:
    """Prepare the data of an experiment (the entry point; see `work`)."""
    return work(
        open_session(experiment=experiment, raw=raw, set=set, workers=workers, fresh=fresh, parent=parent)
    )


def work(session: Session) -> Outcome:
    """Convert raw files, assign folds, and keep the result as the run's artifact ``prepared``."""
    experiment = session.experiment
    with running(session, "prepare") as at:
        raw, raw_digest = raw_folder(session)
        wanted = inputs.prepare(session, raw_digest)
        if done := at.reuse(wanted):
            return done
        at.run.identify(wanted)
        with progress_bar("reading tiles") as progress:
            converted = convert(
                raw,
                types=experiment.data.types,
                workers=max(1, session.workers),
                max_rejected=experiment.data.max_rejected,
                progress=progress,
            )
        folder = at.recorder.folder / "prepared"
        split = experiment.data.folds
        rows = select_pool(
            converted.images, experiment.data.pools[split.pool], annotations=converted.annotations
        )
        folds = assign_folds(
            converted.images, rows=rows, method=split.method, n=split.n, by=split.by, seed=split.seed
        )
        data = write_prepared(folder, converted, folds, raw=raw)
        at.recorder.artifact(folder)
        datasets = Counter(map(str, data.images.datasets[data.images.splits == "train"]))
        counts = {f"images/dataset_{name or 'none'}": float(n) for name, n in sorted(datasets.items())}
        test = int(np.sum(data.images.splits == "test"))
        n_instances = len(data.annotations.boxes)
        at.recorder.metrics(
            {**counts, "images/test": test, "instances": n_instances, "rejected": data.rejected_count}, step=0
        )
        at.recorder.params(
            {
                "format": experiment.data.format,
                "types": ",".join(experiment.data.types),
                "folds": f"{split.method}({split.n}, by={split.by}, seed={split.seed})",
            }
        )
        at.run.dataset(
            experiment.name,
            data.digest,
            context="raw",
            source=experiment.data.format,
            profile=json.dumps({"images": len(data.images), "instances": n_instances}),
        )
        return at.finish(
            f"{len(data.images) - test} training and {test} test images, {n_instances} instances, "
            f"{data.rejected_count} annotations rejected",
            details={"images": len(data.images), "instances": n_instances},
        )


def raw_folder(session: Session) -> tuple[Path, str]:
    """Return the folder of raw files and the digest of their names and bytes; tissue is made where it is missing.

    Raises:
        InputError: no raw files are named, or the folder does not exist.
    """
    data = session.experiment.data
    if data.synthetic is not None:
        parameters = data.synthetic.model_dump(mode="json")
        digest = digest_of({**parameters, "version": STAGE_VERSION["prepare"]})
        folder = work_folder() / "raw" / f"synthetic-{digest[:12]}"
        if not folder.is_dir():
            log.info("generating tissue in %s", folder)
            with progress_bar("painting tiles") as progress:
                generate(folder, SyntheticTissue(**parameters), progress=progress)
        return folder, digest_of_files(folder)
    if not data.raw:
        raise InputError(f"experiment {session.experiment.name!r} names no raw files: pass -P raw=FOLDER")
    folder = Path(data.raw).expanduser().resolve()
    if not folder.is_dir():
        raise InputError(f"{folder}: the folder of raw files does not exist; check -P raw=FOLDER or data.raw")
    return folder, digest_of_files(folder)
