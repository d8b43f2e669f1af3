"""What a report shows: lines of its table (members, an ensemble, single networks), found among the store's runs."""

import contextlib
import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hubmap_ml.ensembling import (
    AGAINST_TAG,
    FORCED_TAG,
    GATE_TAG,
    KNOWS_TEST_TAG,
    LINE_TAG,
    PREDICTIONS_ONLY_TAG,
)
from hubmap_ml.spec import InputError
from hubmap_ml.stages import champion, inputs, promote, upstream
from hubmap_ml.stages.generations import generation_tags
from hubmap_ml.stages.generations import in_words as generation_in_words
from hubmap_ml.stages.leaks import TEST_LEAK_TAG, leak_tags
from hubmap_ml.stages.leaks import in_words as leak_in_words
from hubmap_ml.stages.record import TAKEN_IN_TAG, chain_of, document_or_none
from hubmap_ml.stages.session import Session
from hubmap_ml.stages.study_record import believable, in_words
from hubmap_ml.stages.tune import read_study
from hubmap_ml.tracking import (
    CHAMPION,
    EXPERIMENT,
    MEMBER,
    PROMOTED,
    STAGE,
    FoundRun,
    Version,
    by_alias,
    get_run,
    open_store,
    search,
    versions,
)

ENSEMBLE = "ensemble"
"""What ``member`` may be called to mean the ensemble; no member may have that name."""


@dataclass(frozen=True)
class ReportLine:
    """One line of the table, with the runs behind it.

    Attributes:
        name: as registered.
        kind: ``member``, ``ensemble`` or ``network`` (one fold, before tuning).
        head: the run that scored it: its study, the ensemble's, or the prediction's.
        predicted: runs with its candidates, of its own networks.
        runs: all runs behind it.
        study: what its threshold study found; None for a network.
        leaks: leak tags of all that its score rests on.
        badge: where it stands in the registry.
        why: why it stands there.
        cost: what an image costs, in words; "" where nobody measured it.
    """

    name: str
    kind: str
    head: FoundRun
    predicted: Sequence[FoundRun]
    runs: Sequence[FoundRun]
    study: Mapping[str, Any] | None
    leaks: Mapping[str, str]
    badge: str = ""
    why: str = ""
    cost: str = ""

    @property
    def out_of_fold(self) -> float:
        """The headline with the thresholds as registered."""
        return float(self.study["value"]) if self.study else self.head.metrics.get("headline", math.nan)

    @property
    def cross_fitted(self) -> float | None:
        """The score of the procedure; None where there is none."""
        value = self.study["cross_fitted"] if self.study else None
        return None if value is None else float(value)

    @property
    def believable(self) -> float:
        """The score to rank by."""
        return believable(self.cross_fitted, self.out_of_fold)

    @property
    def leak_level(self) -> str:
        """The leak level out of fold, in words."""
        return leak_in_words(self.leaks)

    @property
    def test_leak_level(self) -> str:
        """The leak level on the test images, in words."""
        return leak_in_words(self.leaks, tag=TEST_LEAK_TAG)

    @property
    def is_declared(self) -> bool:
        """Whether its leak level is what somebody said of predictions made elsewhere: nothing could be measured."""
        return any(KNOWS_TEST_TAG in run.tags for run in self.predicted)

    @property
    def knows_test(self) -> bool:
        """Whether it predicted the test images."""
        return not any(run.tags.get(KNOWS_TEST_TAG) == "false" for run in self.predicted)

    @property
    def seconds(self) -> float:
        """Wall time of all runs behind it."""
        return sum(run.metrics.get("time/seconds", 0.0) for run in self.runs)

    @property
    def peak_mib(self) -> float:
        """The most memory that one of them took."""
        return max((run.metrics.get("system/peak_memory_mib", 0.0) for run in self.runs), default=0.0)

    def leaks_in_words(self, *, hidden_test: bool) -> str:
        """The leak level in words; with that of its score on the hidden test, where it has one."""
        test = f", {self.test_leak_level} on the hidden test" if hidden_test else ""
        declared = " (declared, not measured)" if self.is_declared else ""
        return f"leak level {self.leak_level}{test}{declared}"

    def in_words(self, metric: str) -> str:
        """Its score as a sentence without its name."""
        if self.study is None:
            return f"{metric} {self.out_of_fold:.3f} before tuning, on one fold"
        return f"{metric} {in_words(self.cross_fitted, self.out_of_fold)}"


