"""The published full-size detectors have exactly the names and shapes of the originals: their weights fit.

Built on torch's meta device, which knows shapes and holds no values.
"""

import gzip
import json
from typing import Any

import pytest
import torch

from hubmap_ml.models import build_detector
from tests.models.parity import ABSENT, FOLDER

TABLES = FOLDER / "full_size" / "state_dict_shapes"
NAMES = [path.name.removesuffix(".json.gz") for path in sorted(TABLES.glob("*.json.gz"))] or [
    pytest.param("", marks=pytest.mark.skip(reason=ABSENT))
]


@pytest.mark.parametrize("name", NAMES)
def test_a_published_detector_has_the_originals_names_shapes_and_frozen_parameters(name: str) -> None:
    table: dict[str, Any] = json.loads(gzip.decompress((TABLES / f"{name}.json.gz").read_bytes()))
    config = json.loads((FOLDER / "full_size" / "configs" / f"{name}.json").read_text())
    with torch.device("meta"):
        model = build_detector(config, 1)
    state = model.state_dict()
    parameters = {key: list(value.shape) for key, value in model.named_parameters()}
    buffers = {
        key: {"shape": list(value.shape), "dtype": str(value.dtype).removeprefix("torch.")}
        for key, value in model.named_buffers()
        if key in state
    }
    assert parameters == table["parameters"]
    assert buffers == table["buffers"]
    assert len(state) == table["info"]["n_state_dict"]
    assert sum(value.numel() for value in model.parameters()) == table["info"]["n_parameters"]
    frozen = sorted(key for key, value in model.named_parameters() if not value.requires_grad)
    assert frozen == sorted(table["info"]["frozen_parameters"])
