"""Weights as others publish them: files of `torch.save` or safetensors, read without executing anything.

A pickle may name any function of this machine. Here it may name tensors and plain numpy values, which training tools
put beside their weights; a file that names anything else is refused with that name.
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

from hubmap_ml.models.weights import read_tensors
from hubmap_ml.spec import InputError

# Where training tools keep the weights inside what they save, and those averaged over time.
STATES = ("state_dict", "model", "model_state_dict", "module", "net")
AVERAGED_STATES = ("state_dict_ema", "model_ema", "ema_state_dict", "ema")
# mmcv's EMAHook keeps a second copy of each parameter beside the first: ``ema_`` and its name with "_" for ".".
AVERAGED = "ema_"
ZIP = b"PK\x03\x04"

_REFUSED = re.compile(r"GLOBAL (\S+) (?:was not an allowed global|whose module)")
_CORES = ("numpy.core.multiarray", "numpy._core.multiarray")  # before and since numpy 2


def _allowed() -> list[Any]:
    """What a pickle may name beside torch's own: numpy's arrays, scalars and their types."""
    reconstruct, scalar = np.core.multiarray._reconstruct, np.core.multiarray.scalar  # type: ignore[attr-defined]
    types = {type(np.dtype(kind)) for kind in np.sctypeDict.values()}
    types = {kind for kind in types if kind is not type(np.dtype(object))}
    return [
        np.ndarray,
        np.dtype,
        *sorted(types, key=lambda kind: kind.__name__),
        *((reconstruct, f"{core}._reconstruct") for core in _CORES),
        *((scalar, f"{core}.scalar") for core in _CORES),
    ]


def read_published(path: Path, *, ema: bool = False) -> dict[str, Tensor]:
    """Read the tensors of a published checkpoint by the names that they have there.

    Args:
        path: a file of safetensors or of `torch.save`, with the weights at its top or under one of `STATES`.
        ema: those averaged over the training in place of the plain ones. (mmdet's usual set-up stores the average under
            the plain names, and the last weights under ``ema_``.)

    Raises:
        InputError: no such file, not readable, a pickle that names what is not allowed, or no tensors where expected.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such weights file")
    found: Any = read_tensors(path) if _is_safetensors(path) else _unpickled(path)
    state, name = _state(found, ema=ema)
    tensors = dict(_tensors(state))
    if not tensors:
        keys = (
            ", ".join(str(key) for key in list(found)[:8])
            if isinstance(found, Mapping)
            else type(found).__name__
        )
        wanted = "averaged weights" if ema else "weights"
        raise InputError(f"{path}: holds no {wanted} where they are looked for; at its top it has {keys}")
    if name in AVERAGED_STATES:
        return tensors
    plain = {key: value for key, value in tensors.items() if not key.startswith(AVERAGED)}
    if not ema:
        return plain
    averaged = {
        key: tensors[f"{AVERAGED}{key.replace('.', '_')}"]
        for key in plain
        if f"{AVERAGED}{key.replace('.', '_')}" in tensors
    }
    if not averaged:
        raise InputError(f"{path}: holds no averaged weights; take 'ema: true' out of the experiment")
    return {**plain, **averaged}


def read_class_names(path: Path) -> tuple[str, ...]:
    """Return the names of the classes that mmdet keeps beside its weights (``meta.CLASSES``); () where it did not.

    Raises:
        InputError: as `read_published`.
    """
    found: Any = {} if not path.is_file() or _is_safetensors(path) else _unpickled(path)
    meta = found.get("meta") if isinstance(found, Mapping) else None
    names = meta.get("CLASSES") if isinstance(meta, Mapping) else None
    return tuple(map(str, names)) if isinstance(names, list | tuple) else ()


def keep_as_safetensors(path: Path, target: Path, *, ema: bool = False) -> None:
    """Write the tensors of a published checkpoint as safetensors; `target` is whole or not there.

    Raises:
        InputError: as `read_published`.
    """
    tensors = {key: value.contiguous().clone() for key, value in read_published(path, ema=ema).items()}
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.name}.partial")
    save_file(tensors, str(partial))
    partial.replace(target)


def _is_safetensors(path: Path) -> bool:
    """Whether a file begins as one of safetensors: the length of a JSON header (8 bytes), then the header."""
    return path.suffix == ".safetensors" or (_starts_with(path, b"{", at=8) and not _starts_with(path, ZIP))


def _starts_with(path: Path, start: bytes, *, at: int = 0) -> bool:
    with path.open("rb") as file:
        file.seek(at)
        return file.read(len(start)) == start


def _unpickled(path: Path) -> Any:
    try:
        with torch.serialization.safe_globals(_allowed()):
            return torch.load(path, map_location="cpu", weights_only=True, mmap=_starts_with(path, ZIP))
    except UnpicklingError as error:
        refused = _REFUSED.search(str(error))
        if refused is None:
            raise InputError(
                f"{path}: not a readable checkpoint (no pickle of tensors and plain values)"
            ) from error
        raise InputError(
            f"{path}: refused, because it names {refused[1]}: a checkpoint may hold tensors, plain values and numpy's. "
            "Where you trust it, open it elsewhere and save its state_dict alone"
        ) from None
    except Exception as error:  # torch raises several kinds, none of its own, for a damaged file
        raise InputError(f"{path}: not a readable checkpoint ({type(error).__name__})") from error


def _state(found: Any, *, ema: bool) -> tuple[Any, str]:
    """The mapping that holds the weights, and the key that it was found under."""
    if not isinstance(found, Mapping):
        return {}, ""
    for name in (*(AVERAGED_STATES if ema else ()), *STATES):
        inner = found.get(name)
        if isinstance(inner, Mapping) and any(True for _ in _tensors(inner)):
            return inner, name
    return found, ""


def _tensors(state: Mapping[Any, Any]) -> Iterator[tuple[str, Tensor]]:
    return ((key, value) for key, value in state.items() if isinstance(key, str) and torch.is_tensor(value))
