"""A network opens from its checkpoint folder alone, and from nothing else."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from hubmap_ml.data import ArrayImage
from hubmap_ml.inference import open_network, predict_candidates
from hubmap_ml.instances import Images
from hubmap_ml.models import build_detector, write_checkpoint
from hubmap_ml.spec import InputError
from tests.detectors import htc, mask_rcnn


def write(folder: Path, config: dict[str, Any], n_categories: int = 1, *, seed: int = 0) -> torch.nn.Module:
    torch.manual_seed(seed)
    model = build_detector(config, n_categories)
    model.init_weights()
    categories = [(i, f"class {i}") for i in range(n_categories)]
    write_checkpoint(folder, model, family="mmdet", config=config, categories=categories)
    return model


@pytest.mark.parametrize("config", [mask_rcnn(), htc(semantic=True)])
def test_an_opened_network_is_the_one_that_was_saved(tmp_path: Path, config: dict[str, Any]) -> None:
    model = write(tmp_path / "c", config, 2)
    network = open_network(tmp_path / "c")
    assert not network.model.training
    assert [category.name for category in network.categories] == ["class 0", "class 1"]
    for key, value in model.state_dict().items():
        assert torch.equal(value, network.model.state_dict()[key]), key
    image = ArrayImage(np.zeros((64, 64, 3), np.uint8))
    row = Images.build(ids=["a"], heights=64, widths=64)
    [(_, found, _)] = predict_candidates(network, [(row, image)], views=("none",), score=0.0)
    assert len(found) > 0


def test_weights_of_two_seeds_have_two_digests(tmp_path: Path) -> None:
    for seed in (0, 1):
        write(tmp_path / str(seed), mask_rcnn(), seed=seed)
    assert open_network(tmp_path / "0").digest != open_network(tmp_path / "1").digest


def edit(folder: Path, **values: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def test_a_folder_of_another_kind_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "c", mask_rcnn())
    edit(tmp_path / "c", family="flow")
    with pytest.raises(InputError, match="family 'flow'; this version opens mmdet"):
        open_network(tmp_path / "c")
    with pytest.raises(InputError, match="no checkpoint folder"):
        open_network(tmp_path / "absent")


def test_weights_that_are_not_exactly_the_networks_are_refused(tmp_path: Path) -> None:
    write(tmp_path / "c", mask_rcnn())
    edit(tmp_path / "c", categories=[[0, "a"], [1, "b"]])
    with pytest.raises(InputError, match="not the weights of the network"):
        open_network(tmp_path / "c")


def test_a_configuration_that_names_files_or_hooks_is_not_followed(tmp_path: Path) -> None:
    write(tmp_path / "c", mask_rcnn())
    config = json.loads((tmp_path / "c" / "config.json").read_text())["config"]
    edit(tmp_path / "c", config={**config, "load_from": "/somewhere/evil.pth"})
    with pytest.raises(InputError, match="load_from"):
        open_network(tmp_path / "c")


def test_a_network_without_masks_or_with_an_unknown_head_is_refused(tmp_path: Path) -> None:
    config = mask_rcnn()
    del config["model"]["roi_head"]["mask_head"], config["model"]["roi_head"]["mask_roi_extractor"]
    write(tmp_path / "boxes", config)
    with pytest.raises(InputError, match="no mask head"):
        open_network(tmp_path / "boxes")
    config = mask_rcnn()
    config["model"]["roi_head"] |= {"type": "TridentRoIHead", "num_branch": 3, "test_branch_idx": 1}
    write(tmp_path / "trident", config)
    with pytest.raises(InputError, match="TridentRoIHead cannot be predicted"):
        open_network(tmp_path / "trident")


def test_a_gpu_that_is_not_there_is_one_line(tmp_path: Path, monkeypatch: Any) -> None:
    write(tmp_path / "c", mask_rcnn())
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(InputError, match="finds no GPU"):
        open_network(tmp_path / "c", device="cuda")


@pytest.mark.parametrize(
    "key", ["rpn_head.rpn_cls.weight", "roi_head.bbox_head.fc_cls.bias", "backbone.bn1.running_var"]
)
def test_weights_that_are_no_numbers_are_refused(tmp_path: Path, key: str) -> None:
    torch.manual_seed(0)
    model = build_detector(mask_rcnn(), 1)
    model.init_weights()
    model.state_dict()[key][0] = float("nan")
    write_checkpoint(tmp_path / "c", model, family="mmdet", config=mask_rcnn(), categories=[(0, "class 0")])
    with pytest.raises(InputError, match=f"{key} is not finite.*diverged"):
        open_network(tmp_path / "c")
