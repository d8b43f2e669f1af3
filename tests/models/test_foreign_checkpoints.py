"""Networks trained elsewhere: what mmdet leaves of them is read back, and what it says of its classes."""

from pathlib import Path

import mmdet
import pytest
import torch
from mmcv import Config

from hubmap_ml.models.foreign_checkpoints import import_checkpoint
from hubmap_ml.models.published import read_class_names
from hubmap_ml.spec import InputError
from hubmap_ml.spec.dumped_config import class_count, member_config_of, read_dumped_config

PUBLISHED = Path(mmdet.__file__).parent / ".mim" / "configs"
CATEGORIES = [(1, "cort"), (2, "astro")]


@pytest.mark.parametrize(
    "name",
    [
        "htc/htc_r50_fpn_1x_coco.py",  # trained with semantic maps
        "point_rend/point_rend_r50_caffe_fpn_mstrain_1x_coco.py",
        "mask_rcnn/mask_rcnn_r50_fpn_1x_wandb_coco.py",
    ],
)
def test_what_mmcv_dumps_of_a_published_configuration_is_read_back(tmp_path: Path, name: str) -> None:
    config = Config.fromfile(str(PUBLISHED / name))
    config.dump(str(tmp_path / "dumped.py"))
    found = read_dumped_config(tmp_path / "dumped.py")
    assert found == config._cfg_dict.to_dict()
    assert class_count(found) == 80
    assert member_config_of(found, name)["test_pipeline"] == config.data.test.pipeline


@pytest.mark.parametrize(
    ("meta", "names"),
    [
        ({"CLASSES": ("cort", "astro")}, ("cort", "astro")),
        ({"CLASSES": ["cort"]}, ("cort",)),
        ({"CLASSES": None}, ()),
        ({"epoch": 3}, ()),
        ("text", ()),
    ],
)
def test_class_names_stand_beside_the_weights(tmp_path: Path, meta: object, names: tuple[str, ...]) -> None:
    torch.save({"meta": meta, "state_dict": {"a": torch.zeros(1)}}, tmp_path / "epoch_1.pth")
    assert read_class_names(tmp_path / "epoch_1.pth") == names


def test_the_same_classes_in_another_order_are_refused(tmp_path: Path) -> None:
    saved = {"meta": {"CLASSES": ("astro", "cort")}, "state_dict": {"a": torch.zeros(1)}}
    torch.save(saved, tmp_path / "epoch_1.pth")
    with pytest.raises(InputError, match="its classes are astro, cort, and the experiment's cort, astro"):
        import_checkpoint({}, CATEGORIES, tmp_path / "epoch_1.pth", tmp_path / "out")
    assert not (tmp_path / "out").exists()
