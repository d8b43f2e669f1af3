"""What is frozen has no gradient, stays in evaluation mode and keeps its statistics; the rest learns."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from hubmap_ml.instances import Annotations
from hubmap_ml.models import build_detector
from hubmap_ml.spec import InputError, NullRecorder
from hubmap_ml.training import FitData, FitInputs, open_trainer
from hubmap_ml.training.mmdet.draws import INITIAL, seed_everything
from hubmap_ml.training.mmdet.freezing import Freezing
from tests.detectors import VESSEL, mask_rcnn, vessels

fit = open_trainer("mmdet")


@pytest.fixture(scope="module")
def tiles(tmp_path_factory: Any) -> tuple[Path, Annotations]:
    folder = tmp_path_factory.mktemp("tiles")
    return folder, vessels(folder, 4)


def member(**changes: Any) -> dict[str, Any]:
    backbone = changes.pop("backbone", {})
    config = {**mask_rcnn(), **changes}
    config["model"]["backbone"] |= {"norm_eval": False, **backbone}
    return config


def start_and_end(
    tiles: tuple[Path, Annotations], folder: Path, config: dict[str, Any]
) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """All parameters and buffers before and after a training of two iterations."""
    seed_everything(3, INITIAL)
    model = build_detector(config, 1)
    model.init_weights()
    data = FitData(train=tiles[1], valid=None, image_root=tiles[0])
    result = fit(FitInputs(config=config, categories=VESSEL, seed=3), data, NullRecorder(folder))
    return model.state_dict(), load_file(str(result.last / "weights.safetensors"))


def changed(before: dict[str, torch.Tensor], after: dict[str, torch.Tensor]) -> set[str]:
    return {name for name, value in before.items() if not torch.equal(value, after[name])}


STATISTICS = ("running_mean", "running_var", "num_batches_tracked")


@pytest.mark.parametrize(
    ("config", "still", "no_statistics"),
    [
        ({}, (), False),
        ({"freeze": {"batch_norms": True}}, (), True),
        (
            {"freeze": {"modules": ["backbone.conv1", "backbone.layer1"]}},
            ("backbone.conv1.", "backbone.layer1."),
            False,
        ),
        ({"backbone": {"norm_eval": True}}, (), True),
        ({"backbone": {"frozen_stages": 1}}, ("backbone.conv1.", "backbone.bn1.", "backbone.layer1."), False),
    ],
    ids=["nothing", "batch norms", "modules", "mmdet's norm_eval", "mmdet's frozen_stages"],
)
def test_what_is_frozen_is_the_same_after_a_training_and_the_rest_is_not(
    tiles: tuple[Path, Annotations],
    tmp_path: Path,
    config: dict[str, Any],
    still: tuple[str, ...],
    no_statistics: bool,
) -> None:
    moved = changed(*start_and_end(tiles, tmp_path, member(**config)))
    assert not {name for name in moved if name.startswith(still or "-")}
    statistics = {name for name in moved if name.endswith(STATISTICS)}
    assert bool(statistics) != no_statistics
    assert {"backbone.layer2.0.conv1.weight", "roi_head.bbox_head.fc_cls.weight"} <= moved
    assert ("backbone.layer1.0.conv1.weight" in moved) == (not still)
    assert "backbone.layer3.0.bn1.weight" in moved  # scale and shift go on learning


def test_frozen_modules_have_no_gradient_and_stay_in_evaluation_mode() -> None:
    model = build_detector(member(), 1)
    hook = Freezing(model, ["backbone.layer1", "neck"], batch_norms=True)
    model.train()
    hook.before_train_epoch(None)
    for name, module in model.named_modules():
        frozen = f"{name}.".startswith(("backbone.layer1.", "neck."))
        norm = isinstance(module, nn.modules.batchnorm._BatchNorm)
        assert module.training != (frozen or norm), name
    for name, value in model.named_parameters():
        assert value.requires_grad != name.startswith(("backbone.layer1.", "neck.")), name


@pytest.mark.parametrize(
    ("modules", "said"),
    [
        (["backbone.layer9"], "no 'backbone.layer9'; at its top it has backbone, neck, rpn_head, roi_head"),
        ([""], "no ''"),
        (["backbone", "neck", "rpn_head", "roi_head"], "leaves nothing that learns"),
    ],
)
def test_what_cannot_be_frozen_is_one_line(modules: list[str], said: str) -> None:
    with pytest.raises(InputError, match=said):
        Freezing(build_detector(member(), 1), modules)
