"""One recipe of HuBMAP 2023 at reduced size, from its first iteration to the registry (all of them in tests/long)."""

from pathlib import Path

import pytest

from tests.e2e.rehearsing import only, register, rehearse, store_in

pytestmark = pytest.mark.e2e
MEMBER = "cbnet"


def test_a_recipe_trains_resumes_predicts_and_registers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = store_in(tmp_path, monkeypatch)
    experiment = only(MEMBER, tmp_path, folds=[0])
    rehearse(experiment, MEMBER, client)
    assert register(experiment, client) == {MEMBER: "passed"}
