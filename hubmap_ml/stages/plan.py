"""`plan`: before a day of GPU, a few iterations of each member tell what memory, hours and disk the whole will take.

Each member's stages are tried in a process of their own, with random weights; the rest is arithmetic (`plan_figures`).
Nothing is trained, no later stage finds anything of it.
"""

import dataclasses
import logging
import math
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hubmap_ml.data import FileImage, PreparedData
from hubmap_ml.instances import Images
from hubmap_ml.spec import InputError, digest_of, encode_config
from hubmap_ml.spec.reference_costs import ReferenceCosts, read_reference_costs
from hubmap_ml.stages import precision, splits, upstream
from hubmap_ml.stages.fitting import fit_data
from hubmap_ml.stages.plan_figures import Measured, Row, Total, total
from hubmap_ml.stages.running import running
from hubmap_ml.stages.session import TRAINED, Outcome, Session, open_session
from hubmap_ml.stages.worker import TorchWorker, WorkerError
from hubmap_ml.tracking import memory

if TYPE_CHECKING:
    from hubmap_ml.training import FitData, FitInputs, TrainingCost

log = logging.getLogger(__name__)

PLAN = "plan.json"
PREDICTED = 2
"""Images that are predicted to time it; the first only warms up."""


@dataclasses.dataclass(frozen=True)
class Plan:
    """What an experiment will cost.

    Attributes:
        rows: one a member's stage.
        reference: what was published beside it; None without.
        notes: what was measured, what is extrapolated, what is left out.
    """

    outcome: Outcome
    device: str
    rows: Sequence[Row]
    reference: ReferenceCosts | None
    notes: Sequence[str]

    @property
    def total(self) -> Total:
        """Return all members together."""
        return total(self.rows)

    def of(self, member: str) -> Total:
        """Return one member's rows together."""
        return total([row for row in self.rows if row.member == member])

    def to_data(self) -> dict[str, Any]:
        """Return all of it as JSON-able data."""
        members = dict.fromkeys(row.member for row in self.rows)
        return {
            "run": self.outcome.run_id,
            "device": self.device,
            "rows": [row.to_data() for row in self.rows],
            "members": {member: self.of(member).to_data() for member in members},
            "total": self.total.to_data(),
            "reference": None if self.reference is None else self.reference.machine,
            "notes": list(self.notes),
        }


def run(
    *,
    experiment: str = "demo",
    raw: str = "",
    set: str = "",
    workers: int = -1,
    device: str = "auto",
    nproc: int = 1,
    iterations: int = 3,
    parent: str = "",
) -> Plan:
    """Plan an experiment (the entry point; see `work`)."""
    if not 1 <= iterations <= 1000:
        raise InputError(f"iterations is {iterations}; 1 to 1000 are timed, 3 where nothing is said")
    session = open_session(
        experiment=experiment, raw=raw, set=set, workers=workers, device=device, parent=parent, nproc=nproc
    )
    return work(session, iterations)


def work(session: Session, iterations: int) -> Plan:
    """Try every stage of every member, and keep the table as the run's artifact ``plan.json``.

    Args:
        session: experiment and settings; of several processes (``nproc``) one's share of a batch is worked on.
        iterations: of each stage that are timed, after as many that warm up.

    Raises:
        InputError: an experiment that cannot be trained. A process that dies is a row that says so.
    """
    with running(session, "plan", subject=session.experiment.name) as at:
        session.check_members()
        reference = read_reference_costs(session.experiment.folder)
        data = upstream.prepared(session).data
        at.recorder.params({"iterations": iterations, "nproc": session.processes.nproc})
        folder = at.recorder.folder / "trials"
        trials = _Trials(session, data, iterations, folder)
        rows: list[Row] = []
        trained = [name for name, item in session.experiment.members.items() if item.kind == "trained"]
        for member in trained:
            for stage in TRAINED:
                if getattr(session.experiment.members[member], stage) is not None:
                    rows.append(_row(session, data, member, stage, trials, reference))
        shutil.rmtree(folder, ignore_errors=True)
        device = "gpu" if precision.on_gpu(session.device) else "cpu"
        sums = total(rows)
        verdict = (
            f"{sums.hours:.2f} h on one {device}, {sums.memory_mib:,.0f} MiB, {sums.disk_gb:.2f} GB for "
            f"{sum(row.trainings for row in rows)} trainings of {len(trained)} members; "
            f"{iterations} iterations of each measured, the rest extrapolated"
        ) + (f"; {sums.missing} stages could not be measured" if sums.missing else "")
        at.recorder.metrics(
            {"plan/hours": sums.hours, "plan/memory_mib": sums.memory_mib, "plan/disk_gb": sums.disk_gb},
            step=0,
        )
        plan = Plan(at.finish(verdict), device, rows, reference, _notes(session, iterations, device))
        at.recorder.data(plan.to_data(), PLAN)
    return plan


