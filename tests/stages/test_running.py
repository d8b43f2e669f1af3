import errno
from pathlib import Path

import pytest
from mlflow import MlflowClient

from hubmap_ml.spec import InputError
from hubmap_ml.stages.running import running
from hubmap_ml.stages.session import open_session


@pytest.fixture
def client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MlflowClient:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    monkeypatch.setenv("HUBMAP_ML_WORK", str(tmp_path / "work"))
    return MlflowClient()


def test_a_full_disk_is_one_line_with_the_remedy(client: MlflowClient) -> None:
    session = open_session(experiment="tiny")
    with (
        pytest.raises(
            InputError, match=r"no free disk while running finetune · a · fold 1 \(weights.safetensors\)"
        ),
        running(session, "finetune", member="a", fold=1) as at,
    ):
        raise OSError(errno.ENOSPC, "No space left on device", "weights.safetensors")
    ended = client.get_run(at.run.run_id)
    assert ended.info.status == "FAILED"
    assert "free some" in ended.data.tags["mlflow.note.content"]


def test_another_error_of_the_system_stays_what_it_is(client: MlflowClient) -> None:
    with pytest.raises(PermissionError), running(open_session(experiment="tiny"), "tune", member="a"):
        raise PermissionError(errno.EACCES, "Permission denied")
