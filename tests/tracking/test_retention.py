"""What a version, the newest run of a key or a live run needs is never listed; what nothing needs is, with its size."""

from pathlib import Path

import pytest
from mlflow import MlflowClient

from hubmap_ml.tracking import Removable, experiment_id, removable, remove
from tests.tracking.test_lineage import version


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    return tmp_path / "work" / "runs"


def run(
    client: MlflowClient,
    runs: Path,
    stage: str,
    key: str,
    *upstream: str,
    status: str = "FINISHED",
    **tags: str,
) -> str:
    """A run with a checkpoint of 1,000 bytes in the store, and 100 bytes and its metrics in the work folder."""
    run_id = str(client.create_run(experiment_id(client, "here")).info.run_id)
    all_tags = {
        "stage": stage,
        "experiment": "x",
        "upstream_runs": ",".join(upstream),
        "data_digest": "d",
        **tags,
    }
    all_tags |= {"stage_key": key} if key else {}
    for name, value in all_tags.items():
        client.set_tag(run_id, f"hubmap.{name}", value)
    local = runs / run_id / "checkpoints" / "last"
    local.mkdir(parents=True)
    (local / "weights.safetensors").write_bytes(b"w" * 1000)
    client.log_artifacts(run_id, str(local), "checkpoints/last")
    (local / "weights.safetensors").write_bytes(b"w" * 100)
    (runs / run_id / "metrics.jsonl").write_text("{}\n")
    if status != "RUNNING":
        client.set_terminated(run_id, status)
    return run_id


def of(kind: str, found: list[Removable]) -> set[str]:
    return {item.run_id for item in found if item.kind == kind}


def has_checkpoint(client: MlflowClient, run_id: str) -> bool:
    return bool(client.list_artifacts(run_id, "checkpoints"))


def test_only_what_nothing_needs_is_listed_and_removed(store: MlflowClient, runs: Path) -> None:
    registered = run(store, runs, "finetune", "f1")
    tuned = run(store, runs, "tune", "t1", registered)
    version(store, "x.m", tuned, tune_run=tuned)
    later = run(store, runs, "finetune", "f1")  # the same key again: newest
    older = run(store, runs, "finetune", "f2")
    newest = run(store, runs, "finetune", "f2")
    repeated = run(store, runs, "finetune", "", reproduces=newest)
    failed = run(store, runs, "finetune", "f3", status="FAILED")
    stopped_and_done = run(store, runs, "finetune", "f2", status="KILLED")
    live = run(store, runs, "finetune", "f2", older, status="RUNNING")

    found = removable(store)
    assert of("checkpoints", found) == {
        repeated,
        failed,
        stopped_and_done,
    }  # the live run starts from the older one
    assert {item.size for item in found if item.kind == "checkpoints"} == {1000}
    # A failed training goes on from its folder; the store holds what finished ones left there.
    assert of("run folder", found) == {registered, tuned, later, older, newest, repeated, stopped_and_done}
    assert {item.size for item in found if item.kind == "run folder"} == {100}
    assert all(has_checkpoint(store, run_id) for run_id in (repeated, failed))  # listing removes nothing

    for item in found:
        remove(store, item)
    for run_id in (registered, tuned, later, older, newest, live):
        assert has_checkpoint(store, run_id)
    for run_id in (repeated, failed, stopped_and_done):
        assert not has_checkpoint(store, run_id)
        assert store.get_run(run_id).data.tags["hubmap.removed"] == "checkpoints"
    assert (runs / registered / "metrics.jsonl").is_file()
    assert (runs / failed / "checkpoints").is_dir()
    assert (runs / live / "checkpoints").is_dir()
    assert removable(store) == []

    store.set_terminated(live)
    assert of("checkpoints", removable(store)) == {live, newest, older} - {
        live,
        older,
    }  # live is now the newest


def test_a_reused_run_is_needed_by_the_one_that_stands_for_it(store: MlflowClient, runs: Path) -> None:
    first = run(store, runs, "finetune", "f1")
    run(store, runs, "finetune", "f1", reuses=first)
    assert of("checkpoints", removable(store)) == set()


def test_a_version_of_an_older_run_keeps_its_whole_lineage(store: MlflowClient, runs: Path) -> None:
    trained = run(store, runs, "finetune", "f")
    promoted = run(store, runs, "promote", "p", trained)
    version(store, "x.m", promoted)
    run(store, runs, "finetune", "f")
    run(store, runs, "promote", "p")
    assert of("checkpoints", removable(store)) == set()
    store.delete_model_version("x.m", "1")
    assert of("checkpoints", removable(store)) == {trained, promoted}


def test_folders_of_unknown_runs_are_left_alone(store: MlflowClient, runs: Path) -> None:
    (runs / ("a" * 32) / "checkpoints").mkdir(parents=True)
    (runs / ("a" * 32) / "checkpoints" / "file").write_text("x")
    assert removable(store) == []


def test_another_experiments_run_of_the_same_key_does_not_stand_in(store: MlflowClient, runs: Path) -> None:
    run(store, runs, "finetune", "f", experiment="other")
    stopped = run(store, runs, "finetune", "f", status="KILLED")
    assert stopped not in of("run folder", removable(store))
