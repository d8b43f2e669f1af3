"""Which members are good enough, how they become one, and which ensemble leads."""

from hubmap_ml.ensembling.builder import (
    EnsembleStudy,
    HeldOut,
    MemberSteps,
    Recipe,
    ensemble_study,
    member_input,
    members_named,
)
from hubmap_ml.ensembling.choosing import Choosing, fusion_variants
from hubmap_ml.ensembling.contributions import Contribution, Worth, contributions, cross_fitted_alone
from hubmap_ml.ensembling.diversity import PairDiversity, diversity
from hubmap_ml.ensembling.forward_selection import Forward, Limits, Selection, forward_selection
from hubmap_ml.ensembling.gate import (
    GATE_TAG,
    HEADLINE_TAG,
    LINE_TAG,
    PASSED,
    PROXY_TAG,
    Finding,
    FoldRecord,
    GateResult,
    MemberRecord,
    VersionRecord,
    check_member,
    line_of,
    promoted,
    version_tags,
)
from hubmap_ml.ensembling.policy import (
    AGAINST_TAG,
    FORCED_TAG,
    Challenge,
    Standing,
    challenge_of,
    rollback_tag,
    standing,
)
from hubmap_ml.ensembling.recheck import FusionMismatch, Recheck, recheck_boxes
from hubmap_ml.fusion import fuse

__all__ = [
    "AGAINST_TAG",
    "FORCED_TAG",
    "GATE_TAG",
    "HEADLINE_TAG",
    "LINE_TAG",
    "PASSED",
    "PROXY_TAG",
    "Challenge",
    "Choosing",
    "Contribution",
    "EnsembleStudy",
    "Finding",
    "FoldRecord",
    "Forward",
    "FusionMismatch",
    "GateResult",
    "HeldOut",
    "Limits",
    "MemberRecord",
    "MemberSteps",
    "PairDiversity",
    "Recheck",
    "Recipe",
    "Selection",
    "Standing",
    "VersionRecord",
    "Worth",
    "challenge_of",
    "check_member",
    "contributions",
    "cross_fitted_alone",
    "diversity",
    "ensemble_study",
    "forward_selection",
    "fuse",
    "fusion_variants",
    "line_of",
    "member_input",
    "members_named",
    "promoted",
    "recheck_boxes",
    "rollback_tag",
    "standing",
    "version_tags",
]
