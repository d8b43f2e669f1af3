from pathlib import Path

import pytest

from hubmap_ml.spec import InputError, load_config_file

BASE = """
model = dict(type='MaskRCNN', backbone=dict(type='ResNet', depth=50, out_indices=(0, 1, 2, 3)), neck=[1, 2])
optimizer = dict(type='SGD', lr=0.02, momentum=0.9)
import os
def helper(): return 3
_private = helper()
"""
CHILD = """
_base_ = './base.py'
model = dict(backbone=dict(depth=18), neck=[3])
optimizer = dict(_delete_=True, type='AdamW', lr=1e-3)
"""


@pytest.fixture
def files(tmp_path: Path) -> Path:
    (tmp_path / "base.py").write_text(BASE)
    (tmp_path / "child.py").write_text(CHILD)
    return tmp_path


def test_a_child_changes_its_base_key_by_key(files: Path) -> None:
    config = load_config_file(files / "child.py")
    assert config["model"]["backbone"] == {"type": "ResNet", "depth": 18, "out_indices": (0, 1, 2, 3)}
    assert config["model"]["neck"] == [3]
    assert config["optimizer"] == {"type": "AdamW", "lr": 1e-3}


def test_the_result_is_that_of_mmcv(files: Path) -> None:
    config_class = pytest.importorskip("mmcv", reason="mmcv belongs to the detect environment").Config
    theirs = config_class.fromfile(str(files / "child.py"))._cfg_dict.to_dict()
    ours = load_config_file(files / "child.py")
    assert {key: value for key, value in ours.items() if not key.startswith("_")} == {
        key: value for key, value in theirs.items() if not key.startswith("_")
    }


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("_base_ = './child.py'", "inherits from itself"),
        ("_base_ = './missing.py'", "no such configuration file"),
        ("a = 1 / 0", "ZeroDivisionError"),
        ("a = dict(", "SyntaxError"),
        ("a = '{{ fileDirname }}'", "not supported"),
        ("_base_ = './base.py'\nmodel = dict(neck=dict(type='FPN'))", "_delete_"),
        ("_base_ = ['./base.py', './base.py']", "two of its bases define"),
    ],
)
def test_a_bad_file_is_one_clear_line(files: Path, text: str, said: str) -> None:
    (files / "child.py").write_text(text)
    with pytest.raises(InputError) as caught:
        load_config_file(files / "child.py")
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_items_of_a_list_are_changed_by_their_number(files: Path) -> None:
    (files / "base.py").write_text("necks = [dict(type='A', size=(1, 2)), dict(type='B')]; plain = [1, 2]")
    (files / "child.py").write_text(
        "_base_ = 'base.py'; necks = {0: dict(rate=.3), 1: dict(_delete_=True, type='C')}; plain = {1: 5}"
    )
    assert load_config_file(files / "child.py") == {
        "necks": [{"type": "A", "size": (1, 2), "rate": 0.3}, {"type": "C"}],
        "plain": [1, 5],
    }


def test_an_item_that_is_not_there_is_named(files: Path) -> None:
    (files / "child.py").write_text("_base_ = 'base.py'; model = dict(neck={2: 1})")
    with pytest.raises(InputError, match="'neck' has the items 0 to 1, not 2"):
        load_config_file(files / "child.py")
