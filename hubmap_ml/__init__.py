"""An experiment platform for biomedical segmentation, built around MLflow."""

__version__ = "0.1.0"
