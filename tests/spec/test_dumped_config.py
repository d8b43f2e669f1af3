"""Configurations of a work_dir are read as data: what mmcv dumps comes back, and nothing is executed."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hubmap_ml.spec import InputError
from hubmap_ml.spec.dumped_config import class_count, member_config_of, read_dumped_config

DUMPED = """
model = dict(
    type='MaskRCNN',
    backbone=dict(type='ResNet', depth=50, init_cfg=dict(type='Pretrained', checkpoint='torchvision://resnet50')),
    roi_head=dict(
        bbox_head=[dict(type='Shared2FCBBoxHead', num_classes=3, reg_class_agnostic=True)],
        mask_head=dict(type='FCNMaskHead', num_classes=3),
        semantic_head=dict(num_classes=183)),
    pretrained=None)
data = dict(
    samples_per_gpu=2,
    train=dict(type='RepeatDataset', times=2, dataset=dict(pipeline=[dict(type='LoadImageFromFile')])),
    test=dict(pipeline=[dict(type='LoadImageFromFile'), dict(type='MultiScaleFlipAug', img_scale=(64, 64),
        flip=False, transforms=[dict(type='Resize', keep_ratio=True)])]))
optimizer = dict(type='AdamW', lr=0.0001, betas=(0.9, 0.999), paramwise_cfg=dict(custom_keys={'norm': -1.0}))
work_dir = './work_dirs/htc'
load_from = None
gpu_ids = range_of_gpus
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "htc.py"
    path.write_text(text)
    return path


def test_a_member_is_what_is_left_of_a_dumped_configuration(tmp_path: Path) -> None:
    dumped = read_dumped_config(write(tmp_path, DUMPED.replace("range_of_gpus", "[0]")))
    assert dumped["optimizer"]["paramwise_cfg"] == {"custom_keys": {"norm": -1.0}}
    assert class_count(dumped) == 3
    member = member_config_of(dumped, "htc.py")
    assert member["model"] == {
        "type": "MaskRCNN",
        "backbone": {"type": "ResNet", "depth": 50},
        "roi_head": {
            "bbox_head": [{"type": "Shared2FCBBoxHead", "reg_class_agnostic": True}],
            "mask_head": {"type": "FCNMaskHead"},
            "semantic_head": {"num_classes": 183},
        },
    }
    assert member["train_pipeline"] == []
    assert member["test_pipeline"][1]["img_scale"] == (64, 64)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (DUMPED, "line 18: 'range_of_gpus' is no plain value"),
        ("a = open('made', 'w')", "line 1: .* is no plain value, and nothing is executed"),
        ("a = dict(**{'b': 1})", "is no plain value"),
        ("a = [x for x in (1, 2)]", "is no plain value"),
        ("import os", "line 1: a dumped configuration holds assignments alone"),
        ("a = b = 1", "assignments alone"),
        ("a = (", "not a dumped configuration"),
    ],
)
def test_what_would_have_to_be_executed_is_refused(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        read_dumped_config(write(tmp_path, text))
    assert not (tmp_path / "made").exists()


def test_what_is_no_detectors_configuration_is_one_line() -> None:
    with pytest.raises(InputError, match="says no 'model'"):
        member_config_of({}, "x.py")
    with pytest.raises(InputError, match="says no test_pipeline"):
        member_config_of({"model": {"type": "MaskRCNN"}}, "x.py")


PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(st.text(max_size=3) | st.integers(0, 9), inner, max_size=3)
    ),
    max_leaves=8,
)


@settings(deadline=None)
@given(PLAIN)
def test_every_plain_value_comes_back(tmp_path_factory: pytest.TempPathFactory, value: Any) -> None:
    path = write(tmp_path_factory.mktemp("value"), f"key = {value!r}\n")
    back = read_dumped_config(path)["key"]
    assert back == value
    assert type(back) is type(value)
