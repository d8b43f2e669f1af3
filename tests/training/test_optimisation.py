"""Schedules, run through the training's own runner, give the rates of the reference's logs; groups decay by layer."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from hubmap_ml.models import build_detector
from hubmap_ml.spec import InputError, load_config_file
from hubmap_ml.training.mmdet.layer_decay import layer_numbers
from hubmap_ml.training.mmdet.optimisation import build_optimizer, group_table
from hubmap_ml.training.mmdet_log import read_mmdet_log
from tests.reference_logs import CBNET_STAGE1, R50_STAGE2, needs_logs
from tests.training.learning_rates import learning_rates
from tests.training.lines import Line, opened

MEMBERS = Path(__file__).parents[2] / "experiments" / "hubmap2023" / "members"


def recipe(name: str, **changes: Any) -> dict[str, Any]:
    config = load_config_file(MEMBERS / f"{name}.py")
    return {key: {**config[key], **changes.get(key, {})} for key in ("optimizer", "lr_config", "runner")}


@pytest.mark.parametrize(
    ("member", "rate"),
    [("vit_ps50_stage2", 7.688e-4), ("vit_plain_stage2", 2.384e-3), ("detectors_r50_stage2", 1.198e-3)],
)
def test_the_reference_logged_this_rate_at_its_20th_iteration(member: str, rate: float) -> None:
    assert learning_rates(recipe(member), epoch_length=56, epochs=1)[19] == pytest.approx(rate, abs=5e-7)


@needs_logs
@pytest.mark.parametrize(
    ("member", "path"), [("cbnet_stage1", CBNET_STAGE1), ("detectors_r50_stage2", R50_STAGE2)]
)
def test_every_rate_of_a_reference_log_is_ours(member: str, path: Path) -> None:
    log = read_mmdet_log(path)
    rates = learning_rates(recipe(member), epoch_length=log.epoch_length)
    assert len(rates) == log.total_iterations
    for line in log.iterations:
        assert f"{rates[log.step(line) - 1]:.3e}" == f"{line.values['lr']:.3e}"


@pytest.mark.parametrize(
    "member", ["vit_ps50_stage1", "vit_ps60_stage2", "cbnet_stage1", "detectors_x101_stage2"]
)
def test_a_cosine_over_all_iterations_ends_above_its_floor(member: str) -> None:
    """lr(i) = cos(i) (1 - (1 - i/W)(1 - ratio)), i from 0; cos goes from the base rate to the floor."""
    config = recipe(member, runner={"max_epochs": 3})
    base, floor = config["optimizer"]["lr"], config["lr_config"]["min_lr"]
    warm = config["lr_config"]["warmup_iters"]
    rates = np.array(learning_rates(config, epoch_length=150))
    i = np.arange(450)
    cosine = floor + (base - floor) * (1 + np.cos(np.pi * i / 450)) / 2
    expected = np.where(i < warm, cosine * (1 - (1 - i / warm) * (1 - 0.001)), cosine)
    assert rates == pytest.approx(expected, rel=1e-12)
    assert rates[-1] > floor
    assert np.all(np.diff(rates[warm:]) < 0)


@pytest.mark.parametrize(
    ("lr_config", "expected"),
    [
        ({"policy": "CosineAnnealing", "by_epoch": True, "min_lr": 0.1}, [1, 1, 0.775, 0.775, 0.325, 0.325]),
        (
            {"policy": "poly", "power": 1, "min_lr": 0, "by_epoch": False},
            [1, 5 / 6, 4 / 6, 3 / 6, 2 / 6, 1 / 6],
        ),
        ({"policy": "step", "step": [1, 2], "gamma": 0.1}, [1, 1, 0.1, 0.1, 0.01, 0.01]),
    ],
)
def test_rates_by_epoch_linear_and_in_steps(lr_config: dict[str, Any], expected: list[float]) -> None:
    config = {
        "optimizer": {"type": "SGD", "lr": 1.0},
        "lr_config": lr_config,
        "runner": {"type": "EpochBasedRunner", "max_epochs": 3},
    }
    assert learning_rates(config, epoch_length=2) == pytest.approx(expected)


@pytest.mark.parametrize("clip", [None, {"max_norm": 0.1}])
def test_gathering_gradients_over_batches_is_one_larger_batch(clip: dict[str, float] | None) -> None:
    ends = []
    for batch, gathered in ((4, 1), (2, 2), (1, 4)):
        model = Line()
        config = {
            "optimizer": {"type": "SGD", "lr": 0.1, "momentum": 0.9, "weight_decay": 0.01},
            "optimizer_config": {"grad_clip": clip}
            | (
                {"type": "GradientCumulativeOptimizerHook", "cumulative_iters": gathered}
                if gathered > 1
                else {}
            ),
        }
        runner, _ = opened(model, config, batch=batch)
        runner.train_epoch()
        ends.append(model.weight.detach())
    assert not torch.equal(ends[0], Line().weight)
    torch.testing.assert_close(ends[1], ends[0], rtol=1e-12, atol=0)
    torch.testing.assert_close(ends[2], ends[0], rtol=1e-12, atol=0)


@pytest.mark.parametrize("member", ["cbnet_stage2", "vit_ps50_stage2", "detectors_r50_stage1"])
def test_gradients_longer_than_35_are_cut_to_it_and_shorter_ones_stay(member: str) -> None:
    clip = load_config_file(MEMBERS / f"{member}.py")["optimizer_config"]
    for factor, cut in ((1.0, False), (1e4, True)):
        said: list[dict[str, float]] = []
        model = Line(factor)
        config = {"optimizer": {"type": "SGD", "lr": 1e-3}, "optimizer_config": clip}
        runner, _ = opened(model, config, batch=16, said=said)
        runner.train_epoch()
        free = Line(factor)
        free.train_step({"x": torch.arange(16).double() / 4}, None)["loss"].backward()
        length = free.weight.grad.norm()
        assert (length > 35) == cut
        assert said[0]["grad_norm"] == pytest.approx(length.item())  # logged as it was
        step = (free.weight - model.weight) / 1e-3
        expected = free.weight.grad * (35 / length if cut else 1)
        torch.testing.assert_close(step, expected, rtol=1e-5, atol=0)


def test_amsgrad_divides_by_the_largest_second_moment_so_far() -> None:
    """Reddi et al. 2018 (Algorithm 2), with AdamW's decay apart from the gradient."""
    rate, decay, (b1, b2) = 0.1, 0.05, (0.9, 0.6)
    model = Line()
    optimizer = {"type": "AdamW", "lr": rate, "amsgrad": True, "weight_decay": decay, "betas": (b1, b2)}
    runner, _ = opened(model, {"optimizer": optimizer}, batch=2)
    expected = Line().weight.detach().clone()
    m = v = largest = torch.zeros(2, dtype=torch.float64)
    plain = 0
    for step in range(1, 9):
        here = Line()
        with torch.no_grad():
            here.weight.copy_(expected)
        x = torch.arange(2 * step - 2, 2 * step).double() / 4
        here.train_step({"x": x}, None)["loss"].backward()
        gradient = here.weight.grad
        m, v = b1 * m + (1 - b1) * gradient, b2 * v + (1 - b2) * gradient**2
        plain += int((v < largest).any())
        largest = torch.maximum(largest, v)
        expected *= 1 - rate * decay
        size = (largest / (1 - b2**step)).sqrt() + 1e-8
        expected -= rate * (m / (1 - b1**step)) / size
    assert plain > 0  # there it differs from AdamW
    runner.train_epoch()
    torch.testing.assert_close(model.weight.detach(), expected, rtol=1e-10, atol=0)


