"""Networks: built from a member's configuration, their weights, checkpoint folders, devices. Imports torch
when used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from hubmap_ml.models import compatibility

compatibility.prepare()

if TYPE_CHECKING:
    from hubmap_ml.models.checkpoints import Checkpoint, copy_checkpoint, read_checkpoint, write_checkpoint
    from hubmap_ml.models.detectors import build_detector
    from hubmap_ml.models.devices import cuda_ops_version, open_device, use_one_thread
    from hubmap_ml.models.importing import import_weights
    from hubmap_ml.models.pipelines import TestPipeline, TrainPipeline
    from hubmap_ml.models.published import keep_as_safetensors
    from hubmap_ml.models.weights import LoadReport, load_weights, save_weights

_HOMES = {
    "Checkpoint": "checkpoints",
    "LoadReport": "weights",
    "TestPipeline": "pipelines",
    "TrainPipeline": "pipelines",
    "build_detector": "detectors",
    "copy_checkpoint": "checkpoints",
    "cuda_ops_version": "devices",
    "import_weights": "importing",
    "keep_as_safetensors": "published",
    "load_weights": "weights",
    "open_device": "devices",
    "read_checkpoint": "checkpoints",
    "save_weights": "weights",
    "use_one_thread": "devices",
    "write_checkpoint": "checkpoints",
}

__all__ = [
    "Checkpoint",
    "LoadReport",
    "TestPipeline",
    "TrainPipeline",
    "build_detector",
    "copy_checkpoint",
    "cuda_ops_version",
    "import_weights",
    "keep_as_safetensors",
    "load_weights",
    "open_device",
    "read_checkpoint",
    "save_weights",
    "use_one_thread",
    "write_checkpoint",
]


def __getattr__(name: str) -> Any:
    """Import a public name's module when the name is first asked for: `import hubmap_ml.models` stays
    without torch.
    """
    if name in _HOMES:
        return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
