"""Checkpoint folders: `weights.safetensors`, `config.json`; the last of a training also `resume.pt` and `resume.json`.

Data only: a configuration as JSON, tensors, and a training state that torch reads with
``weights_only=True``. A folder is written beside its place and renamed, so that what stands there is always
whole; digests in the two JSON files tell one that was damaged later. The one before a training's last checkpoint stays
beside it (``.last.old``).
"""

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from hubmap_ml.models.weights import file_digest, save_weights
from hubmap_ml.spec import InputError, decode_config, encode_config

FORMAT = 1
WEIGHTS = "weights.safetensors"
CONFIG = "config.json"
RESUME = "resume.pt"
RESUME_SAYS = "resume.json"


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint folder, read except for its tensors.

    Attributes:
        folder: where it lies.
        family: which loader understands it (``mmdet``).
        categories: (id, name) of each class, in the order of the network's labels.
        config: the member's configuration that the network is built from.
        digest: SHA-256 of the weights file.
    """

    folder: Path
    family: str
    categories: tuple[tuple[int, str], ...]
    config: dict[str, Any]
    digest: str

    @property
    def weights(self) -> Path:
        """The safetensors file."""
        return self.folder / WEIGHTS


def write_checkpoint(
    folder: Path,
    model: nn.Module,
    *,
    family: str,
    config: Mapping[str, Any],
    categories: Sequence[tuple[int, str]],
    resume_state: Mapping[str, Any] | None = None,
    keep_old: bool = False,
) -> Checkpoint:
    """Write a checkpoint folder, replacing the one that stands there.

    Args:
        folder: its place; the parent is made if need be.
        model: whose parameters and buffers are kept.
        family: as in `Checkpoint`.
        config: as in `Checkpoint`.
        categories: as in `Checkpoint`.
        resume_state: tensors and plain Python values that a training continues from; its ``iterations`` are written
            into `resume.json` too, for those who choose a checkpoint without torch. The one before is kept then.
        keep_old: keep the one before in any case.
    """
    partial = _beside(folder, "partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    digest = save_weights(model, partial / WEIGHTS)
    if resume_state is not None:
        torch.save(dict(resume_state), partial / RESUME)
        said = {"digest": file_digest(partial / RESUME), "iterations": resume_state.get("iterations")}
        (partial / RESUME_SAYS).write_text(json.dumps(said))
    data = {
        "family": family,
        "format": FORMAT,
        "categories": [[int(key), name] for key, name in categories],
        "config": encode_config(dict(config)),
        "digest_of_weights": digest,
    }
    (partial / CONFIG).write_text(json.dumps(data, indent=1))
    _put(partial, folder, keep_old=keep_old or resume_state is not None)
    return Checkpoint(
        folder,
        family,
        tuple((int(key), name) for key, name in categories),
        dict(config),
        digest,
    )


def copy_checkpoint(source: Path, target: Path, *, with_resume_state: bool, keep_old: bool = False) -> None:
    """Copy a checkpoint folder, replacing what stands at `target` (which stays beside it with ``keep_old``)."""
    partial = _beside(target, "partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    for name in (WEIGHTS, CONFIG, *([RESUME, RESUME_SAYS] if with_resume_state else [])):
        shutil.copyfile(source / name, partial / name)
    _put(partial, target, keep_old=keep_old)


def before(folder: Path) -> Path:
    """Where the checkpoint lies that `folder` replaced."""
    return _beside(folder, "old")


def read_checkpoint(folder: Path, *, verify: bool = True) -> Checkpoint:
    """Read what a checkpoint folder says about itself.

    Args:
        folder: with `config.json` and `weights.safetensors`; after a crash between two renames, the state
            before it.
        verify: compare the weights with the digest that was written with them (reads the file once).

    Raises:
        InputError: something is missing, damaged, of another format, or the weights are not those that were
            written.
    """
    if not folder.is_dir() and _beside(folder, "old").is_dir():
        folder = _beside(folder, "old")
    path = folder / CONFIG
    try:
        data = json.loads(path.read_text())
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file; {folder} is no checkpoint folder") from error
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: not readable as JSON ({error}); the checkpoint is damaged") from error
    try:
        if data["format"] != FORMAT:
            raise InputError(f"{path}: format {data['format']!r}, this version reads format {FORMAT}")
        checkpoint = Checkpoint(
            folder=folder,
            family=str(data["family"]),
            categories=tuple((int(key), str(name)) for key, name in data["categories"]),
            config=dict(decode_config(data["config"])),
            digest=str(data["digest_of_weights"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path}: not a checkpoint's configuration ({error!r})") from error
    if not checkpoint.weights.is_file():
        raise InputError(f"{checkpoint.weights}: no such file; the checkpoint is incomplete")
    if verify and file_digest(checkpoint.weights) != checkpoint.digest:
        raise InputError(
            f"{checkpoint.weights}: not the weights that {CONFIG} was written with (digest differs)"
        )
    return checkpoint


def read_resume_state(checkpoint: Checkpoint) -> dict[str, Any]:
    """The state that a training continues from.

    Raises:
        InputError: there is none, it is not the one that was written, or it holds anything but tensors and plain
            values.
    """
    path = checkpoint.folder / RESUME
    if not path.is_file():
        raise InputError(
            f"{path}: no such file; a training continues from the last checkpoint, which has one"
        )
    try:
        digest = json.loads((checkpoint.folder / RESUME_SAYS).read_text())["digest"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path}: {RESUME_SAYS} beside it is damaged or missing ({error!r})") from error
    if file_digest(path) != digest:
        raise InputError(
            f"{path}: not the training state that {RESUME_SAYS} was written with (digest differs)"
        )
    try:
        return dict(torch.load(path, map_location="cpu", weights_only=True))
    except Exception as error:  # torch raises several kinds, none of its own, for a damaged file
        raise InputError(f"{path}: not a readable training state ({type(error).__name__})") from error


def _beside(folder: Path, what: str) -> Path:
    return folder.with_name(f".{folder.name}.{what}")


def _put(partial: Path, folder: Path, *, keep_old: bool = False) -> None:
    """Rename `partial` to `folder`; a folder cannot be replaced in one step, so the old one steps aside
    first, and goes or stays there.
    """
    for file in partial.iterdir():
        _to_disk(file)
    _to_disk(partial)
    old = _beside(folder, "old")
    if folder.exists():  # else the old one is all there is, until the next line but one
        shutil.rmtree(old, ignore_errors=True)
        os.replace(folder, old)
    os.replace(partial, folder)
    _to_disk(folder.parent)
    if not keep_old:
        shutil.rmtree(old, ignore_errors=True)


def _to_disk(path: Path) -> None:
    """Wait until the disk has it: a rename may reach it before what was written, and the machine may stop between."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
