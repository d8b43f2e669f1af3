"""Which checkpoints and run folders nothing needs any more.

Needed is what any registered version came from (champions included), the newest finished run of every stage key, and
what these came from. Only files go: a run's metrics, parameters and documents stay, so that lineage and comparisons go
on working.
"""

import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

from hubmap_ml.tracking.lineage import lineage_from
from hubmap_ml.tracking.runs import EXPERIMENT, MEMBER, REPRODUCES, STAGE, FoundRun, search
from hubmap_ml.tracking.store import work_folder

CHECKPOINTS = "checkpoints"
ENDED = ("FINISHED", "FAILED", "KILLED")
LIVE = ("RUNNING", "SCHEDULED")


@dataclass(frozen=True)
class Removable:
    """Files that nothing needs.

    Attributes:
        kind: ``checkpoints`` are artifacts of the run; ``run folder`` is local, in the work folder.
        run_id: whose they are.
        title: stage and member of the run, in words.
        place: a path or an artifact address.
        size: bytes.
        why: what makes them useless.
    """

    kind: Literal["checkpoints", "run folder"]
    run_id: str
    title: str
    place: str
    size: int
    why: str


def removable(client: MlflowClient) -> list[Removable]:
    """List what could be removed from the store and from this machine's work folder; nothing is touched."""
    runs = {status: _of_status(client, status) for status in (*ENDED, *LIVE)}
    live = [run for status in LIVE for run in runs[status]]
    needed = needed_runs(client, runs["FINISHED"], live)
    finished_keys = {_place(run) for run in runs["FINISHED"] if run.key}
    found: list[Removable] = []
    for status in ENDED:
        for run in runs[status]:
            size = 0 if run.run_id in needed else _size_below(client, run.run_id, CHECKPOINTS)
            if size:
                uri = str(client.get_run(run.run_id).info.artifact_uri).rstrip("/")
                why = _why(run, status, finished_keys)
                place = f"{uri}/{CHECKPOINTS}"
                found.append(Removable("checkpoints", run.run_id, _title(run), place, size, why))
    ended = {run.run_id: (status, run) for status in ENDED for run in runs[status]}
    folder = work_folder() / "runs"
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        if path.name not in ended:
            continue  # it runs, or belongs to another store
        status, run = ended[path.name]
        resumable = status != "FINISHED" and run.key and _place(run) not in finished_keys
        size = sum(_size_of(part) for part in _parts(path))
        if size and not (resumable and "hubmap.resumed_by" not in run.tags):
            why = "the store holds it" if status == "FINISHED" else _why(run, status, finished_keys)
            found.append(Removable("run folder", run.run_id, _title(run), str(path), size, why))
    return found


def needed_runs(
    client: MlflowClient, finished: Iterable[FoundRun], live: Iterable[FoundRun] = ()
) -> set[str]:
    """Return the runs that must keep their files.

    Args:
        client: of the store.
        finished: all finished runs, newest first.
        live: runs that go on at this moment.
    """
    newest: dict[tuple[str, str], str] = {}
    for run in finished:
        if run.key:
            newest.setdefault(_place(run), run.run_id)
    roots = [*newest.values(), *(run.run_id for run in live)]
    sources: set[str] = set()
    token: str | None = None
    while True:
        page = client.search_model_versions(max_results=1000, page_token=token)
        for version in page:
            roots.append(f"models:/{version.name}/{version.version}")
            sources.add(str(version.run_id or ""))
        token = page.token
        if not token:
            break
    return {node.id for node in lineage_from(client, roots).of_kind("run")} | sources


def remove(client: MlflowClient, item: Removable) -> None:
    """Remove what an item names."""
    if item.kind == "run folder":
        for part in _parts(Path(item.place)):
            shutil.rmtree(part, ignore_errors=True)
    else:
        repository = get_artifact_repository(item.place.removesuffix(f"/{CHECKPOINTS}"))
        repository.delete_artifacts(CHECKPOINTS)  # type: ignore[no-untyped-call]
        client.set_tag(item.run_id, "hubmap.removed", CHECKPOINTS)


def _of_status(client: MlflowClient, status: str) -> list[FoundRun]:
    return search(f"tags.`{STAGE}` LIKE '%' and attributes.status = '{status}'", client=client, limit=50_000)


def _place(run: FoundRun) -> tuple[str, str]:
    """Return what stages look a run up by: its experiment and its key."""
    return run.tags.get(EXPERIMENT, ""), run.key


def _why(run: FoundRun, status: str, finished_keys: set[tuple[str, str]]) -> str:
    if REPRODUCES in run.tags:
        return f"it repeats run {run.tags[REPRODUCES][:12]}"
    if _place(run) in finished_keys:
        return "a finished run has its key" if status != "FINISHED" else "a newer run has its key"
    return f"the run is {status}"


def _parts(folder: Path) -> list[Path]:
    """Return what may go from a run's local folder: its folders; files, such as metrics still to be sent, stay."""
    return [item for item in folder.iterdir() if item.is_dir() and not item.is_symlink()]


def _size_of(folder: Path) -> int:
    return sum(item.stat().st_size for item in folder.rglob("*") if item.is_file())


def _size_below(client: MlflowClient, run_id: str, folder: str) -> int:
    try:
        listed = client.list_artifacts(run_id, folder)
    except (MlflowException, OSError):
        return 0
    return sum(
        _size_below(client, run_id, item.path) if item.is_dir else int(item.file_size or 0) for item in listed
    )


def _title(run: FoundRun) -> str:
    return " · ".join(filter(None, (run.tags.get(STAGE, "run"), run.tags.get(MEMBER, ""))))
