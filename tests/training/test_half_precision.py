"""What a CPU can say of half precision: the scaling of losses, with mmcv's hook and torch's scaler at work.

That activations really are of half precision needs a GPU (`auto_fp16` asks CUDA), and is not tested here.
"""

from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import mmcv.runner.hooks.optimizer as hooks
import pytest
import torch

from hubmap_ml.spec import NullRecorder, load_config_file
from hubmap_ml.training import FitInputs
from hubmap_ml.training.mmdet.progress import Progress, resume
from tests.detectors import VESSEL, mask_rcnn
from tests.training.lines import Line, opened

MEMBERS = Path(__file__).parents[2] / "experiments" / "hubmap2023" / "members"
HALF = load_config_file(MEMBERS / "cbnet_stage2.py")["fp16"]
SGD = {"optimizer": {"type": "SGD", "lr": 0.1}}
GATHERING = {"type": "GradientCumulativeOptimizerHook", "cumulative_iters": 2}


@pytest.fixture(autouse=True)
def scaler_on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """The hook asks for CUDA's scaler, which does nothing without a GPU; torch has the same one for the CPU."""
    monkeypatch.setattr(hooks, "GradScaler", partial(torch.amp.GradScaler, "cpu"))


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
