"""Steps of a ``train_pipeline`` beside mmdet's own; importing this registers them by name."""

from hubmap_ml.models.augmentations.flip_paste import FlipPaste
from hubmap_ml.models.augmentations.random_tile import RandomTile
from hubmap_ml.models.augmentations.stain_jitter import StainJitter
from hubmap_ml.models.augmentations.symmetries import D4

__all__ = ["D4", "FlipPaste", "RandomTile", "StainJitter"]
