"""Published weights find their places in our networks, whatever they were called and whatever size they had."""

import copy
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import torchvision
from mmdet.models.backbones import SwinTransformer
from timm.models.beit import Beit
from timm.models.swin_transformer import SwinTransformer as TimmSwin
from torch import Tensor, nn

from hubmap_ml.models import build_detector, import_weights
from hubmap_ml.models.architectures import BEiTAdapter, CBSwinTransformer
from hubmap_ml.models.architectures.swin import Swin, SwinShape
from hubmap_ml.models.resizing import resized_table
from hubmap_ml.spec import InputError
from tests.detectors import htc, mask_rcnn

BEIT = {
    "type": "BEiTAdapter",
    "interaction_indexes": [[0, 0], [1, 1]],
    "conv_inplane": 4,
    "n_points": 2,
    "deform_num_heads": 2,
    "embed_dim": 8,
    "depth": 2,
    "num_heads": 2,
    "qkv_bias": True,
    "window_attn": True,
    "window_size": [4, 6],
    "init_values": 1e-6,
}


class Only(nn.Module):
    """A detector of which there is a backbone alone."""

    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone


def beit() -> Only:
    return Only(BEiTAdapter(**{key: value for key, value in BEIT.items() if key != "type"}))


def drawn(state: dict[str, Tensor], seed: int = 0) -> dict[str, Tensor]:
    draws = torch.Generator().manual_seed(seed)
    return {
        key: torch.randn(value.shape, generator=draws) if value.is_floating_point() else value
        for key, value in state.items()
    }


def saved(path: Path, state: Any) -> Path:
    torch.save(state, path)
    return path


@pytest.mark.parametrize("prefix", ["", "module."])
def test_a_detector_of_other_classes_keeps_its_own_last_layers(tmp_path: Path, prefix: str) -> None:
    state = drawn(build_detector(htc(semantic=True), 80).state_dict())
    file = saved(
        tmp_path / "htc.pth", {"state_dict": {f"{prefix}{key}": value for key, value in state.items()}}
    )
    model = build_detector(htc(), 1)
    report = import_weights(model, file)
    assert set(report.reinitialised) == {
        f"roi_head.{head}_head.{stage}.{layer}.{part}"
        for head, layer in (("bbox", "fc_cls"), ("mask", "conv_logits"))
        for stage in range(3)
        for part in ("weight", "bias")
    }
    assert not report.missing
    assert report.unexpected
    assert all(key.startswith("roi_head.semantic_head.") for key in report.unexpected)
    assert not report.converted
    own = model.state_dict()
    assert all(torch.equal(own[key], state[key]) for key in report.loaded)
    assert report.to_data()["reinitialised"] == list(report.reinitialised)


def test_a_classifier_of_torchvision_becomes_a_backbone(tmp_path: Path) -> None:
    config = mask_rcnn()
    config["model"]["backbone"] = {"type": "ResNet", "depth": 18}
    config["model"]["neck"]["in_channels"] = [64, 128, 256, 512]
    state = torchvision.models.resnet18(weights=None).state_dict()
    model = build_detector(config, 1)
    report = import_weights(model, saved(tmp_path / "resnet18.pth", state))
    assert report.unexpected == ("backbone.fc.bias", "backbone.fc.weight")
    assert all(not key.startswith("backbone.") for key in report.missing)
    assert report.converted == {"names": "'backbone.' put before them"}
    assert torch.equal(model.backbone.layer1[0].conv1.weight, state["layer1.0.conv1.weight"])