def _row(
    session: Session,
    data: PreparedData,
    member: str,
    stage: str,
    trials: "_Trials",
    reference: ReferenceCosts | None,
) -> Row:
    experiment = session.experiment
    folds = experiment.folds_of(member)
    split = splits.finetune_split if stage == "finetune" else splits.pretrain_split
    cuts = [split(session, member, fold, data) for fold in folds]
    # Stage 1 is trained once where it looks at the same images whatever the fold, and for all members that share it.
    learnt = [_learnt(session, data, member, stage, fold) for fold in folds]
    same = [trials.training_of(member, stage, cut, who) for cut, (who, _) in zip(cuts, learnt, strict=True)]
    new = [key for key in dict.fromkeys(same) if key not in trials.planned]
    note = "" if new else f"the same trainings as {trials.planned[same[0]]}"
    trials.planned |= dict.fromkeys(new, f"{stage} of {member}")
    measured, epoch_length, problem = trials.of(member, stage, cuts[0])
    config = session.member_config(member, stage)
    assert config is not None
    if labelled := learnt[0][1]:
        batch = config["batch"]
        epoch_length += math.ceil(labelled * batch.get("repeat", 1) / batch["global"])
        note = "; ".join(filter(None, (note, f"counts {labelled} images as if all got pseudo-labels")))
    predicted = 0
    if stage == "finetune":
        test = len(splits.test_rows(data))
        predicted = sum(len(cut.valid) + test for cut in cuts)
    keeps = len(experiment.keep.checkpoints) if len(cuts[0].valid) else 1
    return Row(
        member=member,
        stage=stage,
        trainings=len(new),
        epochs=int(config["runner"]["max_epochs"]),
        epoch_length=epoch_length,
        valid_images=len(cuts[0].valid),
        predicted_images=predicted,
        kept=keeps,
        measured=measured,
        note=problem or note,
        reference=None if reference is None else reference.of(member, stage),
    )


def _learnt(
    session: Session, data: PreparedData, member: str, stage: str, fold: int
) -> tuple[list[Any], int]:
    """Return who makes pseudo-labels for a training, and of how many images; nobody and 0 for most."""
    part = session.experiment.members[member].pretrain
    if stage != "pretrain" or part is None or part.pseudo is None:
        return [], 0
    rows = splits.pseudo_rows(session, member, fold, data)
    return [part.pseudo, splits.teaching_networks(session, part.pseudo, fold), rows.tolist()], len(rows)


