"""Checkpoints of others: tensors come out, nothing is executed."""

import argparse
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from hubmap_ml.models.published import keep_as_safetensors, read_published
from hubmap_ml.spec import InputError

STATE = {"neck.weight": torch.arange(6.0).view(2, 3), "neck.bias": torch.ones(3), "steps": torch.tensor(4)}


def same(found: dict[str, torch.Tensor], wanted: dict[str, torch.Tensor] = STATE) -> None:
    assert found.keys() == wanted.keys()
    assert all(torch.equal(found[key], value) for key, value in wanted.items())


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("wrapper", ["", "state_dict", "model", "module"])
def test_weights_are_found_where_tools_put_them(tmp_path: Path, wrapper: str, legacy: bool) -> None:
    path = tmp_path / "w.pth"
    data = {wrapper: STATE, "epoch": 3, "optimizer": {"state": {}}} if wrapper else STATE
    torch.save(data, path, _use_new_zipfile_serialization=not legacy)
    same(read_published(path))


def test_plain_numpy_values_beside_them_are_no_reason_to_refuse(tmp_path: Path) -> None:
    meta = {
        "best": np.float64(0.43),
        "epoch": np.int64(7),
        "curve": np.linspace(0, 1, 5),
        "names": np.array(["vessel", "other"]),
        "flag": np.bool_(True),
        "type": np.dtype("float32"),
    }
    torch.save({"meta": meta, "state_dict": STATE}, tmp_path / "w.pth")
    same(read_published(tmp_path / "w.pth"))


class Harmful:
    """Runs a command when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.marker}",)


@pytest.mark.parametrize("legacy", [False, True])
def test_anything_else_is_refused_by_name_and_not_run(tmp_path: Path, legacy: bool) -> None:
    marker = tmp_path / "ran"
    path = tmp_path / "w.pth"
    torch.save(
        {"state_dict": STATE, "hook": Harmful(marker)}, path, _use_new_zipfile_serialization=not legacy
    )
    with pytest.raises(InputError, match=r"w\.pth: refused, because it names posix\.system"):
        read_published(path)
    assert not marker.exists()
    torch.save({"model": STATE, "args": argparse.Namespace(lr=1)}, path)
    with pytest.raises(InputError, match=r"argparse\.Namespace.*save its state_dict alone"):
        read_published(path)


def test_averaged_weights_are_taken_where_asked_for(tmp_path: Path) -> None:
    mean = {key: value + 1 for key, value in STATE.items()}
    torch.save({"state_dict": STATE, "state_dict_ema": mean}, tmp_path / "timm.pth")
    same(read_published(tmp_path / "timm.pth"))
    same(read_published(tmp_path / "timm.pth", ema=True), mean)
    beside = {f"ema_{key.replace('.', '_')}": value for key, value in mean.items() if key != "steps"}
    torch.save({"state_dict": {**STATE, **beside}}, tmp_path / "mmcv.pth")
    same(read_published(tmp_path / "mmcv.pth"))
    same(read_published(tmp_path / "mmcv.pth", ema=True), {**mean, "steps": STATE["steps"]})
    torch.save({"state_dict": STATE}, tmp_path / "none.pth")
    with pytest.raises(InputError, match="holds no averaged weights"):
        read_published(tmp_path / "none.pth", ema=True)


@pytest.mark.parametrize("name", ["w.safetensors", "w.bin"])
def test_safetensors_are_known_by_what_they_are(tmp_path: Path, name: str) -> None:
    save_file(STATE, str(tmp_path / name))
    same(read_published(tmp_path / name))


def test_they_are_kept_as_safetensors(tmp_path: Path) -> None:
    shared = torch.arange(4.0)
    torch.save(
        {"state_dict": {**STATE, "a": shared, "b": shared[:2], "c": shared.view(2, 2).t()}},
        tmp_path / "w.pth",
    )
    keep_as_safetensors(tmp_path / "w.pth", tmp_path / "new" / "w.safetensors")
    found = load_file(tmp_path / "new" / "w.safetensors")
    same({key: found[key] for key in STATE})
    assert torch.equal(found["c"], shared.view(2, 2).t())
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["w.safetensors"]


def test_what_cannot_be_read_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such weights file"):
        read_published(tmp_path / "absent.pth")
    (tmp_path / "text.pth").write_text("Not found")
    with pytest.raises(InputError, match=r"text\.pth: not a readable checkpoint"):
        read_published(tmp_path / "text.pth")
    torch.save({"state_dict": STATE}, tmp_path / "torn.pth")
    whole = (tmp_path / "torn.pth").read_bytes()
    (tmp_path / "torn.pth").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match=r"torn\.pth: not a readable checkpoint"):
        read_published(tmp_path / "torn.pth")
    torch.save({"epoch": 3, "results": [1, 2]}, tmp_path / "other.pth")
    with pytest.raises(InputError, match="at its top it has epoch, results"):
        read_published(tmp_path / "other.pth")
