"""What runs, what failed, and who leads, as the store has it."""

import dataclasses
import time

import pytest
from mlflow import MlflowClient

from hubmap_ml.spec import InputError
from hubmap_ml.tracking import (
    CHAMPION,
    PROMOTED,
    failed_runs,
    leading_versions,
    live_runs,
    newest_of_each_member,
    point_alias,
    register_folder,
    stage_run,
    versions,
)
from hubmap_ml.tracking.heartbeat import HEARTBEAT, own_heartbeat
from tests.tracking.test_liveness import gone_process, started


def failing(name: str, error: Exception, experiment: str = "demo") -> None:
    with pytest.raises(type(error)), stage_run(experiment=experiment, stage="tune", name=name):
        raise error


def test_a_live_run_tells_for_how_long_by_whom_and_its_newest_figure(store: MlflowClient) -> None:
    with stage_run(experiment="demo", stage="finetune", name="finetune · htc · fold 0") as run:
        run.recorder.metrics({"train/loss": 0.5, "time/data_s": 9.0}, step=30)
        run.found()
        (found,) = live_runs(store)
        assert (found.run_id, found.experiment, found.name) == (run.run_id, "demo", "finetune · htc · fold 0")
        assert found.told == "train/loss 0.5 at 30"
        assert found.worker.startswith("process ")
        assert found.silent_s is not None
        assert 0 <= found.silent_s < 60
        assert not found.gone
        assert live_runs(store, "other") == []
    assert live_runs(store) == []


def test_a_run_whose_process_is_gone_is_shown_so_and_left_alone(store: MlflowClient) -> None:
    beat = dataclasses.replace(own_heartbeat(), pid=gone_process(), time=time.time() - 90)
    run_id = started(store, beat, **{HEARTBEAT: beat.to_tag()})
    (found,) = live_runs(store)
    assert found.gone
    assert found.silent_s == pytest.approx(90, abs=30)
    assert store.get_run(run_id).info.status == "RUNNING"


def test_a_failure_is_told_by_the_last_line_of_its_error_until_it_is_done(store: MlflowClient) -> None:
    failing("tune · a", InputError("no such member; members: b"))
    failing("tune · b", ValueError("first line\nlast line"))
    failing("tune · b", ValueError("again"), experiment="other")
    told = {(run.experiment, run.name): (run.status, run.why) for run in failed_runs(store)}
    assert told == {
        ("demo", "tune · a"): ("FAILED", "no such member; members: b"),
        ("demo", "tune · b"): ("FAILED", "last line"),
        ("other", "tune · b"): ("FAILED", "ValueError: again"),
    }
    with stage_run(experiment="demo", stage="tune", name="tune · a") as run:
        assert [item.name for item in failed_runs(store, "demo")] == ["tune · b"]
        run.say("done")
    assert [item.name for item in failed_runs(store, "demo")] == ["tune · b"]


def test_versions_with_an_alias_lead_and_the_newest_study_of_each_member_counts(store: MlflowClient) -> None:
    studies = []
    for member in ("a", "b", "a"):
        with stage_run(experiment="demo", stage="tune", name="t", tags={"hubmap.member": member}) as run:
            run.recorder.data({}, "predictor/manifest.json")
            studies.append(run.run_id)
    assert [run.run_id for run in newest_of_each_member(store, "tune")] == [studies[2], studies[1]]
    assert newest_of_each_member(store, "tune", "other") == []
    for name, alias in (("demo.a", PROMOTED), ("demo.b", None), ("demo.ensemble", CHAMPION)):
        register_folder(store, name=name, run_id=studies[0], artifact="predictor", tags={}, description="")
        if alias:
            point_alias(store, name, alias, versions(store, name)[0])
    found = leading_versions(store)
    assert [(experiment, alias, version.name) for experiment, alias, version in found] == [
        ("demo", CHAMPION, "demo.ensemble"),
        ("demo", PROMOTED, "demo.a"),
    ]