class _Trials:
    """Tries configurations, each once, each in a process of its own."""

    def __init__(self, session: Session, data: PreparedData, iterations: int, folder: Path) -> None:
        self.planned: dict[str, str] = {}
        self._session, self._data = session, data
        self._iterations, self._folder = iterations, folder
        self._done: dict[str, tuple[Measured | None, int, str]] = {}

    def training_of(self, member: str, stage: str, cut: splits.Split, learnt: Sequence[Any]) -> str:
        """Name a training by what it depends on, as far as that differs inside an experiment."""
        weights = self._session.experiment.members[member].weights
        return digest_of(
            {
                "member": "" if stage == "pretrain" else member,
                "config": encode_config(self._session.member_config(member, stage) or {}),
                "weights": None if weights is None else weights.model_dump(),
                "images": [cut.train.tolist(), cut.valid.tolist()],
                "learnt": list(learnt),
            }
        )

    def of(self, member: str, stage: str, cut: splits.Split) -> tuple[Measured | None, int, str]:
        """Return what a process showed (None where it failed), iterations of an epoch, and what went wrong."""
        session = self._session
        predict = session.experiment.members[member].predict if stage == "finetune" else None
        key = digest_of(
            {
                "config": encode_config(session.member_config(member, stage) or {}),
                "predict": None if predict is None else predict.model_dump(mode="json"),
                "images": [len(cut.train), len(cut.valid) > 0],
            }
        )
        if key not in self._done:
            log.info("%s of %s: %d iterations", stage, member, self._iterations)
            place = self._folder / f"{member}-{stage}"
            place.mkdir(parents=True)
            self._done[key] = self._tried(member, stage, cut, place)
            shutil.rmtree(place, ignore_errors=True)
        return self._done[key]

    def _tried(
        self, member: str, stage: str, cut: splits.Split, place: Path
    ) -> tuple[Measured | None, int, str]:
        from hubmap_ml.training import FitInputs

        session, data = self._session, self._data
        experiment = session.experiment
        config = session.member_config(member, stage)
        assert config is not None
        if config.get("fp16") is not None and not precision.on_gpu(session.device):
            config = {key: value for key, value in config.items() if key != "fp16"}
        inputs = FitInputs(
            config=config,
            categories=data.annotations.categories,
            seed=experiment.seed,
            metric=experiment.metric,
            postprocess=list(experiment.postprocess),
        )
        learned = fit_data(data, cut.train, cut.valid, workers=session.workers, device=session.device)
        how: dict[str, Any] = {}
        shown: list[tuple[Images, FileImage]] = []
        if stage == "finetune":
            predict = experiment.members[member].predict
            how = {
                "views": predict.views,
                "scales": predict.scales,
                "score": predict.score,
                "dedupe_iou": predict.dedupe_iou,
                "max_per_image": predict.max_per_image,
                "batch": predict.batch,
                "in_network": predict.merge == "in_network",
            }
            shown = list(data.sources([*cut.valid, *splits.test_rows(data)][:PREDICTED]))
        trainer, share = experiment.members[member].trainer, session.processes.nproc
        try:
            with TorchWorker() as fresh:
                measured, length = fresh.call(
                    _measure, trainer, inputs, learned, shown, how, self._iterations, share, place
                )
        except WorkerError as error:
            problem = (str(error).strip().splitlines() or ["died"])[-1]
            log.warning("%s of %s cannot be measured: %s", stage, member, problem)
            return None, 0, problem
        return measured, length, ""


def _measure(
    trainer: str,
    inputs: "FitInputs",
    data: "FitData",
    shown: Sequence[tuple[Images, FileImage]],
    how: dict[str, Any],
    iterations: int,
    share: int,
    folder: Path,
) -> tuple[Measured, int]:
    """Try one training, and then the prediction; to be called in a fresh process. Returns the epoch's length too."""
    from hubmap_ml.training import measure_cost

    cost: TrainingCost = measure_cost(trainer, inputs, data, folder, iterations=iterations, share=share)
    process_mib = memory.peak_mib()
    seconds = []
    if shown:
        from hubmap_ml.inference import open_network, predict_candidates

        network = open_network(cost.checkpoint, data.device)
        for image in shown:
            started = time.perf_counter()
            list(predict_candidates(network, [image], **how))
            seconds.append(time.perf_counter() - started)
    return (
        Measured(
            iterations=cost.iterations,
            iteration_s=cost.iteration_s,
            valid_image_s=cost.valid_image_s,
            predict_image_s=float(np.median(seconds[1:] or seconds)) if seconds else float("nan"),
            process_mib=max(process_mib, memory.peak_mib()),
            device_mib=cost.device_mib,
            weights_bytes=cost.weights_bytes,
            state_bytes=cost.state_bytes,
        ),
        cost.epoch_length,
    )


def _notes(session: Session, iterations: int, device: str) -> list[str]:
    share = session.processes.nproc
    where = "the GPU" if device == "gpu" else "the process"
    notes = [
        f"measured: {iterations} iterations of each stage (as many before to warm up), validation and prediction of an "
        f"image, memory of {where}, checkpoints; random weights, which propose more than trained ones",
        "extrapolated: hours = iterations x epochs x trainings, validation after each epoch and prediction of held-out "
        "and test images included; disk = checkpoints kept, and what the largest training needs while it goes on",
        "not in it: preparing data, writing checkpoints, making pseudo-labels, thresholds, gate, ensemble",
    ]
    if share > 1:
        notes.append(
            f"of {share} processes that share a batch one's part was measured, not their talking to each other"
        )
    return notes
