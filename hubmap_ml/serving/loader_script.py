"""What MLflow runs to load a registered predictor: these lines and nothing else."""

from mlflow.models import set_model

from hubmap_ml.serving.pyfunc import PredictorModel

set_model(PredictorModel())
