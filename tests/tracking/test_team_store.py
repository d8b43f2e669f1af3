"""Everything that tracking does, against `mlflow server` with PostgreSQL, S3 and (where it is installed) log-ins."""

import json
import logging
import os
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import psycopg
import pytest
from mlflow import MlflowClient

from hubmap_ml.instances import Images, write_predictions
from hubmap_ml.predictor import open_predictor, write_predictor
from hubmap_ml.serving import load_predictor, log_predictor
from hubmap_ml.spec import InputError
from hubmap_ml.tracking import (
    MlflowRecorder,
    by_alias,
    by_uri,
    experiment_id,
    fetching,
    folder_of,
    local_artifact,
    open_store,
    point_alias,
    register_folder,
    serve_ui,
    stage_run,
    versions,
)
from tests.random_scenes import CATEGORIES, predictions
from tests.team_server import BUCKET, CAN_LOG_IN, Team, team

needs_log_ins = pytest.mark.skipif(not CAN_LOG_IN, reason="Flask-WTF (mlflow[auth]) is not installed here")


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Team]:
    with team(tmp_path_factory.mktemp("team")) as running:
        yield running


@pytest.fixture
def store(servers: Team, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[MlflowClient]:
    with connected(servers.variables, tmp_path, monkeypatch) as client:
        yield client


class connected:
    """This process as a client of a store, in a folder of its own."""

    def __init__(self, variables: Mapping[str, str], folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in [name for name in os.environ if name.startswith(("MLFLOW", "AWS"))]:
            monkeypatch.delenv(name)
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("HUBMAP_ML_WORK", str(folder / "work"))
        monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
        monkeypatch.chdir(folder)
        self._uri = variables["MLFLOW_TRACKING_URI"]

    def __enter__(self) -> MlflowClient:
        mlflow.set_tracking_uri(self._uri)
        return open_store()

    def __exit__(self, *_: object) -> None:
        mlflow.set_tracking_uri(None)  # an address set so would outlive this test and win over the variable


@pytest.fixture
def run_id(store: MlflowClient) -> str:
    return str(store.create_run(experiment_id(store, "demo")).info.run_id)


def numbered_files(folder: Path, *, size: int = 3_000_000) -> Path:
    """A folder of a few files, one in a subfolder, one of several megabytes."""
    (folder / "inner").mkdir(parents=True)
    (folder / "config.json").write_text('{"family": "mmdet"}')
    (folder / "inner" / "empty.csv").write_text("")
    (folder / "weights.safetensors").write_bytes(np.random.default_rng(1).bytes(size))
    return folder


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_metrics_arrive_in_batches_and_each_once(store: MlflowClient, run_id: str, tmp_path: Path) -> None:
    recorder = MlflowRecorder(store, run_id, tmp_path / "run")
    for step in range(1100):
        recorder.metrics({"train/loss": 1 / (step + 1), "train/lr": step / 7}, step=step)
    assert recorder.drain()
    for key, expected in (("train/loss", lambda step: 1 / (step + 1)), ("train/lr", lambda step: step / 7)):
        points = store.get_metric_history(run_id, key)
        assert sorted(point.step for point in points) == list(range(1100))
        assert all(point.value == expected(point.step) for point in points)


def test_parameters_images_and_data_are_kept(store: MlflowClient, run_id: str, tmp_path: Path) -> None:
    recorder = MlflowRecorder(store, run_id, tmp_path / "run")
    recorder.params({"lr": 0.02, "long": "x" * 9000, **{f"p{number}": number for number in range(150)}})
    recorder.image(np.full((8, 9, 3), 200, np.uint8), key="val/overlay_0", step=3)
    recorder.data({"loaded": 3}, "load_report.json")
    params = store.get_run(run_id).data.params
    assert params["lr"] == "0.02"
    assert len(params["long"]) == 6000
    assert len(params) == 152
    assert json.loads(local_artifact(store, run_id, "load_report.json").read_text()) == {"loaded": 3}
    pictures = [item.path for item in store.list_artifacts(run_id, "images")]
    assert any(path.endswith(".png") for path in pictures)


def test_a_folder_comes_back_as_it_was_sent_and_is_fetched_once(
    store: MlflowClient, run_id: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent = numbered_files(tmp_path / "best")
    recorder = MlflowRecorder(store, run_id, tmp_path / "run")
    recorder.artifact(sent, "checkpoints")
    fetched = local_artifact(store, run_id, "checkpoints/best")
    assert content(fetched) == content(sent)
    assert fetched.is_relative_to(tmp_path / "work")
    with monkeypatch.context() as patched:
        patched.setattr(mlflow.artifacts, "download_artifacts", None)
        assert local_artifact(store, run_id, "checkpoints/best") == fetched
    whole = local_artifact(store, run_id, "checkpoints")  # a part of it was fetched before
    assert content(whole / "best") == content(sent)
    single = local_artifact(store, run_id, "checkpoints/best/config.json")
    assert single.read_bytes() == (sent / "config.json").read_bytes()


def test_a_copy_that_was_damaged_is_fetched_again(store: MlflowClient, run_id: str, tmp_path: Path) -> None:
    sent = numbered_files(tmp_path / "best")
    store.log_artifacts(run_id, str(sent), "best")
    fetched = local_artifact(store, run_id, "best")
    (fetched / "weights.safetensors").write_bytes(b"cut off")
    assert content(local_artifact(store, run_id, "best")) == content(sent)
    (fetched / "config.json").unlink()
    assert content(local_artifact(store, run_id, "best")) == content(sent)


@pytest.mark.parametrize("damage", ["cut", "lost", "broken"])
def test_what_does_not_arrive_whole_is_fetched_again_and_else_leaves_nothing(
    store: MlflowClient, run_id: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: str
) -> None:
    sent = numbered_files(tmp_path / "best")
    store.log_artifacts(run_id, str(sent), "best")
    original = mlflow.artifacts.download_artifacts
    calls: list[str] = []
    failing = fetching.TRIES

    def download(artifact_uri: str, dst_path: str) -> str:
        calls.append(artifact_uri)
        if len(calls) > failing:
            return str(original(artifact_uri=artifact_uri, dst_path=dst_path))
        if damage == "broken":
            raise ConnectionError("the line broke")
        arrived = Path(original(artifact_uri=artifact_uri, dst_path=dst_path))
        if damage == "cut":
            os.truncate(arrived / "weights.safetensors", 1_000_000)
        else:
            (arrived / "inner" / "empty.csv").unlink()
        return str(arrived)

    monkeypatch.setattr(mlflow.artifacts, "download_artifacts", download)
    with pytest.raises(InputError, match="cannot be fetched whole"):
        local_artifact(store, run_id, "best")
    assert len(calls) == fetching.TRIES
    assert content(tmp_path / "work") == {}
    calls.clear()
    failing = 1
    assert content(local_artifact(store, run_id, "best")) == content(sent)
    assert len(calls) == 2


def test_several_who_fetch_at_once_all_get_the_whole(
    store: MlflowClient, run_id: str, tmp_path: Path
) -> None:
    sent = numbered_files(tmp_path / "best")
    store.log_artifacts(run_id, str(sent), "best")
    got: list[dict[str, bytes]] = []
    threads = [
        threading.Thread(target=lambda: got.append(content(local_artifact(store, run_id, "best"))))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert got == [content(sent)] * 4


def test_a_missing_artifact_is_one_line(store: MlflowClient, run_id: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is missing from the store; run the stage"):
        local_artifact(store, run_id, "checkpoints/best")


def test_a_stage_run_is_found_by_its_tags(store: MlflowClient) -> None:
    with stage_run(experiment="demo", stage="prepare", name="prepare demo") as run:
        run.dataset("demo/training", "abc", context="training", source="prepared data")
        run.say("12 tiles", headline=0.5)
    ended = store.get_run(run.run_id)
    assert ended.info.status == "FINISHED"
    assert ended.data.tags["mlflow.note.content"].splitlines()[0] == "12 tiles"
    assert ended.data.metrics["headline"] == 0.5
    assert ended.inputs.dataset_inputs[0].dataset.name == "demo/training"


def test_versions_and_aliases_of_a_registered_folder(
    store: MlflowClient, run_id: str, tmp_path: Path
) -> None:
    sent = numbered_files(tmp_path / "htc")
    store.log_artifacts(run_id, str(sent), "members/htc")
    made = [
        register_folder(
            store,
            name="demo.htc",
            run_id=run_id,
            artifact="members/htc",
            tags={"hubmap.passed": passed},
            description="a card",
        )
        for passed in (False, True)
    ]
    assert [version.number for version in versions(store, "demo.htc")] == [1, 2]
    point_alias(store, "demo.htc", "promoted", made[1])
    found = by_alias(store, "demo.htc", "promoted")
    assert found == by_uri(store, "models:/demo.htc@promoted") == by_uri(store, "models:/demo.htc/2")
    assert found.tags["hubmap.passed"] == "True"
    assert content(folder_of(found)) == content(sent)
    point_alias(store, "demo.htc", "promoted", None)
    with pytest.raises(InputError, match="alias 'promoted'"):
        by_alias(store, "demo.htc", "promoted")


def test_a_registered_predictor_loads_both_ways(store: MlflowClient, run_id: str, tmp_path: Path) -> None:
    table = Images.build(ids=["array_0"], heights=[40], widths=[60])
    write_predictions(tmp_path / "leaf", predictions(3, table=table, count=8).replace(sources=()))
    tree = {"kind": "steps", "steps": [{"mask_threshold": 0.5}], "child": {"kind": "stored", "path": "m0"}}
    folder = write_predictor(
        tmp_path / "folder", tree=tree, leaves={"m0": tmp_path / "leaf"}, categories=CATEGORIES
    )
    made = log_predictor(folder, name="ensemble", registered_model_name="demo.ensemble", run_id=run_id)
    store.set_registered_model_alias("demo.ensemble", "champion", str(made.version))
    image = np.zeros((40, 60, 3), np.uint8)
    expected = open_predictor(folder).predict([image])
    ours = load_predictor("models:/demo.ensemble@champion").predict([image])
    np.testing.assert_array_equal(ours.scores, expected.scores)
    np.testing.assert_array_equal(ours.boxes, expected.boxes)
    model = mlflow.pyfunc.load_model("models:/demo.ensemble@champion")
    frame = model.predict(pd.DataFrame({"image": [image]}))
    assert frame["score"].tolist() == pytest.approx(expected.scores.tolist())
    version = by_uri(store, "models:/demo.ensemble@champion")
    assert (folder_of(version) / "MLmodel").is_file()


def test_a_client_of_the_database_and_the_bucket_themselves(
    servers: Team, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    variables = {**servers.bucket, "MLFLOW_TRACKING_URI": servers.database.uri}
    with connected(variables, tmp_path, monkeypatch) as client:
        client.create_experiment("direct", artifact_location=f"s3://{BUCKET}/direct")
        run_id = client.create_run(experiment_id(client, "direct")).info.run_id
        sent = numbered_files(tmp_path / "best")
        recorder = MlflowRecorder(client, run_id, tmp_path / "run")
        recorder.metrics({"train/loss": 0.25}, step=1)
        recorder.flush()
        recorder.artifact(sent, "checkpoints")
        assert str(client.get_run(run_id).info.artifact_uri).startswith(f"s3://{BUCKET}/direct/")
        assert content(local_artifact(client, run_id, "checkpoints/best")) == content(sent)
        version = register_folder(
            client, name="direct.htc", run_id=run_id, artifact="checkpoints/best", tags={}, description=""
        )
        assert content(folder_of(version)) == content(sent)
        assert "direct.htc" in [model.name for model in client.search_registered_models()]


def test_artifacts_on_another_machines_disk_are_named_as_such(
    servers: Team, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with connected({"MLFLOW_TRACKING_URI": servers.database.uri}, tmp_path, monkeypatch) as client:
        client.create_experiment("elsewhere", artifact_location="/another/machine")
        run_id = client.create_run(experiment_id(client, "elsewhere")).info.run_id
        with pytest.raises(InputError, match="disk of the machine that made it.*team-server"):
            local_artifact(client, run_id, "checkpoints/best")


def test_ui_names_the_servers_own_pages(
    store: MlflowClient, servers: Team, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, logger="hubmap_ml"):
        serve_ui(5000)
    assert f"{servers.address}/#/experiments?workflowType=machine_learning" in caplog.text


@needs_log_ins
@pytest.mark.parametrize("password", ["", "wrong"])
def test_without_the_right_password_one_line_says_so(
    servers: Team, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, password: str
) -> None:
    variables = {"MLFLOW_TRACKING_URI": servers.address}
    if password:
        variables |= {"MLFLOW_TRACKING_USERNAME": "annika", "MLFLOW_TRACKING_PASSWORD": password}
    with pytest.raises(InputError, match="cannot be used.*MLFLOW_TRACKING_USERNAME") as raised:
        connected(variables, tmp_path, monkeypatch).__enter__()
    assert len(str(raised.value).splitlines()) == 1


@needs_log_ins
def test_a_password_in_the_address_works_and_is_kept_nowhere(
    servers: Team,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    names = servers.variables
    user, password = names["MLFLOW_TRACKING_USERNAME"], names["MLFLOW_TRACKING_PASSWORD"]
    address = servers.address.replace("://", f"://{user}:{password}@")
    caplog.set_level(logging.DEBUG, logger="hubmap_ml")
    with connected({"MLFLOW_TRACKING_URI": address}, tmp_path, monkeypatch) as client:
        with stage_run(experiment="demo", stage="prepare", name="with a password") as run:
            run.recorder.data({"a": 1}, "a.json")
            local_artifact(client, run.run_id, "a.json")
        serve_ui(5000)
        with (
            pytest.raises(ConnectionError),
            stage_run(experiment="demo", stage="prepare", name="fails with an address") as failing,
        ):
            raise ConnectionError(f"no answer from {address}/api for {servers.database.uri}")
        failure = local_artifact(client, failing.run_id, "failure.json").read_text()
    assert not servers.secrets.found_in(failure)
    assert not servers.secrets.found_in(
        "\n".join(
            [*(r.getMessage() for r in caplog.records if r.name.startswith("hubmap_ml")), *capfd.readouterr()]
        )
    )


def test_no_secret_is_in_the_database_the_logs_or_a_command_line(servers: Team) -> None:
    """After everything above; the users' table holds hashes."""
    with psycopg.connect(servers.database.plain_uri) as connection:
        tables = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'").fetchall()
        rows: list[Any] = []
        for (table,) in tables:
            rows += connection.execute(f'SELECT t::text FROM "{table}" t').fetchall()  # type: ignore[call-overload]
    assert len(rows) > 1000, "the database holds what the tests above logged"
    assert not servers.secrets.found_in("\n".join(text for (text,) in rows))
    assert not servers.secrets.found_in(servers.log.read_text())
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            command = path.read_bytes().decode(errors="replace")
        except OSError:  # it ended
            continue
        assert not servers.secrets.found_in(command), command.split("\0")[:4]
