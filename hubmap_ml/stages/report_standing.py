"""Where members and ensembles of a report stand in the registry, and why, in words."""

import contextlib
import json
from collections.abc import Mapping

from hubmap_ml.ensembling import AGAINST_TAG, FORCED_TAG, GATE_TAG
from hubmap_ml.spec import InputError
from hubmap_ml.stages.record import document_or_none
from hubmap_ml.tracking import EXPERIMENT, MEMBER, PROMOTED, FoundRun, Version, by_alias, search


def why_it_leads(version: Version) -> str:
    """Say why an ensemble's version leads, or what it was compared with."""
    if version.tags.get(FORCED_TAG) == "true":
        return "by force, not by its score"
    compared = sorted(
        (key for key in version.tags if key.startswith(AGAINST_TAG)), key=lambda key: (len(key), key)
    )
    if not compared:
        return "the first ensemble on this data, metric and folds: it had nobody to beat"
    with contextlib.suppress(ValueError, KeyError):
        words = json.loads(version.tags[compared[-1]])["words"]
        return f"compared with version {compared[-1][len(AGAINST_TAG) :]}: {words}"
    return ""


def standing_of(name: str, tuned: FoundRun, version: Version | None) -> tuple[str, str]:
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
    gate = newest(tuned.tags.get(EXPERIMENT, ""), "promote")
    refused = (document_or_none(gate, "gate.json") or {}).get("refused", {}) if gate else {}
    why = refused.get(tuned.tags.get(MEMBER, ""), "")
    return "not promoted", f"refused: {why}" if why else "no promote run has looked at it yet"


def cost_in_words(tags: Mapping[str, str]) -> str:
    """Say what an image costs, by a version's tags; "" where nobody measured it."""
    words = []
    if "hubmap.s_per_image" in tags:
        where = f" on {tags['hubmap.device_kind']}" if "hubmap.device_kind" in tags else ""
        words.append(f"{float(tags['hubmap.s_per_image']):.2f} s/image{where}")
    if "hubmap.parameters" in tags:
        words.append(f"{float(tags['hubmap.parameters']) / 1e6:.1f} M parameters")
    return ", ".join(words)


def newest(experiment: str, stage: str) -> FoundRun | None:
    """Return the newest finished run of a stage that did the work itself."""
    found = search(
        f"tags.`hubmap.experiment` = '{experiment}' and tags.`hubmap.stage` = '{stage}' "
        "and attributes.status = 'FINISHED'"
    )
    return next((run for run in found if "hubmap.reuses" not in run.tags), None)
