import json
from pathlib import Path

import pytest
from mlflow import MlflowClient

from hubmap_ml.spec import Interrupted, StageInputs
from hubmap_ml.tracking import forget, interrupted, link, stage_run

INPUTS = StageInputs("finetune", {"lr": 0.1}, (), "data")


def killed(*checkpoints: str, iterations: int = 5, key: StageInputs = INPUTS) -> str:
    """A run that was asked to stop, with checkpoints in its folder."""
    with (
        pytest.raises(Interrupted),
        stage_run(experiment="demo", stage="finetune", name="finetune") as run,
    ):
        run.identify(key)
        for name in checkpoints:
            write(run.recorder.folder / "checkpoints" / name, iterations)
        raise Interrupted("interrupted at epoch 1, iteration 7; start it again to go on")
    return run.run_id


def write(folder: Path, iterations: int) -> None:
    folder.mkdir(parents=True)
    (folder / "resume.json").write_text(json.dumps({"iterations": iterations}))
    (folder / "weights.safetensors").write_text("weights")


def found(store: MlflowClient, experiment: str = "demo") -> list[tuple[str, int, str]]:
    left = interrupted(store, experiment, INPUTS.key, own="another")
    return [(item.run.run_id, item.iterations, item.place) for item in left]


def test_an_interrupted_run_says_where_it_stands(store: MlflowClient) -> None:
    run = store.get_run(killed())
    assert run.info.status == "KILLED"
    note = run.data.tags["mlflow.note.content"]
    assert note == "interrupted at epoch 1, iteration 7; start it again to go on"


def test_the_furthest_checkpoint_comes_first_wherever_it_lies(store: MlflowClient, tmp_path: Path) -> None:
    first = killed("last", iterations=9)
    second = killed("last", iterations=5)
    third = killed(".last.old", iterations=9)  # killed between two renames
    killed()  # died before it had copied what it was to go on from
    killed("last", key=StageInputs("finetune", {"lr": 0.2}, (), "data"))
    artifacts = Path(store.get_run(second).info.artifact_uri) / "resume"
    for step in (7, 11):
        write(artifacts / f"{step:09d}" / "checkpoints" / "last", step)
    here, there = "work folder", "artifacts"
    assert found(store) == [
        (second, 11, there),
        (third, 9, here),
        (first, 9, here),
        (second, 7, there),
        (second, 5, here),
    ]
    folders = [item.fetch() for item in interrupted(store, "demo", INPUTS.key, own="another")]
    assert folders[0] == artifacts / "000000011" / "checkpoints" / "last"
    assert folders[1] == tmp_path / "work" / "runs" / third / "checkpoints" / ".last.old"
    assert all((folder / "weights.safetensors").is_file() for folder in folders)
    assert found(store, "other") == []


def test_a_checkpoint_that_says_nothing_is_looked_at_first_so_that_it_is_named(
    store: MlflowClient, tmp_path: Path
) -> None:
    run = killed("last", ".last.old")
    (tmp_path / "work" / "runs" / run / "checkpoints" / "last" / "resume.json").write_text("{")
    assert [item.name for item in interrupted(store, "demo", INPUTS.key, own="another")] == [
        "last",
        ".last.old",
    ]


def test_both_runs_know_of_each_other_and_the_old_one_is_killed(store: MlflowClient) -> None:
    old = killed("last")
    write(Path(store.get_run(old).info.artifact_uri) / "resume" / "000000005" / "checkpoints" / "last", 5)
    store.set_terminated(old, "FAILED")
    with stage_run(experiment="demo", stage="finetune", name="finetune") as run:
        run.identify(INPUTS)
        link(store, interrupted(store, "demo", INPUTS.key, own=run.run_id)[0].run, run.run_id)
        forget(store, "demo", INPUTS.key, own=run.run_id)
    assert store.get_run(old).info.status == "KILLED"
    assert store.get_run(old).data.tags["hubmap.resumed_by"] == run.run_id
    assert store.get_run(run.run_id).data.tags["hubmap.resumes"] == old
    assert found(store) == []
