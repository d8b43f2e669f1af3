"""Promotion that dies behind any call to the registry, and two at once: all end where one unbroken call does."""

import dataclasses
import subprocess
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from hubmap_ml.stages import promote
from hubmap_ml.stages.session import Session, open_session
from tests.e2e.running import Chain, environment
from tests.e2e.test_reuse import Copy, copy  # noqa: F401
from tests.registry_crashes import Crash, crash_after

pytestmark = pytest.mark.e2e

NAME = "tiny.maskrcnn"


def state(client: MlflowClient) -> tuple[list[dict[str, str]], dict[str, str]]:
    """What is registered (tags in the order of versions) and where the aliases point."""
    versions = sorted(client.search_model_versions(f"name = '{NAME}'"), key=lambda item: item.version)
    timed = {"hubmap.s_per_image", "hubmap.peak_mib"}
    tags = [{key: value for key, value in item.tags.items() if key not in timed} for item in versions]
    return tags, {alias: str(at) for alias, at in client.get_registered_model(NAME).aliases.items()}


def stricter(session: Session) -> Session:
    """The session with another gate, which makes a second version of the same member."""
    gate = session.experiment.promote.model_copy(update={"min_score": 1e-9})
    return dataclasses.replace(session, experiment=session.experiment.model_copy(update={"promote": gate}))


@pytest.mark.parametrize("again", [False, True], ids=["first version", "second version"])
def test_after_a_crash_behind_any_registry_call_the_next_call_ends_where_an_unbroken_one_does(
    copy: Copy,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
    again: bool,
) -> None:
    monkeypatch.chdir(copy.folder)
    tried, told = promote.on_trial, list[Any]()

    def once(*given: Any) -> Any:
        """The trial, a process of its own with torch, says the same each time: it is made once."""
        if not told:
            told.append(tried(*given))
        return told[0]

    monkeypatch.setattr(promote, "on_trial", once)
    kept = Path(copy.folder / "mlflow.db").read_bytes()

    def fresh(number: int) -> MlflowClient:
        path = copy.folder / f"crash{number}.db"
        path.write_bytes(kept)
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{path}")
        client = MlflowClient(tracking_uri=f"sqlite:///{path}", registry_uri=f"sqlite:///{path}")
        if not again:
            client.delete_registered_model(NAME)
        return client

    def work() -> None:
        session = open_session(experiment="tiny")
        promote.work(stricter(session) if again else session)

    client = fresh(0)
    with monkeypatch.context() as patch:
        calls = crash_after(patch, 0)
        work()
    expected = state(client)
    assert len(expected[0]) == (2 if again else 1)
    assert expected[1] == {"promoted": "1"}, "of equals the older"
    for number in range(1, len(calls) + 1):
        client = fresh(number)
        with monkeypatch.context() as patch:
            crash_after(patch, number)
            with pytest.raises(Crash):
                work()
        work()
        assert state(client) == expected, f"after call {number}, {calls[number - 1]}"


def test_two_promotions_at_once_agree(chain: Chain, copy: Copy) -> None:  # noqa: F811
    copy.client.delete_registered_model(NAME)
    words = ["hubmap-ml", "promote", "--experiment", "tiny"]
    started = [
        subprocess.Popen(
            words,
            cwd=copy.folder,
            env=environment(copy.folder),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        for _ in range(2)
    ]
    for process in started:
        output, _ = process.communicate(timeout=300)
        assert process.returncode == 0, output.decode()
    tags, aliases = state(copy.client)
    assert len(tags) == 1
    assert aliases == {"promoted": "1"}