def test_plain_weights_start_the_weight_standardisation_of_detectors(tmp_path: Path) -> None:
    config = mask_rcnn()
    config["model"]["backbone"] = {
        "type": "DetectoRS_ResNet",
        "depth": 50,
        "conv_cfg": {"type": "ConvAWS"},
        "sac": {"type": "SAC", "use_deform": True},
        "stage_with_sac": (False, True, True, True),
        "output_img": False,
    }
    config["model"]["neck"]["in_channels"] = [256, 512, 1024, 2048]
    model = build_detector(config, 1)
    state = torchvision.models.resnet50(weights=None).state_dict()
    report = import_weights(model, saved(tmp_path / "resnet50.pth", state))
    conv, weight = model.backbone.layer1[0].conv1, state["layer1.0.conv1.weight"]
    assert "backbone.layer1.0.conv1.weight" in report.loaded
    torch.testing.assert_close(conv.weight_beta.flatten(), weight.flatten(1).mean(1))
    assert (conv.weight_gamma > 0).all()


def test_beit_fills_the_transformer_of_an_adapter(tmp_path: Path) -> None:
    model = beit()
    other = drawn(
        Beit(img_size=64, patch_size=16, embed_dim=8, depth=2, num_heads=2, init_values=0.1).state_dict()
    )
    tables = {
        f"blocks.{block}.attn.relative_position_bias_table": torch.randn(7 * 7 + 3, 2) for block in range(2)
    }
    report = import_weights(model, saved(tmp_path / "beit.pth", {"model": {**other, **tables}}))
    own = model.state_dict()
    assert {key for key in report.missing if ".blocks." in key or ".patch_embed." in key} <= {
        f"backbone.blocks.{block}.attn.relative_position_index" for block in range(2)
    }
    assert "backbone.cls_token" in report.unexpected
    for key in (
        "blocks.1.gamma_2",
        "blocks.0.attn.q_bias",
        "blocks.1.mlp.fc1.weight",
        "patch_embed.proj.bias",
    ):
        assert torch.equal(own[f"backbone.{key}"], other[key]), key
    first, second = (own[f"backbone.blocks.{block}.attn.relative_position_bias_table"] for block in range(2))
    assert torch.equal(first, tables["blocks.0.attn.relative_position_bias_table"][:-3])
    wanted = resized_table(tables["blocks.1.attn.relative_position_bias_table"], 121)
    torch.testing.assert_close(second, wanted)
    assert (
        report.converted["backbone.blocks.1.attn.relative_position_bias_table"] == "52 x 2 resized to 121 x 2"
    )


def test_one_shared_table_serves_all_blocks_and_other_names_are_understood(tmp_path: Path) -> None:
    model = beit()
    table = torch.randn(7 * 7 + 3, 2)
    state = {
        "encoder.rel_pos_bias.relative_position_bias_table": table,
        "encoder.patch_embed.proj.weight": torch.randn(8, 3, 14, 14),
        **{f"encoder.blocks.{block}.ls1.gamma": torch.full((8,), 0.3) for block in range(2)},
        **{f"encoder.blocks.{block}.attn.qkv.weight": torch.randn(24, 8) for block in range(2)},
        **{f"encoder.blocks.{block}.attn.qkv.bias": torch.arange(24.0) for block in range(2)},
    }
    report = import_weights(model, saved(tmp_path / "dino.pth", state))
    own = model.state_dict()
    assert torch.equal(own["backbone.blocks.0.attn.relative_position_bias_table"], table[:-3])
    assert "backbone.blocks.1.attn.relative_position_bias_table" in report.loaded
    assert torch.equal(own["backbone.blocks.1.attn.v_bias"], torch.arange(16.0, 24.0))
    assert torch.equal(own["backbone.blocks.1.gamma_1"], torch.full((8,), 0.3))
    assert (
        report.converted["backbone.patch_embed.proj.weight"] == "8 x 3 x 14 x 14 resized to 8 x 3 x 16 x 16"
    )
    assert report.converted["names"] == "'encoder.' taken off, 'backbone.' put before them"
    assert not report.unexpected


