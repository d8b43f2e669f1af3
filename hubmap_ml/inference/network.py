"""A trained network, opened from its checkpoint folder. Nothing from the folder is executed."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from hubmap_ml.inference.two_stage import check_supported
from hubmap_ml.instances import Category
from hubmap_ml.models import (
    Checkpoint,
    build_detector,
    load_weights,
    open_device,
    read_checkpoint,
    use_one_thread,
)
from hubmap_ml.spec import InputError, member_config


@dataclass(frozen=True, eq=False)
class Network:
    """A network ready to predict.

    Attributes:
        model: in evaluation mode, on `device`.
        config: the member's configuration; its test_pipeline prepares images.
        categories: in the order of the labels.
        digest: SHA-256 of the weights; "" for a network that is still in training.
        family: which trainer made it.
        device: where it runs.
    """

    model: nn.Module
    config: dict[str, Any]
    categories: tuple[Category, ...]
    digest: str
    family: str
    device: torch.device

    @property
    def parameters(self) -> int:
        """How many numbers it learned, or took over from elsewhere; running statistics do not count."""
        return sum(parameter.numel() for parameter in self.model.parameters())


def open_network(folder: Path, device: str = "cpu") -> Network:
    """Open a checkpoint folder.

    Args:
        folder: with `config.json` and `weights.safetensors`.
        device: ``cpu``, ``cuda`` or ``cuda:1``.

    Raises:
        InputError: a damaged folder, an unknown family, weights that are not exactly the network's or not all finite,
            no such device.
    """
    checkpoint = read_checkpoint(Path(folder))
    if checkpoint.family not in FAMILIES:
        raise InputError(
            f"{folder}: a checkpoint of family {checkpoint.family!r}; this version opens "
            f"{', '.join(FAMILIES)}"
        )
    target = open_device(device)
    if target.type == "cpu":
        use_one_thread()
    model = FAMILIES[checkpoint.family](checkpoint)
    return Network(
        model=model.to(target).eval(),
        config=checkpoint.config,
        categories=tuple(Category(id=key, name=name) for key, name in checkpoint.categories),
        digest=checkpoint.digest,
        family=checkpoint.family,
        device=target,
    )


def _open_mmdet(checkpoint: Checkpoint) -> nn.Module:
    member_config.check(checkpoint.config, str(checkpoint.folder))
    model = build_detector(checkpoint.config, len(checkpoint.categories))
    report = load_weights(model, checkpoint.weights)
    if not report.complete:
        raise InputError(
            f"{checkpoint.weights}: not the weights of the network that its configuration builds: {report}"
        )
    # Proposals and scores that are not numbers are dropped on their way: such a network would only seem to see nothing.
    broken = [name for name, value in model.state_dict().items() if not torch.isfinite(value).all()]
    if broken:
        raise InputError(
            f"{checkpoint.weights}: {broken[0]} is not finite ({len(broken)} tensors): its training diverged; "
            "train it again with a lower learning rate"
        )
    check_supported(model)
    return model


FAMILIES: dict[str, Callable[[Checkpoint], nn.Module]] = {"mmdet": _open_mmdet}
"""Which loader builds a checkpoint's network, by the family that its configuration names."""
