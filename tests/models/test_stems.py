"""A backbone whose stem keeps the full resolution gives maps of strides 2, 4, 8, 16 with the ordinary weights."""

import copy
from typing import Any

import pytest
import torch

from hubmap_ml.models import build_detector
from hubmap_ml.spec import InputError
from tests.detectors import CHANNELS, mask_rcnn


def fine(backbone: dict[str, Any] | None = None, channels: tuple[int, ...] | None = None) -> dict[str, Any]:
    """A Mask R-CNN on maps of strides 2, 4, 8, 16."""
    config = copy.deepcopy(mask_rcnn())
    model = config["model"]
    model["backbone"] = {**(backbone or model["backbone"]), "stem_stride": 1}
    if channels is not None:
        model["neck"]["in_channels"] = list(channels)
    model["rpn_head"]["anchor_generator"]["strides"] = [2, 4, 8, 16]
    for extractor in ("bbox_roi_extractor", "mask_roi_extractor"):
        model["roi_head"][extractor]["featmap_strides"] = [2, 4, 8, 16]
    return config


RESNETS = [
    {"type": "ResNet", "depth": 18, "base_channels": CHANNELS},
    {"type": "ResNet", "depth": 18, "base_channels": CHANNELS, "deep_stem": True},
    {"type": "ResNeXt", "depth": 50, "groups": 2, "base_width": 2, "base_channels": CHANNELS},
]


@pytest.mark.parametrize("backbone", RESNETS)
def test_maps_are_twice_as_fine_and_weights_the_same(backbone: dict[str, Any]) -> None:
    channels = tuple((4 if backbone["depth"] == 50 else 1) * CHANNELS * 2**stage for stage in range(4))
    config = fine(backbone, channels)
    model = build_detector(config, 1).eval()
    assert config["model"]["backbone"]["stem_stride"] == 1  # the configuration is left as it was
    maps = model.extract_feat(torch.zeros(1, 3, 64, 96))
    assert [tuple(one.shape[-2:]) for one in maps] == [(64 // s, 96 // s) for s in (2, 4, 8, 16)]
    anchors = model.rpn_head.prior_generator.grid_priors([one.shape[-2:] for one in maps], device="cpu")
    assert [len(one) for one in anchors] == [3 * one[0, 0].numel() for one in maps]
    coarse = copy.deepcopy(config)
    coarse["model"]["backbone"]["stem_stride"] = 2
    coarse["model"]["rpn_head"]["anchor_generator"]["strides"] = [4, 8, 16, 32]
    ordinary = build_detector(coarse, 1)
    assert ordinary.state_dict().keys() == model.state_dict().keys()
    assert ordinary.extract_feat(torch.zeros(1, 3, 64, 96))[0].shape[-2:] == (16, 24)


def test_anchors_of_another_stride_are_refused() -> None:
    config = fine()
    config["model"]["rpn_head"]["anchor_generator"]["strides"] = [4, 8, 16, 32]
    with pytest.raises(InputError, match="first map of stride 2, and the anchors begin with stride 4"):
        build_detector(config, 1)


def test_what_has_no_stem_is_refused() -> None:
    swin = {"type": "SwinTransformer", "embed_dims": 8, "depths": (1, 1, 1, 1), "num_heads": (1, 1, 1, 1)}
    with pytest.raises(InputError, match="SwinTransformer has no stem"):
        build_detector(fine(swin, (8, 16, 32, 64)), 1)
    config = fine()
    config["model"]["backbone"]["stem_stride"] = 3
    with pytest.raises(InputError, match="is 3; it is 1 or 2"):
        build_detector(config, 1)
