"""docs/compose.yaml: what can be told without running it. The store's tests start a server with its log-in settings."""

import configparser
import re
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "docs" / "compose.yaml").read_text()
COMPOSE = yaml.safe_load(TEXT)


def test_every_password_comes_from_the_environment_and_none_has_a_default() -> None:
    secret = re.compile(r"PASSWORD|SECRET")
    for service in COMPOSE["services"].values():
        for name, value in service.get("environment", {}).items():
            if secret.search(name):
                assert re.fullmatch(r"\$\{[A-Z_]+:\?\}", value), name
    for user_and_password in re.findall(r"://(\S+)@", TEXT):
        assert re.fullmatch(r"\w+:\$\{POSTGRES_PASSWORD:\?\}", user_and_password)


def test_the_server_runs_the_locked_mlflow() -> None:
    (locked,) = re.findall(r"^mlflow==(\S+)", (ROOT / "requirements.lock").read_text(), flags=re.MULTILINE)
    assert f'"mlflow[auth]=={locked}"' in COMPOSE["services"]["mlflow"]["build"]["dockerfile_inline"]


def test_runs_and_users_are_in_the_database_that_is_backed_up() -> None:
    server = COMPOSE["services"]["mlflow"]
    settings = configparser.ConfigParser(interpolation=None)
    settings.read_string(COMPOSE["configs"]["auth"]["content"])
    assert settings["mlflow"]["database_uri"] == server["environment"]["MLFLOW_BACKEND_STORE_URI"]
    (config,) = server["configs"]
    assert config["target"] == server["environment"]["MLFLOW_AUTH_CONFIG_PATH"]
    assert set(server["depends_on"]) <= set(COMPOSE["services"])


def test_the_page_names_what_the_file_sets() -> None:
    page = (ROOT / "docs" / "team-server.md").read_text()
    server = COMPOSE["services"]["mlflow"]["environment"]
    for name in server:
        assert name in page, name
    for name in re.findall(r"\$\{([A-Z_]+):\?\}", TEXT):
        assert name in page, name
