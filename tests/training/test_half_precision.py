"""Half precision on the CPU: mmcv's hook and mmdet's casts, with torch's CPU scaler and CPU autocast instead of CUDA's.

Whether the same runs on a GPU, with its own kernels, is not tested here.
"""

from collections.abc import Callable
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import mmcv.runner.fp16_utils as fp16_utils
import mmcv.runner.hooks.optimizer as hooks
import numpy as np
import pytest
import torch

from hubmap_ml.instances import Annotations
from hubmap_ml.models import build_detector
from hubmap_ml.spec import NullRecorder, load_config_file
from hubmap_ml.training import FitInputs
from hubmap_ml.training.mmdet.batches import EpochOrder, open_loader
from hubmap_ml.training.mmdet.dataset import TrainingSamples, filter_images
from hubmap_ml.training.mmdet.draws import seed_everything
from hubmap_ml.training.mmdet.optimisation import build_optimizer, register_hooks
from hubmap_ml.training.mmdet.progress import Progress, resume
from hubmap_ml.training.mmdet.runner import EpochRunner
from tests.detectors import VESSEL, htc, mask_rcnn, vessels
from tests.training.lines import Line, opened

EXPERIMENTS = Path(__file__).parents[2] / "experiments"
MEMBERS, CELLS = EXPERIMENTS / "hubmap2023" / "members", EXPERIMENTS / "cells" / "members"
HALF = load_config_file(MEMBERS / "cbnet_stage2.py")["fp16"]
SGD = {"optimizer": {"type": "SGD", "lr": 0.1}}
GATHERING = {"type": "GradientCumulativeOptimizerHook", "cumulative_iters": 2}


@pytest.fixture(scope="module")
def tiles(tmp_path_factory: Any) -> tuple[Path, Annotations]:
    folder = tmp_path_factory.mktemp("tiles")
    return folder, vessels(folder, 4)


@pytest.fixture(autouse=True)
def cpu_instead_of_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    """What asks for CUDA does nothing without a GPU; torch has the same for the CPU."""
    monkeypatch.setattr(hooks, "GradScaler", partial(torch.amp.GradScaler, "cpu"))
    monkeypatch.setattr(fp16_utils, "autocast", partial(torch.autocast, "cpu", torch.float16))


@pytest.mark.parametrize("gathered", [False, True])
def test_a_scaled_step_is_the_plain_one(gathered: bool) -> None:
    config = {**SGD, "optimizer_config": {"grad_clip": {"max_norm": 0.5}, **(GATHERING if gathered else {})}}
    ends, gradients = [], []
    for half in (None, HALF):
        seen: list[torch.Tensor] = []
        model = Line()
        model.weight.register_hook(seen.append)
        runner, hook = opened(model, config, half=half)
        runner.train_epoch()
        assert (hook is None) == (half is None)
        ends.append(model.weight.detach())
        gradients.append(seen)
    torch.testing.assert_close(ends[0], ends[1], rtol=1e-6, atol=0)
    assert not torch.equal(ends[0], Line().weight)
    for plain, scaled in zip(*gradients, strict=True):
        torch.testing.assert_close(scaled, 512 * plain, rtol=1e-6, atol=0)


def test_a_gradient_out_of_range_changes_no_weight_and_halves_the_scale() -> None:
    model = Line()
    calls = 0

    def burst(gradient: torch.Tensor) -> torch.Tensor:
        nonlocal calls
        calls += 1
        return gradient * float("inf") if calls == 2 else gradient

    model.weight.register_hook(burst)
    said: list[dict[str, float]] = []
    runner, hook = opened(model, SGD, half=HALF, said=said)
    assert hook is not None
    scales, weights = [hook.loss_scaler.get_scale()], [model.weight.detach().clone()]
    runner._on_end = lambda _: (
        scales.append(hook.loss_scaler.get_scale()),  # type: ignore[func-returns-value]
        weights.append(model.weight.detach().clone()),  # type: ignore[func-returns-value]
    )
    runner.train_epoch()
    assert scales == [512, 512, 256, 256, 256]
    assert [torch.equal(a, b) for a, b in pairwise(weights)] == [
        False,
        True,
        False,
        False,
    ]


def test_the_scale_outlives_an_interruption(tmp_path: Path) -> None:
    inputs = FitInputs(config=mask_rcnn(), categories=VESSEL, seed=0)
    model = Line()
    runner, hook = opened(model, SGD, half=HALF)
    assert hook is not None
    runner.train_epoch()
    hook.loss_scaler.update(64.0)
    progress = Progress(tmp_path / "checkpoints")
    state: dict[str, Any] = hook.loss_scaler.state_dict()
    progress.save(model, runner.optimizer, inputs, is_best=False, loss_scaler=state, recorded=0)
    _, _, found = resume(NullRecorder(tmp_path / "again"), progress.last, inputs)
    _, other = opened(Line(), SGD, half=HALF)
    assert other is not None
    other.loss_scaler.load_state_dict(found["loss_scaler"])
    assert other.loss_scaler.state_dict() == state
    assert other.loss_scaler.get_scale() == 64


def cbnet() -> dict[str, Any]:
    """Two small Swins, with the recipe's heads and losses."""
    model = load_config_file(CELLS / "cbnet.py")["model"]
    model["backbone"] |= {"embed_dim": 8, "num_heads": [1, 1, 2, 4]}
    model["neck"] |= {"in_channels": [8, 16, 32, 64]}
    return {**mask_rcnn(), "model": model}


@pytest.mark.parametrize("network", [mask_rcnn, htc, cbnet])
def test_losses_and_gradients_follow_those_of_single_precision(
    network: Callable[[], dict[str, Any]], tiles: tuple[Path, Annotations]
) -> None:
    losses, lengths, types = [], [], []
    for half in (None, HALF):
        config = {**network(), "optimizer": {"type": "SGD", "lr": 1e-3}, "lr_config": None}
        seed_everything(0)
        model = build_detector(config, 1)
        model.init_weights()
        seen: set[torch.dtype] = set()
        model.neck.register_forward_hook(lambda *parts, seen=seen: seen.update(map_types(parts[-1])))
        said: list[dict[str, float]] = []
        runner = EpochRunner(
            model,
            optimizer=build_optimizer(model, config),
            max_epochs=1,
            device=torch.device("cpu"),
            seed=3,
            on_iteration=lambda values, *_, said=said: said.append(values),
        )
        register_hooks(runner, config, half)
        samples = TrainingSamples(
            tiles[1], filter_images(tiles[1]).rows, tiles[0], config["train_pipeline"], 3
        )
        runner.start(open_loader(samples, EpochOrder(np.zeros(4, bool), batch=2, seed=3), workers=0))
        runner.train_epoch()
        losses.append([values["loss"] for values in said])
        lengths.append([values["grad_norm"] for values in said])
        types.append(seen)
        assert {value.dtype for value in model.parameters()} == {torch.float32}
    assert types == [{torch.float32}, {torch.float16}]
    assert losses[1] == pytest.approx(losses[0], rel=0.01)
    assert lengths[1] == pytest.approx(lengths[0], rel=0.05)
    assert losses[0] != losses[1]


def map_types(maps: Any) -> set[torch.dtype]:
    """Types of a neck's maps, of one pyramid or two."""
    if isinstance(maps, torch.Tensor):
        return {maps.dtype}
    return {kind for part in maps for kind in map_types(part)}
