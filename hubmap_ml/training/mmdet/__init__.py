"""Training of mmdet detectors. Imports torch when used."""

from typing import TYPE_CHECKING, Any

import hubmap_ml.models  # noqa: F401  (makes mmcv and mmdet importable)
from hubmap_ml.spec.member_config import check as check_member_config

if TYPE_CHECKING:
    from hubmap_ml.training.mmdet.cost import measure
    from hubmap_ml.training.mmdet.progress import check_resumable
    from hubmap_ml.training.mmdet.trainer import fit

__all__ = ["check_member_config", "check_resumable", "fit", "measure"]


def __getattr__(name: str) -> Any:
    """Import the trainer when it is first asked for."""
    if name == "fit":
        from hubmap_ml.training.mmdet.trainer import fit

        return fit
    if name == "check_resumable":
        from hubmap_ml.training.mmdet.progress import check_resumable

        return check_resumable
    if name == "measure":
        from hubmap_ml.training.mmdet.cost import measure

        return measure
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
