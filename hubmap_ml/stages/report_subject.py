"""What a report is about, what is found out about it, and its page."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hubmap_ml.data import PreparedData
from hubmap_ml.instances import Annotations
from hubmap_ml.metrics import evaluate
from hubmap_ml.postprocess import apply_steps, parse_steps
from hubmap_ml.spec import Experiment, InputError
from hubmap_ml.stages import upstream
from hubmap_ml.stages.candidates import on_test_images
from hubmap_ml.stages.report_evidence import Evidence, evidence_on
from hubmap_ml.stages.report_lines import Gathered, ReportLine
from hubmap_ml.stages.report_page import curves_of, page_of, pictures_of
from hubmap_ml.tracking import FoundRun, lineage_from
from hubmap_ml.viz import ReportData


@dataclass(frozen=True)
class Subject:
    """What a report is about.

    Attributes:
        experiment: whose.
        gathered: its lines and runs.
        data: the prepared data; None where they are gone.
        run: the one run that it is about; None for an experiment or a part of one.
    """

    experiment: Experiment
    gathered: Gathered
    data: PreparedData | None
    run: FoundRun | None = None

    @property
    def digest(self) -> str:
        """Digest of its data; "" where they are gone."""
        return "" if self.data is None else self.data.digest


@dataclass(frozen=True)
class Findings:
    """What was computed about a subject.

    Attributes:
        evidence: scores, errors, intervals.
        truth: of the hidden test, where there is one.
        hidden: by line its score on the hidden test.
        verdict: the first thing to know.
    """

    evidence: Evidence
    truth: Annotations | None
    hidden: Mapping[str, float | None]
    verdict: str

    def rows(self, gathered: Gathered) -> list[dict[str, Any]]:
        """The table as data, for the chain's own table."""
        return [
            {
                "name": line.name,
                "out_of_fold": line.out_of_fold,
                "cross_fitted": line.cross_fitted,
                "hidden_test": self.hidden.get(line.name),
                "badge": line.badge,
                "leak_level": line.leak_level,
                "test_leak_level": line.test_leak_level,
                "seconds": line.seconds,
                "peak_mib": line.peak_mib,
            }
            for line in gathered.lines
        ]


def examine(subject: Subject) -> Findings:
    """Compute what a page says about a subject."""
    experiment, gathered, data = subject.experiment, subject.gathered, subject.data
    truth = None if data is None else upstream.hidden_truth(data)
    hidden = {line.name: _on_hidden_test(line, gathered, truth, experiment) for line in gathered.lines}
    evidence = Evidence(None, {})
    if gathered.lines and data is not None:
        first = None if gathered.first is None else gathered.first.name
        evidence = evidence_on(
            _compared(gathered), data.annotations, experiment.metric, experiment.seed, about=first
        )
    return Findings(evidence, truth, hidden, _verdict(subject, evidence, hidden))


def page_about(
    subject: Subject,
    findings: Findings,
    client: Any,
    environment: Mapping[str, str],
    *,
    pictures: bool = True,
) -> ReportData:
    """Return the page of a subject.

    Args:
        subject, findings: what it says.
        client: of the store.
        environment: what the report ran in.
        pictures: whether it has galleries.
    """
    gathered, experiment = subject.gathered, subject.experiment
    galleries = []
    if subject.data is not None and pictures:
        galleries = pictures_of(gathered, findings.evidence, subject.data, findings.truth, experiment.metric)
    heads = [subject.run.run_id] if subject.run is not None else [run.run_id for run in gathered.chain]
    return page_of(
        gathered,
        findings.evidence,
        experiment=experiment,
        verdict=findings.verdict,
        hidden=findings.hidden,
        galleries=galleries,
        curves={} if subject.run is None else curves_of(subject.run),
        lineage=lineage_from(client, heads),
        environment=environment,
        hidden_test=findings.truth is not None,
    )


def _compared(gathered: Gathered) -> list[ReportLine]:
    """The lines to compare: the best member first, the ensemble last."""
    members = sorted(gathered.members, key=lambda line: -line.believable)
    return [*members, *([gathered.fused] if gathered.fused else [])]


def _verdict(subject: Subject, evidence: Evidence, hidden: Mapping[str, float | None]) -> str:
    line = subject.gathered.first
    if line is None:
        note = (
            "" if subject.run is None else subject.run.tags.get("mlflow.note.content", "").partition("\n")[0]
        )
        return note or "this run has no score"
    words = f"{line.name}: {line.in_words(subject.experiment.metric)}"
    if line.name in evidence.intervals:
        words += f", 95 % on these slides {evidence.intervals[line.name].in_words()}"
    score = hidden.get(line.name)
    if score is None or not math.isfinite(score):
        return f"{words}; {line.leaks_in_words(hidden_test=False)}"
    return f"{words}; {score:.3f} on the hidden test; {line.leaks_in_words(hidden_test=True)}"


def _on_hidden_test(
    line: ReportLine, gathered: Gathered, truth: Annotations | None, experiment: Experiment
) -> float | None:
    """Score a line on the test images whose truth is known; the ensemble's submission was scored by `submit`."""
    if line.kind == "ensemble":
        return gathered.submitted.metrics.get("test/score") if gathered.submitted is not None else None
    if truth is None or line.study is None or not line.knows_test:
        return None
    try:
        found = apply_steps(
            on_test_images(line.predicted, experiment.merge_iou), parse_steps(line.study["best_steps"])
        )
    except InputError:
        return None
    return float(evaluate(experiment.metric, truth, found).value)
