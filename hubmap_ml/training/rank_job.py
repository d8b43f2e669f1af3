"""What the ranks of a training are told and what they leave, as files of one folder in the run's."""

import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from hubmap_ml.instances import Category, read_annotations, write_annotations
from hubmap_ml.spec import decode_config, encode_config
from hubmap_ml.training.contract import FitData, FitInputs, FitResult

FOLDER = "ranks"
JOB, RESULT, STOP = "job.json", "result.json", "stop"


@dataclass(frozen=True)
class RankEnd:
    """How a rank ended that trained to no end.

    Attributes:
        rank: its number.
        kind: ``input`` (bad input), ``interrupted`` or ``error``.
        message: what it said.
        time: seconds since 1970.
    """

    rank: int
    kind: str
    message: str
    time: float


def stop_file(run: Path) -> Path:
    """The file that asks the ranks of a run to save and leave, by being there."""
    return run / FOLDER / STOP


def write_job(
    folder: Path, trainer: str, inputs: FitInputs, data: FitData, run: Path, resume_from: Path | None
) -> None:
    """Write what the ranks need to know, as data."""
    folder.mkdir(parents=True)
    write_annotations(folder / "train", data.train)
    if data.valid is not None:
        write_annotations(folder / "valid", data.valid)
    job = {
        "trainer": trainer,
        "inputs": {
            "config": encode_config(dict(inputs.config)),
            "categories": [asdict(category) for category in inputs.categories],
            "seed": inputs.seed,
            "metric": inputs.metric,
            "postprocess": [dict(step) for step in inputs.postprocess],
            "init_weights": _path(inputs.init_weights),
        },
        "data": {
            "image_root": str(Path(data.image_root).resolve()),
            **{
                name: value
                for name, value in vars(data).items()
                if name not in ("train", "valid", "image_root")
            },
        },
        "run": str(run.resolve()),
        "resume_from": _path(resume_from),
    }
    (folder / JOB).write_text(json.dumps(job, indent=1))


def read_job(folder: Path) -> tuple[str, FitInputs, FitData, Path, Path | None]:
    """Return trainer, inputs, data, the run's folder and the checkpoint to go on from."""
    job = json.loads((folder / JOB).read_text())
    said = job["inputs"]
    inputs = FitInputs(
        config=decode_config(said["config"]),
        categories=tuple(Category(**item) for item in said["categories"]),
        seed=said["seed"],
        metric=said["metric"],
        postprocess=tuple(said["postprocess"]),
        init_weights=None if said["init_weights"] is None else Path(said["init_weights"]),
    )
    valid = folder / "valid"
    data = FitData(
        **{
            **job["data"],
            "image_root": Path(job["data"]["image_root"]),
            "train": read_annotations(folder / "train"),
            "valid": read_annotations(valid) if valid.exists() else None,
        }
    )
    resume_from = None if job["resume_from"] is None else Path(job["resume_from"])
    return job["trainer"], inputs, data, Path(job["run"]), resume_from


def write_result(folder: Path, result: FitResult) -> None:
    """Write rank 0's result, whole or not at all."""
    beside = folder / f".{RESULT}"
    beside.write_text(json.dumps({**asdict(result), "best": str(result.best), "last": str(result.last)}))
    beside.replace(folder / RESULT)


def read_result(path: Path) -> FitResult:
    """Read what rank 0 left."""
    found = json.loads(path.read_text())
    return FitResult(
        **{
            **found,
            "best": Path(found["best"]),
            "last": Path(found["last"]),
            "history": tuple(found["history"]),
            "headline": tuple(found["headline"]),
            "notes": tuple(found["notes"]),
        }
    )


def write_end(folder: Path, rank: int, kind: str, message: str) -> None:
    """Leave word of how a rank ended."""
    path = folder / f"end_{rank}.json"
    path.write_text(json.dumps(asdict(RankEnd(rank, kind, message, time.time()))))


def read_ends(folder: Path) -> list[RankEnd]:
    """Return what the ranks left, the first of them first."""
    found = []
    for path in folder.glob("end_*.json"):
        try:
            found.append(RankEnd(**json.loads(path.read_text())))
        except ValueError:  # it was killed while it wrote
            continue
    return sorted(found, key=lambda end: end.time)


def _path(path: Path | None) -> str | None:
    return None if path is None else str(Path(path).resolve())
