"""The Python model that MLflow loads: a predictor folder behind ``predict``.

Example::

    model = mlflow.pyfunc.load_model("models:/demo.ensemble@champion")
    table = model.predict(pandas.DataFrame({"image": ["tile.tif", array]}))  # paths and arrays, one a row

    python_model = model.unwrap_python_model()
    table = python_model.table([array, "tile.tif", "folder"])  # the same table from bare values
    predictions = python_model.predict_images(array)  # a PredictionSet

MLflow enforces the signature before it calls our ``predict``, and finds no column "image" in a bare array or
list: that is what ``unwrap_python_model()`` is for.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pandas as pd
from mlflow.pyfunc.model import PythonModel, PythonModelContext

from hubmap_ml.instances import PredictionSet
from hubmap_ml.predictor import ImageInput, Predictor
from hubmap_ml.serving.load import open_whole
from hubmap_ml.serving.register import PREDICTOR
from hubmap_ml.serving.table import instance_table
from hubmap_ml.spec import InputError

COLUMN = "image"


class PredictorModel(PythonModel):  # type: ignore[misc]
    """MLflow's view of a predictor folder.

    ``mlflow.pyfunc.load_model(uri, model_config={"device": "cuda"})`` chooses where networks run; default
    ``"cpu"``.
    """

    predictor: Predictor

    def load_context(self, context: PythonModelContext) -> None:  # MLflow wants this parameter's name
        """Open the predictor folder that travels in the model."""
        config = getattr(context, "model_config", None) or {}
        self.predictor = open_whole(
            Path(context.artifacts[PREDICTOR]), device=str(config.get("device", "cpu"))
        )

    def predict(
        self, context: PythonModelContext, model_input: pd.DataFrame, params: dict[str, Any] | None = None
    ) -> pd.DataFrame:
        """Predict a table of images.

        Args:
            context: MLflow's; not used.
            model_input: one column ``image``; in each row a path (image, folder of images, COCO file) or an
                (H, W, 3) uint8 RGB array.
            params: none are known.

        Returns:
            One row per instance: see ``instance_table``.

        Raises:
            InputError: a row that is none of these, or no column ``image``.
        """
        if COLUMN not in model_input:
            raise InputError(f"the input has the columns {list(model_input)}, it needs one named {COLUMN!r}")
        return self.table(model_input[COLUMN].tolist())

    def predict_images(self, images: Iterable[ImageInput] | ImageInput) -> PredictionSet:
        """Predict bare paths or arrays, one or several (what ``hubmap_ml.predictor.name_images`` takes)."""
        return self.predictor.predict(images)

    def table(self, images: Iterable[ImageInput] | ImageInput) -> pd.DataFrame:
        """As ``predict_images``, as the table that ``predict`` gives."""
        return instance_table(self.predict_images(images))
