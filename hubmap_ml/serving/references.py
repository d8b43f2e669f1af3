"""Registered ensembles that name their members' versions in place of holding their weights.

Such a model is small, and opens only where the registry with its members can be reached. What is fetched must be what
was registered: each leaf's digest is pinned beside the version that holds it.
"""

import hashlib
import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from hubmap_ml.predictor.folder import MANIFEST, WEIGHTS
from hubmap_ml.serving.fetching import as_folder
from hubmap_ml.spec import InputError

REFERENCES = "references.json"
_DIGESTED = (WEIGHTS, "instances.parquet")


@dataclass(frozen=True)
class Reference:
    """Where a leaf lies.

    Attributes:
        version: ``models:/NAME/NUMBER``.
        path: the leaf's folder in that version's predictor folder.
    """

    version: str
    path: str


def write_references(whole: Path, references: Mapping[str, Reference], folder: Path) -> Path:
    """Write a predictor folder without the leaves that other versions hold.

    Args:
        whole: the complete folder.
        references: by the leaf's path.
        folder: where; must not exist.
    """
    left_out = {whole / leaf for leaf in references}
    shutil.copytree(
        whole, folder,
        ignore=lambda here, names: [name for name in names if Path(here) / name in left_out],
    )  # fmt: skip
    said = {
        leaf: {"version": place.version, "path": place.path, "digest": digest_of_leaf(whole / leaf)}
        for leaf, place in references.items()
    }
    (folder / REFERENCES).write_text(json.dumps(said, indent=1), encoding="utf-8")
    return folder


def refers(folder: Path) -> bool:
    """Whether a predictor folder names leaves that lie elsewhere."""
    return (folder / REFERENCES).is_file()


def completed(folder: Path, into: Path) -> Path:
    """Put a folder with references together with what they name.

    Args:
        folder: as ``write_references`` wrote it.
        into: an empty folder; what is fetched and the whole predictor lie in it.

    Raises:
        InputError: a version is gone, or holds another leaf than the pinned one.
    """
    whole = into / "predictor"
    shutil.copytree(folder, whole, ignore=shutil.ignore_patterns(REFERENCES))
    try:
        said = json.loads((folder / REFERENCES).read_text(encoding="utf-8"))
        places = {leaf: (one["version"], one["path"], one["digest"]) for leaf, one in said.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"{folder / REFERENCES} cannot be read ({error}); register the model again"
        ) from None
    for number, (leaf, (version, path, digest)) in enumerate(places.items()):
        held = as_folder(version, into / f"member{number}") / path
        if not held.is_dir() or digest_of_leaf(held) != digest:
            raise InputError(
                f"{folder / MANIFEST}: {version} does not hold the {leaf} that was registered; register again"
            )
        shutil.copytree(held, whole / leaf)
    return whole


def digest_of_leaf(leaf: Path) -> str:
    """SHA-256 of what a leaf predicts with: its weights, or its stored predictions.

    Raises:
        InputError: it has neither.
    """
    for name in _DIGESTED:
        if (leaf / name).is_file():
            with (leaf / name).open("rb") as file:
                return hashlib.file_digest(file, "sha256").hexdigest()
    raise InputError(f"{leaf} holds neither weights nor predictions")
