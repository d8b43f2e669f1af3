"""From a checkpoint and images to candidate predictions. Imports torch when used."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

import hubmap_ml.models  # noqa: F401  (makes mmcv and mmdet importable)

if TYPE_CHECKING:
    from hubmap_ml.inference.candidates import CandidateStats, predict_candidates
    from hubmap_ml.inference.network import Network, open_network
    from hubmap_ml.inference.views import VIEWS

_HOMES = {
    "CandidateStats": "candidates",
    "Network": "network",
    "VIEWS": "views",
    "open_network": "network",
    "predict_candidates": "candidates",
}

__all__ = ["VIEWS", "CandidateStats", "Network", "open_network", "predict_candidates"]


def __getattr__(name: str) -> Any:
    """Import a public name's module when the name is first asked for."""
    if name in _HOMES:
        return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
