"""Fit an mmdet detector: the member's recipe on the platform's data."""

import logging
import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from hubmap_ml.inference.two_stage import check_supported
from hubmap_ml.instances import Annotations
from hubmap_ml.models import (
    LoadReport,
    build_detector,
    import_weights,
    load_weights,
    open_device,
    use_one_thread,
)
from hubmap_ml.models.checkpoints import WEIGHTS
from hubmap_ml.models.detectors import without_pretrained
from hubmap_ml.spec import InputError, Interrupted, Recorder
from hubmap_ml.spec.member_config import check as check_member_config
from hubmap_ml.training.contract import FitData, FitInputs, FitResult
from hubmap_ml.training.mmdet.averaging import WeightAverage
from hubmap_ml.training.mmdet.batches import EpochOrder, open_loader
from hubmap_ml.training.mmdet.dataset import TrainingSamples, filter_images
from hubmap_ml.training.mmdet.draws import INITIAL, generator_states, seed_everything
from hubmap_ml.training.mmdet.gallery import gallery
from hubmap_ml.training.mmdet.iteration_log import IterationLog
from hubmap_ml.training.mmdet.optimisation import build_optimizer, group_table, own_hooks, register_hooks
from hubmap_ml.training.mmdet.plateau import follows_scores
from hubmap_ml.training.mmdet.progress import Inside, Progress, resume
from hubmap_ml.training.mmdet.ranks import Ranks, current
from hubmap_ml.training.mmdet.runner import EpochRunner
from hubmap_ml.training.mmdet.validation import Validation
from hubmap_ml.training.rank_job import stop_file
from hubmap_ml.training.stopping import StopAskedError, StopRequest

log = logging.getLogger(__name__)

AVERAGE_SCORES = "val_ema"
BEST_IS_AVERAGE = (
    "the best epoch's weights are their average (ema), which scored no lower than those as trained"
)
BEST_IS_TRAINED = (
    "the best epoch's weights are those as trained, which scored higher than their average (ema)"
)
FOLLOWED = (
    "the learning rate followed the score of the validation images, which their last score is not free of"
)
NOTHING_TO_FOLLOW = (
    "a 'Plateau' follows the score of held-out images, and this training has none: choose another lr_config"
)
FP16_DROPPED = "fp16 was dropped: half precision needs a GPU, this training ran in single precision"


