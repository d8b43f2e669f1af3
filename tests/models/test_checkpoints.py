"""A checkpoint folder is whole or not there, holds data only, and says what it is."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from hubmap_ml.models import checkpoints as module
from hubmap_ml.models import copy_checkpoint, read_checkpoint, write_checkpoint
from hubmap_ml.models.checkpoints import read_resume_state
from hubmap_ml.models.weights import file_digest
from hubmap_ml.spec import InputError

CONFIG = {"model": {"type": "X", "out_indices": (0, 1), "scales": [8]}}


def write(folder: Path, value: float = 1.0, **options: Any) -> None:
    model = nn.Linear(2, 1)
    nn.init.constant_(model.weight, value)
    write_checkpoint(folder, model, family="mmdet", config=CONFIG, categories=[(0, "vessel")], **options)


def weight(folder: Path) -> float:
    from safetensors.torch import load_file

    return float(load_file(str(read_checkpoint(folder).weights))["weight"][0, 0])


def test_a_checkpoint_comes_back_with_its_types(tmp_path: Path) -> None:
    write(tmp_path / "last")
    checkpoint = read_checkpoint(tmp_path / "last")
    assert checkpoint.config == CONFIG
    assert isinstance(checkpoint.config["model"]["out_indices"], tuple)
    assert checkpoint.categories == ((0, "vessel"),)
    assert checkpoint.family == "mmdet"
    assert sorted(path.name for path in (tmp_path / "last").iterdir()) == [
        "config.json",
        "weights.safetensors",
    ]


def test_a_new_checkpoint_replaces_the_old_and_leaves_nothing_behind(tmp_path: Path) -> None:
    write(tmp_path / "last", 1.0)
    write(tmp_path / "last", 2.0)
    assert weight(tmp_path / "last") == 2.0
    assert [path.name for path in tmp_path.iterdir()] == ["last"]


def test_a_write_that_breaks_off_leaves_the_old_checkpoint(tmp_path: Path, monkeypatch: Any) -> None:
    write(tmp_path / "last", 1.0)

    def breaks(*_: Any) -> str:
        raise OSError("no space left on device")

    monkeypatch.setattr(module, "save_weights", breaks)
    with pytest.raises(OSError, match="no space"):
        write(tmp_path / "last", 2.0)
    assert weight(tmp_path / "last") == 1.0


def test_a_crash_between_the_renames_leaves_the_old_checkpoint_readable(
    tmp_path: Path, monkeypatch: Any
) -> None:
    write(tmp_path / "last", 1.0)
    real = os.replace
    calls = []

    def second_breaks(source: Any, target: Any) -> None:
        calls.append(source)
        if len(calls) == 2:
            raise KeyboardInterrupt
        real(source, target)

    monkeypatch.setattr(module.os, "replace", second_breaks)
    with pytest.raises(KeyboardInterrupt):
        write(tmp_path / "last", 2.0)
    monkeypatch.undo()
    assert weight(tmp_path / "last") == 1.0
    write(tmp_path / "last", 3.0)
    assert weight(tmp_path / "last") == 3.0


def test_a_resume_state_is_data_and_comes_back(tmp_path: Path) -> None:
    state = {"epochs": 3, "history": [{"val/ap60": float("nan")}], "optimizer": {"step": torch.tensor(5.0)}}
    write(tmp_path / "last", resume_state=state)
    found = read_resume_state(read_checkpoint(tmp_path / "last"))
    assert found["epochs"] == 3
    assert found["optimizer"]["step"] == 5
    copy_checkpoint(tmp_path / "last", tmp_path / "best", with_resume_state=False)
    with pytest.raises(InputError, match=r"resume\.pt: no such file"):
        read_resume_state(read_checkpoint(tmp_path / "best"))


def test_a_resume_state_with_code_in_it_is_not_loaded(tmp_path: Path) -> None:
    write(tmp_path / "last")
    path = tmp_path / "last" / "resume.pt"
    torch.save({"epochs": Path("x")}, path)
    (tmp_path / "last" / "resume.json").write_text(json.dumps({"digest": file_digest(path)}))
    with pytest.raises(InputError, match="not a readable training state"):
        read_resume_state(read_checkpoint(tmp_path / "last"))


def test_a_resume_state_that_was_changed_on_the_disk_is_told(tmp_path: Path) -> None:
    write(tmp_path / "last", resume_state={"iterations": 7, "epochs": 3})
    assert json.loads((tmp_path / "last" / "resume.json").read_text())["iterations"] == 7
    path = tmp_path / "last" / "resume.pt"
    whole = path.read_bytes()
    for number in range(0, len(whole), 97):
        path.write_bytes(whole[:number] + bytes([whole[number] ^ 1]) + whole[number + 1 :])
        with pytest.raises(InputError, match=r"resume\.pt: not the training state"):
            read_resume_state(read_checkpoint(tmp_path / "last"))
    path.write_bytes(whole)
    (tmp_path / "last" / "resume.json").unlink()
    with pytest.raises(InputError, match=r"resume\.json beside it is damaged or missing"):
        read_resume_state(read_checkpoint(tmp_path / "last"))


def change(folder: Path, **values: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def test_what_is_not_a_checkpoint_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no checkpoint folder"):
        read_checkpoint(tmp_path / "absent")
    write(tmp_path / "a")
    (tmp_path / "a" / "config.json").write_text("{")
    with pytest.raises(InputError, match="damaged"):
        read_checkpoint(tmp_path / "a")
    write(tmp_path / "a")
    change(tmp_path / "a", format=2)
    with pytest.raises(InputError, match="format 2"):
        read_checkpoint(tmp_path / "a")
    write(tmp_path / "a")
    change(tmp_path / "a", categories=[[1]])
    with pytest.raises(InputError, match="not a checkpoint's configuration"):
        read_checkpoint(tmp_path / "a")


def test_other_weights_than_were_written_are_refused(tmp_path: Path) -> None:
    write(tmp_path / "a", 1.0)
    write(tmp_path / "b", 2.0)
    os.replace(tmp_path / "b" / "weights.safetensors", tmp_path / "a" / "weights.safetensors")
    with pytest.raises(InputError, match="digest differs"):
        read_checkpoint(tmp_path / "a")
    (tmp_path / "a" / "weights.safetensors").unlink()
    with pytest.raises(InputError, match="incomplete"):
        read_checkpoint(tmp_path / "a")
