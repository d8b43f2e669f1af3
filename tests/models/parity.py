"""Numeric fixtures of the original architectures: where they lie, and how one is opened.

The folder is named by ``ARCHITECTURE_FIXTURES``; the default lies next to the checkout. A fixture is a folder with
``config.json``, ``weights.safetensors``, ``io.safetensors``, ``meta.json`` and, of a detector, ``results.json``; the
folder's README says how they were made and how closely they are to be met.
"""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

BESIDE = Path(__file__).parents[2].parent / "shared" / "fixtures" / "architectures"
FOLDER = Path(os.environ.get("ARCHITECTURE_FIXTURES") or BESIDE)
ABSENT = f"no architecture fixtures in {FOLDER}; set ARCHITECTURE_FIXTURES to their folder"
GRADIENT_FLOOR = 1e-3


@dataclass(frozen=True)
class Fixture:
    """One of them; `tensors` are inputs and outputs."""

    folder: Path
    config: Any
    meta: dict[str, Any]

    @property
    def tensors(self) -> dict[str, Tensor]:
        return dict(load_file(self.folder / "io.safetensors"))

    @property
    def results(self) -> dict[str, Any]:
        return dict(json.loads((self.folder / "results.json").read_text()))

    def load(self, model: nn.Module) -> nn.Module:
        """Fill a network; every key must be in both."""
        model.load_state_dict(load_file(self.folder / "weights.safetensors"), strict=True)
        return model


def open_fixture(name: str) -> Fixture:
    folder = FOLDER / name
    return Fixture(
        folder,
        json.loads((folder / "config.json").read_text()),
        json.loads((folder / "meta.json").read_text()),
    )


def names(kind: str) -> list[Any]:
    """Parameters for `pytest.mark.parametrize`: the fixtures of a kind, or one that is skipped with the reason."""
    found = [path.parent.name for path in sorted(FOLDER.glob("*/meta.json"))]
    found = [name for name in found if open_fixture(name).meta["kind"] == kind]
    return found or [pytest.param("", marks=pytest.mark.skip(reason=ABSENT))]


def difference(found: Tensor, wanted: Tensor) -> float:
    """Largest absolute difference of two tensors of one shape."""
    assert found.shape == wanted.shape
    return float((found.detach().double() - wanted.double()).abs().max()) if wanted.numel() else 0.0


def backward(outputs: list[Tensor]) -> None:
    """Go back from the fixtures' loss of maps: each value by the cosine of its place."""
    total = torch.zeros(())
    for number, output in enumerate(outputs):
        places = torch.arange(output.numel(), dtype=torch.float64)
        total = total + (output * torch.cos(0.1 * places + 0.37 * number).float().view(output.shape)).sum()
    total.backward()


def gradient_differences(model: nn.Module, wanted: dict[str, float | None]) -> dict[str, float]:
    """Relative difference of each parameter's gradient norm; one that should have none must have none."""
    parameters = dict(model.named_parameters())
    assert parameters.keys() == wanted.keys()
    found = {}
    for name, norm in wanted.items():
        gradient = parameters[name].grad
        if norm is None:
            assert gradient is None, f"{name} has a gradient"
            continue
        # A parameter that no output depends on has a gradient of nothing here and of 0 there.
        own = 0.0 if gradient is None else float(gradient.norm())
        found[name] = abs(own - norm) / (abs(norm) + GRADIENT_FLOOR)
    return found
