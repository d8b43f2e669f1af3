"""Pseudo-labels on the student's side: read, joined with its own pool, and kept together as one COCO file."""

import json
from collections.abc import Mapping
from typing import Any

from hubmap_ml.data import PreparedData
from hubmap_ml.instances import Annotations, join_annotations, read_annotations, write_coco
from hubmap_ml.spec import InputError
from hubmap_ml.stages.running import Running
from hubmap_ml.tracking import FoundRun

COCO = "pseudo_labels.json"
"""The artifact of `pseudo-label` for others, with its origin."""
PSEUDO_LABELS = "annotations"
"""The artifact of `pseudo-label` that students read."""
MERGED = "pool_and_pseudo_labels.json"
"""The artifact of a student's stage 1: all that it looks at."""


def with_pseudo_labels(
    at: Running, data: PreparedData, values: Mapping[str, Any], truth: Annotations, taught: FoundRun
) -> Annotations:
    """Return what a student learns from, and keep the whole as COCO.

    Args:
        at: the student's training.
        data: of all images.
        values: its inputs: ids of the images that it learns from (``train``), is scored on (``valid``), and of those
            that others labelled (``pseudo``).
        truth: annotations of ``train``.
        taught: the run that made the labels.

    Returns:
        Truth, then labels; an image without any is there too.
    """
    rows = data.images.rows_of(values["pseudo"])
    found = read_annotations(taught.artifact(PSEUDO_LABELS), values["pseudo"])
    labels = found.replace(images=data.images.take(rows))
    at.recorder.params({"labels": taught.run_id})
    at.recorder.metrics({"pseudo/images": len(rows), "pseudo/labels": len(labels)}, step=0)
    origin = _origin(taught)
    info = {
        "description": f"stage 1 of {at.session.experiment.name}: its own pool, and {origin['description']}",
        **{key: origin[key] for key in ("generation", "run", "fold", "teachers", "rule", "leak_level")},
        "labels_sha256": taught.tags["hubmap.labels_sha256"],
        "pseudo_labelled": list(values["pseudo"]),
        "chooses_the_epoch": list(values["valid"]),
    }
    pool = data.annotations_of(data.images.rows_of(sorted([*values["train"], *values["valid"]])))
    write_coco(at.recorder.folder / MERGED, join_annotations(pool, labels), info=info)
    at.recorder.artifact(at.recorder.folder / MERGED)
    return join_annotations(truth, labels)


def _origin(taught: FoundRun) -> dict[str, Any]:
    try:
        info: dict[str, Any] = json.loads(taught.artifact(COCO).read_text())["info"]
    except (OSError, ValueError, KeyError) as error:
        raise InputError(
            f"{COCO} of run {taught.run_id} cannot be read ({error}): make the labels again with fresh=true"
        ) from None
    return info
