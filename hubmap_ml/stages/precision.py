"""Whether half precision will really be used, said without torch: the key of a training is known before torch is there.

`models.open_device` decides when the training starts; this follows its rule.
"""

import ctypes
import functools
import importlib.util
from pathlib import Path


def on_gpu(device: str) -> bool:
    """Whether a stage that was given this device computes on a GPU; ``auto`` takes the first where there is one."""
    return _gpu_is_there() if device == "auto" else device.startswith("cuda")


@functools.cache
def _gpu_is_there() -> bool:
    return _torch_has_cuda() and _gpus() > 0


def _torch_has_cuda() -> bool:
    """Whether the installed torch was built for CUDA; read from its version file, as importing it takes seconds."""
    spec = importlib.util.find_spec("torch")
    if spec is None or spec.origin is None:
        return False
    try:
        lines = (Path(spec.origin).parent / "version.py").read_text().splitlines()
    except OSError:
        return False
    return any(line.startswith("cuda") and line.rpartition("=")[2].strip() != "None" for line in lines)


def _gpus() -> int:
    """Return how many GPUs the driver shows to this process (``CUDA_VISIBLE_DEVICES`` counts)."""
    count = ctypes.c_int(0)
    try:
        driver = ctypes.CDLL("libcuda.so.1")
        if driver.cuInit(0) != 0 or driver.cuDeviceGetCount(ctypes.byref(count)) != 0:
            return 0
    except (OSError, AttributeError):
        return 0
    return count.value
