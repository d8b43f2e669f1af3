"""One real run of the whole chain on the tiny experiment, shared by the tests that look at what it left."""

import pytest

from tests.e2e.running import Chain, call, client_of


@pytest.fixture(scope="session")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Chain:
    folder = tmp_path_factory.mktemp("chain")
    done = call(folder, "hubmap-ml", "main", "--experiment", "tiny")
    assert done.returncode == 0, done.stdout + done.stderr
    return Chain(folder, done.stdout, client_of(folder))
