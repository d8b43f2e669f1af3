"""Logging a predictor folder as an MLflow model, and registering it.

The model is made "from code": a fixed script, the predictor folder, the project's wheel. Nothing is pickled.
The requirements are stated, never inferred (inference would load the model in a subprocess and list noise).
"""

import dataclasses
import hashlib
import json
import re
import shutil
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hubmap_ml.predictor import Network, leaves_of, read_manifest
from hubmap_ml.serving.references import Reference, write_references
from hubmap_ml.serving.wheel import build_wheel
from hubmap_ml.spec import InputError

if TYPE_CHECKING:
    from mlflow import MlflowClient

LOADER_SCRIPT = Path(__file__).with_name("loader_script.py")
PREDICTOR = "predictor"
WHEELS = "wheels"
CORE = (
    "mlflow",
    "numpy",
    "pandas",
    "pyarrow",
    "numba",
    "scipy",
    "pydantic",
    "opencv-python-headless",
    "tifffile",
    "imagecodecs",
    "pycocotools",
    "safetensors",
)
DETECT = ("torch", "torchvision", "mmcv-full", "mmdet", "setuptools", "timm")


@dataclass(frozen=True)
class LoggedPredictor:
    """A predictor that MLflow knows.

    Attributes:
        uri: ``models:/m-...``, the logged model.
        model_id: MLflow's id of the logged model.
        run_id: the run that logged it.
        location: where its files lie in the artifact store.
        name: the registered model's name; empty if it was not registered.
        version: its version there.
    """

    uri: str
    model_id: str
    run_id: str
    location: str
    name: str = ""
    version: int | None = None


def log_predictor(
    predictor_folder: Path,
    *,
    name: str,
    registered_model_name: str | None = None,
    run_id: str | None = None,
    requirements: Sequence[str] | None = None,
    metadata: Mapping[str, object] | None = None,
    tags: Mapping[str, object] | None = None,
    description: str = "",
    with_wheel: bool = True,
    references: Mapping[str, Reference] | None = None,
) -> LoggedPredictor:
    """Log a predictor folder as a model of a run, and register it if a name is given.

    Args:
        predictor_folder: as ``hubmap_ml.predictor.write_predictor`` makes it; it is checked first, and
            copied.
        name: the logged model's name.
        registered_model_name: the registry's model that gets a new version; None registers nothing.
        run_id: the run it belongs to; None is MLflow's active run.
        requirements: pip requirements to state; None is ``pip_requirements`` for what the predictor needs.
        metadata: JSON-able, kept in the MLmodel file.
        tags: of the logged model and of the registered version.
        description: of the registered version, Markdown.
        with_wheel: put the project's own wheel into the model and name it in its requirements.
        references: leaves that the model does not hold but names, see ``references``; by the leaf's path.

    Raises:
        InputError: the predictor folder is not what it should be, or there is no run to log to.
    """
    import mlflow
    from mlflow.models import Model

    manifest = read_manifest(predictor_folder)
    client = mlflow.MlflowClient()
    run = client.get_run(run_id) if run_id else mlflow.active_run()
    if run is None:
        raise InputError(f"predictor {predictor_folder}: no run is active to log it to; give run_id")
    if requirements is None:
        detect = any(isinstance(leaf, Network) for leaf in leaves_of(manifest.tree))
        requirements = pip_requirements(detect=detect)
    texts = {key: str(value) for key, value in (tags or {}).items()}
    model = client.create_logged_model(
        experiment_id=run.info.experiment_id, name=name, source_run_id=run.info.run_id, tags=texts
    )
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        # MLflow wants an input example, which would freeze the image's size.
        warnings.simplefilter("ignore", UserWarning)
        named = predictor_folder
        if references:
            named = write_references(predictor_folder, references, Path(folder) / PREDICTOR)
        elif predictor_folder.name != PREDICTOR:  # MLflow keeps an artifact's own name, and follows no link
            named = Path(shutil.copytree(predictor_folder, Path(folder) / PREDICTOR))
        artifacts = {PREDICTOR: str(named)}
        if with_wheel:
            wheel = build_wheel(Path(folder) / WHEELS)
            artifacts[WHEELS] = str(wheel.parent)
            requirements = [*requirements, f"./artifacts/{WHEELS}/{wheel.name}"]
        # What mlflow.pyfunc.log_model calls; that one knows only the active run, ours need not be active.
        info = Model.log(
            artifact_path=None,
            flavor=mlflow.pyfunc,
            run_id=run.info.run_id,
            model_id=model.model_id,
            python_model=str(LOADER_SCRIPT),
            artifacts=artifacts,
            signature=signature(),
            pip_requirements=list(requirements),
            model_config={"device": "cpu"},
            metadata=dict(metadata or {}) or None,
            infer_code_paths=False,
        )
    logged = LoggedPredictor(info.model_uri, model.model_id, run.info.run_id, model.artifact_location)
    if registered_model_name is None:
        return logged
    return _register(client, logged, registered_model_name, texts, description)