def test_a_bias_of_the_keys_changes_nothing_and_is_left_out(tmp_path: Path) -> None:
    model = beit().eval()
    attention = model.backbone.blocks[0].attn
    bias = torch.randn(24)
    state = {"blocks.0.attn.qkv.weight": torch.randn(24, 8), "blocks.0.attn.qkv.bias": bias}
    import_weights(model, saved(tmp_path / "vit.pth", state))
    tokens = torch.randn(1, 16, 8)
    q, k, v = (tokens @ state["blocks.0.attn.qkv.weight"].T + bias).view(16, 3, 2, 4).permute(1, 2, 0, 3)
    table = attention.relative_position_bias_table[attention.relative_position_index].permute(2, 0, 1)
    wanted = ((q @ k.transpose(1, 2)) * attention.scale + table).softmax(-1) @ v
    wanted = attention.proj(wanted.transpose(0, 1).reshape(1, 16, 8))
    torch.testing.assert_close(attention(tokens), wanted, atol=1e-5, rtol=1e-5)


SWIN: dict[str, Any] = {"embed_dim": 8, "depths": (2, 2), "num_heads": (1, 2), "window_size": 7}


def timm_swin() -> TimmSwin:
    model = TimmSwin(img_size=112, num_classes=3, **SWIN)
    model.load_state_dict(drawn(model.state_dict()))
    return model.eval()


def test_both_of_a_composite_backbone_start_from_one_swin(tmp_path: Path) -> None:
    other = timm_swin()
    model = Only(CBSwinTransformer(out_indices=(0, 1), drop_path_rate=0.0, **SWIN)).eval()
    report = import_weights(model, saved(tmp_path / "swin.pth", {"model": other.state_dict()}))
    missing = {
        key for key in report.missing if "cb_modules" in key and not key.endswith("relative_position_index")
    }
    assert missing == {
        f"backbone.cb_modules.{member}.norm{stage}.{part}"
        for member in range(2)
        for stage in range(2)
        for part in ("weight", "bias")
    }
    assistant, lead = model.backbone.cb_modules
    image = torch.randn(1, 3, 112, 112, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        stages = other.forward_intermediates(image, intermediates_only=True)
        start = assistant.embed(image)
        for member in (assistant, lead):
            for norm, found, wanted in zip((member.norm0, member.norm1), member(start), stages, strict=True):
                plain = norm(wanted.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
                torch.testing.assert_close(found, plain, atol=1e-3, rtol=1e-3)


def test_mmdets_swin_takes_the_first_releases_names_and_another_window(tmp_path: Path) -> None:
    released = drawn(Swin(SwinShape(8, (2, 2), (1, 2), window_size=7), range(2)).state_dict())
    options = {
        "embed_dims": 8,
        "depths": (2, 2),
        "num_heads": (1, 2),
        "out_indices": (0, 1),
        "strides": (4, 2),
    }
    for window in (7, 12):
        model = Only(SwinTransformer(window_size=window, **options))
        report = import_weights(model, saved(tmp_path / "swin.pth", {"model": released}))
        assert not report.missing, window
        assert not report.reinitialised, window
        resized = {key for key in report.converted if key.endswith("bias_table")}
        assert len(resized) == (0 if window == 7 else 4)
        own = model.state_dict()["backbone.stages.0.blocks.0.attn.w_msa.relative_position_index"]
        assert own.shape == (window**2, window**2)


def test_timms_efficientnet_fills_its_backbone(tmp_path: Path) -> None:
    config = copy.deepcopy(mask_rcnn())
    config["model"]["backbone"] = {"type": "TimmEfficientNet", "arch": "b0"}
    config["model"]["neck"]["in_channels"] = [24, 40, 112, 320]
    state = timm.create_model("tf_efficientnet_b0", pretrained=False).state_dict()
    model = build_detector(config, 1)
    report = import_weights(model, saved(tmp_path / "b0.pth", state))
    assert not [key for key in report.missing if key.startswith("backbone.")]
    assert {key.split(".")[2] for key in report.unexpected} == {"conv_head", "bn2", "classifier"}
    assert torch.equal(model.backbone.net.conv_stem.weight, state["conv_stem.weight"])


def test_another_networks_weights_are_one_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"other\.pth: none of its 1 tensors fits"):
        import_weights(build_detector(mask_rcnn(), 1), saved(tmp_path / "other.pth", {"a": torch.zeros(2)}))
