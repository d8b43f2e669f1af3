"""Where a network runs: the device by name, and what it must have."""

import torch

from hubmap_ml.spec import InputError


def open_device(name: str) -> torch.device:
    """Return the device, if a detector can really run there.

    Args:
        name: ``cpu``, ``cuda``, ``cuda:1``, or ``auto`` for the first GPU if there is one.

    Raises:
        InputError: an unknown name, no such GPU, or an mmcv-full that was built without CUDA ops.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise InputError(f"device {name!r} is not known: use cpu, cuda or cuda:N") from error
    if device.type == "cpu":
        return device
    if device.type != "cuda":
        raise InputError(f"device {name!r} cannot run detectors: use cpu, cuda or cuda:N")
    if not torch.cuda.is_available():
        raise InputError(f"device {name!r} was asked for and torch finds no GPU: use device cpu")
    if device.index is not None and device.index >= torch.cuda.device_count():
        raise InputError(f"device {name!r} does not exist: torch finds {torch.cuda.device_count()} GPU(s)")
    if cuda_ops_version() is None:
        raise InputError(
            f"device {name!r} was asked for and mmcv-full was built without CUDA ops: build it again on "
            "a machine with a GPU and the CUDA compiler, or use device cpu"
        )
    return device


def cuda_ops_version() -> str | None:
    """The CUDA version that mmcv-full's ops were compiled with, None for a build without them."""
    from mmcv.ops import get_compiling_cuda_version

    version = str(get_compiling_cuda_version())
    return None if version == "not available" else version


def use_one_thread() -> None:
    """Run torch and OpenCV with one thread in this process.

    Sums come out in the same order on every machine, and on a busy machine two threads can be ten times
    slower than one.
    """
    import cv2

    torch.set_num_threads(1)
    cv2.setNumThreads(0)
