"""A predictor as a registered model: logged, loaded by alias in a fresh process, no pickle anywhere."""

import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import cv2
import mlflow
import numpy as np
import pandas as pd
import pytest
from pycocotools import mask as coco_mask

from hubmap_ml.instances import Annotations, BitMasks, Category, Images, write_coco, write_predictions
from hubmap_ml.predictor import open_predictor, write_predictor
from hubmap_ml.serving import (
    LOADER_SCRIPT,
    LoggedPredictor,
    fetching,
    load_predictor,
    loader_digest,
    log_predictor,
    pip_requirements,
    predictor_in,
    register,
)
from hubmap_ml.serving.table import instance_table
from hubmap_ml.spec import InputError
from tests.random_scenes import CATEGORIES, predictions

NAME = "demo.ensemble"
IDS = ["a", "b", "7", "array_0", "array_1", "array_2"]
TABLE = Images.build(ids=IDS, heights=[40, 50, 40, 40, 60, 40], widths=[60, 40, 60, 60, 60, 60])
PICKLES = {".pkl", ".pickle", ".cloudpickle", ".pth", ".pt", ".joblib"}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with an empty store, which MLflow uses while this module's tests run."""
    folder = tmp_path_factory.mktemp("serving")
    with pytest.MonkeyPatch.context() as patch, contextlib.chdir(folder):  # MLflow makes ./mlruns
        # not set_tracking_uri: that sticks
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder}/mlflow.db")
        yield folder


@pytest.fixture(scope="module")
def folder(root: Path) -> Path:
    write_predictions(root / "leaf", predictions(3, table=TABLE, count=8).replace(sources=()))
    tree = {
        "kind": "steps",
        "steps": [{"score": 0.1}, {"mask_threshold": 0.5}],
        "child": {"kind": "stored", "path": "leaves/m0"},
    }
    return write_predictor(
        root / "predictor_folder", tree=tree, leaves={"leaves/m0": root / "leaf"}, categories=CATEGORIES
    )


@pytest.fixture(scope="module")
def logged(root: Path, folder: Path) -> LoggedPredictor:
    client = mlflow.MlflowClient()
    experiment = client.create_experiment("demo", artifact_location=str(root / "artifacts"))
    run = client.create_run(experiment)
    made = log_predictor(
        folder,
        name="ensemble",
        registered_model_name=NAME,
        run_id=run.info.run_id,
        metadata={"members": ["demo.htc/1"]},
        tags={"hubmap.headline": 0.83},
        description="Two members.",
    )
    client.set_registered_model_alias(NAME, "champion", str(made.version))
    return made


@pytest.fixture(scope="module")
def model_folder(logged: LoggedPredictor, root: Path) -> Path:
    return Path(mlflow.artifacts.download_artifacts(logged.uri, dst_path=str(root / "downloaded")))


@pytest.fixture(scope="module")
def tiles(root: Path) -> Path:
    folder = root / "tiles"
    folder.mkdir()
    cv2.imwrite(str(folder / "a.png"), np.zeros((40, 60, 3), np.uint8))
    cv2.imwrite(str(folder / "b.png"), np.zeros((50, 40, 3), np.uint8))
    table = Images.build(ids=["7"], original_ids=[7], heights=40, widths=60, file_names=["a.png"])
    annotations = Annotations.from_bits(table, [Category(1, "vessel")], np.zeros(0, int), BitMasks.empty())
    write_coco(folder / "set.json", annotations)
    return folder


def test_the_version_and_its_run_know_each_other(logged: LoggedPredictor) -> None:
    client = mlflow.MlflowClient()
    version = client.get_model_version_by_alias(NAME, "champion")
    assert int(version.version) == logged.version == 1
    assert version.run_id == logged.run_id
    assert version.tags == {"hubmap.headline": "0.83"}
    assert version.description == "Two members."
    run = client.get_run(logged.run_id)
    assert [output.model_id for output in run.outputs.model_outputs] == [logged.model_id]
    assert run.info.status == "RUNNING", "the run belongs to whoever opened it"
    assert client.get_logged_model(logged.model_id).status == "READY"


def test_the_model_folder_holds_data_and_the_fixed_script_only(model_folder: Path, folder: Path) -> None:
    files = {str(path.relative_to(model_folder)) for path in model_folder.rglob("*") if path.is_file()}
    assert not [name for name in files if Path(name).suffix in PICKLES]
    assert [name for name in files if name.endswith(".py")] == ["loader_script.py"]
    assert loader_digest(model_folder / "loader_script.py") == loader_digest(LOADER_SCRIPT)
    for path in folder.rglob("*"):
        if path.is_file():
            inside = predictor_in(model_folder) / path.relative_to(folder)
            assert inside.read_bytes() == path.read_bytes()


