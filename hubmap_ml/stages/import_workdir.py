"""`import-workdir`: what mmdet 2 left of a training becomes a live member, checked.

Read are the dumped configuration (as data) and each fold's checkpoint (tensors and plain values only): nothing of the
folder is executed. Neither a run nor a version is made: the stages do that for the member that names the folder.
"""

import pprint
import re
from pathlib import Path

from hubmap_ml.spec import InputError, LeakLevel
from hubmap_ml.spec.dumped_config import class_count, member_config_of, read_dumped_config
from hubmap_ml.stages import upstream
from hubmap_ml.stages.import_folders import as_named, folder_to_write, written_whole
from hubmap_ml.stages.imported_work_dir import CONFIG, WorkDir, open_import, write_manifest
from hubmap_ml.stages.session import open_session

CHECKPOINTS = ("last", "best")
_FOLD = re.compile(r".*fold[_-]?([0-9]+)")
_EPOCH = re.compile(r"epoch_([0-9]+)")


def run(
    work_dir: Path,
    *,
    experiment: str,
    member: str,
    leak: str,
    fold: int = 0,
    checkpoint: str = "last",
    ema: bool = False,
    out: Path | None = None,
    raw: str = "",
) -> WorkDir:
    """Import the networks of a work_dir.

    Args:
        work_dir: of one training, or with a folder ``…foldK`` for each fold of this experiment.
        experiment: whose classes and folds they speak of; it need not name the member yet.
        member: its name.
        leak: the least leak level of held-out and test images: what the networks saw elsewhere nobody here can know.
        fold: which fold a work_dir without folds held out.
        checkpoint: ``last`` (``latest.pth``, else the highest ``epoch_N.pth``) or ``best`` (``best_*.pth``).
        ema: the averaged weights, where the file holds both.
        out: the folder to write; by default ``imported/MEMBER`` beside the experiment's file.
        raw: folder of raw files, in place of the experiment's own.

    Raises:
        InputError: something is missing, ambiguous, not readable as data, or does not fit the experiment.
    """
    session = open_session(experiment=experiment, raw=raw)
    level = LeakLevel.named(leak)
    if checkpoint not in CHECKPOINTS:
        raise InputError(f"--checkpoint is {checkpoint!r}; known: {', '.join(CHECKPOINTS)}")
    folder = folder_to_write(session, member, out)
    n = session.experiment.data.folds.n
    folds = folds_of(work_dir, fold)
    for number, place in folds.items():
        if not 0 <= number < n:
            raise InputError(f"{place}: is fold {number}, and the experiment has 0 to {n - 1}")
    categories = [(category.id, category.name) for category in upstream.prepared(session).data.categories]
    files = {number: config_file(place) for number, place in folds.items()}
    dumped = {number: read_dumped_config(path) for number, path in files.items()}
    configs = {number: member_config_of(one, str(files[number])) for number, one in dumped.items()}
    first = next(iter(configs))
    for number, one in dumped.items():
        count = class_count(one)
        if count is not None and count != len(categories):
            raise InputError(
                f"{files[number]}: is for {count} classes, and the experiment has {len(categories)}"
            )
        for key in ("model", "test_pipeline"):
            if configs[number][key] != configs[first][key]:
                raise InputError(
                    f"{files[number]}: has another {key} than {files[first]}; folds are of one recipe"
                )
    sources = {number: checkpoint_file(place, checkpoint) for number, place in folds.items()}

    from hubmap_ml.models.foreign_checkpoints import import_checkpoint  # torch comes with it

    made = {}
    with written_whole(folder) as beside:
        for number, source in sources.items():
            written = import_checkpoint(configs[first], categories, source, beside / f"fold{number}", ema=ema)
            made[number] = (written.digest, f"mmdet work_dir {folds[number].name}, {source.name}")
        if len({digest for digest, _ in made.values()}) != len(made):
            raise InputError(f"{work_dir}: two folds have the same weights; each fold's network is its own")
        text = "".join(
            f"{key} = {pprint.pformat(value, width=100, sort_dicts=False)}\n"
            for key, value in configs[first].items()
        )
        (beside / CONFIG).write_text(text, encoding="utf-8")
        write_manifest(beside, made, leak_level=level)
    return open_import(folder)


def folds_of(work_dir: Path, fold: int) -> dict[int, Path]:
    """Return the folder of each fold: those inside that are named after one, else the work_dir itself.

    Raises:
        InputError: no such folder, or two folders of one fold.
    """
    if not work_dir.is_dir():
        raise InputError(f"{work_dir}: no such folder")
    found: dict[int, Path] = {}
    for place in sorted(path for path in work_dir.iterdir() if path.is_dir()):
        match = _FOLD.fullmatch(place.name)
        if match is None:
            continue
        number = int(match[1])
        if number in found:
            raise InputError(f"{work_dir}: {found[number].name} and {place.name} are both fold {number}")
        found[number] = place
    return dict(sorted(found.items())) or {fold: work_dir}


def config_file(place: Path) -> Path:
    """Return the one configuration in a work_dir.

    Raises:
        InputError: none, or several.
    """
    found = sorted(place.glob("*.py"))
    if len(found) != 1:
        names = ", ".join(path.name for path in found) or "none"
        raise InputError(f"{place}: one dumped configuration (*.py) is expected, found {names}")
    return found[0]


def checkpoint_file(place: Path, which: str) -> Path:
    """Return the last or the best checkpoint in a work_dir.

    Raises:
        InputError: none, or several best ones.
    """
    if which == "best":
        best = sorted(place.glob("best_*.pth"))
        if len(best) != 1:
            names = ", ".join(path.name for path in best) or "none"
            raise InputError(f"{place}: one best_*.pth is expected, found {names}; take --checkpoint last")
        return best[0]
    if (place / "latest.pth").is_file():
        return place / "latest.pth"
    epochs = {
        int(match[1]): path for path in place.glob("epoch_*.pth") if (match := _EPOCH.fullmatch(path.stem))
    }
    if not epochs:
        raise InputError(f"{place}: holds neither latest.pth nor epoch_N.pth")
    return epochs[max(epochs)]


def show(found: WorkDir, member: str, experiment: str) -> str:
    """Say what was imported and what to write into the experiment's file."""
    folds = ", ".join(map(str, found.digests))
    named = as_named(found.folder, experiment)
    return (
        f"{found.folder}: folds {folds}, leak level at least {found.leak_level} (declared). Name it in {experiment} "
        f"under members: {member}: {{kind: external, checkpoints: {named}, "
        f"finetune: {{config: {named}/{CONFIG}, folds: [{folds}]}}}}"
    )