def swin(**optimizer: Any) -> tuple[nn.Module, torch.optim.Optimizer]:
    """Two pyramids of Swins with blocks 1, 1, 2, 1, and the optimiser of their layers."""
    model = nn.Module()
    config = load_config_file(MEMBERS / "cbnet_stage1.py")
    config["model"]["backbone"] |= {"embed_dim": 8, "depths": [1, 1, 2, 1], "num_heads": [1, 2, 4, 8]}
    config["model"]["neck"] |= {"in_channels": [8, 16, 32, 64]}
    with torch.device("meta"):
        model = build_detector(config, 1)
    settings = {"constructor": "LayerDecayOptimizerConstructor", "paramwise_cfg": {"layer_decay_rate": 0.5}}
    return model, build_optimizer(
        model, {"optimizer": {"type": "AdamW", "lr": 1e-3, "weight_decay": 0.05, **settings, **optimizer}}
    )


def test_layers_nearer_to_the_image_learn_more_slowly() -> None:
    model, optimizer = swin(amsgrad=True)
    names = {id(value): name for name, value in model.named_parameters()}
    rate = {names[id(v)]: group["lr"] for group in optimizer.param_groups for v in group["params"]}
    assert rate.keys() == {name for name, value in model.named_parameters() if value.requires_grad}
    for pyramid in (0, 1):
        stage = f"backbone.cb_modules.{pyramid}.layers"
        assert rate[f"{stage}.0.blocks.0.attn.qkv.weight"] == pytest.approx(1e-3 * 0.5**5)
        assert rate[f"{stage}.0.downsample.reduction.weight"] == pytest.approx(1e-3 * 0.5**5)
        assert rate[f"{stage}.2.blocks.1.mlp.fc1.bias"] == pytest.approx(1e-3 * 0.5**2)
        assert rate[f"{stage}.3.blocks.0.norm1.weight"] == pytest.approx(1e-3 * 0.5)
    assert rate["backbone.cb_modules.0.patch_embed.proj.weight"] == pytest.approx(1e-3 * 0.5**6)
    assert rate["backbone.cb_linears.0.1.weight"] == 1e-3
    assert rate["roi_head.bbox_head.0.fc_cls.weight"] == 1e-3
    assert all(group["amsgrad"] for group in optimizer.param_groups)