@dataclass(frozen=True)
class Gathered:
    """What a report shows, found before anything is computed.

    Attributes:
        title: of the page.
        members: lines of members or single networks.
        fused: the ensemble's, where there is one.
        submitted: the run that handed in the ensemble's predictions.
        chain: all runs behind it.
        absent: by member, why it has no line.
    """

    title: str
    members: Sequence[ReportLine]
    fused: ReportLine | None
    submitted: FoundRun | None
    chain: Sequence[FoundRun]
    absent: Mapping[str, str] = dataclasses.field(default_factory=dict)

    @property
    def lines(self) -> list[ReportLine]:
        """All lines, the ensemble last."""
        return [*self.members, *([self.fused] if self.fused else [])]

    @property
    def first(self) -> ReportLine | None:
        """The line that the verdict and the pictures are about: the ensemble, else the best member."""
        if self.fused is not None:
            return self.fused
        return max(self.members, key=lambda line: line.believable, default=None)


def of_experiment(session: Session, prepared: upstream.Prepared, member: str = "") -> Gathered:
    """Find what a report of an experiment shows.

    Args:
        session: experiment and settings.
        prepared: its data.
        member: one member's page, or ``ENSEMBLE``; by default everything.

    Raises:
        InputError: no member is tuned yet, or not this one; no ensemble leads.
    """
    names = (
        list(session.experiment.members)
        if member in ("", ENSEMBLE)
        else [session.experiment.member_named(member)]
    )
    members, absent = [], {}
    for name in names:
        found = _member(session, name, prepared)
        if isinstance(found, str):
            absent[name] = found
        else:
            members.append(found)
    fused, submitted = (None, None) if member not in ("", ENSEMBLE) else _champion(session, prepared)
    title = session.experiment.name
    if member == ENSEMBLE:
        if fused is None:
            raise InputError(
                f"experiment {title!r} has no ensemble for this data, metric and folds: run ensemble first"
            )
        inside = {origin.run_id for origin in chain_of(fused.head)}
        members = [line for line in members if line.head.run_id in inside]
        title, absent = fused.name, {}
    elif member:
        if not members:
            raise InputError(f"{absent[names[0]]}; there is nothing to report")
        title = members[0].name
    if not members and fused is None:
        raise InputError(
            f"experiment {session.experiment.name!r} has no tuned member yet: there is nothing to report"
        )
    runs = [run for line in members for run in line.runs]
    gate = _newest(session.experiment.name, "promote")
    known = {run.run_id for run in runs}
    if gate is not None and known & set(gate.tags.get("hubmap.upstream_runs", "").split(",")):
        runs.append(gate)
    chain = distinct([prepared.run, *runs, *(fused.runs if fused else ())])
    return Gathered(title, members, fused, submitted, chain, absent)


def of_run(run: FoundRun) -> Gathered:
    """Find what a report of one run shows: the run, all that it came from, and the scores among them."""
    stage = run.tags.get(STAGE, "")
    steps = document_or_none(run, "steps.json") if stage == "main" else None
    heads = [get_run(run.client, row["run_id"]) for row in steps] if steps else [run]
    chain = distinct([origin for head in heads for origin in chain_of(head)])
    order = {name: k for k, name in enumerate(_STAGE_ORDER)}
    chain.sort(key=lambda one: order.get(one.tags.get(STAGE, ""), len(order)))
    of_stage: dict[str, list[FoundRun]] = {}
    for one in chain:
        of_stage.setdefault(one.tags.get(STAGE, ""), []).append(one)
    members = [_line_of_study(one) for one in of_stage.get("tune", ())]
    fused = None
    for one in of_stage.get("ensemble", ())[-1:]:
        name = champion.model_name(one.tags.get(EXPERIMENT, ""))
        made = next((v for v in versions(run.client, name) if v.tags.get("hubmap.run") == one.run_id), None)
        fused = _fused(name, one, of_stage.get("submit", ()), made)
    if not members and fused is None:
        members = [_line_of_network(one) for one in of_stage.get("predict", ()) if one.run_id == run.run_id]
    submitted = of_stage.get("submit", [None])[-1]
    title = run.tags.get("mlflow.runName", "") or f"run {run.run_id[:12]}"
    return Gathered(f"{run.tags.get(EXPERIMENT, '')} · {title}", members, fused, submitted, chain)


