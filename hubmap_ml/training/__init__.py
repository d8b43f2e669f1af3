"""Trainers: each fits a member and leaves a checkpoint folder. Imports torch when one is opened."""

from hubmap_ml.training.contract import FitData, FitInputs, FitResult, Trainer, open_trainer

__all__ = ["FitData", "FitInputs", "FitResult", "Trainer", "open_trainer"]
