"""Detectors that learn from assistant and lead."""

import copy
from typing import Any

import pytest
import torch
from mmdet.models.detectors import HybridTaskCascade

from hubmap_ml.models import architectures, build_detector
from tests.detectors import CHANNELS, cascade, htc, mask_rcnn
from tests.models.batches import batch

BACKBONE = {
    "type": "CBSwinTransformer",
    "embed_dim": CHANNELS,
    "depths": [1, 1, 1, 1],
    "num_heads": [1, 1, 2, 2],
    "window_size": 3,
    "drop_path_rate": 0.0,
}


def composite(config: dict[str, Any]) -> dict[str, Any]:
    config = copy.deepcopy(config)
    config["model"]["backbone"] = dict(BACKBONE)
    config["model"]["neck"] = {**config["model"]["neck"], "type": "CBFPN"}
    return config


@pytest.mark.parametrize("config", [mask_rcnn, cascade, htc])
def test_both_pyramids_teach_the_heads(config: Any) -> None:
    model = build_detector(composite(config()), 1).train()
    assert isinstance(model, architectures.two_pyramids.TwoPyramids)
    torch.manual_seed(0)
    losses = model.forward_train(**batch())
    plain = build_detector(config(), 1).train().forward_train(**batch())
    names = [f"{key}0_w0.5" if "loss" in key else f"{key}0" for key in plain] + [f"{key}1" for key in plain]
    assert set(losses) == set(names)
    assert list(losses)[:2] == ["loss_rpn_cls0_w0.5", "loss_rpn_bbox0_w0.5"]
    assert list(losses)[2:4] == ["loss_rpn_cls1", "loss_rpn_bbox1"]
    model._parse_losses(losses)[0].backward()
    assert model.backbone.cb_modules[0].patch_embed.proj.weight.grad.abs().sum() > 0


def test_weights_multiply_every_value_and_name_the_losses() -> None:
    model = build_detector(composite(mask_rcnn()), 1).eval()  # no draws but the samplers'
    model.neck.train()
    found = []
    for weights in ((1.0, 1.0), (0.25, 2.0)):
        torch.manual_seed(0)
        found.append(model.forward_train(**batch(), loss_weights=weights))
    equal, other = found
    assert "loss_cls0" in equal
    for key in ("loss_cls", "loss_mask"):
        torch.testing.assert_close(other[f"{key}0_w0.25"], 0.25 * equal[f"{key}0"])
        torch.testing.assert_close(other[f"{key}1_w2.0"], 2 * equal[f"{key}1"])
    torch.testing.assert_close(other["acc0"], 0.25 * equal["acc0"])
    torch.testing.assert_close(other["loss_rpn_cls0_w0.25"][0], 0.25 * equal["loss_rpn_cls0"][0])


def test_a_single_pyramid_is_mmdets_own_detector() -> None:
    config = htc()["model"]
    config = {**config, "type": "TwoPyramidHybridTaskCascade"}
    own, other = build_detector({"model": config}, 1).train(), build_detector(htc(), 1).train()
    assert type(other) is HybridTaskCascade
    other.load_state_dict(own.state_dict())
    torch.manual_seed(0)
    found = own.forward_train(**batch())
    torch.manual_seed(0)
    wanted = other.forward_train(**batch())
    assert list(found) == list(wanted)
    for key, value in wanted.items():
        torch.testing.assert_close(found[key], value)


def test_only_the_leads_pyramid_predicts() -> None:
    model = build_detector(composite(mask_rcnn()), 1).eval()
    given = batch()
    with torch.no_grad():
        before = model.extract_feat(given["img"])
        assert [one.shape[-1] for one in before] == [16, 8, 4, 2]
        assert len(model.simple_test(given["img"], given["img_metas"], rescale=True)) == 1
