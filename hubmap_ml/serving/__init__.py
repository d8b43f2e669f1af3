"""The pyfunc shell around a predictor: what a foreign ``mlflow.pyfunc.load_model`` gets."""

from hubmap_ml.serving.load import load_predictor
from hubmap_ml.serving.references import Reference
from hubmap_ml.serving.register import (
    LOADER_SCRIPT,
    LoggedPredictor,
    loader_digest,
    log_predictor,
    pip_requirements,
    predictor_in,
)
from hubmap_ml.serving.wheel import build_wheel

__all__ = [
    "LOADER_SCRIPT",
    "LoggedPredictor",
    "Reference",
    "build_wheel",
    "load_predictor",
    "loader_digest",
    "log_predictor",
    "pip_requirements",
    "predictor_in",
]