_STAGE_ORDER = (
    "prepare",
    "pretrain",
    "finetune",
    "predict",
    "tune",
    "promote",
    "ensemble",
    "submit",
    "report",
)


def _member(session: Session, member: str, prepared: upstream.Prepared) -> ReportLine | str:
    """Return a member's line, or why it has none."""
    session = dataclasses.replace(session, with_upstream=False)
    try:
        tuned = upstream.tuned(session, member, prepared)
        predicted = upstream.predictions_of(session, member, prepared)
    except InputError as error:
        return str(error)
    runs: list[FoundRun] = []
    for fold in session.experiment.folds_of(member):
        with contextlib.suppress(InputError):  # a training may be gone while what was made of it is there
            taught = upstream.pseudo_labelled(session, member, fold, prepared)
            runs += [taught] if taught else []
            start = upstream.pretrained(session, member, fold, prepared)
            runs += [start] if start else []
        with contextlib.suppress(InputError):
            runs.append(upstream.finetuned(session, member, fold, prepared))
    shown = distinct([*runs, *predicted, tuned])
    recipe = session.experiment.recipe_of(member)
    scored = predicted if recipe == member else upstream.predictions_of(session, recipe, prepared)
    line = _line(
        promote.model_name(session, member), tuned, predicted, shown, distinct([*scored, *predicted])
    )
    if recipe != member:
        proxy = f"trained on all data: out-of-fold scores by proxy of {recipe}"
        line = dataclasses.replace(line, badge=f"{line.badge}, {proxy}")
    return line


def _line_of_study(tuned: FoundRun) -> ReportLine:
    origins = chain_of(tuned)
    predicted = [one for one in origins if one.tags.get(STAGE) == "predict"][::-1]
    name = f"{tuned.tags.get(EXPERIMENT, '')}.{tuned.tags.get(MEMBER, '')}"
    shown = [one for one in origins if one.tags.get(STAGE) != "prepare"]
    return _line(name, tuned, predicted, shown, predicted)


def _line(
    name: str,
    tuned: FoundRun,
    predicted: Sequence[FoundRun],
    runs: Sequence[FoundRun],
    scored: Sequence[FoundRun],
) -> ReportLine:
    version = next(
        (
            one
            for one in versions(tuned.client, name)[::-1]
            if one.tags.get("hubmap.tune_run") == tuned.run_id
        ),
        None,
    )
    badge, why = _standing_of(name, tuned, version)
    if any(one.tags.get(TAKEN_IN_TAG) == "true" for one in runs):
        badge += ", made elsewhere"
    learnt = generation_in_words(generation_tags([one.tags for one in runs]))
    badge += f", learnt from {learnt}" if learnt else ""
    return ReportLine(
        name, "member", tuned, predicted, runs, read_study(tuned), leak_tags(scored), badge, why,
        "" if version is None else _cost(version.tags),
    )  # fmt: skip


def _line_of_network(run: FoundRun) -> ReportLine:
    shown = [one for one in chain_of(run) if one.tags.get(STAGE) != "prepare"]
    name = run.tags.get("mlflow.runName", "predict")
    return ReportLine(name, "network", run, [run], shown, None, leak_tags([run]), "one fold, before tuning")


