"""The whole chain of the tiny experiment by a member of a team: `mlflow server`, PostgreSQL, S3, log-ins."""

import dataclasses
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import boto3
import psycopg
import pytest

from tests.e2e.running import call
from tests.team_server import BUCKET, Team, team

pytestmark = pytest.mark.e2e


@dataclasses.dataclass(frozen=True)
class TeamChain:
    """A finished chain, what it said, and the servers that hold it."""

    servers: Team
    folder: Path
    said: str


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TeamChain]:
    folder = tmp_path_factory.mktemp("member")
    with team(tmp_path_factory.mktemp("servers")) as servers:
        done = call(folder, "hubmap-ml", "main", "--experiment", "tiny", **servers.variables)
        assert done.returncode == 0, done.stdout + done.stderr
        yield TeamChain(servers, folder, done.stdout + done.stderr)


CHECK = """
import json, sys
import mlflow
client = mlflow.MlflowClient()
ids = [item.experiment_id for item in client.search_experiments()]
runs = [run for run in client.search_runs(ids) if "hubmap.stage" in run.data.tags]  # rows of a study have none
print(json.dumps({run.data.tags["hubmap.stage"]: run.info.status for run in runs}))
"""


def test_every_step_is_a_finished_run(chain: TeamChain) -> None:
    done = call(chain.folder, "python", "-c", CHECK, **chain.servers.variables)
    assert done.returncode == 0, done.stderr
    statuses = json.loads(done.stdout)
    assert set(statuses) == {"main", "prepare", "pretrain", "finetune", "predict", "tune", "promote",
                             "ensemble", "submit", "score", "report"}  # fmt: skip
    assert set(statuses.values()) == {"FINISHED"}


def test_nothing_lies_on_the_members_disk_alone(chain: TeamChain) -> None:
    assert not (chain.folder / "mlruns").exists()
    assert not (chain.folder / "mlflow.db").exists()


FRESH = """
import sys
import mlflow, numpy as np, pandas as pd
model = mlflow.pyfunc.load_model("models:/tiny.ensemble@champion")
table = model.predict(pd.DataFrame({"image": [np.zeros((60, 80, 3), np.uint8)]}))
assert list(table.columns) == ["image", "label", "score", "box", "rle"], list(table.columns)
from hubmap_ml.serving import load_predictor
found = load_predictor("models:/tiny.ensemble@champion").predict([np.zeros((60, 80, 3), np.uint8)])
assert len(found.images) == 1
"""


def test_a_colleague_on_another_machine_goes_on(chain: TeamChain, tmp_path: Path) -> None:
    """Another folder: nothing but the server, and the raw files, is shared."""
    (tmp_path / ".hubmap_ml").mkdir()
    shutil.copytree(chain.folder / ".hubmap_ml" / "raw", tmp_path / ".hubmap_ml" / "raw")
    for stage in ("ensemble", "submit"):
        done = call(tmp_path, "hubmap-ml", stage, "--experiment", "tiny", **chain.servers.variables)
        assert done.returncode == 0, done.stderr
    assert (tmp_path / ".hubmap_ml" / "cache").is_dir()
    done = call(tmp_path, "python", "-c", FRESH, **chain.servers.variables)
    assert done.returncode == 0, done.stderr


def test_no_secret_is_kept_or_said(chain: TeamChain) -> None:
    secrets = chain.servers.secrets
    assert not secrets.found_in(chain.said)
    assert not secrets.found_in(chain.servers.log.read_text())
    with psycopg.connect(chain.servers.database.plain_uri) as connection:
        for (table,) in connection.execute(
            "SELECT tablename FROM pg_tables WHERE schemaname = 'public'"
        ).fetchall():
            for (row,) in connection.execute(f'SELECT t::text FROM "{table}" t').fetchall():  # type: ignore[call-overload]
                assert not secrets.found_in(row), table
    bucket = chain.servers.bucket
    client = boto3.client(
        "s3",
        endpoint_url=bucket["MLFLOW_S3_ENDPOINT_URL"],
        aws_access_key_id=bucket["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=bucket["AWS_SECRET_ACCESS_KEY"],
        region_name=bucket["AWS_DEFAULT_REGION"],
    )
    keys = [
        item["Key"]
        for page in client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET)
        for item in page.get("Contents", [])
    ]
    assert len(keys) > 50
    for key in keys:
        body = client.get_object(Bucket=BUCKET, Key=key)["Body"].read()
        assert not secrets.found_in(body.decode("latin-1")), key
