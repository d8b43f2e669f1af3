"""A device is refused in one line where a detector could not run."""

from typing import Any

import cv2
import pytest
import torch

from hubmap_ml.models import devices, open_device, use_one_thread
from hubmap_ml.spec import InputError


def test_the_cpu_is_always_there() -> None:
    assert open_device("cpu") == torch.device("cpu")


@pytest.mark.parametrize("name", ["gpu", "tpu:0", "", "meta"])
def test_unknown_devices_are_refused(name: str) -> None:
    with pytest.raises(InputError, match="use cpu, cuda or cuda:N"):
        open_device(name)


def test_a_gpu_that_is_not_there_is_refused(monkeypatch: Any) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(InputError, match="finds no GPU"):
        open_device("cuda")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(InputError, match=r"finds 1 GPU"):
        open_device("cuda:1")


def test_a_gpu_without_cuda_ops_is_refused(monkeypatch: Any) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(devices, "cuda_ops_version", lambda: None)
    with pytest.raises(InputError, match="without CUDA ops"):
        open_device("cuda:0")
    monkeypatch.setattr(devices, "cuda_ops_version", lambda: "12.8")
    assert open_device("cuda:0").type == "cuda"


def test_one_thread_means_one_thread() -> None:
    use_one_thread()
    assert torch.get_num_threads() == 1
    assert cv2.getNumThreads() == 1
