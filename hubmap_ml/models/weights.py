"""Weights as safetensors: nothing in such a file can be executed."""

import hashlib
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from hubmap_ml.spec import InputError


@dataclass(frozen=True)
class LoadReport:
    """What became of each tensor when weights met a network; names sorted.

    Attributes:
        loaded: in both, same shape: copied.
        reinitialised: in both, another shape (a head for another number of classes): the network keeps its
            own.
        missing: only in the network: it keeps its own.
        unexpected: only in the file: left out.
        converted: what was done to names ("names") and tensors (by name) on their way; nothing where the file is ours.
    """

    loaded: tuple[str, ...]
    reinitialised: tuple[str, ...]
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    converted: Mapping[str, str] = field(default_factory=dict)

    @property
    def complete(self) -> bool:
        """Whether file and network hold exactly the same tensors."""
        return not (self.reinitialised or self.missing or self.unexpected)

    def to_data(self) -> dict[str, list[str] | dict[str, str]]:
        """JSON-able."""
        names = ("loaded", "reinitialised", "missing", "unexpected")
        return {**{key: list(getattr(self, key)) for key in names}, "converted": dict(self.converted)}

    def __str__(self) -> str:
        resized = len(self.converted.keys() - {"names"})
        return (
            f"{len(self.loaded)} tensors loaded, {len(self.reinitialised)} re-initialised (other shape), "
            f"{len(self.missing)} missing, {len(self.unexpected)} unexpected"
            + (f", {resized} converted" if resized else "")
        )


def save_weights(model: nn.Module, path: Path) -> str:
    """Write all parameters and buffers of a network.

    Returns:
        The SHA-256 of the file, which depends on names, types and values alone.
    """
    # Copies: safetensors refuses tensors that share memory (tied weights), and none of ours is meant to
    # stay tied.
    tensors = {key: value.detach().cpu().contiguous().clone() for key, value in model.state_dict().items()}
    save_file(tensors, str(path))
    return file_digest(path)


def load_weights(model: nn.Module, path: Path) -> LoadReport:
    """Copy the weights of a file into a network wherever name and shape agree.

    Args:
        model: changed in place.
        path: a safetensors file.

    Returns:
        What was loaded and what was not.

    Raises:
        InputError: no such file, not a safetensors file, or not one tensor fits.
    """
    return copy_weights(model, read_tensors(path), str(path))


def copy_weights(
    model: nn.Module, found: Mapping[str, Tensor], where: str, *, converted: Mapping[str, str] | None = None
) -> LoadReport:
    """Copy tensors into a network wherever name and shape agree.

    Args:
        model: changed in place.
        found: by name.
        where: they come from, for the error.
        converted: for the report.

    Raises:
        InputError: not one tensor fits.
    """
    own = model.state_dict()
    loaded = sorted(key for key in found if key in own and own[key].shape == found[key].shape)
    report = LoadReport(
        loaded=tuple(loaded),
        reinitialised=tuple(
            sorted(key for key in found if key in own and own[key].shape != found[key].shape)
        ),
        missing=tuple(sorted(own.keys() - found.keys())),
        unexpected=tuple(sorted(found.keys() - own.keys())),
        converted=dict(converted or {}),
    )
    if not loaded:
        raise InputError(
            f"{where}: none of its {len(found)} tensors fits the network: these are another model's weights"
        )
    state = OrderedDict((key, found[key]) for key in loaded)
    # Modules look into the version of a state to bring older layouts up to date: ours is always the present
    # one.
    state._metadata = own._metadata  # type: ignore[attr-defined]
    model.load_state_dict(state, strict=False)
    return report


def read_tensors(path: Path) -> dict[str, Any]:
    """All tensors of a safetensors file, on the CPU.

    Raises:
        InputError: no such file, or not a safetensors file.
    """
    try:
        return dict(load_file(str(path), device="cpu"))
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such weights file") from error
    except (SafetensorError, OSError, ValueError) as error:
        raise InputError(f"{path}: not a readable safetensors file ({error})") from error


def file_digest(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