def test_the_projects_wheel_travels_along_and_is_named_by_the_requirements(model_folder: Path) -> None:
    (wheel,) = (model_folder / "artifacts" / "wheels").iterdir()
    inside = set(zipfile.ZipFile(wheel).namelist())
    assert {"hubmap_ml/serving/pyfunc.py", "hubmap_ml/viz/report.css"} <= inside
    requirements = (model_folder / "requirements.txt").read_text().splitlines()
    assert f"./artifacts/wheels/{wheel.name}" in requirements
    assert all(line.startswith("./") or "==" in line for line in requirements)
    assert not [line for line in requirements if line.startswith("torch")], "stored predictions need no torch"


def test_the_signature_is_one_column_of_any_type(logged: LoggedPredictor) -> None:
    signature = mlflow.models.get_model_info(logged.uri).signature
    assert json.loads(signature.to_dict()["inputs"]) == [{"type": "any", "name": "image", "required": True}]
    assert signature.outputs.input_names() == ["image", "label", "score", "box", "rle"]


FRESH = """
import json, sys
import cv2, numpy as np, pandas as pd, mlflow
assert "torch" not in sys.modules
model = mlflow.pyfunc.load_model("models:/demo.ensemble@champion")
tiles = sys.argv[1]
array = np.zeros((40, 60, 3), np.uint8)
column = [array, np.zeros((60, 60, 3), np.uint8), tiles, tiles + "/set.json"]
tables = {
    "column": model.predict(pd.DataFrame({"image": column})),
    "path": model.predict(pd.DataFrame({"image": [tiles + "/b.png"]})),
    "one array": model.unwrap_python_model().table(array),
    "arrays": model.unwrap_python_model().table([array, np.zeros((60, 60, 3), np.uint8), array]),
}
assert "torch" not in sys.modules
assert len(model.unwrap_python_model().predict_images(array)) == len(tables["one array"])
print(json.dumps({name: table.to_dict("list") for name, table in tables.items()}))
"""


