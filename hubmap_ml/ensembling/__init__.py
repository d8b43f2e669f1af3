"""Which members are good enough, how they become one, and which ensemble leads."""

from hubmap_ml.ensembling.builder import EnsembleStudy, MemberSteps, ensemble_study, member_input
from hubmap_ml.ensembling.gate import (
    GATE_TAG,
    HEADLINE_TAG,
    LINE_TAG,
    OWN_CV_TAG,
    PASSED,
    PROXY_TAG,
    Finding,
    FoldRecord,
    GateResult,
    MemberRecord,
    VersionRecord,
    champion,
    check_member,
    line_of,
    promoted,
    version_tags,
)
from hubmap_ml.ensembling.recheck import FusionMismatch, recheck_boxes
from hubmap_ml.ensembling.reproduction import Reproduction, compare_candidates, compare_scores
from hubmap_ml.fusion import fuse

__all__ = [
    "GATE_TAG",
    "HEADLINE_TAG",
    "LINE_TAG",
    "OWN_CV_TAG",
    "PASSED",
    "PROXY_TAG",
    "EnsembleStudy",
    "Finding",
    "FoldRecord",
    "FusionMismatch",
    "GateResult",
    "MemberRecord",
    "MemberSteps",
    "Reproduction",
    "VersionRecord",
    "champion",
    "check_member",
    "compare_candidates",
    "compare_scores",
    "ensemble_study",
    "fuse",
    "line_of",
    "member_input",
    "promoted",
    "recheck_boxes",
    "version_tags",
]
