"""Where the weights that an experiment names (``members.X.weights``) come from, as far as this store knows.

Behind ``runs:/`` and ``models:/`` stand trainings: what starts from their weights comes from them, and what they were
trained on it has seen. A path or an address says nothing of that, nor does a run that keeps no list of its images.
"""

import logging
from collections.abc import Sequence
from typing import Any

from hubmap_ml.spec import InputError, Weights
from hubmap_ml.stages.leaks import PREPARED_BY, TRAINING_IMAGES, UNKNOWN
from hubmap_ml.stages.record import chain_of, document, document_or_none
from hubmap_ml.stages.session import TRAINED
from hubmap_ml.tracking import STAGE, FoundRun, by_uri, get_run, lineage_from, open_store, run_named

log = logging.getLogger(__name__)

OF_THE_STORE = ("runs", "models")
CHECKPOINTS = ("checkpoints/best/config.json", "checkpoints/last/config.json")


def origins(weights: Weights, *, digest: str) -> list[str]:
    """Return the training runs whose weights these are.

    Args:
        weights: as the experiment names them.
        digest: SHA-256 of the file.

    Returns:
        Run ids: the one training that wrote this very file; where none says so, all that the named run or version
        came from, nearest first. None for a path, an address, and what no training of this store made.
    """
    if weights.scheme not in OF_THE_STORE:
        return []
    client = open_store()
    try:
        start = _named(weights)
    except InputError:  # a logged model, or gone since it was fetched
        return []
    found = lineage_from(client, [start]).of_kind("run")
    trained = [get_run(client, node.id) for node in found if node.facts.get("stage") in TRAINED]
    made = [run.run_id for run in trained if _wrote(run, digest)]
    return made[:1] or [run.run_id for run in trained]


def seen_by(runs: Sequence[str], weights: Weights) -> list[dict[str, Any]]:
    """Return what weights have seen, as parts of the list that a training keeps of its images (see `leaks`).

    Args:
        runs: their `origins`.
        weights: as the experiment names them.
    """
    if weights.scheme not in OF_THE_STORE:
        return []
    client = open_store()
    parts: dict[str, dict[str, Any]] = {}
    try:
        for name in runs:
            for part in document(run_named(client, name), TRAINING_IMAGES):
                if part["run"] not in parts:
                    parts[part["run"]] = _elsewhere(part)
    except InputError as error:
        log.debug("what %s has seen cannot be told", weights.source, exc_info=error)
        parts = {}
    if not parts:
        log.warning(
            "%s: the store does not know what these weights were trained on; the leak report leaves it out",
            weights.source,
        )
        return [{"stage": "weights", "run": "", "images": [], UNKNOWN: weights.source}]
    return list(parts.values())


def _elsewhere(part: dict[str, Any]) -> dict[str, Any]:
    """Name a part as one of the weights, with the run that prepared its images: they may be other data than ours."""
    if PREPARED_BY in part or UNKNOWN in part:
        return part
    for origin in chain_of(run_named(open_store(), part["run"])):
        if origin.tags.get(STAGE) == "prepare":
            return {**part, "stage": f"weights' {part['stage']}", PREPARED_BY: origin.run_id}
    raise InputError(f"run {part['run']} came from no prepared data that is still in the store")


def _named(weights: Weights) -> str:
    """The run (by its id) or version (as ``models:/NAME/N``) that an address speaks of."""
    scheme, _, rest = weights.source.partition(":/")
    parts = rest.strip("/").split("/")
    if scheme == "runs":
        return parts[0]
    return by_uri(open_store(), "models:/" + "/".join(parts[: 1 if "@" in parts[0] else 2])).uri


def _wrote(run: FoundRun, digest: str) -> bool:
    said = (document_or_none(run, name) for name in CHECKPOINTS)
    return any(config is not None and config.get("digest_of_weights") == digest for config in said)
