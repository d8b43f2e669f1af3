"""Trainers: each fits a member and leaves a checkpoint folder. Imports torch when one is opened."""

from hubmap_ml.training.contract import FitData, FitInputs, FitResult, Trainer, open_trainer
from hubmap_ml.training.distributed import Processes, RankError, fit_on_ranks

__all__ = [
    "FitData",
    "FitInputs",
    "FitResult",
    "Processes",
    "RankError",
    "Trainer",
    "fit_on_ranks",
    "open_trainer",
]
