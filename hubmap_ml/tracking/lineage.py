"""What a run or a registered version came from, as a graph of runs, versions and raw data.

Read from tags alone: ``hubmap.upstream_runs`` of runs, ``hubmap.run``, ``hubmap.tune_run``, ``hubmap.predict_runs``,
``hubmap.refit_predict_runs`` and ``hubmap.members`` of versions, ``hubmap.model`` of submissions, ``hubmap.reuses`` of
runs that stand for an earlier one, ``hubmap.reproduces`` of repetitions, and the data digest that each run carries.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from hubmap_ml.spec import InputError
from hubmap_ml.tracking.registry import Version, by_uri
from hubmap_ml.tracking.runs import (
    DATA_DIGEST,
    FOLD,
    MEMBER,
    PARENT,
    REPRODUCES,
    STAGE,
    FoundRun,
    get_run,
    search,
)

UPSTREAM = "hubmap.upstream_runs"
REUSES = "hubmap.reuses"
COMMIT = "mlflow.source.git.commit"
GENERATION = "hubmap.generation"
"""Of pseudo-labels: which one a run made, or a training or version learnt from."""
LABELS = "hubmap.labels"
"""Names of these pseudo-labels."""

Kind = Literal["version", "run", "raw data", "prepared data", "missing"]


@dataclass(frozen=True)
class Node:
    """One thing that others were made from.

    Attributes:
        id: a run's id, a version's ``models:/NAME/N``, or a digest.
        title: what it is, in a few words.
        facts: what identifies it further: stage key, data digest, code commit, headline, status.
        comes_from: ids of the nodes that it was made from, each with the name of the tie, in order.
    """

    id: str
    kind: Kind
    title: str
    facts: Mapping[str, str] = field(default_factory=dict)
    comes_from: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Lineage:
    """A graph without circles: each node is there once, whatever came from it."""

    root: str
    nodes: Mapping[str, Node]

    def of_kind(self, kind: Kind) -> list[Node]:
        """Return the nodes of a kind, in the order in which they were met."""
        return [node for node in self.nodes.values() if node.kind == kind]

    def to_data(self) -> dict[str, Any]:
        """Return the graph as JSON-able data."""
        return {
            "root": self.root,
            "nodes": [
                {
                    "id": node.id,
                    "kind": node.kind,
                    "title": node.title,
                    **node.facts,
                    "comes_from": [{"id": name, "as": tie} for name, tie in node.comes_from],
                }
                for node in self.nodes.values()
            ],
        }


def run_named(client: MlflowClient, name: str) -> FoundRun:
    """Return the run of an id, or of a prefix that only one run has.

    Raises:
        InputError: none, or several of them.
    """
    text = name.strip().lower()
    if not text or not text.isalnum():
        raise InputError(f"{name!r} is no run id; give the id of a run, or its first letters")
    found = search(f"attributes.run_id LIKE '{text}%'", client=client, limit=6)
    if not found:
        raise InputError(f"no run {name!r} in this store; see 'hubmap-ml ui' or MLFLOW_TRACKING_URI")
    if len(found) > 1:
        some = ", ".join(f"{run.run_id[:12]} ({run.tags.get(STAGE, '?')})" for run in found[:5])
        raise InputError(
            f"{name!r} begins the ids of several runs ({some}{', …' * (len(found) > 5)}): say more of it"
        )
    return found[0]


def lineage_of(client: MlflowClient, target: str) -> Lineage:
    """Follow a run or version down to the raw data.

    Args:
        client: of the store.
        target: a run's id or a unique beginning of one, ``models:/NAME@ALIAS`` or ``models:/NAME/N``.

    Raises:
        InputError: the target is not in the store. What it came from may be missing; it is then a node that says so.
    """
    start = by_uri(client, target).uri if target.startswith("models:/") else run_named(client, target).run_id
    return lineage_from(client, [start], root=start)


def lineage_from(client: MlflowClient, names: Iterable[str], *, root: str = "") -> Lineage:
    """Follow several runs (by id) and versions (by ``models:/NAME/N``) at once."""
    nodes: dict[str, Node] = {}
    waiting = list(names)
    while waiting:
        name = waiting.pop(0)
        if name in nodes:
            continue
        node, leaves = _look_up(client, name)
        nodes[name] = node
        nodes |= {leaf.id: leaf for leaf in leaves if leaf.id not in nodes}
        waiting += [origin for origin, _ in node.comes_from if origin not in nodes]
    return Lineage(root, nodes)


def _look_up(client: MlflowClient, name: str) -> tuple[Node, list[Node]]:
    """Return a node by its id, and the data it names itself."""
    if name.startswith("models:/"):
        try:
            return _version_node(by_uri(client, name)), []
        except InputError:
            return Node(name, "missing", f"{name}: no longer registered"), []
    try:
        run = get_run(client, name)
    except MlflowException:
        return Node(name, "missing", f"run {name[:12]}: no longer in the store"), []
    return _run_node(client, run)


def _version_node(version: Version) -> Node:
    tags = version.tags
    ties = [(tags.get("hubmap.run") or version.run_id, "registered by")]
    ties += [(uri, "member") for uri in _listed(tags.get("hubmap.members", ""))]
    ties += [(tags.get("hubmap.tune_run", ""), "thresholds")]
    ties += [(run_id, "out-of-fold candidates") for run_id in _split(tags.get("hubmap.predict_runs", ""))]
    ties += [
        (run_id, "candidates of its own networks")
        for run_id in _split(tags.get("hubmap.refit_predict_runs", ""))
    ]
    facts = {
        "headline": tags.get("hubmap.headline", ""),
        "stage_key": tags.get("hubmap.stage_key", ""),
        "data_digest": tags.get(DATA_DIGEST, ""),
        "generation": tags.get(GENERATION, ""),
    }
    return Node(version.uri, "version", version.uri, _said(facts), _once(ties))


def _run_node(client: MlflowClient, run: FoundRun) -> tuple[Node, list[Node]]:
    tags = run.tags
    stage = tags.get(STAGE, "run")
    subject = tags.get(MEMBER) or (tags.get(LABELS, "") if stage == "pseudo_label" else "")
    words = [stage, subject, f"fold {tags[FOLD]}" if FOLD in tags else ""]
    title = " · ".join(filter(None, words))
    status = str(client.get_run(run.run_id).info.status)
    digest = tags.get(DATA_DIGEST, "")
    facts = {
        "stage": stage,
        "status": status,
        "headline": repr(run.metrics["headline"]) if "headline" in run.metrics else "",
        "stage_key": run.key,
        "data_digest": digest,
        "generation": tags.get(GENERATION, ""),
        "commit": tags.get(COMMIT, ""),
        "code_dirty": tags.get("hubmap.code_dirty", "") if COMMIT in tags else "",
    }
    ties = [(run_id, "stands for") for run_id in _split(tags.get(REUSES, ""))]
    ties += [(run_id, "repeats") for run_id in _split(tags.get(REPRODUCES, ""))]
    ties += [(run_id, "from") for run_id in _split(tags.get(UPSTREAM, ""))]
    ties += [(tags["hubmap.model"], "by")] if tags.get("hubmap.model", "").startswith("models:/") else []
    if not ties and stage == "main":
        ties = [(run_id, "step") for run_id in _last_steps(client, run.run_id)]
    leaves: list[Node] = []
    if digest and not ties:
        kind: Kind = "raw data" if stage == "prepare" else "prepared data"
        leaves = [Node(digest, kind, f"{kind} {digest[:16]}", {"data_digest": digest})]
        ties = [(digest, "reads")]
    return Node(run.run_id, "run", title, _said(facts), _once(ties)), leaves


def _last_steps(client: MlflowClient, parent: str) -> list[str]:
    """Return the runs nested in ``parent`` that none of the others came from, oldest first."""
    steps = search(f"tags.`{PARENT}` = '{parent}'", client=client)[::-1]
    used = {run_id for step in steps for run_id in _split(step.tags.get(UPSTREAM, ""))}
    return [step.run_id for step in steps if step.run_id not in used]


def _split(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _listed(text: str) -> list[str]:
    try:
        return [str(item) for item in json.loads(text)] if text else []
    except ValueError:
        return []


def _once(ties: Iterable[tuple[str, str]]) -> tuple[tuple[str, str], ...]:
    """Keep the first tie to each origin."""
    kept: dict[str, str] = {}
    for name, tie in ties:
        if name:
            kept.setdefault(name, tie)
    return tuple(kept.items())


def _said(facts: Mapping[str, str]) -> dict[str, str]:
    return {key: value for key, value in facts.items() if value}
