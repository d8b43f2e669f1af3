import io
import json
import logging

import pytest

from hubmap_ml.spec.credentials import CredentialFilter, without_credentials

ADDRESS = "postgresql+psycopg://annika:s3cr3t@db.team:5432/mlflow"


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("postgresql://me:secret@host/db", "postgresql://host/db"),
        ("cannot reach http://me:p@ss@host:5000/x now", "cannot reach http://host:5000/x now"),
        ("https://token@git.team/project.git#sub", "https://git.team/project.git#sub"),
        ("two: http://a:b@c/d,http://e:f@g/h", "two: http://c/d,http://g/h"),
        ("lines\nhttp://a:b@c/d\nmail me@home", "lines\nhttp://c/d\nmail me@home"),
        ("postgresql://host/db?user=me&password=secret&x=1", "postgresql://host/db?user=me&password=***&x=1"),
        ("sqlite:////data/me@home/mlflow.db", "sqlite:////data/me@home/mlflow.db"),
        ("s3://bucket/a@b", "s3://bucket/a@b"),
        ("no address", "no address"),
    ],
)
def test_credentials_are_taken_out_of_addresses(text: str, left: str) -> None:
    assert without_credentials(text, {}) == left


def test_json_stays_json() -> None:
    data = {"error": f'File "a.py"\n  at {ADDRESS}\n', "next": "x@y", "uri": "http://host\nme@home"}
    read = json.loads(without_credentials(json.dumps(data), {}))
    expected = {"error": 'File "a.py"\n  at postgresql+psycopg://db.team:5432/mlflow\n'}
    assert read == {**data, **expected}


@pytest.mark.parametrize(
    "name",
    [
        "MLFLOW_TRACKING_PASSWORD",
        "AWS_SECRET_ACCESS_KEY",
        "AWS_SESSION_TOKEN",
        "PGPASSWORD",
        "KAGGLE_API_KEY",
    ],
)
def test_values_of_secret_variables_are_hidden(name: str) -> None:
    environment = {name: "pa ss/word+1"}
    text = "tried pa ss/word+1 and https://h/?x=pa%20ss%2Fword%2B1"
    assert without_credentials(text, environment) == "tried *** and https://h/?x=***"


def test_other_variables_and_short_values_are_left() -> None:
    environment = {"TOKENIZERS_PARALLELISM": "parallel", "HOME": "/home/me", "A_TOKEN": "0.02"}
    text = "parallel /home/me 0.02"
    assert without_credentials(text, environment) == text


def test_a_handler_writes_no_credentials() -> None:
    written = io.StringIO()
    handler = logging.StreamHandler(written)
    handler.addFilter(CredentialFilter())
    logger = logging.Logger("test")
    logger.addHandler(handler)
    logger.warning("no answer from %s", ADDRESS)
    try:
        raise ConnectionError(ADDRESS)
    except ConnectionError:
        logger.exception("failed")
    logger.warning("%d things", 3)
    assert "s3cr3t" not in written.getvalue()
    assert written.getvalue().startswith("no answer from postgresql+psycopg://db.team:5432/mlflow\n")
    assert "Traceback" in written.getvalue()
    assert written.getvalue().endswith("3 things\n")
