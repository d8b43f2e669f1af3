"""Trainers: each fits a member and leaves a checkpoint folder. Imports torch when one is opened."""

from hubmap_ml.training.contract import (
    FitData,
    FitInputs,
    FitResult,
    Trainer,
    TrainingCost,
    check_resumable,
    measure_cost,
    open_trainer,
)
from hubmap_ml.training.distributed import RankError, fit_on_ranks

__all__ = [
    "FitData",
    "FitInputs",
    "FitResult",
    "RankError",
    "Trainer",
    "TrainingCost",
    "check_resumable",
    "fit_on_ranks",
    "measure_cost",
    "open_trainer",
]
