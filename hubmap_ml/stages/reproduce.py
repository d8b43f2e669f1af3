"""`reproduce`: run a stage again from its record alone, and say what came out differently.

The experiment, the members' configurations with their overrides and the seed are read from the run's artifacts; what it
started from are the very runs that it started from. The data at hand must be the recorded ones; another commit or other
versions of what computes are said, not refused. On the CPU nothing may differ.
"""

import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from hubmap_ml.spec import STAGE_VERSION, InputError, decode_config, parse_overrides
from hubmap_ml.stages import finetune, predict, prepare, pretrain, tune, upstream
from hubmap_ml.stages.outcome_differences import Difference, differences
from hubmap_ml.stages.session import TRAINED, Outcome, Session, place_of, recorded_session
from hubmap_ml.tracking import (
    COMMIT,
    FOLD,
    MEMBER,
    REUSES,
    STAGE,
    UPSTREAM,
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
    """Repeat a finished run of prepare, pretrain, finetune, predict or tune.

    Args:
        run_id: its id, or a unique beginning of it.
        raw: folder of raw files, where they are no longer at the recorded place.
        workers: processes for loading; they change no result.
        device: as for a stage.

    Raises:
        InputError: no such run, one that cannot be repeated from its record, or data that are not the recorded ones.
    """
    client = open_store()
    recorded = _original(run_named(client, run_id))
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
    session = session_of(recorded, raw=raw, workers=workers, device=device)
    if stage == "prepare":
        upstream.check_raw(recorded, *prepare.raw_folder(session))
    member = recorded.tags.get(MEMBER, "")
    outcome = WORK[stage](session, member, _fold_of(recorded))
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
    configs: dict[str, Any] = {}
    for run_ in _chain_of(recorded):
        stage, member = run_.tags.get(STAGE, ""), run_.tags.get(MEMBER)
        fold = int(run_.tags[FOLD]) if FOLD in run_.tags else None
        places[place_of(stage, member, fold)] = run_.run_id
        if stage in TRAINED:
            configs[f"{member}.{stage}"] = decode_config(_json(run_, "member_config.json"))
    places.pop(place_of(recorded.tags[STAGE], recorded.tags.get(MEMBER), _fold_tag(recorded)), None)
    try:
        overrides = parse_overrides(recorded.params.get("set", ""))
    except InputError:  # kept as a parameter for people; the configurations hold them already
        overrides = {}
    return recorded_session(
        _json(recorded, "experiment.json"),
        configs,
        reproduces=recorded.run_id,
        recorded=places,
        overrides=overrides,
        raw=raw,
        workers=workers,
        device=device,
    )


def _chain_of(recorded: FoundRun) -> list[FoundRun]:
    """Return a run and all that it came from."""
    found: dict[str, FoundRun] = {}
    waiting = [recorded.run_id]
    while waiting:
        run_id = waiting.pop()
        if run_id in found:
            continue
        found[run_id] = run_ = _original(get_run(recorded.client, run_id))
        waiting += [name for name in run_.tags.get(UPSTREAM, "").split(",") if name]
    return list(found.values())


def _original(run_: FoundRun) -> FoundRun:
    """Return the run that did the work, for one that stands for an earlier one."""
    while run_.tags.get(REUSES):
        run_ = get_run(run_.client, run_.tags[REUSES])
    return run_


def _fold_tag(run_: FoundRun) -> int | None:
    return int(run_.tags[FOLD]) if FOLD in run_.tags else None


def _fold_of(run_: FoundRun) -> int:
    """Return the fold to call a stage with; a stage 1 whose pool holds no image of any fold has none."""
    return _fold_tag(run_) or 0


def _json(run_: FoundRun, name: str) -> Any:
    try:
        return json.loads(run_.artifact(name).read_text())
    except (InputError, OSError, ValueError) as error:
        raise InputError(
            f"run {run_.run_id[:12]} cannot be repeated from its record: {name} cannot be read ({error})"
        ) from None


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
    version = _json(recorded, "stage_inputs.json").get("version")
    stage = recorded.tags[STAGE]
    if version != STAGE_VERSION[stage]:
        said.append(f"{stage} was at version {version} and is now at {STAGE_VERSION[stage]}")
    before, after = (_json(run_, "environment.json") for run_ in (recorded, repeated))
    for name in sorted(before["packages"].keys() | after["packages"].keys()):
        a, b = before["packages"].get(name, "none"), after["packages"].get(name, "none")
        if a != b:
            said.append(f"{name} {a} then, {b} now")
    if before["python"] != after["python"]:
        said.append(f"python {before['python']} then, {after['python']} now")
    return said
