"""The predictor folder: ``predictor.json`` beside the leaves' own folders, all JSON, safetensors and Parquet.

- ``predictor.json``: ``{"format": "hubmap_ml.predictor", "version": 1, "categories": [[id, name], ...],
  "properties": {...}, "tree": {...}}``
- a network's folder: ``config.json``, ``weights.safetensors``
- a folder of stored predictions: ``images.parquet``, ``instances.parquet``
"""

import hashlib
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hubmap_ml.instances import Category
from hubmap_ml.predictor.nodes import (
    Leaf,
    Merge,
    Network,
    Node,
    children_of,
    leaves_of,
    node_to_data,
)
from hubmap_ml.predictor.parsing import parse_node
from hubmap_ml.spec import InputError

FORMAT = "hubmap_ml.predictor"
VERSION = 1
MANIFEST = "predictor.json"
WEIGHTS = "weights.safetensors"
NETWORK_FILES = ("config.json", WEIGHTS)
STORED_FILES = ("images.parquet", "instances.parquet")


@dataclass(frozen=True)
class Manifest:
    """What ``predictor.json`` says.

    Attributes:
        categories: what instances' labels index into.
        tree: the predictor.
        properties: free text about its making (member versions, runs), name to value.
    """

    categories: tuple[Category, ...]
    tree: Node
    properties: Mapping[str, str]


def write_predictor(
    folder: Path,
    *,
    tree: Node | Mapping[str, Any],
    leaves: Mapping[str, Path],
    categories: Sequence[Category],
    properties: Mapping[str, str] | None = None,
) -> Path:
    """Write a predictor folder, whole or not at all.

    Args:
        folder: where; must not exist.
        tree: nodes, or their data.
        leaves: for each path that the tree's leaves name, the checkpoint or predictions folder to copy there.
            Of it only what prediction needs is copied (no resume state).
        categories: what the predictor's labels mean; every leaf must say the same.
        properties: kept beside the tree.

    Returns:
        ``folder``.

    Raises:
        InputError: the folder exists; a leaf is missing, unused, unreadable or has other categories; two
            folds share their weights; the tree is malformed.
    """
    node = parse_node(tree if isinstance(tree, Mapping) else node_to_data(tree))
    named = {leaf.path for leaf in leaves_of(node)}
    if named != set(leaves):
        odd = sorted(named ^ set(leaves))[0]
        raise InputError(
            f"predictor {folder}: leaf {odd!r} is {'not given' if odd in named else 'not in the tree'}"
        )
    if folder.exists():
        raise InputError(f"predictor folder {folder} exists already; remove it or choose another")
    beside = folder.with_name(folder.name + ".partial")
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir(parents=True)
    manifest = {
        "format": FORMAT,
        "version": VERSION,
        "categories": [[category.id, category.name] for category in categories],
        "properties": dict(properties or {}),
        "tree": node_to_data(node),
    }
    try:
        for leaf in leaves_of(node):
            _copy_leaf(leaf, leaves[leaf.path], beside / leaf.path)
        (beside / MANIFEST).write_text(json.dumps(manifest, indent=1), encoding="utf-8")
        read_manifest(beside)
    except BaseException:
        shutil.rmtree(beside, ignore_errors=True)
        raise
    beside.rename(folder)
    return folder


def read_manifest(folder: Path) -> Manifest:
    """Read and check ``predictor.json`` and its leaves' descriptions; loads no weights and no predictions.

    Raises:
        InputError: no predictor folder, a newer format, a malformed tree, a leaf that is missing or has other
            categories, or folds that share their weights.
    """
    path = folder / MANIFEST
    data = read_json(path)
    if not isinstance(data, dict) or data.get("format") != FORMAT:
        raise InputError(f"{path} is no predictor: its format is not {FORMAT!r}")
    version = data.get("version")
    if not isinstance(version, int) or version > VERSION:
        raise InputError(
            f"{path} has format version {version!r}, this hubmap_ml reads up to {VERSION}: update it"
        )
    categories = categories_of(data.get("categories"), path)
    properties = data.get("properties", {})
    if not isinstance(properties, dict):
        raise InputError(f"{path}: properties must be a mapping of text to text")
    tree = parse_node(data.get("tree"), f"{path}: tree")
    for leaf in leaves_of(tree):
        _check_leaf(folder, leaf, categories)
    _check_folds(folder, tree)
    return Manifest(categories, tree, {str(key): str(value) for key, value in properties.items()})


