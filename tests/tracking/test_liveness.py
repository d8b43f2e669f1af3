"""Signs of life, sweeping and claims; other hosts are stood for by heartbeats that name them."""

import dataclasses
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from mlflow import MlflowClient

from hubmap_ml.spec import DoneElsewhere, StageInputs
from hubmap_ml.tracking import claims, stage_run, sweeping
from hubmap_ml.tracking.heartbeat import GONE_ELSEWHERE_S, HEARTBEAT, Heartbeat, is_gone, own_heartbeat
from hubmap_ml.tracking.recorder import MlflowRecorder
from hubmap_ml.tracking.sweeping import sweep

INPUTS = StageInputs("tune", {"trials": 3}, ("up",), "data")


def gone_process() -> int:
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    return child.pid


def started(store: MlflowClient, beat: Heartbeat | None, **tags: str) -> str:
    given = {"hubmap.stage": "tune", "hubmap.experiment": "demo", **tags}
    if beat is not None:
        given[HEARTBEAT] = beat.to_tag()
    return str(store.create_run("0", tags=given).info.run_id)


def status(store: MlflowClient, run_id: str) -> str:
    return str(store.get_run(run_id).info.status)


def test_a_heartbeat_survives_its_tag() -> None:
    beat = own_heartbeat()
    assert Heartbeat.from_tag(beat.to_tag()) == beat
    for damaged in (None, "", "{}", "[1]", '{"host": "a"}'):
        assert Heartbeat.from_tag(damaged) is None


def test_a_live_process_here_is_never_gone_however_old_its_beat() -> None:
    assert not is_gone(dataclasses.replace(own_heartbeat(), time=0.0))


def test_a_dead_process_here_is_gone_at_once() -> None:
    assert is_gone(dataclasses.replace(own_heartbeat(), pid=gone_process()))


def test_another_process_with_the_number_of_the_dead_one_does_not_stand_for_it() -> None:
    own = own_heartbeat()
    assert is_gone(dataclasses.replace(own, started=own.started - 1))


def test_a_restart_of_this_machine_ended_what_ran_before() -> None:
    own = own_heartbeat()
    assert is_gone(dataclasses.replace(own, boot="other/" + own.boot.partition("/")[2]))


@pytest.mark.parametrize("change", [{"host": "other"}, {"machine": "other"}], ids=str)
def test_another_host_is_gone_only_after_minutes_of_silence(change: dict[str, str]) -> None:
    other = dataclasses.replace(own_heartbeat(), pid=1, **change)  # type: ignore[arg-type]
    assert not is_gone(other)
    assert not is_gone(dataclasses.replace(other, time=time.time() - GONE_ELSEWHERE_S + 10))
    assert is_gone(dataclasses.replace(other, time=time.time() - GONE_ELSEWHERE_S - 10))


def test_another_container_of_this_machine_is_judged_by_its_silence() -> None:
    own = own_heartbeat()
    other = dataclasses.replace(own, boot=own.boot.partition("/")[0] + "/pid:[1]", pid=gone_process())
    assert not is_gone(other)
    assert is_gone(dataclasses.replace(other, time=time.time() - GONE_ELSEWHERE_S - 10))


def test_sweeping_ends_the_dead_and_leaves_the_living(store: MlflowClient) -> None:
    own = own_heartbeat()
    dead = started(store, dataclasses.replace(own, pid=gone_process()))
    living = started(store, own)
    elsewhere = started(store, dataclasses.replace(own, host="other"))
    foreign = str(store.create_run("0").info.run_id)
    assert sweep(store) == [dead]
    ended = store.get_run(dead)
    assert ended.info.status == "KILLED"
    assert "is gone; start it again" in ended.data.tags["mlflow.note.content"]
    assert {status(store, run) for run in (living, elsewhere, foreign)} == {"RUNNING"}


def test_a_run_that_ended_but_could_not_say_so_is_no_killed_one(store: MlflowClient, tmp_path: Path) -> None:
    run_id = started(store, dataclasses.replace(own_heartbeat(), pid=gone_process()))
    recorder = MlflowRecorder(store, run_id, tmp_path / "work" / "runs" / run_id)
    recorder._spool.put({"kind": "end", "status": "FINISHED", "time": 1})
    recorder.close()
    assert sweep(store) == []
    assert status(store, run_id) == "FINISHED"


