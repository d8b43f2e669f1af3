"""Published weights brought into a network of ours: names translated, sizes adapted, everything reported.

Understood are detectors of mmdet, ViT-Adapter and CBNetV2, and backbones alone as BEiT, Swin, timm and torchvision
publish them. Which names a file uses is found by trying: the translation that fits most names is taken.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from mmdet.models.backbones import SwinTransformer
from mmdet.models.utils.ckpt_convert import swin_converter
from torch import Tensor, nn

from hubmap_ml.models import resizing
from hubmap_ml.models.architectures import BEiTAdapter, CBSwinTransformer, TimmEfficientNet
from hubmap_ml.models.published import read_published
from hubmap_ml.models.weights import LoadReport, copy_weights

State = dict[str, Tensor]

# Put before all names by wrappers of a network, and before a backbone's by what it was trained in.
WRAPPERS = ("module.", "_orig_mod.")
OUTER = ("", "backbone.", "encoder.", "model.", "model.backbone.", "teacher.backbone.", "student.backbone.")

TABLE, INDEX = "relative_position_bias_table", "relative_position_index"
PATCHES = ("patch_embed.proj.weight", "patch_embed.projection.weight")
POSITIONS = ("pos_embed", "absolute_pos_embed")


@dataclass(frozen=True)
class _Translation:
    """A way to read a file's names; `note` says what was done, "" for nothing."""

    state: State
    note: str


def import_weights(model: nn.Module, path: Path, *, ema: bool = False) -> LoadReport:
    """Copy published weights into a network wherever they fit after translation.

    Args:
        model: changed in place. A head for another number of classes keeps its own weights.
        path: as in `read_published`.
        ema: as in `read_published`.

    Returns:
        What was loaded, by the network's own names; ``converted`` says what was done to names and tensors.

    Raises:
        InputError: as `read_published`, or not one tensor fits.
    """
    own: Mapping[str, Tensor] = model.state_dict()
    best = _best_translation(_without_wrappers(read_published(path, ema=ema)), model, own)
    adapted, converted = _adapted(best.state, model, own)
    if best.note:
        converted = {"names": best.note, **converted}
    return copy_weights(model, adapted, str(path), converted=converted)


def _without_wrappers(found: State) -> State:
    for wrapper in WRAPPERS:
        if any(key.startswith(wrapper) for key in found):
            found = {key.removeprefix(wrapper): value for key, value in found.items()}
    return found


def _best_translation(found: State, model: nn.Module, own: Mapping[str, Tensor]) -> _Translation:
    """The translation with most names of the network; the simplest of equals."""
    return max(_translations(found, model), key=lambda one: len(one.state.keys() & own.keys()))


def _translations(found: State, model: nn.Module) -> Iterator[_Translation]:
    backbone = getattr(model, "backbone", None)
    renamed = _beit_names(found) if isinstance(backbone, BEiTAdapter) else found
    yield _Translation(renamed, "")
    for outer in OUTER[1:]:
        inner = {key.removeprefix(outer): value for key, value in renamed.items() if key.startswith(outer)}
        if inner:
            yield _Translation(inner, f"{outer!r} taken off")
    for outer in OUTER:
        inner = {key.removeprefix(outer): value for key, value in renamed.items() if key.startswith(outer)}
        if not inner:
            continue
        taken = f"{outer!r} taken off, " if outer else ""
        for places, state in _as_backbone(inner, backbone):
            added = " and ".join(repr(place) for place in places)
            named = {f"{place}{key}": value for place in places for key, value in state.items()}
            yield _Translation(named, f"{taken}{added} put before them")


