"""`reproduce`: run a stage again from its record alone, and say what came out differently.

The experiment, the members' configurations with their overrides and the seed are read from the run's artifacts; what it
started from are the very runs that it started from. The data at hand must be the recorded ones; another commit or other
versions of what computes are said, not refused. On the CPU nothing may differ.
"""

import logging
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from hubmap_ml.spec import STAGE_VERSION, InputError, decode_config, parse_overrides
from hubmap_ml.stages import finetune, predict, prepare, pretrain, pseudo_label, tune, upstream
from hubmap_ml.stages.outcome_differences import Difference, differences
from hubmap_ml.stages.record import TAKEN_IN, TAKEN_IN_TAG, chain_of, document, fold_of, original, subject_of
from hubmap_ml.stages.session import TRAINED, Outcome, Session, place_of, recorded_session
from hubmap_ml.tracking import (
    COMMIT,
    MEMBER,
    STAGE,
    FoundRun,
    get_run,
    open_store,
    run_named,
)

log = logging.getLogger(__name__)

RESULT = "reproduction.json"
OUTCOME = "hubmap.reproduced"

WORK: Mapping[str, Callable[[Session, str, int], Outcome]] = {
    "prepare": lambda session, member, fold: prepare.work(session),
    "pseudo_label": pseudo_label.work,
    "pretrain": pretrain.work,
    "finetune": finetune.work,
    "predict": predict.work,
    "tune": lambda session, member, fold: tune.work(session, member),
}


@dataclass(frozen=True)
class Reproduction:
    """What running a record again gave.

    Attributes:
        recorded, repeated: ids of the two runs.
        same_key: whether today's code gives the repeated inputs the recorded stage key.
        differences: results that differ; none means identical.
        compared: what was compared, in words.
        warnings: what differs around the work: code, versions, checkpoints that are gone.
    """

    recorded: str
    repeated: str
    stage: str
    same_key: bool
    differences: tuple[Difference, ...]
    compared: tuple[str, ...]
    warnings: tuple[str, ...]

    @property
    def identical(self) -> bool:
        """Whether every compared result is the recorded one."""
        return not self.differences

    def to_data(self) -> dict[str, Any]:
        """Return all of it as JSON-able data."""
        return {**asdict(self), "identical": self.identical}


def run(run_id: str, *, raw: str = "", workers: int = -1, device: str = "auto") -> Reproduction:
    """Repeat a finished run of prepare, pseudo-label, pretrain, finetune, predict or tune.

    Args:
        run_id: its id, or a unique beginning of it.
        raw: folder of raw files, where they are no longer at the recorded place.
        workers: processes for loading; they change no result.
        device: as for a stage.

    Raises:
        InputError: no such run, one that cannot be repeated from its record, or data that are not the recorded ones.
    """
    client = open_store()
    recorded = original(run_named(client, run_id))
    stage = recorded.tags.get(STAGE, "")
    if stage not in WORK:
        raise InputError(
            f"run {recorded.run_id[:12]} is of {stage or 'no stage of ours'}; 'reproduce' repeats {', '.join(WORK)}"
        )
    status = client.get_run(recorded.run_id).info.status
    if status != "FINISHED":
        raise InputError(
            f"run {recorded.run_id[:12]} is {status}: only a finished run has results to compare with"
        )
    if stage == "finetune" and recorded.tags.get(TAKEN_IN_TAG) == "true":
        raise InputError(
            f"run {recorded.run_id[:12]} took in a network that was trained elsewhere: there is nothing to repeat"
        )
    session = session_of(recorded, raw=raw, workers=workers, device=device)
    if stage == "prepare":
        upstream.check_raw(recorded, *prepare.raw_folder(session))
    outcome = WORK[stage](session, subject_of(recorded) or "", fold_of(recorded) or 0)
    repeated = get_run(client, outcome.run_id)
    found, compared, warnings = differences(stage, recorded, repeated)
    result = Reproduction(
        recorded=recorded.run_id,
        repeated=repeated.run_id,
        stage=stage,
        same_key=outcome.key == recorded.key,
        differences=tuple(found),
        compared=tuple(compared),
        warnings=(*_around(recorded, repeated), *warnings),
    )
    client.log_dict(repeated.run_id, result.to_data(), RESULT)
    client.set_tag(repeated.run_id, OUTCOME, "identical" if result.identical else "different")
    return result


def session_of(recorded: FoundRun, *, raw: str = "", workers: int = -1, device: str = "auto") -> Session:
    """Return the session that a run was called with, from its record and those of the runs that it came from."""
    places: dict[str, str] = {}
    imports: dict[str, Path] = {}
    configs: dict[str, Any] = {}
    for run_ in chain_of(recorded):
        stage, subject = run_.tags.get(STAGE, ""), subject_of(run_)
        # The nearest counts: weights that it started from may have been trained by another run of the same name.
        places.setdefault(place_of(stage, subject, fold_of(run_)), run_.run_id)
        if stage in TRAINED and f"{subject}.{stage}" not in configs:
            configs[f"{subject}.{stage}"] = decode_config(_kept(run_, "member_config.json"))
        member = run_.tags.get(MEMBER)
        if member is not None and run_.tags.get(TAKEN_IN_TAG) == "true":
            imports[member] = run_.artifact(TAKEN_IN)
    places.pop(place_of(recorded.tags[STAGE], subject_of(recorded), fold_of(recorded)), None)
    try:
        overrides = parse_overrides(recorded.params.get("set", ""))
    except InputError:  # kept as a parameter for people; the configurations hold them already
        overrides = {}
    return recorded_session(
        _kept(recorded, "experiment.json"),
        configs,
        reproduces=recorded.run_id,
        recorded=places,
        imports=imports,
        overrides=overrides,
        raw=raw,
        workers=workers,
        device=device,
    )


def _kept(run_: FoundRun, name: str) -> Any:
    try:
        return document(run_, name)
    except InputError as error:
        raise InputError(f"run {run_.run_id[:12]} cannot be repeated from its record: {error}") from None


def _around(recorded: FoundRun, repeated: FoundRun) -> list[str]:
    """Say what differs around the work: commit, uncommitted changes, versions."""
    said = []
    then, now = (run_.tags.get(COMMIT, "") for run_ in (recorded, repeated))
    if then != now:
        said.append(f"other code: recorded commit {then[:12] or 'unknown'}, now {now[:12] or 'unknown'}")
    for name, run_ in (("recorded", recorded), ("present", repeated)):
        if run_.tags.get("hubmap.code_dirty") == "true":
            said.append(
                f"the {name} code had uncommitted changes (uncommitted.diff of run {run_.run_id[:12]})"
            )
    version = _kept(recorded, "stage_inputs.json").get("version")
    stage = recorded.tags[STAGE]
    if version != STAGE_VERSION[stage]:
        said.append(f"{stage} was at version {version} and is now at {STAGE_VERSION[stage]}")
    before, after = (_kept(run_, "environment.json") for run_ in (recorded, repeated))
    for name in sorted(before["packages"].keys() | after["packages"].keys()):
        a, b = before["packages"].get(name, "none"), after["packages"].get(name, "none")
        if a != b:
            said.append(f"{name} {a} then, {b} now")
    if before["python"] != after["python"]:
        said.append(f"python {before['python']} then, {after['python']} now")
    return said
