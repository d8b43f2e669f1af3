"""The promotion gate of members that were made elsewhere: there is no network to try, only predictions.

What can be checked is that the predictions are those that were imported, that they are of this data's images and
classes, how many images they share with the other members, and what their user declares about leaks.
"""

import math
from collections.abc import Sequence

from hubmap_ml.ensembling.gate import Finding, GateResult, MemberRecord
from hubmap_ml.spec import LeakLevel

EXTERNAL_TAG = "hubmap.external"
"""``"true"``: the member's predictions were made elsewhere."""

KNOWS_TEST_TAG = "hubmap.knows_test_images"
"""``"true"`` or ``"false"``, of an external member: whether it came with predictions of all test images."""


def check_external(
    member: str,
    *,
    folds: Sequence[int],
    headline: float,
    line: str,
    leak_level: LeakLevel,
    overlap: float,
    digest_problem: str = "",
    format_problem: str = "",
    min_score: float = 0.0,
    min_overlap: float = 0.0,
) -> GateResult:
    """Put an external member through its gate.

    Checks ``digests`` (its sets are those that were imported), ``format`` (they are of the experiment's images, sizes
    and classes), ``leak`` (the declared level voids no score), ``finite``, ``score`` and ``overlap`` as of any member.

    Args:
        member: its name.
        folds: those that its out-of-fold images lie in.
        headline: its headline score.
        line: see ``gate.line_of``.
        leak_level: as declared.
        overlap: share of all members' held-out images that it predicted.
        digest_problem, format_problem: what is wrong; empty if nothing is.
    """
    record = MemberRecord(
        member,
        tuple(folds),
        (),
        headline,
        line,
        leak_level,
        reproduction="made elsewhere: cannot be asked for again",
        overlap=overlap,
    )
    findings = (
        Finding("digests", not digest_problem, digest_problem or "the predictions that were imported"),
        Finding("format", not format_problem, format_problem or "the experiment's images, sizes and classes"),
        Finding("leak", not leak_level.voids_a_score, f"leak level {leak_level}, as its user declares"),
        Finding(
            "finite",
            math.isfinite(headline),
            "the headline" if math.isfinite(headline) else "not finite: the headline",
        ),
        Finding("score", headline >= min_score, f"headline {headline:.4f}, at least {min_score:g} wanted"),
        Finding(
            "overlap",
            overlap >= min_overlap,
            f"predicted {overlap:.0%} of the members' held-out images, at least {min_overlap:.0%} wanted",
        ),
    )
    return GateResult(record, findings)