def made_by_mlflow(store: MlflowClient, folder: str) -> str:
    tags = {"mlflow.project.entryPoint": "tune", "mlflow.source.name": f"file://{folder}"}
    return str(store.create_run("0", tags=tags).info.run_id)


def test_a_run_whose_code_never_began_is_ended_when_nobody_is_about_to_begin(
    store: MlflowClient, tmp_path: Path
) -> None:
    project = sweeping._here()
    other = made_by_mlflow(store, str(tmp_path))
    awaited = made_by_mlflow(store, project)
    never = made_by_mlflow(store, project)
    command = [sys.executable, "-c", "print(1, flush=True); import time; time.sleep(60)"]
    child = subprocess.Popen(command, env={**os.environ, "MLFLOW_RUN_ID": awaited}, stdout=subprocess.PIPE)
    assert child.stdout is not None
    child.stdout.readline()
    try:
        assert sweep(store) == [never]
    finally:
        child.kill()
        child.wait()
    assert sweep(store) == [awaited]
    assert status(store, other) == "RUNNING"


def test_a_live_mlflow_run_of_the_folder_may_be_about_to_begin(store: MlflowClient, tmp_path: Path) -> None:
    script = tmp_path / "mlflow"
    script.write_text("print(1, flush=True)\nimport time\ntime.sleep(60)\n")
    command = [sys.executable, str(script), "run", sweeping._here()]
    child = subprocess.Popen(command, stdout=subprocess.PIPE)
    assert child.stdout is not None
    child.stdout.readline()
    time.sleep(1.1)
    run_id = made_by_mlflow(store, sweeping._here())
    try:
        assert sweep(store) == []
    finally:
        child.kill()
        child.wait()
    assert sweep(store) == [run_id]


def test_on_a_shared_store_a_run_without_heartbeat_has_ten_minutes(
    store: MlflowClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_id = made_by_mlflow(store, sweeping._here())
    monkeypatch.setattr("mlflow.get_tracking_uri", lambda: "http://example.org")
    assert sweep(store) == []
    monkeypatch.setattr(sweeping, "WITHOUT_HEARTBEAT_S", -1.0)
    assert sweep(store) == [run_id]


def work(order: list[str], name: str, seconds: float) -> None:
    try:
        with stage_run(experiment="demo", stage="tune", name=name) as run:
            run.identify(INPUTS)
            order.append(f"{name} begins")
            time.sleep(seconds)
            run.say("ap60 0.5", 0.5)
            order.append(f"{name} ends")
    except DoneElsewhere as done:
        order.append(f"{name} finds {done.run_id}")


def test_two_starts_of_the_same_do_it_once(store: MlflowClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claims, "LOOK_EVERY_S", 0.05)
    order: list[str] = []
    threads = [threading.Thread(target=work, args=(order, name, 0.5)) for name in ("a", "b", "c")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    first = order[0][0]
    assert order[:2] == [f"{first} begins", f"{first} ends"]
    runs = {run.info.run_name: run for run in store.search_runs(["1"], "")}
    done = runs[first].info.run_id
    assert sorted(order[2:]) == sorted(f"{name} finds {done}" for name in "abc" if name != first)
    for name in set("abc") - {first}:
        assert runs[name].info.status == "FINISHED"
        assert runs[name].data.tags["hubmap.reuses"] == done
        assert runs[name].data.metrics["headline"] == 0.5


HOLDER = """
import time
from hubmap_ml.spec import StageInputs
from hubmap_ml.tracking import stage_run
with stage_run(experiment="demo", stage="tune", name="held") as run:
    run.identify(StageInputs("tune", {"trials": 3}, ("up",), "data"))
    print("held", flush=True)
    time.sleep(600)
"""


def test_whoever_waits_says_for_whom_and_goes_on_when_the_other_dies(
    store: MlflowClient, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(claims, "LOOK_EVERY_S", 0.1)
    caplog.set_level("INFO")
    holder = subprocess.Popen([sys.executable, "-c", HOLDER], stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    threading.Timer(1.0, lambda: os.kill(holder.pid, signal.SIGKILL)).start()
    reaper = threading.Thread(target=holder.wait)
    reaper.start()
    order: list[str] = []
    work(order, "second", 0.0)
    reaper.join()
    assert order == ["second begins", "second ends"]
    assert any(f"process {holder.pid} on" in line and "waiting for run" in line for line in caplog.messages)
    held = store.search_runs(["1"], "attributes.run_name = 'held'")[0]
    assert held.info.status == "KILLED"  # swept at the second's end
