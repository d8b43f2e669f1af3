"""Detectors are mmdet's, with the data's number of classes in every head that counts them."""

import copy
from typing import Any

import pytest
import torch

from hubmap_ml.models import build_detector
from hubmap_ml.models.detectors import without_pretrained
from hubmap_ml.spec import InputError
from tests.detectors import CHANNELS, cascade, htc, mask_rcnn


@pytest.mark.parametrize("build", [mask_rcnn, cascade, htc])
@pytest.mark.parametrize("n_categories", [1, 3])
def test_every_head_counts_the_datas_classes(build: Any, n_categories: int) -> None:
    head = build_detector(build(), n_categories).roi_head
    boxes = head.bbox_head if build is not mask_rcnn else [head.bbox_head]
    masks = head.mask_head if build is not mask_rcnn else [head.mask_head]
    assert [one.fc_cls.out_features for one in boxes] == [n_categories + 1] * len(boxes)
    assert [one.conv_logits.out_channels for one in masks] == [n_categories] * len(masks)


def test_a_semantic_branch_keeps_the_classes_of_its_own_maps() -> None:
    head = build_detector(htc(semantic=True), 2).roi_head
    assert head.semantic_head.conv_logits.out_channels == 5
    assert [one.num_classes for one in head.bbox_head] == [2, 2, 2]


def test_one_process_normalises_without_synchronising() -> None:
    model = build_detector(mask_rcnn(), 1)
    kinds = {type(module).__name__ for module in model.modules() if "BatchNorm" in type(module).__name__}
    assert kinds == {"BatchNorm2d"}
    assert "backbone.bn1.running_mean" in model.state_dict()


def test_building_leaves_the_configuration_as_it_was() -> None:
    config = htc()
    before = copy.deepcopy(config)
    build_detector(config, 4)
    assert config == before


def test_an_unknown_type_or_argument_is_one_line() -> None:
    config = mask_rcnn()
    config["model"]["neck"]["type"] = "PyramidOfGiza"
    with pytest.raises(InputError, match="PyramidOfGiza"):
        build_detector(config, 1)
    config = mask_rcnn()
    config["model"]["roi_head"]["mask_head"]["sharpness"] = 3
    with pytest.raises(InputError, match="sharpness"):
        build_detector(config, 1)
    with pytest.raises(InputError, match="at least one category"):
        build_detector(mask_rcnn(), 0)


def test_pretrained_initialisations_can_be_taken_out() -> None:
    config = mask_rcnn()
    config["model"]["backbone"]["init_cfg"] = {"type": "Pretrained", "checkpoint": "torchvision://resnet18"}
    config["model"]["neck"]["init_cfg"] = {"type": "Xavier", "layer": "Conv2d"}
    model = without_pretrained(config)["model"]
    assert "init_cfg" not in model["backbone"]
    assert model["neck"]["init_cfg"]["type"] == "Xavier"
    assert "init_cfg" in config["model"]["backbone"]


def test_a_built_network_trains_a_step() -> None:
    torch.manual_seed(0)
    model = build_detector(htc(), 1)
    assert sum(parameter.numel() for parameter in model.parameters()) < 300_000
    assert model.backbone.conv1.out_channels == CHANNELS
