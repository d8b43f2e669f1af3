"""`predict`: one fold's network looks at the images held out from it, and at the test images.

What is kept are candidates, before class NMS and with untouched scores, one set a view, so that thresholds can be tuned
afterwards.
"""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hubmap_ml.data import PreparedData
from hubmap_ml.instances import PredictionWriter, read_predictions
from hubmap_ml.predictor import names_of_views
from hubmap_ml.spec import LEAK_TAG
from hubmap_ml.stages import external_members, inputs, upstream
from hubmap_ml.stages.candidates import MERGE
from hubmap_ml.stages.finetune import check_fold
from hubmap_ml.stages.fitting import log_images
from hubmap_ml.stages.leaks import in_words, report_leaks
from hubmap_ml.stages.plain_score import plain_score
from hubmap_ml.stages.progress import progress_bar
from hubmap_ml.stages.running import Running, running
from hubmap_ml.stages.session import Outcome, Session, open_session

if TYPE_CHECKING:
    from hubmap_ml.inference import Network

OUT_OF_FOLD = "out_of_fold"
TEST = "test"
DEVICE_TAG = "hubmap.device_kind"


def run(
    *,
    experiment: str = "demo",
    member: str = "",
    fold: int = 0,
    raw: str = "",
    set: str = "",
    workers: int = -1,
    device: str = "auto",
    with_upstream: bool = False,
    fresh: bool = False,
    parent: str = "",
) -> Outcome:
    """Predict candidates with a member's network of one fold (the entry point; see `work`)."""
    session = open_session(
        experiment=experiment,
        raw=raw,
        set=set,
        workers=workers,
        device=device,
        with_upstream=with_upstream,
        fresh=fresh,
        parent=parent,
    )
    return work(session, session.experiment.member_named(member), fold)


def work(session: Session, member: str, fold: int) -> Outcome:
    """Write candidates of the held-out and of the test images; log leaks, what the caps cost and the plain score."""
    experiment = session.experiment
    fold = experiment.fold_named(member, fold)
    with running(session, "predict", member=member, fold=fold) as at:
        check_fold(session, member, fold)
        prepared = upstream.prepared(session)
        wanted = inputs.predict(session, member, fold, prepared.data)
        if done := at.reuse(wanted):
            return done
        if experiment.members[member].is_predictions:
            return external_members.take_in(at, wanted, member, prepared)
        from hubmap_ml.inference import (
            open_network,
        )  # torch comes with it: seconds that a reused run is spared

        trained = upstream.finetuned(session, member, fold, prepared)
        values, scoring = wanted.values, wanted.values["scoring"]
        at.run.identify(wanted, upstream_runs=[prepared.run.run_id, trained.run_id])
        at.recorder.params(
            {
                "member": member,
                "views": ",".join(values["views"]),
                "checkpoint": values["checkpoint"],
            }
        )
        network = open_network(trained.artifact(f"checkpoints/{values['checkpoint']}"), session.device)
        at.run.tag({DEVICE_TAG: network.device.type})
        data = prepared.data
        held_out, test = data.images.rows_of(values["held_out"]), data.images.rows_of(values["test"])
        if len(held_out):
            log_images(at.run, data, held_out, experiment.name, "out of fold")
        log_images(at.run, data, test, experiment.name, "test")
        ids = data.images.ids
        leaks = report_leaks(
            at,
            data,
            trained,
            held_out=list(ids[held_out]),
            test=list(ids[test]),
        )
        for name, chosen in ((OUT_OF_FOLD, held_out), (TEST, test)):
            folder = at.recorder.folder / name
            _write(at, network, values, member, data, chosen, folder, name)
            at.recorder.artifact(folder)
        if len(held_out) == 0:
            return at.finish(
                f"{len(test)} test images predicted; trained on all data: nothing held out to score it on"
            )
        candidates = read_predictions(at.recorder.folder / OUT_OF_FOLD)
        score, interval = plain_score(at, data, candidates, scoring)
        return at.finish(
            f"{scoring['metric']} {score.value:.3f} on {len(held_out)} held-out images before tuning "
            f"(95 % on these slides {interval.in_words()}), "
            f"leak level {in_words(leaks)}; {len(candidates.scores)} candidates",
            headline=score.value,
            details={"n_images": len(held_out), "leak_level": leaks[LEAK_TAG]},
        )


def _write(
    at: Running,
    network: "Network",
    how: Mapping[str, Any],
    member: str,
    data: PreparedData,
    rows: NDArray[np.int64],
    folder: Path,
    name: str,
) -> None:
    from hubmap_ml.inference import predict_candidates

    started = time.monotonic()
    done = dropped = capped = kept = 0
    in_network = how["merge"] == "in_network"
    properties = {"run": at.run.run_id, "member": member, "views": ",".join(how["views"])}
    if not in_network:
        properties[MERGE] = how["merge"]
    sources = names_of_views(how["views"], how["scales"] or None, in_network=in_network)
    with (
        PredictionWriter(folder, data.annotations.categories, sources, properties) as writer,
        progress_bar(f"{name} images") as progress,
    ):
        for image, instances, stats in predict_candidates(
            network,
            data.sources(rows),
            views=how["views"],
            scales=how["scales"],
            score=how["score"],
            dedupe_iou=how["dedupe_iou"],
            max_per_image=how["max_per_image"],
            batch=at.session.experiment.members[member].predict.batch,
            in_network=in_network,
        ):
            writer.add(image, instances)
            done += 1
            progress(done, len(rows))
            kept += stats.n_kept
            dropped += stats.n_duplicates
            capped += stats.cap_bit
    n = max(1, len(rows))
    at.recorder.metrics(
        {
            f"{name}/images": len(rows),
            f"{name}/candidates": kept,
            f"{name}/dropped_as_near_copies": dropped,
            f"{name}/share_of_images_capped": capped / n,
            f"time/{name}_s_per_image": (time.monotonic() - started) / n,
        },
        step=0,
    )