def fit(inputs: FitInputs, data: FitData, recorder: Recorder, resume_from: Path | None = None) -> FitResult:
    """Train a detector, scoring it after each epoch; see `hubmap_ml.training.Trainer`.

    Checkpoints lie in the recorder's folder, ``checkpoints/best`` and ``checkpoints/last``. As one of several ranks it
    does its share: all have the same weights at any time, the first records and saves.
    """
    check_member_config(inputs.config, "member configuration")
    _check_categories(inputs, data)
    ranks = current()
    device = open_device(data.device)
    if device.type == "cpu":
        use_one_thread()
    notes = []
    half = inputs.config.get("fp16")
    if half is not None and device.type == "cpu":
        log.warning(FP16_DROPPED)
        notes.append(FP16_DROPPED)
        half = None

    images = filter_images(data.train)
    if images.note() is not None:
        log.warning("%s", images.note())
        notes.append(str(images.note()))
    steps, batch = list(inputs.config["train_pipeline"]), inputs.config["batch"]
    repeat = int(batch.get("repeat", 1))
    samples = TrainingSamples(data.train, images.rows, data.image_root, steps, inputs.seed, repeat)
    wide = data.train.images.widths[images.rows] > data.train.images.heights[images.rows]
    order = EpochOrder(
        np.tile(wide, repeat),
        batch=int(batch["global"]),
        seed=inputs.seed,
        rank=ranks.rank,
        world=ranks.world,
    )
    # Ranks leave together or not at all: none of them gives up its share of the validation.
    alone = ranks.world == 1
    stop = StopRequest() if alone else StopRequest(stop_file(recorder.folder))
    validation = None
    if follows_scores(inputs.config):
        if data.valid is None:
            raise InputError(NOTHING_TO_FOLLOW)
        notes.append(FOLLOWED)
    if data.valid is not None:
        validation = Validation(inputs, data, stop.give_up if alone else lambda: None, ranks)

    model, report = _initial_model(inputs)
    check_supported(model)
    if report is not None:
        recorder.data(report.to_data(), "load_report.json")
        log.info("%s: %s", inputs.init_weights, report)
    model.to(device)
    average, hooks = own_hooks(model, inputs.config)
    optimizer = build_optimizer(model, inputs.config)
    recorder.data(group_table(model, optimizer), "optimizer_groups.json")
    max_epochs = int(inputs.config["runner"]["max_epochs"])
    progress = Progress(recorder.folder / "checkpoints")
    listener = IterationLog(recorder, max_epochs=max_epochs, epoch_length=len(order))
    scaler_state, inside, non_finite = None, None, []
    if resume_from is None and ranks.first:
        recorder.image(gallery(samples), key="train/gallery", step=0)
    if resume_from is None and validation is not None:
        validation.before_training(model, device, recorder)
    if resume_from is not None:
        progress, checkpoint, state = ranks.first_alone(
            lambda: resume(recorder, resume_from if ranks.first else progress.last, inputs)
        )
        load_weights(model, checkpoint.weights)
        if average is not None:
            average.restore(state["trained"])
        optimizer.load_state_dict(state["optimizer"])
        scaler_state, inside = state["loss_scaler"], state["inside"]
        if inside is not None:
            listener.restore(inside["log"], step=progress.iterations)
            non_finite = inside["non_finite"]
        log.info("going on after epoch %d, iteration %d", progress.epochs, progress.iterations)

    def save(*, is_best: bool = False, done: int | None = None, said: _Said | None = None) -> None:
        """Write a checkpoint, at an epoch's end or after ``done`` iterations of it."""
        said = said or _Said(listener.state(), recorder.position)
        place = None
        if done is not None:
            states = ranks.from_all(generator_states())
            place = Inside(done, runner.iter, states, said.log, list(runner.non_finite))
        scaler = None if scaler_hook is None else scaler_hook.loss_scaler.state_dict()
        if ranks.first:
            if is_best and progress.best_apart:
                progress.save_best(model, inputs)
            with nullcontext() if average is None else average.in_place() as trained:
                progress.save(
                    model,
                    optimizer,
                    inputs,
                    is_best=is_best,
                    loss_scaler=scaler,
                    recorded=said.position,
                    inside=place,
                    trained=trained,
                )
        ranks.wait()

    def after_iteration(done: int) -> None:
        if not runner.can_be_saved:
            return
        due = data.save_every > 0 and done % data.save_every == 0 and done < len(order)
        asked = ranks.any(stop.asked)
        if due or asked:
            save(done=done)
        if asked:
            recorder.checkpoint(progress.folder, step=runner.iter)
            raise _interrupted(progress.epochs + 1, done)

    runner = EpochRunner(
        ranks.wrap(model),
        optimizer=optimizer,
        max_epochs=max_epochs,
        device=device,
        seed=inputs.seed,
        on_iteration=listener,
        on_end=after_iteration,
        rank=ranks.rank,
        scores=progress.headline,
    )
    runner.non_finite = list(non_finite)
    scaler_hook = register_hooks(runner, inputs.config, half, hooks)
    runner.start(
        open_loader(samples, order, workers=data.workers),
        epochs_done=progress.epochs,
        iterations_done=progress.iterations,
    )
    if scaler_hook is not None and scaler_state is not None:
        scaler_hook.loss_scaler.load_state_dict(scaler_state)
    with stop:
        _train(
            runner,
            model,
            average,
            device,
            progress,
            inside,
            listener,
            validation,
            recorder,
            save,
            stop,
            ranks,
        )
    runner.finish()
    if ranks.first:
        progress.close()
    if average is not None and validation is not None:
        notes.append(BEST_IS_TRAINED if progress.best_apart else BEST_IS_AVERAGE)
    if ranks.world > 1:
        recorder.data({"weights": ranks.digests(model)}, "ranks.json")
    return FitResult(
        best=progress.best,
        last=progress.last,
        best_epoch=progress.best_epoch,
        history=tuple(progress.history),
        headline=tuple(progress.headline),
        best_score=progress.best_headline,
        notes=tuple(notes),
        load_report=None if report is None else report.to_data(),
    )


