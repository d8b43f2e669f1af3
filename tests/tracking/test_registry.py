from pathlib import Path

import pytest
from mlflow import MlflowClient

from hubmap_ml.spec import InputError
from hubmap_ml.tracking import by_alias, by_uri, folder_of, point_alias, register_folder, versions


@pytest.fixture
def run_id(store: MlflowClient, tmp_path: Path) -> str:
    run: str = store.create_run(store.create_experiment("demo")).info.run_id
    folder = tmp_path / "htc"
    folder.mkdir()
    (folder / "predictor.json").write_text("{}")
    store.log_artifacts(run, str(folder), "members/htc")
    return run


def register(store: MlflowClient, run_id: str, headline: float) -> None:
    register_folder(
        store,
        name="demo.htc",
        run_id=run_id,
        artifact="members/htc",
        tags={"headline": headline},
        description="card",
    )


def test_versions_come_oldest_first_with_tags_and_folder(store: MlflowClient, run_id: str) -> None:
    register(store, run_id, 0.4)
    register(store, run_id, 0.6)
    found = versions(store, "demo.htc")
    assert [(version.number, version.tags["headline"]) for version in found] == [(1, "0.4"), (2, "0.6")]
    assert (folder_of(found[0]) / "predictor.json").is_file()
    assert versions(store, "demo.none") == []


def test_an_alias_points_moves_and_goes(store: MlflowClient, run_id: str) -> None:
    register(store, run_id, 0.4)
    register(store, run_id, 0.6)
    first, second = versions(store, "demo.htc")
    for version in (first, second, second):
        point_alias(store, "demo.htc", "promoted", version)
        assert by_alias(store, "demo.htc", "promoted").number == version.number
    point_alias(store, "demo.htc", "promoted", None)
    point_alias(store, "demo.htc", "promoted", None)
    with pytest.raises(InputError, match="no registered model 'demo.htc' with alias 'promoted'"):
        by_alias(store, "demo.htc", "promoted")


def test_a_version_is_found_by_its_address(store: MlflowClient, run_id: str) -> None:
    register(store, run_id, 0.4)
    register(store, run_id, 0.6)
    point_alias(store, "demo.htc", "promoted", versions(store, "demo.htc")[0])
    assert by_uri(store, "models:/demo.htc@promoted").number == 1
    assert by_uri(store, "models:/demo.htc/2").uri == "models:/demo.htc/2"
    for uri in ("models:/demo.htc/7", "models:/demo.htc@none", "demo.htc", "models:/demo.htc", "runs:/x/y"):
        with pytest.raises(InputError):
            by_uri(store, uri)
