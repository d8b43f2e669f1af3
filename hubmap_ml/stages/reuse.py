"""Finished work that need not be done again: a run with the same key, and what it reported."""

import dataclasses
import json
import logging
from collections.abc import Callable

from hubmap_ml.spec import InputError, StageInputs
from hubmap_ml.stages.session import Outcome, Session
from hubmap_ml.tracking import FoundRun, find_run

log = logging.getLogger(__name__)

OUTCOME = "outcome.json"

Check = Callable[[FoundRun, Outcome], Outcome | None]
"""Looks at what a finished run reported: returns it, brought up to date, or None where it does not stand any more."""


def finished(session: Session, wanted: StageInputs, name: str, check: Check | None = None) -> Outcome | None:
    """Return what the finished run with this key reported; None where there is none, or everything is to be done anew.

    Args:
        session: with ``fresh``, or where a recorded run is repeated, nothing is reused.
        wanted: the inputs.
        name: how the step is called here.
        check: see `Check`.
    """
    if session.fresh or session.reproduces:
        return None
    found = find_run(session.experiment.name, wanted.key)
    if found is None:
        return None
    outcome = reported(found, wanted.stage, name)
    if outcome is None:
        log.info("%s: run %s does not say what it found; working anew", name, found.run_id)
        return None
    return outcome if check is None else check(found, outcome)


def reported(found: FoundRun, stage: str, name: str) -> Outcome | None:
    """Return what a finished run reported; None where it kept nothing readable."""
    try:
        said = json.loads(found.artifact(OUTCOME).read_text())
    except (InputError, OSError, ValueError):
        return None
    return Outcome(
        stage=stage,
        name=name,
        run_id=found.run_id,
        key=found.key,
        verdict=said["verdict"],
        seconds=0.0,
        peak_mib=0.0,
        headline=said["headline"],
        details=said["details"],
        reused=True,
    )


def to_data(outcome: Outcome) -> dict[str, object]:
    """Return what is kept of an outcome for whoever reuses it."""
    kept = dataclasses.asdict(outcome)
    return {key: kept[key] for key in ("verdict", "headline", "details")}
