"""The folder of an external member: predictions made elsewhere, as `import-predictions` leaves them.

``import.json`` says where each set came from, how many images and instances it has, the digest of its files, and the
leak level that its user declares; beside it ``out_of_fold/`` and perhaps ``test/`` and sets named after pools, each as
our Parquet. The experiment names the folder; what a stage depends on is ``import.json``, whose digests fix the rest.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hubmap_ml.instances import Category, PredictionSet, read_predictions
from hubmap_ml.spec import InputError, LeakLevel
from hubmap_ml.stages.session import Session

MANIFEST = "import.json"
FORMAT = "hubmap_ml.imported_predictions"
VERSION = 1
OUT_OF_FOLD = "out_of_fold"
TEST = "test"
TABLES = ("images.parquet", "instances.parquet")


@dataclass(frozen=True)
class Imported:
    """What ``import.json`` says.

    Attributes:
        folder: where it lies.
        digest: SHA-256 of the file.
        leak_level: of the out-of-fold set, as declared.
        test_leak_level: of the other sets, as declared.
        categories: names, in the order of the labels.
        ids: of the images of each set, by its name.
        digests: of each set's files, see `digest_of_set`.
        sources: how each set was made, in words.
    """

    folder: Path
    digest: str
    leak_level: LeakLevel
    test_leak_level: LeakLevel
    categories: tuple[str, ...]
    ids: Mapping[str, frozenset[str]]
    digests: Mapping[str, str]
    sources: Mapping[str, str]

    def read(self, name: str) -> PredictionSet:
        """Read a set, after comparing its files with their digest.

        Raises:
            InputError: there is no such set, or it is not the one that was imported.
        """
        if name not in self.digests:
            raise InputError(f"{self.folder}: holds no set {name!r}; it has {', '.join(self.digests)}")
        if digest_of_set(self.folder / name) != self.digests[name]:
            raise InputError(
                f"{self.folder / name}: not the predictions that were imported; import them again"
            )
        return read_predictions(self.folder / name)


def imported(session: Session, member: str) -> Imported:
    """Return what an external member's folder says.

    Raises:
        InputError: no such folder, or no import; with the command to type.
    """
    return open_import(
        session.import_folder(member),
        f"run 'hubmap-ml import-predictions --experiment {session.words.get('experiment', session.experiment.name)} "
        f"--member {member} FILE' first",
    )


def open_import(folder: Path, remedy: str = "import the predictions again") -> Imported:
    """Read ``import.json``; no predictions are read.

    Raises:
        InputError: it is missing, malformed or of a newer version; ends with the remedy.
    """
    path = folder / MANIFEST
    try:
        content = path.read_bytes()
    except OSError:
        raise InputError(f"{path}: no such file; {remedy}") from None
    try:
        data = json.loads(content)
        if data["format"] != FORMAT or data["version"] > VERSION:
            raise ValueError(f"format {data['format']!r} version {data['version']!r}")
        sets: Mapping[str, Mapping[str, Any]] = data["sets"]
        return Imported(
            folder=folder,
            digest=hashlib.sha256(content).hexdigest(),
            leak_level=LeakLevel.named(data["leak_level"]),
            test_leak_level=LeakLevel.named(data["test_leak_level"]),
            categories=tuple(map(str, data["categories"])),
            ids={name: frozenset(map(str, one["ids"])) for name, one in sets.items()},
            digests={name: str(one["sha256"]) for name, one in sets.items()},
            sources={name: str(one["source"]) for name, one in sets.items()},
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path}: not an import of predictions ({error!r}); {remedy}") from None


def write_manifest(
    folder: Path,
    sets: Mapping[str, tuple[PredictionSet, str]],
    categories: Sequence[Category],
    *,
    leak_level: LeakLevel,
    test_leak_level: LeakLevel,
) -> None:
    """Write ``import.json`` about sets that lie in the folder.

    Args:
        sets: by name, each with the words that say where it came from.
    """
    data = {
        "format": FORMAT,
        "version": VERSION,
        "leak_level": str(leak_level),
        "test_leak_level": str(test_leak_level),
        "categories": [category.name for category in categories],
        "sets": {
            name: {
                "source": source,
                "sha256": digest_of_set(folder / name),
                "instances": len(found.scores),
                "ids": [str(one) for one in found.images.ids],
            }
            for name, (found, source) in sets.items()
        },
    }
    (folder / MANIFEST).write_text(json.dumps(data, indent=1), encoding="utf-8")


def digest_of_set(folder: Path) -> str:
    """Return the SHA-256 of a set's two files.

    Raises:
        InputError: one is missing.
    """
    found = hashlib.sha256()
    for name in TABLES:
        try:
            with (folder / name).open("rb") as file:
                found.update(hashlib.file_digest(file, "sha256").digest())
        except OSError:
            raise InputError(f"{folder / name}: no such file; import the predictions again") from None
    return found.hexdigest()