@dataclass(frozen=True)
class _Said:
    """What has been recorded at some moment: the iteration log's state and the recorder's position."""

    log: Mapping[str, Any]
    position: int


def _train(
    runner: EpochRunner,
    model: nn.Module,
    average: WeightAverage | None,
    device: torch.device,
    progress: Progress,
    inside: Mapping[str, Any] | None,
    listener: IterationLog,
    validation: Validation | None,
    recorder: Recorder,
    save: Callable[..., None],
    stop: StopRequest,
    ranks: Ranks,
) -> None:
    """Train and score the epochs that are left; the first may have begun already (``inside``)."""
    while progress.epochs < runner.max_epochs:
        started = time.perf_counter()
        if inside is None:
            runner.train_epoch()
        else:
            states = inside["generators"]
            mine = states[ranks.rank] if len(states) == ranks.world else None
            runner.train_epoch(skip=inside["done"], generators=mine)
        inside = None
        ranks.equalise(model.buffers())
        if average is not None:
            ranks.equalise(average.values.values())
        said = _Said(listener.state(), recorder.position)
        values = listener.end_epoch()
        trained = time.perf_counter()
        headline, of_trained = float("nan"), float("nan")
        epoch = progress.epochs + 1
        if validation is not None:
            recorder.progress(f"epoch {epoch}/{runner.max_epochs}, validation")
            try:
                scores = validation.run(model, device, recorder, epoch=epoch)
                values |= scores.values
                if average is not None:
                    of_trained = scores.headline
                    with average.in_place():
                        scores = validation.run(model, device, recorder, epoch=epoch, name=AVERAGE_SCORES)
            except StopAskedError:
                save(done=len(runner.data_loader), said=said)
                recorder.checkpoint(progress.folder, step=runner.iter)
                raise _interrupted(epoch, len(runner.data_loader)) from None
            headline = scores.headline
            values |= scores.values
        per_epoch = {key: value for key, value in values.items() if key.startswith("val")}
        per_epoch |= {
            "time/epoch_train_s": trained - started,
            "time/epoch_valid_s": time.perf_counter() - trained,
        }
        recorder.metrics(per_epoch, step=epoch)
        is_best = progress.add_epoch(values | per_epoch, headline, iterations=runner.iter, trained=of_trained)
        save(is_best=is_best)
        if progress.epochs < runner.max_epochs:
            recorder.checkpoint(progress.folder, step=runner.iter)
        recorder.flush()
        if ranks.any(stop.asked) and progress.epochs < runner.max_epochs:
            raise _interrupted(progress.epochs + 1, 0)


def _interrupted(epoch: int, iteration: int) -> Interrupted:
    return Interrupted(f"interrupted at epoch {epoch}, iteration {iteration}; start it again to go on")


def _check_categories(inputs: FitInputs, data: FitData) -> None:
    """A class name that the data does not know would train on nothing, as mmdet's CocoDataset does without
    a word.
    """
    wanted = [category.name for category in inputs.categories]
    sets: list[tuple[str, Annotations]] = [("training", data.train)]
    if data.valid is not None:
        sets.append(("validation", data.valid))
    for name, annotations in sets:
        found = [category.name for category in annotations.categories]
        if found != wanted:
            raise InputError(
                f"the {name} data has the classes {found} and the experiment {wanted}: prepare it anew"
            )


def _initial_model(inputs: FitInputs) -> tuple[nn.Module, LoadReport | None]:
    """The network with the weights that it starts from."""
    config = dict(inputs.config)
    seed_everything(inputs.seed, INITIAL)
    if inputs.init_weights is None:
        model = build_detector(config, len(inputs.categories))
        model.init_weights()
        return model, None
    # Weights that are about to be replaced need not be fetched.
    model = build_detector(without_pretrained(config), len(inputs.categories))
    model.init_weights()
    path = Path(inputs.init_weights)
    return model, load_weights(model, path / WEIGHTS) if path.is_dir() else import_weights(model, path)
