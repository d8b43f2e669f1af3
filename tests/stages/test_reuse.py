"""Finished work is found by its key: a new run stands for it, or no run is made at all."""

from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from hubmap_ml.spec import StageInputs
from hubmap_ml.stages import reuse
from hubmap_ml.stages.main import _Steps
from hubmap_ml.stages.running import running
from hubmap_ml.stages.session import Outcome, Session, open_session
from hubmap_ml.stages.worker import TorchWorker
from hubmap_ml.tracking import find_run, follow, get_run

WANTED = StageInputs("tune", {"trials": 3}, ("up",), "data")


@pytest.fixture
def client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MlflowClient:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    monkeypatch.setenv("HUBMAP_ML_WORK", str(tmp_path / "work"))
    monkeypatch.delenv("MLFLOW_RUN_ID", raising=False)
    return MlflowClient()


def tuned(session: Session, worked: list[str]) -> Outcome:
    """A stage that says when it really works."""
    with running(session, "tune", member="maskrcnn") as at:
        if done := at.reuse(WANTED):
            return done
        at.run.identify(WANTED, upstream_runs=["a", "b"])
        worked.append(at.run.run_id)
        return at.finish("ap60 0.500", headline=0.5, details={"base": 0.25})


def test_a_second_run_stands_for_the_first_and_every_search_leads_to_the_real_one(
    client: MlflowClient,
) -> None:
    session, worked = open_session(experiment="tiny"), list[str]()
    first, second, third = (tuned(session, worked) for _ in range(3))
    assert worked == [first.run_id]
    assert not first.reused
    for again in (second, third):
        assert again.reused
        assert (again.run_id, again.headline, again.details) == (first.run_id, 0.5, {"base": 0.25})
    ids = [item.experiment_id for item in client.search_experiments()]
    runs = client.search_runs(ids, "tags.`hubmap.stage` = 'tune'")
    stand_ins = [run for run in runs if run.info.run_id != first.run_id]
    assert len(stand_ins) == 2
    for run in stand_ins:
        assert run.info.status == "FINISHED"
        assert run.data.tags["hubmap.reuses"] == first.run_id  # never a chain
        assert run.data.tags["hubmap.stage_key"] == WANTED.key
        assert run.data.tags["hubmap.upstream_runs"] == "a,b"
        assert run.data.metrics["headline"] == 0.5
        assert (
            run.data.tags["mlflow.note.content"].splitlines()[0] == f"reused run {first.run_id}: ap60 0.500"
        )
        assert follow(get_run(client, run.info.run_id)).run_id == first.run_id
    found = find_run("tiny", WANTED.key)
    assert found is not None
    assert found.run_id == first.run_id


def test_fresh_works_again_and_is_what_is_found_from_then_on(client: MlflowClient) -> None:
    worked: list[str] = []
    tuned(open_session(experiment="tiny"), worked)
    again = tuned(open_session(experiment="tiny", fresh=True), worked)
    assert worked[1:] == [again.run_id]
    assert tuned(open_session(experiment="tiny"), worked).run_id == again.run_id
    assert len(worked) == 2


def test_a_stand_in_without_the_run_that_worked_counts_for_nothing(client: MlflowClient) -> None:
    session, worked = open_session(experiment="tiny"), list[str]()
    first = tuned(session, worked)
    tuned(session, worked)
    client.delete_run(first.run_id)
    assert find_run("tiny", WANTED.key) is None
    assert not tuned(session, worked).reused


def test_a_run_that_does_not_say_what_it_found_is_not_reused(client: MlflowClient) -> None:
    session, worked = open_session(experiment="tiny"), list[str]()
    first = tuned(session, worked)
    found = find_run("tiny", WANTED.key)
    assert found is not None
    found.artifact(reuse.OUTCOME).unlink()
    assert tuned(session, worked).run_id != first.run_id


def test_a_run_is_not_reused_where_its_check_says_no(client: MlflowClient) -> None:
    session, worked = open_session(experiment="tiny"), list[str]()
    tuned(session, worked)
    assert reuse.finished(session, WANTED, "tune", lambda run, outcome: None) is None


def test_reused_steps_of_a_chain_start_no_process_and_make_no_run(client: MlflowClient) -> None:
    session, worked = open_session(experiment="tiny"), list[str]()
    first = tuned(session, worked)

    def fail(*_: Any) -> Outcome:
        raise AssertionError("this step was to be reused")

    told: list[Outcome] = []
    before = len(client.search_runs([item.experiment_id for item in client.search_experiments()]))
    with TorchWorker() as worker:
        steps = _Steps(session, told.append, worker)
        steps.here(WANTED, fail, name="tune · maskrcnn")
        steps.in_worker(WANTED, fail)
        assert not worker.started
    assert steps.reused == 2
    assert [outcome.run_id for outcome in told] == [first.run_id] * 2
    assert [row["verdict"] for row in steps.rows()] == ["ap60 0.500"] * 2
    assert steps.rows()[0]["name"] == "tune · maskrcnn"
    assert len(client.search_runs([item.experiment_id for item in client.search_experiments()])) == before
