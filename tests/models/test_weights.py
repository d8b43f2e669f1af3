"""Weights travel as safetensors, and what did not fit is said."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from hubmap_ml.models import build_detector, load_weights, save_weights
from hubmap_ml.spec import InputError
from tests.detectors import htc, mask_rcnn


def test_saved_weights_come_back_bit_for_bit(tmp_path: Path) -> None:
    first, second = build_detector(htc(), 2), build_detector(htc(), 2)
    first.init_weights()
    digest = save_weights(first, tmp_path / "w.safetensors")
    report = load_weights(second, tmp_path / "w.safetensors")
    assert report.complete
    assert len(report.loaded) == len(first.state_dict())
    for key, value in first.state_dict().items():
        assert torch.equal(value, second.state_dict()[key]), key
    assert save_weights(second, tmp_path / "again.safetensors") == digest


def test_heads_for_another_number_of_classes_are_reinitialised_and_reported(tmp_path: Path) -> None:
    save_weights(build_detector(mask_rcnn(), 3), tmp_path / "w.safetensors")
    model = build_detector(mask_rcnn(), 1)
    own = model.roi_head.bbox_head.fc_cls.weight.clone()
    report = load_weights(model, tmp_path / "w.safetensors")
    assert set(report.reinitialised) == {
        *(
            f"roi_head.bbox_head.{layer}.{part}"
            for layer in ("fc_cls", "fc_reg")
            for part in ("weight", "bias")
        ),
        *(f"roi_head.mask_head.conv_logits.{part}" for part in ("weight", "bias")),
    }
    assert not report.missing
    assert not report.unexpected
    assert torch.equal(model.roi_head.bbox_head.fc_cls.weight, own)
    assert "6 re-initialised" in str(report)


def test_tensors_of_one_side_only_are_missing_or_unexpected(tmp_path: Path) -> None:
    save_weights(build_detector(htc(semantic=True), 1), tmp_path / "w.safetensors")
    report = load_weights(build_detector(htc(), 1), tmp_path / "w.safetensors")
    assert report.unexpected
    assert all(key.startswith("roi_head.semantic_head.") for key in report.unexpected)
    save_weights(build_detector(htc(), 1), tmp_path / "w.safetensors")
    report = load_weights(build_detector(htc(semantic=True), 1), tmp_path / "w.safetensors")
    assert report.missing == tuple(sorted(report.missing))
    assert report.to_data()["missing"] == list(report.missing)


def test_tied_weights_can_be_saved(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    model[1].weight = model[0].weight
    save_weights(model, tmp_path / "w.safetensors")
    assert load_weights(model, tmp_path / "w.safetensors").complete


def test_what_cannot_be_read_is_one_line(tmp_path: Path) -> None:
    model = nn.Linear(2, 2)
    with pytest.raises(InputError, match="no such weights file"):
        load_weights(model, tmp_path / "absent.safetensors")
    (tmp_path / "torn.safetensors").write_bytes(b"\x08\x00\x00")
    with pytest.raises(InputError, match="not a readable safetensors file"):
        load_weights(model, tmp_path / "torn.safetensors")
    save_file({"other": torch.zeros(1)}, str(tmp_path / "other.safetensors"))
    with pytest.raises(InputError, match="none of its 1 tensors fits"):
        load_weights(model, tmp_path / "other.safetensors")
