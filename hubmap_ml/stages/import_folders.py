"""Where an import is written: its folder, whole or not at all."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hubmap_ml.spec import InputError
from hubmap_ml.stages.session import Session, find_experiment

IMPORTED = "imported"


def folder_to_write(session: Session, member: str, out: Path | None) -> Path:
    """Return the folder of a member's import: ``out``, what the member names, or ``imported/MEMBER``.

    Raises:
        InputError: it is there already, or ``member`` is no name.
    """
    if not member or Path(member).name != member:
        raise InputError(f"--member is {member!r}, which is no member's name")
    declared = session.experiment.members.get(member)
    named = None if declared is None else declared.predictions or declared.checkpoints
    folder = out or session.experiment.folder / (named or f"{IMPORTED}/{member}")
    refuse_existing(folder)
    return folder


def as_named(folder: Path, experiment: str) -> str:
    """Return a folder as an experiment names it: from the experiment's own where it lies there."""
    own = find_experiment(experiment).resolve().parent
    whole = folder.resolve()
    return str(whole.relative_to(own) if whole.is_relative_to(own) else whole)


def refuse_existing(folder: Path) -> None:
    """Refuse to write over what is there.

    Raises:
        InputError: something is.
    """
    if folder.exists():
        raise InputError(f"{folder}: exists already; remove it, or name another folder with --out")


@contextmanager
def written_whole(folder: Path) -> Iterator[Path]:
    """Give a folder to write into, which takes the name of ``folder`` once that is done, or goes where it fails."""
    beside = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir(parents=True)
    try:
        yield beside
        beside.rename(folder)
    finally:
        shutil.rmtree(beside, ignore_errors=True)
