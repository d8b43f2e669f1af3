"""Losses count as the member says; what is logged of each is what enters the sum, and none is left out."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from hubmap_ml.instances import Annotations
from hubmap_ml.models import build_detector
from hubmap_ml.spec import InputError, NullRecorder
from hubmap_ml.spec.loss_weights import decaying_losses
from hubmap_ml.training import FitData, FitInputs, open_trainer
from hubmap_ml.training.mmdet.batches import collate
from hubmap_ml.training.mmdet.dataset import TrainingSamples, filter_images
from tests.detectors import VESSEL, htc, mask_rcnn, vessels

fit = open_trainer("mmdet")


@pytest.fixture(scope="module")
def tiles(tmp_path_factory: Any) -> tuple[Path, Annotations]:
    folder = tmp_path_factory.mktemp("tiles")
    return folder, vessels(folder, 2)


def losses(
    tiles: tuple[Path, Annotations], config: dict[str, Any], folder: Path, **weights: Any
) -> dict[str, float]:
    """All that is logged of a training of two epochs with one iteration each and no rate: its weights stay."""
    config = {
        **config,
        "optimizer": {"type": "SGD", "lr": 0.0},
        "runner": {"type": "EpochBasedRunner", "max_epochs": 2},
        **weights,
    }
    data = FitData(train=tiles[1], valid=None, image_root=tiles[0])
    result = fit(FitInputs(config=config, categories=VESSEL, seed=3), data, NullRecorder(folder))
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert len(result.history) == 2
    return {f"{line['key']}@{line['step']}": line["value"] for line in lines}


@pytest.mark.parametrize("network", ["mask_rcnn", "htc"])
def test_each_term_is_logged_as_weighed_and_the_sum_is_all_of_them(
    tiles: tuple[Path, Annotations], tmp_path: Path, network: str
) -> None:
    config = mask_rcnn() if network == "mask_rcnn" else htc()
    rules = {"loss_cls": {"start": 1.0, "end": 0.25}, "loss_mask": [2.0, 3.0], "loss_rpn_bbox": 0.0}
    plain = losses(tiles, config, tmp_path / "plain")
    weighed = losses(tiles, config, tmp_path / "weighed", loss_weights=rules)
    for step, weights in ((1, (1.0, 2.0, 0.0)), (2, (0.25, 3.0, 0.0))):
        factors = dict(zip(rules, weights, strict=True))
        for name, factor in factors.items():
            assert weighed[f"train/loss_weight/{name}@{step}"] == factor
        terms = [
            key
            for key in plain
            if key.endswith(f"@{step}") and "loss_" in key and not key.endswith(f"/loss@{step}")
        ]
        assert len(terms) == (5 if network == "mask_rcnn" else 11)
        for key in terms:
            base = key.split("@")[0].rsplit("/", 1)[1].rsplit(".", 1)[-1]
            assert weighed[key] == pytest.approx(factors.get(base, 1.0) * plain[key], rel=1e-5)
        assert weighed[f"train/loss@{step}"] == pytest.approx(sum(weighed[key] for key in terms), rel=1e-5)
        assert plain[f"train/loss@{step}"] == pytest.approx(sum(plain[key] for key in terms), rel=1e-5)


def test_a_name_of_no_term_is_one_line(tiles: tuple[Path, Annotations], tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match=r"loss_weights\.loss_semantic_seg stands for no term .* loss_rpn_cls"
    ):
        losses(tiles, mask_rcnn(), tmp_path, loss_weights=decaying_losses(2, semantic=True))


def terms(tiles: tuple[Path, Annotations], config: dict[str, Any]) -> dict[str, float]:
    """The terms of one batch, with the same weights and draws whatever the configuration says."""
    torch.manual_seed(0)
    model: nn.Module = build_detector(config, 1).train()
    samples = TrainingSamples(tiles[1], filter_images(tiles[1]).rows, tiles[0], config["train_pipeline"], 3)
    torch.manual_seed(1)
    np.random.seed(1)  # noqa: NPY002  (mmdet's samplers of regions)
    return model.train_step(collate([samples[(0, 0)], samples[(0, 1)]]), None)["log_vars"]


def test_the_weight_of_the_mask_loss_and_of_the_stages_multiply_their_terms(
    tiles: tuple[Path, Annotations],
) -> None:
    plain = terms(tiles, htc())
    heavier = htc()
    for head in heavier["model"]["roi_head"]["mask_head"]:
        head["loss_mask"]["loss_weight"] = 2.0
    changed = terms(tiles, heavier)
    staged = htc()
    staged["model"]["roi_head"]["stage_loss_weights"] = [1, 0.5, 0.75]
    other = terms(tiles, staged)
    for name, value in plain.items():
        if "loss" in name and name != "loss":
            assert changed[name] == pytest.approx((2 if "mask" in name else 1) * value, rel=1e-5)
            assert other[name] == pytest.approx((3 if name.startswith("s2.") else 1) * value, rel=1e-5)
    assert any(value > 0 for name, value in plain.items() if name.startswith("s2."))
