"""Where a training stands: its epochs so far, which was best, and the checkpoints that say so on disk."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from hubmap_ml.models.checkpoints import (
    RESUME,
    Checkpoint,
    before,
    copy_checkpoint,
    read_checkpoint,
    read_resume_state,
    write_checkpoint,
)
from hubmap_ml.spec import InputError, Recorder, encode_config
from hubmap_ml.training.contract import FitInputs

FAMILY = "mmdet"


@dataclass(frozen=True)
class Inside:
    """Where a training stands inside an epoch.

    Attributes:
        done: iterations of this epoch.
        iterations: of the whole training.
        generators: states of the random generators, one item for each process that trains.
        log: the iteration log's state.
        non_finite: iterations just before whose loss was not finite.
    """

    done: int
    iterations: int
    generators: Sequence[Mapping[str, Any]]
    log: Mapping[str, Mapping[str, list[float]]]
    non_finite: list[int]

    def to_data(self) -> dict[str, Any]:
        """Tensors and plain values."""
        return {item.name: getattr(self, item.name) for item in fields(self)}


@dataclass
class Progress:
    """The epochs of a training; changes as it goes on.

    Attributes:
        folder: holds the checkpoint folders ``best`` and ``last``.
        epochs: done so far.
        iterations: done so far.
        best_epoch: counted from 1; 0 before anything was scored.
        best_headline: its score; NaN before.
        best_digest: of its weights file; empty before.
        best_apart: whether its weights were those as they are trained, where the last checkpoint has their average.
        history: one mapping an epoch.
        headline: the headline of each epoch, NaN where there was none.
    """

    folder: Path
    epochs: int = 0
    iterations: int = 0
    best_epoch: int = 0
    best_headline: float = math.nan
    best_digest: str = ""
    best_apart: bool = False
    history: list[dict[str, float]] = field(default_factory=list)
    headline: list[float] = field(default_factory=list)

    @property
    def best(self) -> Path:
        """Checkpoint folder of the best epoch."""
        return self.folder / "best"

    @property
    def last(self) -> Path:
        """Checkpoint folder of the last epoch."""
        return self.folder / "last"

    def add_epoch(
        self, values: dict[str, float], headline: float, *, iterations: int, trained: float = math.nan
    ) -> bool:
        """Count an epoch; whether it is the best so far (a score of 0 can be, a tie cannot).

        Args:
            values: for the history.
            headline: score of the weights that predict.
            iterations: done so far.
            trained: score of the weights as they are trained, where others predict (their average); the higher of the
                two is the epoch's, and of equals the average's.
        """
        self.epochs += 1
        self.iterations = iterations
        apart = math.isfinite(trained) and not trained <= headline
        score = trained if apart else headline
        better = math.isfinite(score) and not score <= self.best_headline
        if better:
            self.best_epoch, self.best_headline, self.best_apart = self.epochs, score, apart
        self.history.append({"epoch": float(self.epochs), **values})
        self.headline.append(headline)
        return better

    def save_best(self, model: nn.Module, inputs: FitInputs) -> None:
        """Write the best checkpoint with weights that the last one will not have; before that one, which names it."""
        categories = [(category.id, category.name) for category in inputs.categories]
        written = write_checkpoint(
            self.best, model, family=FAMILY, config=inputs.config, categories=categories, keep_old=True
        )
        self.best_digest = written.digest

    def save(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        inputs: FitInputs,
        *,
        is_best: bool,
        loss_scaler: dict[str, Any] | None,
        recorded: int,
        inside: Inside | None = None,
        trained: Mapping[str, Tensor] | None = None,
    ) -> None:
        """Write the last checkpoint, and the best one if this epoch is (and it was not written by `save_best`).

        Args:
            model, optimizer, inputs: of the training.
            is_best: whether the epoch that ended is the best so far.
            loss_scaler: of half precision.
            recorded: the recorder's position: the metrics that belong to this state.
            inside: where the training stands inside an epoch; None at its end.
            trained: the weights that it goes on with, where the model's are their average.
        """
        state = {
            "epochs": self.epochs,
            "iterations": self.iterations if inside is None else inside.iterations,
            "inside": None if inside is None else inside.to_data(),
            "recorded": recorded,
            "best_epoch": self.best_epoch,
            "best_headline": self.best_headline,
            "best_digest": self.best_digest,
            "best_apart": self.best_apart,
            "history": self.history,
            "headline": self.headline,
            "seed": inputs.seed,
            "optimizer": optimizer.state_dict(),
            "loss_scaler": loss_scaler,
            "trained": None if trained is None else dict(trained),
        }
        categories = [(category.id, category.name) for category in inputs.categories]
        written = write_checkpoint(
            self.last, model, family=FAMILY, config=inputs.config, categories=categories, resume_state=state
        )
        if is_best and not self.best_apart:
            # The checkpoint before the last may need the best before this one.
            copy_checkpoint(self.last, self.best, with_resume_state=False, keep_old=True)
            self.best_digest = written.digest

    def close(self) -> None:
        """Where nothing was ever scored, the last checkpoint is the best."""
        if self.best_epoch == 0:
            self.best_epoch = self.epochs
            copy_checkpoint(self.last, self.best, with_resume_state=False)


@dataclass(frozen=True)
class _Found:
    """A checkpoint to go on from, whole: the folder of the best epoch too (None before anything was scored)."""

    checkpoint: Checkpoint
    state: dict[str, Any]
    best: Checkpoint | None


def check_resumable(resume_from: Path, inputs: FitInputs) -> None:
    """Read all of a checkpoint that a training is to go on from.

    Raises:
        InputError: it is missing, damaged, or of a training with other inputs.
    """
    _read(resume_from, inputs)


def resume(
    recorder: Recorder, resume_from: Path, inputs: FitInputs
) -> tuple[Progress, Checkpoint, dict[str, Any]]:
    """Take up an interrupted training: its metrics up to the checkpoint, then its checkpoints, are copied to the
    recorder's folder unless they lie there.

    Returns:
        Its progress, its last checkpoint and the state to continue from.

    Raises:
        InputError: as by `check_resumable`; nothing was copied then.
    """
    found = _read(resume_from, inputs)
    checkpoint, state = found.checkpoint, found.state
    progress = Progress(
        folder=recorder.folder / "checkpoints",
        epochs=int(state["epochs"]),
        iterations=int(state["iterations"]),
        best_epoch=int(state["best_epoch"]),
        best_headline=float(state["best_headline"]),
        best_digest="" if found.best is None else found.best.digest,
        best_apart=bool(state.get("best_apart", False)),
        history=list(state["history"]),
        headline=list(state["headline"]),
    )
    if checkpoint.folder.resolve() != progress.last.resolve():
        metrics = resume_from.parent.with_name("metrics.jsonl")
        if metrics.exists():
            recorder.continue_from(metrics, int(state["recorded"]))
        if found.best is not None:
            copy_checkpoint(found.best.folder, progress.best, with_resume_state=False)
        # Last: a folder with this checkpoint has all that came before it.
        copy_checkpoint(checkpoint.folder, progress.last, with_resume_state=True)
    return progress, checkpoint, state


def _read(resume_from: Path, inputs: FitInputs) -> _Found:
    checkpoint = read_checkpoint(resume_from)
    state = read_resume_state(checkpoint)
    names = tuple((category.id, category.name) for category in inputs.categories)
    same = encode_config(checkpoint.config) == encode_config(dict(inputs.config))
    try:
        if not same or checkpoint.categories != names or state["seed"] != inputs.seed:
            raise InputError(
                f"{resume_from}: the checkpoint of a training with another configuration, classes or seed"
            )
        return _Found(checkpoint, state, _best_of(checkpoint, state))
    except KeyError as error:
        raise InputError(f"{checkpoint.folder / RESUME}: the training state lacks {error}") from error


def _best_of(checkpoint: Checkpoint, state: Mapping[str, Any]) -> Checkpoint | None:
    """The best so far: the last itself if it closed the best epoch, for a crash may have come before its copy.

    Else the folder beside it with the weights that the state names: the best, or the one that it replaced.
    """
    if state["best_epoch"] == 0:
        return None
    closed = state["inside"] is None and state["best_epoch"] == state["epochs"]
    if closed and not state.get("best_apart", False):
        return checkpoint
    best = checkpoint.folder.with_name("best")
    problem = f"{best}: not the best checkpoint that the last one was written with"
    for folder in (best, before(best)):
        try:
            found = read_checkpoint(folder)
        except InputError as error:
            problem = str(error)
            continue
        if found.digest == state["best_digest"]:
            return found
    raise InputError(problem)
