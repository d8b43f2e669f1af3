"""The gate of members that were made elsewhere."""

from typing import Any

import pytest

from hubmap_ml.ensembling import LINE_TAG, OWN_CV_TAG, VersionRecord, check_external, promoted
from hubmap_ml.spec import LEAK_TAG, LeakLevel

GOOD: dict[str, Any] = {
    "folds": [0, 1],
    "headline": 0.5,
    "line": "a line",
    "leak_level": LeakLevel.SLIDE,
    "overlap": 1.0,
}


def test_what_passes_can_be_promoted_and_says_that_its_leak_level_is_declared() -> None:
    result = check_external("theirs", **GOOD)
    assert result.passed
    tags = result.tags()
    assert (tags[LINE_TAG], tags[LEAK_TAG], tags[OWN_CV_TAG]) == ("a line", "slide", "2 folds")
    assert tags["hubmap.gate.leak"] == "ok: leak level slide, as its user declares"
    assert promoted([VersionRecord("theirs", 1, tags)], line="a line", best=1)


@pytest.mark.parametrize(
    ("change", "check"),
    [
        ({"digest_problem": "changed"}, "digests"),
        ({"format_problem": "other classes"}, "format"),
        ({"leak_level": LeakLevel.DUPLICATE}, "leak"),
        ({"leak_level": LeakLevel.TRAINED_ON}, "leak"),
        ({"headline": float("nan")}, "finite"),
        ({"headline": 0.1, "min_score": 0.2}, "score"),
        ({"overlap": 0.1, "min_overlap": 0.2}, "overlap"),
    ],
)
def test_each_check_can_fail(change: dict[str, Any], check: str) -> None:
    result = check_external("theirs", **{**GOOD, **change})
    assert not result.passed
    assert check in {finding.check for finding in result.findings if not finding.passed}
    assert not promoted([VersionRecord("theirs", 1, result.tags())], line="a line", best=1)