def _champion(session: Session, prepared: upstream.Prepared) -> tuple[ReportLine | None, FoundRun | None]:
    """Return the ensemble's line and the run that submitted its predictions, where there are such.

    It is the champion; where none leads, the newest ensemble that knows the test images alone.
    """
    name, client = champion.model_name(session.experiment.name), open_store()
    standing = inputs.line(session, prepared.data)
    try:
        version = by_alias(client, name, CHAMPION)
    except InputError:
        stored = [one for one in versions(client, name) if one.tags.get(PREDICTIONS_ONLY_TAG) == "true"]
        of_line = [one for one in stored if one.tags.get(LINE_TAG) == standing]
        if not of_line:
            return None, None
        version = of_line[-1]
    if version.tags.get(LINE_TAG) != standing:
        return None, None
    submitted = search(
        f"tags.`hubmap.experiment` = '{session.experiment.name}' and tags.`hubmap.stage` = 'submit' "
        f"and tags.`hubmap.model` = '{version.uri}' and attributes.status = 'FINISHED'",
        limit=1,
    )
    made = search(f"attributes.run_id = '{version.run_id}'", limit=1)
    return _fused(name, made[0], submitted, version), submitted[0] if submitted else None


def _fused(name: str, made: FoundRun, submitted: Sequence[FoundRun], version: Version | None) -> ReportLine:
    badge, why = "not registered", ""
    if version is not None:
        leads = False
        with contextlib.suppress(InputError):
            leads = by_alias(made.client, name, CHAMPION).number == version.number
        stored = version.tags.get(PREDICTIONS_ONLY_TAG) == "true"
        badge = f"{'champion' if leads else 'predictions-only' if stored else 'version'} v{version.number}"
        why = _why_it_leads(version)
    tags = made.tags if version is None else version.tags
    return ReportLine(
        name,
        "ensemble",
        made,
        [],
        distinct([made, *submitted]),
        read_study(made),
        tags,
        badge,
        why,
        _cost(tags),
    )


def _why_it_leads(version: Version) -> str:
    if version.tags.get(FORCED_TAG) == "true":
        return "by force, not by its score"
    compared = sorted(key for key in version.tags if key.startswith(AGAINST_TAG))
    if not compared:
        return "the first ensemble on this data, metric and folds: it had nobody to beat"
    with contextlib.suppress(ValueError, KeyError):
        words = json.loads(version.tags[compared[-1]])["words"]
        return f"compared with version {compared[-1][len(AGAINST_TAG) :]}: {words}"
    return ""


def _standing_of(name: str, tuned: FoundRun, version: Version | None) -> tuple[str, str]:
    """Return where a member stands in the registry, and why."""
    if version is not None:
        checks = [key for key in version.tags if key.startswith(f"{GATE_TAG}.")]
        failed = [version.tags[key] for key in checks if not version.tags[key].startswith("ok")]
        why = "; ".join(failed) or f"passed all {len(checks)} checks of the gate"
        with contextlib.suppress(InputError):
            if by_alias(tuned.client, name, PROMOTED).number == version.number:
                return f"promoted v{version.number}", why
        return (
            "not promoted",
            f"version {version.number} passed the gate, and others are promoted in its place",
        )
    gate = _newest(tuned.tags.get(EXPERIMENT, ""), "promote")
    refused = (document_or_none(gate, "gate.json") or {}).get("refused", {}) if gate else {}
    why = refused.get(tuned.tags.get(MEMBER, ""), "")
    return "not promoted", f"refused: {why}" if why else "no promote run has looked at it yet"


def _cost(tags: Mapping[str, str]) -> str:
    words = []
    if "hubmap.s_per_image" in tags:
        where = f" on {tags['hubmap.device_kind']}" if "hubmap.device_kind" in tags else ""
        words.append(f"{float(tags['hubmap.s_per_image']):.2f} s/image{where}")
    if "hubmap.parameters" in tags:
        words.append(f"{float(tags['hubmap.parameters']) / 1e6:.1f} M parameters")
    return ", ".join(words)


def _newest(experiment: str, stage: str) -> FoundRun | None:
    found = search(
        f"tags.`hubmap.experiment` = '{experiment}' and tags.`hubmap.stage` = '{stage}' "
        "and attributes.status = 'FINISHED'"
    )
    return next((run for run in found if "hubmap.reuses" not in run.tags), None)


def distinct(runs: Sequence[FoundRun]) -> list[FoundRun]:
    """Return each run once, in order."""
    return list({run.run_id: run for run in runs}.values())
