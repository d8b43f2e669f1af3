"""`prepare`: raw competition files to checked annotations, images with slide and position, and folds."""

import json
import logging
import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from hubmap_ml.data import (
    SyntheticTissue,
    assign_folds,
    convert_raw,
    count_across_folds,
    generate,
    select_pool,
    write_prepared,
)
from hubmap_ml.instances import Images
from hubmap_ml.spec import STAGE_VERSION, InputError, digest_of
from hubmap_ml.stages import dataset_page, inputs
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
        with progress_bar("reading images") as progress:
            converted = convert_raw(
                experiment.data.format,
                raw,
                types=experiment.data.types,
                workers=max(1, session.workers),
                max_rejected=experiment.data.max_rejected,
                progress=progress,
                options=experiment.data.options,
            )
        folder = at.recorder.folder / "prepared"
        split = experiment.data.folds
        rows = select_pool(
            converted.images, experiment.data.pools[split.pool], annotations=converted.annotations
        )
        folds = assign_folds(
            converted.images,
            rows=rows,
            annotations=converted.annotations,
            **split.model_dump(exclude={"pool", "buffer"}),
        )
        with progress_bar("taking fingerprints") as progress:
            data = write_prepared(
                folder, converted, folds, raw=raw, workers=max(1, session.workers), progress=progress
            )
        at.recorder.artifact(folder)
        datasets = Counter(map(str, data.images.datasets[data.images.splits == "train"]))
        counts = {f"images/dataset_{name or 'none'}": float(n) for name, n in sorted(datasets.items())}
        test = int(np.sum(data.images.splits == "test"))
        n_instances = len(data.annotations.boxes)
        counts |= fold_figures(data.images, split.buffer)
        counts |= {f"left_out/{reason}": float(n) for reason, n in plain_names(converted.left_out).items()}
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
        verdict = (
            f"{len(data.images) - test} training and {test} test images, {n_instances} instances, "
            f"{sum(r.lost for r in converted.rejected)} annotations rejected"
        )
        page = dataset_page.write_page(
            at.recorder.folder / dataset_page.PAGE,
            data,
            title=f"{experiment.name} · data",
            verdict=verdict,
            left_out=plain_names(converted.left_out),
        )
        at.recorder.artifact(page)
        return at.finish(
            verdict,
            details={"images": len(data.images), "instances": n_instances},
        )


def plain_names(counts: Mapping[str, int]) -> dict[str, int]:
    """Return counts under names that the store takes for a metric; names that become one are added up."""
    plain: Counter[str] = Counter()
    for name, count in counts.items():
        plain[re.sub(r"[^A-Za-z0-9_-]+", "_", name)[:100]] += count
    return dict(plain)


def fold_figures(images: Images, buffer: int) -> dict[str, float]:
    """Return the number of images in each fold, and of those near a tile of another fold."""
    held = images.folds[images.folds >= 0]
    figures = {f"folds/images_{fold}": float(np.sum(held == fold)) for fold in np.unique(held)}
    across = count_across_folds(images, buffer=buffer)
    if across:
        near = f"lie within {buffer} pixels of" if buffer else "touch"
        log.info("%d of %d images %s an image of another fold: see the leak report", across, len(held), near)
    return {**figures, "folds/images_near_another_fold": float(across)}


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
