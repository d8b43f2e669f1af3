"""What a run recorded: its documents, the runs that it came from, and the data that these prepared."""

import json
from typing import Any

from hubmap_ml.data import PreparedData, open_prepared
from hubmap_ml.spec import InputError
from hubmap_ml.tracking import FOLD, LABELS, MEMBER, REUSES, STAGE, UPSTREAM, FoundRun, get_run

TAKEN_IN = "imported"
"""Artifact folder of a run that took in what was made elsewhere: the import as it was, without weights."""

TAKEN_IN_TAG = "hubmap.taken_in"
"""``"true"``: the run did not train or predict, it took in what was made elsewhere."""


def document(run: FoundRun, name: str) -> Any:
    """Return a JSON artifact.

    Raises:
        InputError: it is missing or damaged.
    """
    try:
        return json.loads(run.artifact(name).read_text())
    except (OSError, ValueError) as error:
        raise InputError(f"{name} of run {run.run_id[:12]} cannot be read ({error})") from None


def document_or_none(run: FoundRun, name: str) -> Any:
    """Return a JSON artifact; None where the run has none."""
    try:
        return document(run, name)
    except InputError:
        return None


def original(run: FoundRun) -> FoundRun:
    """Return the run that did the work, for one that stands for an earlier one."""
    while run.tags.get(REUSES):
        run = get_run(run.client, run.tags[REUSES])
    return run


def chain_of(run: FoundRun) -> list[FoundRun]:
    """Return a run and all that it came from: itself first, then the nearest."""
    found: dict[str, FoundRun] = {}
    waiting = [run.run_id]
    while waiting:
        name = waiting.pop(0)
        if name not in found:
            found[name] = original(get_run(run.client, name))
            waiting += [item for item in found[name].tags.get(UPSTREAM, "").split(",") if item]
    return list(found.values())


def fold_of(run: FoundRun) -> int | None:
    """Return the fold that a run held out; None for one that belongs to no fold."""
    return int(run.tags[FOLD]) if FOLD in run.tags else None


def subject_of(run: FoundRun) -> str | None:
    """Return what a run was about: its member, of `pseudo-label` the labels; None for neither."""
    return run.tags.get(LABELS if run.tags.get(STAGE) == "pseudo_label" else MEMBER)


def prepared_for(run: FoundRun) -> PreparedData:
    """Return the prepared data that a run came from.

    Raises:
        InputError: the run that prepared it is gone.
    """
    for origin in chain_of(run):
        if origin.tags.get(STAGE) == "prepare":
            return open_prepared(origin.artifact("prepared"))
    raise InputError(f"run {run.run_id[:12]} came from no prepared data that is still in the store")