def test_a_fresh_process_predicts_paths_arrays_folders_and_coco_files(
    logged: LoggedPredictor, root: Path, tiles: Path, folder: Path
) -> None:
    variables = {
        **os.environ,
        "MLFLOW_TRACKING_URI": f"sqlite:///{root}/mlflow.db",
        "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
        "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    }
    done = subprocess.run(
        [sys.executable, "-c", FRESH, str(tiles)], env=variables, cwd=root, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "Warning" not in done.stderr, done.stderr
    tables = json.loads(done.stdout.splitlines()[-1])
    expected = {
        "column": ["array_0", "array_1", "a", "b", "7"],
        "path": ["b"],
        "one array": ["array_0"],
        "arrays": ["array_0", "array_1", "array_2"],
    }
    for name, ids in expected.items():
        assert list(dict.fromkeys(tables[name]["image"])) == ids
    everything = instance_table(open_predictor(folder).predict(pairs_of(["b"])))
    assert tables["path"] == everything.to_dict("list")


def pairs_of(ids: list[str]) -> list[Any]:
    from hubmap_ml.data import ArrayImage

    rows = TABLE.rows_of(ids)
    return [
        (TABLE.take([row]), ArrayImage(np.zeros((TABLE.heights[row], TABLE.widths[row], 3), np.uint8)))
        for row in rows
    ]


def test_the_table_says_what_the_predictions_say(folder: Path) -> None:
    found = open_predictor(folder).predict(pairs_of(["a", "b"]))
    table = instance_table(found)
    assert list(table.columns) == ["image", "label", "score", "box", "rle"]
    assert len(table) == len(found) > 3
    assert found.masks is not None
    for row, line in enumerate(table.itertuples()):
        image = found.image_rows()[row]
        assert line.image == found.images.ids[image]
        assert line.label == CATEGORIES[found.labels[row]].name
        assert np.array_equal(np.float32(line.box), found.boxes[row])
        height, width = line.rle["size"]
        assert (height, width) == (found.images.heights[image], found.images.widths[image])
        dense = coco_mask.decode(line.rle).astype(bool)
        assert np.array_equal(dense, found.masks.bits.to_dense(row, height, width))


def test_no_instances_make_an_empty_table_with_all_columns(folder: Path) -> None:
    found = open_predictor(folder).predict(pairs_of(["a"]))
    table = instance_table(found.take(np.zeros(0, int)))
    assert list(table.columns) == ["image", "label", "score", "box", "rle"]
    assert len(table) == 0


def test_rows_that_are_no_images_are_named(logged: LoggedPredictor, tiles: Path) -> None:
    model = mlflow.pyfunc.load_model(logged.uri)
    with pytest.raises(InputError, match="does not exist"):
        model.predict(pd.DataFrame({"image": [str(tiles / "absent.tif")]}))
    with pytest.raises(InputError, match="float64"):
        model.predict(pd.DataFrame({"image": [np.zeros((4, 4, 3))]}))
    with pytest.raises(Exception, match="image"):
        model.predict(pd.DataFrame({"picture": ["a"]}))


def test_the_device_is_chosen_when_the_model_is_loaded(
    logged: LoggedPredictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    from hubmap_ml.serving import pyfunc

    seen = []

    def watched(folder: Path, device: str) -> Any:
        seen.append(device)
        return open_predictor(folder, device)

    monkeypatch.setattr(pyfunc, "open_whole", watched)
    mlflow.pyfunc.load_model(logged.uri)
    mlflow.pyfunc.load_model(logged.uri, model_config={"device": "cuda"})
    assert seen == ["cpu", "cuda"]


def test_a_bad_folder_and_a_missing_run_are_refused_before_anything_is_logged(
    logged: LoggedPredictor, folder: Path, tmp_path: Path
) -> None:
    before = len(mlflow.MlflowClient().search_model_versions(f"name = '{NAME}'"))
    with pytest.raises(InputError, match="no predictor folder"):
        log_predictor(tmp_path, name="x", registered_model_name=NAME, run_id=logged.run_id)
    with pytest.raises(InputError, match="no run is active"):
        log_predictor(folder, name="x", registered_model_name=NAME)
    assert len(mlflow.MlflowClient().search_model_versions(f"name = '{NAME}'")) == before


@pytest.mark.parametrize(
    "uri", ["models:/demo.ensemble@champion", "models:/demo.ensemble/1", "logged", "folder"]
)
def test_our_own_commands_open_it_as_data(
    logged: LoggedPredictor, folder: Path, model_folder: Path, uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mlflow.artifacts, "download_artifacts", None)  # what lies on this disk is not copied
    address = {"logged": logged.uri, "folder": str(model_folder)}.get(uri, uri)
    found = load_predictor(address).predict(pairs_of(["a", "b"]))
    expected = open_predictor(folder).predict(pairs_of(["a", "b"]))
    assert instance_table(found).equals(instance_table(expected))


def test_what_had_to_be_fetched_goes_with_the_predictor(
    logged: LoggedPredictor, model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def download(artifact_uri: str, dst_path: str) -> str:
        assert artifact_uri == logged.uri
        return str(shutil.copytree(model_folder, Path(dst_path) / "model"))

    monkeypatch.setattr(fetching, "_underlying", lambda uri: "s3://bucket/model")
    monkeypatch.setattr(mlflow.artifacts, "download_artifacts", download)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    predictor = load_predictor(logged.uri)
    assert len(list(tmp_path.iterdir())) == 1
    assert len(predictor.predict(pairs_of(["a"]))) > 0
    del predictor
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "uri", ["models:/demo.ensemble@nobody", "models:/absent/1", "runs:/0/x", "models:/m-0"]
)
def test_an_address_without_a_model_is_said_in_one_line(logged: LoggedPredictor, uri: str) -> None:
    with pytest.raises(InputError, match="not in this store"):
        load_predictor(uri)


def test_networks_are_required_as_the_project_says_where_they_are_not_installed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    installed = register.version

    def version(name: str) -> str:
        if name in register.DETECT:
            raise metadata.PackageNotFoundError(name)
        return installed(name)

    monkeypatch.setattr(register, "version", version)
    requirements = pip_requirements(detect=True)
    assert "torch==2.12.1" in requirements
    assert "mmcv-full==1.7.2" in requirements
    assert "timm>=1.0.31" in requirements


def test_a_model_of_someone_else_holds_no_predictor(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no model of hubmap_ml"):
        predictor_in(tmp_path)


def test_a_second_version_follows_the_first(logged: LoggedPredictor, folder: Path) -> None:
    second = log_predictor(
        folder,
        name="ensemble",
        registered_model_name=NAME,
        run_id=logged.run_id,
        with_wheel=False,
        requirements=[],
    )
    assert second.version == 2
    assert second.model_id != logged.model_id
    unregistered = log_predictor(
        folder, name="ensemble", run_id=logged.run_id, with_wheel=False, requirements=[]
    )
    assert unregistered.version is None
