"""The promotion gate's arithmetic: which members may be registered, which versions are promoted, which is champion.

Pure functions over records and version tags. Whoever calls them has opened the checkpoints and read the scores, and
writes the tags; because ``promoted`` and ``champion`` depend on nothing but tags, computing them again is also the
repair after a crash between two calls to the registry.

Versions stand in a line: the same data, folds and metric (see ``line_of``). Versions of another line are never compared
with these, and a new digest of the data starts a new line.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from hubmap_ml.spec import LEAK_TAG, LeakLevel, digest_of

GATE_TAG = "hubmap.gate"
HEADLINE_TAG = "hubmap.headline"
LINE_TAG = "hubmap.line"
PROXY_TAG = "hubmap.score_by_proxy_of"
OWN_CV_TAG = "hubmap.own_cv"
PASSED = "passed"


@dataclass(frozen=True)
class FoldRecord:
    """One trained fold of a member.

    Attributes:
        fold: its number.
        run_id: the run that trained it.
        weights_digest: digest of its weights.
        score: its out-of-fold score in the experiment's metric; of a network of all data its recipe's.
        problem: why its checkpoint does not load; empty if it does.
    """

    fold: int
    run_id: str
    weights_digest: str
    score: float
    problem: str = ""


@dataclass(frozen=True)
class MemberRecord:
    """What the gate must know about a member.

    Attributes:
        member: its name.
        expected_folds: the folds that the experiment gives it.
        folds: what there is, in any order.
        headline: its headline score over the folds.
        line: what its score may be compared with, see ``line_of``.
        leak_level: the worst of its folds.
        proxy_of: registered name of the recipe whose cross-validation the scores are, where it has none of its own.
        trial: what went wrong when its predictor was opened and used in a fresh process; empty if nothing did.
        reproduction: how far its recorded candidates were found again there, in words.
        reproduces: whether they were.
        overlap: share of all members' held-out images that it predicted.
    """

    member: str
    expected_folds: tuple[int, ...]
    folds: tuple[FoldRecord, ...]
    headline: float
    line: str
    leak_level: LeakLevel
    proxy_of: str = ""
    trial: str = ""
    reproduction: str = "not asked for"
    reproduces: bool = True
    overlap: float = 1.0

    @property
    def own_cv(self) -> str:
        """What the score is, in words: by how many folds, or by proxy."""
        if self.proxy_of:
            return f"none: by proxy of {self.proxy_of}"
        if len(self.expected_folds) == 1:
            return "single fold: its thresholds were tuned on the images that score it"
        return f"{len(self.expected_folds)} folds"


@dataclass(frozen=True)
class Finding:
    """One check of the gate: its name, how it went, and what was found."""

    check: str
    passed: bool
    detail: str


@dataclass(frozen=True)
class GateResult:
    """All findings about one member; every check is made, also after one has failed."""

    record: MemberRecord
    findings: tuple[Finding, ...]

    @property
    def passed(self) -> bool:
        """Whether every check passed."""
        return all(finding.passed for finding in self.findings)

    @property
    def verdict(self) -> str:
        """``"passed"``, or ``"failed: "`` with what was found, in one line."""
        failures = "; ".join(finding.detail for finding in self.findings if not finding.passed)
        return f"failed: {failures}" if failures else PASSED

    def tags(self) -> dict[str, str]:
        """Return the version tags that ``promoted`` and ``champion`` read, and one tag a finding."""
        tags = version_tags(self.record.headline, self.record.line, verdict=self.verdict)
        tags[LEAK_TAG] = str(self.record.leak_level)
        tags[OWN_CV_TAG] = self.record.own_cv
        if self.record.proxy_of:
            tags[PROXY_TAG] = self.record.proxy_of
        for finding in self.findings:
            tags[f"{GATE_TAG}.{finding.check}"] = f"{'ok' if finding.passed else 'FAILED'}: {finding.detail}"
        return tags


def check_member(record: MemberRecord, *, min_score: float = 0.0, min_overlap: float = 0.0) -> GateResult:
    """Put a member through the gate.

    Checks ``folds`` (each expected fold exactly once, none beside), ``loads`` (every checkpoint), ``trial`` (it loads
    and predicts in a fresh process and executes nothing from its folder), ``reproduces`` (its recorded candidates are
    found again), ``finite`` (every fold's score and the headline), ``distinct`` (no two folds with the same weights),
    ``leak`` (no held-out image that the fold was trained on, under its own name or another), ``score`` (headline at
    least ``min_score``) and ``overlap`` (at least ``min_overlap`` of the images that any member predicted).
    """
    there = sorted(fold.fold for fold in record.folds)
    expected = sorted(record.expected_folds)
    problems = [f"fold {fold.fold}: {fold.problem}" for fold in record.folds if fold.problem]
    not_finite = [f"fold {fold.fold}" for fold in record.folds if not math.isfinite(fold.score)]
    if not math.isfinite(record.headline):
        not_finite.append("the headline")
    digests = [fold.weights_digest for fold in record.folds]
    good_enough = record.headline >= min_score
    findings = (
        Finding("folds", bool(there) and there == expected, f"folds {there} of {expected}"),
        Finding("loads", not problems, "; ".join(problems) or f"{len(digests)} checkpoints load"),
        Finding("trial", not record.trial, record.trial or "loads and predicts in a fresh process"),
        Finding("reproduces", record.reproduces, record.reproduction),
        Finding(
            "finite", not not_finite, f"not finite: {', '.join(not_finite)}" if not_finite else "all scores"
        ),
        Finding(
            "distinct",
            len(set(digests)) == len(digests),
            f"{len(set(digests))} weights in {len(digests)} folds",
        ),
        Finding("leak", not record.leak_level.voids_a_score, f"leak level {record.leak_level}"),
        Finding(
            "score",
            good_enough,
            f"headline {record.headline:.4f}{f' by proxy of {record.proxy_of}' if record.proxy_of else ''}, "
            f"at least {min_score:g} wanted",
        ),
        Finding(
            "overlap",
            record.overlap >= min_overlap,
            f"predicted {record.overlap:.0%} of the members' held-out images, at least {min_overlap:.0%} wanted",
        ),
    )
    return GateResult(record, findings)


@dataclass(frozen=True)
class VersionRecord:
    """A version of a registered model, as far as promotion is concerned: its name, its number and its tags."""

    name: str
    version: int
    tags: Mapping[str, str]

    @property
    def headline(self) -> float:
        """The headline score in its tags; NaN where there is none."""
        try:
            return float(self.tags[HEADLINE_TAG])
        except (KeyError, ValueError):
            return math.nan

    def may_stand(self, line: str) -> bool:
        """Whether it passed the gate, has a finite headline and belongs to this line."""
        return (
            self.tags.get(GATE_TAG) == PASSED
            and self.tags.get(LINE_TAG) == line
            and math.isfinite(self.headline)
        )


def line_of(*, data_digest: str, metric: str, folds: Mapping[str, object]) -> str:
    """Return the name of a line: a digest of the data, the metric and the way the folds are made."""
    return digest_of({"data": data_digest, "metric": metric, "folds": dict(folds)})


def version_tags(headline: float, line: str, *, verdict: str = PASSED) -> dict[str, str]:
    """Return the tags that ``promoted`` and ``champion`` read, for a version of a member or an ensemble."""
    return {GATE_TAG: verdict, HEADLINE_TAG: repr(float(headline)), LINE_TAG: line}


def promoted(versions: Iterable[VersionRecord], *, line: str, best: int) -> tuple[VersionRecord, ...]:
    """Return the versions that carry ``promoted``: of each member its best version, of these the ``best`` best.

    Args:
        versions: of members; several of one member are allowed, only one of them can be promoted.
        line: versions of other lines stay out.
        best: at most this many.

    Returns:
        By descending headline; equal headlines keep the order of names, and the earlier version.
    """
    of_member: dict[str, VersionRecord] = {}
    for record in sorted(versions, key=_rank):
        if record.may_stand(line):
            of_member.setdefault(record.name, record)
    return tuple(sorted(of_member.values(), key=_rank)[:best])


def champion(versions: Iterable[VersionRecord], *, line: str) -> VersionRecord | None:
    """Return the version that carries ``champion``: the best headline; a later version must be strictly better.

    Args:
        versions: of one registered ensemble.
        line: versions of other lines stay out.

    Returns:
        None where no version of this line passed.
    """
    standing = [record for record in versions if record.may_stand(line)]
    return min(standing, key=_rank, default=None)


def _rank(record: VersionRecord) -> tuple[float, str, int]:
    headline = record.headline
    return (-headline if math.isfinite(headline) else math.inf, record.name, record.version)
