"""Activations computed again in the backward pass (`with_cp`) change no gradient of a detector."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from hubmap_ml.instances import Annotations
from hubmap_ml.models import build_detector
from hubmap_ml.models.architectures import ExtraAttention
from hubmap_ml.training.mmdet.batches import collate
from hubmap_ml.training.mmdet.dataset import TrainingSamples, filter_images
from hubmap_ml.training.mmdet.draws import seed_everything
from tests.detectors import mask_rcnn, vessels

SWIN = {
    "type": "SwinTransformer",
    "embed_dims": 8,
    "depths": [1, 1, 2, 1],
    "num_heads": [1, 2, 2, 4],
    "window_size": 3,
    "drop_path_rate": 0.5,
}
BACKBONES: dict[str, dict[str, Any]] = {
    "resnet": {},
    "resnet, frozen": {"frozen_stages": 1},
    "swin": SWIN,
    "swin, frozen": {**SWIN, "frozen_stages": 2},
}


@pytest.fixture(scope="module")
def tiles(tmp_path_factory: Any) -> tuple[Path, Annotations]:
    folder = tmp_path_factory.mktemp("tiles")
    return folder, vessels(folder, 2)


@pytest.mark.parametrize("drop_path", [0.0, 0.5])
def test_gradients_of_the_extra_attention_are_the_same(drop_path: float) -> None:
    found = []
    for again in (False, True):
        seed_everything(0)
        layer = ExtraAttention([8, 8], 2, drop_path=drop_path, with_cp=again).train()
        draws = torch.Generator().manual_seed(1)
        maps = [torch.randn(2, 8, 6, 7, generator=draws), torch.randn(2, 8, 3, 4, generator=draws)]
        seed_everything(2)
        layer(maps)[-1].square().sum().backward()
        found.append({name: value.grad for name, value in layer.named_parameters()})
    for name, value in found[0].items():
        torch.testing.assert_close(found[1][name], value, msg=name)


def gradients(
    tiles: tuple[Path, Annotations], backbone: dict[str, Any], *, again: bool
) -> dict[str, torch.Tensor]:
    config = mask_rcnn()
    own = {} if "type" in backbone else config["model"]["backbone"]
    config["model"]["backbone"] = {**own, **backbone, "with_cp": again}
    seed_everything(0)
    model = build_detector(config, 1)
    model.init_weights()
    model.train()
    samples = TrainingSamples(tiles[1], filter_images(tiles[1]).rows, tiles[0], config["train_pipeline"], 3)
    batch = collate([samples[(0, 0)], samples[(0, 1)]])
    calls = 0

    def counted(*_: Any) -> None:
        nonlocal calls
        calls += 1

    for name, module in model.backbone.named_modules():
        if name in ("layer3.0.conv1", "stages.2.blocks.1.attn"):
            module.register_forward_hook(counted)
    seed_everything(1)
    model.train_step(batch, None)["loss"].backward()
    assert calls == (2 if again else 1)
    return {name: value.grad for name, value in model.named_parameters() if value.grad is not None}


@pytest.mark.parametrize("name", BACKBONES)
def test_gradients_are_the_same(tiles: tuple[Path, Annotations], name: str) -> None:
    plain = gradients(tiles, BACKBONES[name], again=False)
    again = gradients(tiles, BACKBONES[name], again=True)
    assert plain.keys() == again.keys()
    assert any(np.abs(value.numpy()).max() > 0 for key, value in plain.items() if key.startswith("backbone."))
    for key, value in plain.items():
        torch.testing.assert_close(again[key], value, rtol=1e-5, atol=1e-7, msg=key)