def _as_backbone(state: State, backbone: nn.Module | None) -> Iterator[tuple[tuple[str, ...], State]]:
    """Ways to read a backbone's weights: the places that they go to, and the names below these."""
    if isinstance(backbone, CBSwinTransformer):
        # Each of the two starts from the same weights; the lead has no patch embedding.
        members = tuple(f"backbone.cb_modules.{number}." for number in range(len(backbone.cb_modules)))
        yield members, _first_release(state)
    elif isinstance(backbone, SwinTransformer):
        if any(key.startswith("layers.") for key in state):
            converted = swin_converter(_first_release(state))
            yield ("backbone.",), {key.removeprefix("backbone."): value for key, value in converted.items()}
        yield ("backbone.",), state
    elif isinstance(backbone, TimmEfficientNet):
        yield ("backbone.net.",), state
    else:
        yield ("backbone.",), state


def _first_release(state: State) -> State:
    """Swin's first names: newer timm keeps a merging with the stage after it."""
    merging = re.compile(r"^layers\.(\d+)\.downsample\.")
    stages = {int(match[1]) for key in state if (match := merging.match(key))}
    if not stages or 0 in stages:
        return state
    return {
        merging.sub(lambda match: f"layers.{int(match[1]) - 1}.downsample.", key): value
        for key, value in state.items()
    }


def _beit_names(state: State) -> State:
    """A plain transformer's names as BEiT's: scales, biases without that of the keys, one table for each block."""
    found: State = {}
    for key, value in state.items():
        key = re.sub(r"\bls([12])\.gamma$|\bgamma([12])$", lambda match: f"gamma_{match[1] or match[2]}", key)
        if key.endswith("attn.qkv.bias") and ".blocks." in f".{key}":
            # A bias of the keys adds the same to all of a query's logits: without it nothing changes.
            stem = key.removesuffix("qkv.bias")
            found[f"{stem}q_bias"], _, found[f"{stem}v_bias"] = value.chunk(3)
        else:
            found[key] = value
    shared = next((key for key in found if key.endswith(f"rel_pos_bias.{TABLE}")), None)
    if shared is not None:
        outer = shared.removesuffix(f"rel_pos_bias.{TABLE}")
        table = found.pop(shared)
        blocks = {
            match[1] for key in found if (match := re.match(rf"{re.escape(outer)}blocks\.(\d+)\.", key))
        }
        for block in blocks:
            found.setdefault(f"{outer}blocks.{block}.attn.{TABLE}", table)
    return found


def _adapted(state: State, model: nn.Module, own: Mapping[str, Tensor]) -> tuple[State, dict[str, str]]:
    """Tensors of the network's sizes where they can be had, and what was done to each."""
    adapted: State = {}
    converted: dict[str, str] = {}
    for key, value in state.items():
        if key not in own or own[key].shape == value.shape:
            adapted[key] = value
            continue
        last = key.rsplit(".", 1)[-1]
        if last == INDEX:  # follows from the window alone
            adapted[key] = own[key]
            converted[key] = "the network's own, for its window"
            continue
        resized = _resized(key, last, value, own[key], model)
        adapted[key] = value if resized is None else resized
        if resized is not None:
            converted[key] = f"{_size(value)} resized to {_size(resized)}"
    return adapted, converted


def _resized(key: str, last: str, value: Tensor, wanted: Tensor, model: nn.Module) -> Tensor | None:
    """A tensor at the network's size; None where that is not possible."""
    resize: Callable[[], Tensor] | None = None
    if last == TABLE and value.shape[1:] == wanted.shape[1:]:
        geometric = isinstance(getattr(model, "backbone", None), BEiTAdapter)
        by_table = resizing.resized_table if geometric else resizing.resized_swin_table
        resize = lambda: by_table(value, len(wanted))  # noqa: E731
    elif key.endswith(PATCHES) and value.shape[:2] == wanted.shape[:2]:
        resize = lambda: resizing.resized_patches(value, wanted.shape[-1])  # noqa: E731
    elif last in POSITIONS and value.ndim == wanted.ndim == 3 and value.shape[-1] == wanted.shape[-1]:
        resize = lambda: resizing.resized_grid(value, wanted.shape[1])  # noqa: E731
    try:
        return None if resize is None else resize()
    except ValueError:
        return None


def _size(tensor: Tensor) -> str:
    return " x ".join(str(side) for side in tensor.shape)