def test_biases_and_vectors_do_not_decay() -> None:
    _, optimizer = swin()
    for group in optimizer.param_groups:
        for value in group["params"]:
            assert group["weight_decay"] == (0.05 if value.ndim > 1 else 0.0)


def test_the_layers_of_beit_are_its_blocks() -> None:
    names = [
        "backbone.patch_embed.proj.weight",
        "backbone.blocks.0.gamma_1",
        "backbone.blocks.23.attn.qkv.weight",
        *(f"backbone.blocks.{i}.norm1.bias" for i in range(1, 23)),
        "backbone.interactions.0.injector.gamma",
        "backbone.norm1.weight",
        "neck.0.norm1.weight",
        "roi_head.blocks.0.weight",
    ]
    layers, count = layer_numbers(names)
    assert count == 26
    assert layers["backbone.patch_embed.proj.weight"] == 0
    assert (layers["backbone.blocks.0.gamma_1"], layers["backbone.blocks.23.attn.qkv.weight"]) == (1, 24)
    assert {layers[name] for name in names[-4:]} == {25}


def test_without_a_rate_two_groups_remain() -> None:
    model, optimizer = swin(paramwise_cfg={"layer_decay_rate": 1.0})
    table = group_table(model, optimizer)
    assert [(row["lr"], row["weight_decay"]) for row in table] == [(1e-3, 0.0), (1e-3, 0.05)]
    assert sum(row["values"] for row in table) == sum(value.numel() for value in model.parameters())


def test_the_table_counts_what_learns_and_what_is_frozen() -> None:
    model = nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 1))
    model[0].requires_grad_(False)
    config = {
        "optimizer": {
            "type": "SGD",
            "lr": 0.1,
            "paramwise_cfg": {"bias_decay_mult": 0.0},
            "weight_decay": 0.5,
        }
    }
    assert group_table(model, build_optimizer(model, config)) == [
        {"lr": 0.1, "weight_decay": 0.0, "tensors": 1, "values": 1, "first": "1.bias"},
        {"lr": 0.1, "weight_decay": 0.5, "tensors": 1, "values": 2, "first": "1.weight"},
        {"lr": None, "weight_decay": None, "tensors": 2, "values": 8, "first": "0.weight"},
    ]


@pytest.mark.parametrize(
    ("paramwise", "said"),
    [
        ({"layer_decay_rate": 0}, "must be over 0 and at most 1, not 0"),
        ({"layer_decay_rate": True}, "must be over 0"),
        ({"decay_rate": 0.9}, "paramwise_cfg.decay_rate is unknown"),
        ({"layer_decay_rate": 0.9}, "numbered blocks"),
    ],
)
def test_a_bad_layer_decay_is_one_line(paramwise: dict[str, Any], said: str) -> None:
    model = nn.Sequential(nn.Linear(3, 2))
    optimizer = {"type": "SGD", "lr": 0.1, "constructor": "LayerDecayOptimizerConstructor"}
    with pytest.raises(InputError, match=said) as caught:
        build_optimizer(model, {"optimizer": {**optimizer, "paramwise_cfg": paramwise}})
    assert "\n" not in str(caught.value)


def test_an_unknown_policy_is_one_line() -> None:
    with pytest.raises(InputError, match="schedule cannot be built"):
        learning_rates(recipe("cbnet_stage1", lr_config={"policy": "sawtooth"}), epoch_length=2)
