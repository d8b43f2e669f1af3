"""Which members are good enough, how they become one, and which ensemble leads."""

from hubmap_ml.ensembling.builder import EnsembleStudy, ensemble_study, member_input
from hubmap_ml.ensembling.gate import (
    DATA_DIGEST_TAG,
    GATE_TAG,
    HEADLINE_TAG,
    PASSED,
    Finding,
    FoldRecord,
    GateResult,
    MemberRecord,
    VersionRecord,
    champion,
    check_member,
    promoted,
    version_tags,
)
from hubmap_ml.ensembling.recheck import FusionMismatch, recheck_boxes
from hubmap_ml.fusion import fuse

__all__ = [
    "DATA_DIGEST_TAG",
    "GATE_TAG",
    "HEADLINE_TAG",
    "PASSED",
    "EnsembleStudy",
    "Finding",
    "FoldRecord",
    "FusionMismatch",
    "GateResult",
    "MemberRecord",
    "VersionRecord",
    "champion",
    "check_member",
    "ensemble_study",
    "fuse",
    "member_input",
    "promoted",
    "recheck_boxes",
    "version_tags",
]
