import re
from urllib.parse import unquote

import pytest
from mlflow import MlflowClient

from hubmap_ml.spec import InputError, StageInputs
from hubmap_ml.tracking import fail_waiting_run, find_run, stage_run

INPUTS = StageInputs("tune", {"trials": 3}, ("up",), "data")


def finished(**changes: str) -> str:
    with stage_run(experiment="demo", stage="tune", name="tune · htc", **changes) as run:  # type: ignore[arg-type]
        run.identify(INPUTS)
        run.say("ap60 0.5", 0.5)
    return run.run_id


def test_a_finished_run_is_found_by_its_key_with_its_verdict_first(store: MlflowClient) -> None:
    run_id = finished()
    found = find_run("demo", INPUTS.key)
    assert found is not None
    assert found.run_id == run_id
    assert found.metrics["headline"] == 0.5
    assert found.tags["mlflow.note.content"].splitlines()[0] == "ap60 0.5"
    assert found.metrics["time/seconds"] > 0
    assert found.artifact("stage_inputs.json").is_file()
    assert find_run("other", INPUTS.key) is None


def test_the_note_links_to_what_a_run_was_made_from_and_to_what_was_made_of_it(store: MlflowClient) -> None:
    first = finished()
    with stage_run(experiment="demo", stage="promote", name="promote [x]") as run:
        run.identify(StageInputs("promote", {}, (), "data"), upstream_runs=[first, "gone", first])
        run.say("promoted: one")
    verdict, _, made_from, _, made_of_it = (
        store.get_run(run.run_id).data.tags["mlflow.note.content"].split("\n")
    )
    assert verdict == "promoted: one"
    experiment = store.get_run(first).info.experiment_id
    place = f"#/experiments/{experiment}/runs/{first}?workflowType=machine_learning"
    assert made_from == f"Made from [tune · htc]({place})."
    wanted = unquote(re.search(r"searchFilter=([^&]+)&", made_of_it)[1])  # type: ignore[index]
    assert wanted == f"tags.`hubmap.upstream_runs` LIKE '%{run.run_id}%'"
    of_first = wanted.replace(run.run_id, first)
    assert [one.info.run_id for one in store.search_runs([experiment], of_first)] == [run.run_id]


def test_the_newest_of_two_is_found(store: MlflowClient) -> None:
    finished()
    second = finished()
    found = find_run("demo", INPUTS.key)
    assert found is not None
    assert found.run_id == second


def test_bad_input_ends_the_run_failed_with_its_line_as_note(store: MlflowClient) -> None:
    with pytest.raises(InputError), stage_run(experiment="demo", stage="tune", name="tune") as run:
        run.identify(INPUTS)
        raise InputError("file.csv, row 3: no such tile")
    ended = store.get_run(run.run_id)
    assert ended.info.status == "FAILED"
    assert ended.data.tags["mlflow.note.content"] == "file.csv, row 3: no such tile"
    assert find_run("demo", INPUTS.key) is None


def test_a_defect_leaves_its_traceback_with_the_run(store: MlflowClient) -> None:
    with pytest.raises(ZeroDivisionError), stage_run(experiment="demo", stage="tune", name="tune") as run:
        1 / 0  # noqa: B018
    assert store.get_run(run.run_id).info.status == "FAILED"
    assert "failure.json" in [item.path for item in store.list_artifacts(run.run_id)]


def test_an_interrupted_run_is_killed(store: MlflowClient) -> None:
    with pytest.raises(KeyboardInterrupt), stage_run(experiment="demo", stage="tune", name="tune") as run:
        raise KeyboardInterrupt
    assert store.get_run(run.run_id).info.status == "KILLED"


def test_a_run_that_mlflow_started_is_joined_once(
    store: MlflowClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    waiting = store.create_run("0").info.run_id
    monkeypatch.setenv("MLFLOW_RUN_ID", waiting)
    assert finished() == waiting
    assert store.get_run(waiting).info.run_name == "tune · htc"
    other = finished()
    assert other != waiting
    assert store.get_run(other).info.experiment_id != "0"


def test_a_nested_run_names_its_parent_and_leaves_the_waiting_run_alone(
    store: MlflowClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    waiting = store.create_run("0").info.run_id
    monkeypatch.setenv("MLFLOW_RUN_ID", waiting)
    child = finished(parent=waiting)
    assert child != waiting
    assert store.get_run(child).data.tags["mlflow.parentRunId"] == waiting


def test_a_waiting_run_is_failed_when_nothing_could_start(
    store: MlflowClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    waiting = store.create_run("0").info.run_id
    monkeypatch.setenv("MLFLOW_RUN_ID", waiting)
    fail_waiting_run("no such experiment")
    ended = store.get_run(waiting)
    assert (ended.info.status, ended.data.tags["mlflow.note.content"]) == ("FAILED", "no such experiment")


def test_a_repetition_is_not_found_in_place_of_what_it_repeats(store: MlflowClient) -> None:
    first = finished()
    again = finished(tags={"hubmap.reproduces": first})  # type: ignore[arg-type]
    found = find_run("demo", INPUTS.key)
    assert found is not None
    assert found.run_id == first
    assert store.get_run(again).data.tags["hubmap.repeated_key"] == INPUTS.key