def _register(
    client: "MlflowClient", logged: LoggedPredictor, name: str, tags: Mapping[str, str], description: str
) -> LoggedPredictor:
    """As ``mlflow.register_model``, which prints and cannot say the run or a description."""
    from mlflow.exceptions import MlflowException

    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    made = client.create_model_version(
        name,
        source=logged.uri,
        run_id=logged.run_id,
        tags=dict(tags),
        description=description or None,
        model_id=logged.model_id,
    )
    link = json.dumps([{"name": name, "version": made.version}])
    client.set_logged_model_tags(logged.model_id, {"mlflow.modelVersions": link})
    return dataclasses.replace(logged, name=name, version=int(made.version))


def pip_requirements(*, detect: bool) -> list[str]:
    """The packages that loading a predictor needs, at the versions that run here.

    Args:
        detect: with the packages for networks. Where they are not installed (an ensemble can be built without
            torch), they stand as the project's own requirements say. mmcv-full needs a build against torch,
            see the project's README.
    """
    return [_requirement(name) for name in (*CORE, *(DETECT if detect else ()))]


def _requirement(name: str) -> str:
    try:
        return f"{name}=={version(name)}"
    except PackageNotFoundError:
        pass
    stated = (requirement.partition(";")[0].strip() for requirement in requires("hubmap-ml") or ())
    return next((text for text in stated if re.match(rf"{name}(?![\w.-])", text)), name)


def predictor_in(model_folder: Path) -> Path:
    """The predictor folder inside a downloaded model, for ``open_predictor``; runs nothing of the model.

    Raises:
        InputError: the model holds none.
    """
    folder = model_folder / "artifacts" / PREDICTOR
    if not folder.is_dir():
        raise InputError(f"{model_folder} holds no predictor folder: it is no model of hubmap_ml")
    return folder


def loader_digest(path: Path = LOADER_SCRIPT) -> str:
    """SHA-256 of a loader script, hexadecimal: what a registered model runs must be this one and no other."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def signature() -> Any:
    """One column ``image`` of any type; one row per instance comes back.

    Written by hand: inferring it from an example freezes the image's size.
    """
    from mlflow.models import ModelSignature
    from mlflow.types.schema import AnyType, Array, ColSpec, DataType, Object, Property, Schema

    rle = Object([Property("size", Array(DataType.long)), Property("counts", DataType.string)])
    return ModelSignature(
        inputs=Schema([ColSpec(AnyType(), "image")]),
        outputs=Schema(
            [
                ColSpec(DataType.string, "image"),
                ColSpec(DataType.string, "label"),
                ColSpec(DataType.double, "score"),
                ColSpec(Array(DataType.double), "box"),
                ColSpec(rle, "rle"),
            ]
        ),
    )
