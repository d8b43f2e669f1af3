"""The folder of a live external member: networks trained with mmdet elsewhere, as `import-workdir` leaves them.

``import.json`` says where each fold's network came from, with digests, and the leak level that its user declares;
beside it ``member.py``, the configuration as a member may say it, and a checkpoint folder ``foldK`` for each fold.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from hubmap_ml.data import PreparedData
from hubmap_ml.spec import InputError, LeakLevel, encode_config
from hubmap_ml.stages import splits
from hubmap_ml.stages.leaks import record_training_images
from hubmap_ml.stages.record import TAKEN_IN, TAKEN_IN_TAG
from hubmap_ml.stages.running import Running
from hubmap_ml.stages.session import Outcome, Session

MANIFEST = "import.json"
FORMAT = "hubmap_ml.imported_work_dir"
VERSION = 1
CONFIG = "member.py"
WEIGHTS = "weights.safetensors"
FILES = ("config.json", WEIGHTS)


@dataclass(frozen=True)
class WorkDir:
    """What ``import.json`` says.

    Attributes:
        folder: where it lies.
        leak_level: of held-out and test images, at least, as declared.
        digests: SHA-256 of each fold's weights.
        sources: where each fold's network came from, in words.
    """

    folder: Path
    leak_level: LeakLevel
    digests: Mapping[int, str]
    sources: Mapping[int, str]

    def checkpoint(self, fold: int) -> Path:
        """Return a fold's checkpoint folder, after comparing its weights with their digest.

        Raises:
            InputError: no such fold, or other weights than those that were imported.
        """
        folder = self.folder / f"fold{fold}"
        if fold not in self.digests:
            raise InputError(f"{self.folder}: has no fold {fold}; it has {', '.join(map(str, self.digests))}")
        try:
            with (folder / WEIGHTS).open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise InputError(
                f"{folder / WEIGHTS}: cannot be read ({error.strerror}); import it again"
            ) from None
        if digest != self.digests[fold]:
            raise InputError(f"{folder / WEIGHTS}: not the weights that were imported; import them again")
        return folder


def imported(session: Session, member: str) -> WorkDir | None:
    """Return what was imported for a member; None for one that is trained here, or predictions alone.

    Raises:
        InputError: the folder that it names holds no import.
    """
    declared = session.experiment.members[member]
    if declared.kind != "external" or declared.checkpoints is None:
        return None
    return open_import(session.import_folder(member))


def open_import(folder: Path) -> WorkDir:
    """Read ``import.json``; no weights are read.

    Raises:
        InputError: it is missing, malformed or of a newer version.
    """
    path = folder / MANIFEST
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        if data["format"] != FORMAT or data["version"] > VERSION:
            raise ValueError(f"format {data['format']!r} version {data['version']!r}")
        folds = {int(fold): one for fold, one in data["folds"].items()}
        return WorkDir(
            folder,
            LeakLevel.named(data["leak_level"]),
            {fold: str(one["sha256"]) for fold, one in folds.items()},
            {fold: str(one["source"]) for fold, one in folds.items()},
        )
    except OSError:
        raise InputError(f"{path}: no such file; run 'hubmap-ml import-workdir DIR' first") from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path}: not an import of a work_dir ({error!r}); import it again") from None


def write_manifest(folder: Path, folds: Mapping[int, tuple[str, str]], *, leak_level: LeakLevel) -> None:
    """Write ``import.json``; ``folds`` holds each fold's digest of weights and where they came from."""
    data = {
        "format": FORMAT,
        "version": VERSION,
        "leak_level": str(leak_level),
        "folds": {
            str(fold): {"sha256": digest, "source": source} for fold, (digest, source) in folds.items()
        },
    }
    (folder / MANIFEST).write_text(json.dumps(data, indent=1), encoding="utf-8")


def take_in(at: Running, member: str, fold: int, found: WorkDir, data: PreparedData) -> Outcome:
    """Keep a fold's network in a run, as a training leaves it.

    As seen by it stand the images that this experiment would have trained it on; what else it saw is declared.
    """
    folder = found.checkpoint(fold)
    config = at.session.member_config(member, "finetune")
    assert config is not None
    at.recorder.data(encode_config(config), "member_config.json")
    at.recorder.artifact(found.folder / MANIFEST, TAKEN_IN)
    train = splits.finetune_split(at.session, member, fold, data).train
    record_training_images(at, "finetune", data.images.ids[train], start=None, declared=found.leak_level)
    at.recorder.params({"member": member, "source": found.sources[fold]})
    at.run.tag({TAKEN_IN_TAG: "true"})
    for name in at.session.experiment.keep.checkpoints:
        for file in FILES:
            at.recorder.artifact(folder / file, f"checkpoints/{name}")
    return at.finish(
        f"not trained here: {found.sources[fold]}; leak level at least {found.leak_level}, as declared"
    )