def read_json(path: Path) -> Any:
    """Read a JSON file; InputError if it is missing or malformed."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(
            f"{path} does not exist: {path.parent} is no predictor folder, or not all of one"
        ) from None
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read ({error})") from None


def categories_of(data: Any, path: Path) -> tuple[Category, ...]:
    """Read ``[[id, name], ...]``; InputError naming the file if it is something else."""
    usable = isinstance(data, list) and all(
        isinstance(item, list) and len(item) == 2 and isinstance(item[0], int) and isinstance(item[1], str)
        for item in data
    )
    if not usable or not data:
        raise InputError(f"{path}: categories is {data!r}, must be a list of [id, name]")
    return tuple(Category(id=item[0], name=item[1]) for item in data)


def network_digests(folder: Path) -> dict[str, str]:
    """Return the digest of the weights of each network of a predictor folder, by the leaf's path."""
    leaves = leaves_of(read_manifest(folder).tree)
    return {leaf.path: weights_digest(folder / leaf.path) for leaf in leaves if isinstance(leaf, Network)}


def weights_digest(checkpoint: Path) -> str:
    """SHA-256 of a network's weights, as its checkpoint folder states it.

    `inference` compares it with the weights when it opens them.
    """
    path = checkpoint / "config.json"
    digest = read_json(path).get("digest_of_weights")
    if not isinstance(digest, str) or not digest:
        raise InputError(f"{path}: digest_of_weights is missing; write the checkpoint again")
    return digest


def _copy_leaf(leaf: Leaf, source: Path, target: Path) -> None:
    if target.exists():
        return  # several leaves may look at one network differently
    target.mkdir(parents=True)
    for name in _files_of(leaf):
        if not (source / name).is_file():
            raise InputError(f"leaf {leaf.path!r}: {source / name} does not exist")
        shutil.copy2(source / name, target / name)
    if isinstance(leaf, Network):
        stated = weights_digest(target)
        with (target / WEIGHTS).open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if found != stated:
            raise InputError(
                f"leaf {leaf.path!r}: {source / WEIGHTS} changed after it was written (its digest is another)"
            )


def _files_of(leaf: Leaf) -> tuple[str, ...]:
    return NETWORK_FILES if isinstance(leaf, Network) else STORED_FILES


def _check_leaf(folder: Path, leaf: Leaf, categories: Sequence[Category]) -> None:
    for name in _files_of(leaf):
        if not (folder / leaf.path / name).is_file():
            raise InputError(f"predictor {folder}: {leaf.path}/{name} is missing")
    if isinstance(leaf, Network):
        path = folder / leaf.path / "config.json"
        config = read_json(path)
        said = categories_of(config.get("categories") if isinstance(config, dict) else None, path)
        if [category.name for category in said] != [category.name for category in categories]:
            raise InputError(
                f"predictor {folder}: {leaf.path} knows {[category.name for category in said]}, "
                f"the predictor {[category.name for category in categories]}"
            )


def _check_folds(folder: Path, node: Node) -> None:
    """Folds that share weights are one model counted twice: refuse them."""
    if isinstance(node, Merge) and node.over == "folds":
        seen: dict[str, str] = {}
        for child in node.children:
            digests = {
                weights_digest(folder / leaf.path): leaf.path
                for leaf in leaves_of(child)
                if isinstance(leaf, Network)
            }
            for digest, path in digests.items():
                if digest in seen:
                    raise InputError(
                        f"predictor {folder}: folds {seen[digest]} and {path} have the same weights "
                        f"({digest[:12]}); each fold needs its own checkpoint"
                    )
            seen.update(digests)
    for child in children_of(node):
        _check_folds(folder, child)
