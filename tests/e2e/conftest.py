"""One real run of the whole chain on the tiny experiment, shared by the tests that look at what it left."""

import pytest
from mlflow import MlflowClient

from tests.e2e.running import Chain, call


@pytest.fixture(scope="session")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Chain:
    folder = tmp_path_factory.mktemp("chain")
    done = call(folder, "hubmap-ml", "main", "--experiment", "tiny")
    assert done.returncode == 0, done.stdout + done.stderr
    return Chain(folder, done.stdout, MlflowClient(tracking_uri=f"sqlite:///{folder}/mlflow.db"))
