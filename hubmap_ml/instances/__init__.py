"""Masks, instances, predictions and annotations; COCO json and Parquet. Nothing here needs torch."""

from hubmap_ml.instances.annotations import Annotations, ImageAnnotations
from hubmap_ml.instances.bit_masks import BitMasks
from hubmap_ml.instances.coco import (
    read_coco,
    read_coco_images,
    read_coco_results,
    write_coco,
    write_coco_results,
)
from hubmap_ml.instances.foreign_results import read_detectron2_results, read_ultralytics_results
from hubmap_ml.instances.images import Category, Images
from hubmap_ml.instances.joining import join_annotations
from hubmap_ml.instances.masks import BITS, SOFT, Masks
from hubmap_ml.instances.parquet import (
    PredictionWriter,
    read_annotations,
    read_predictions,
    write_annotations,
    write_predictions,
)
from hubmap_ml.instances.predictions import Instances, PredictionSet
from hubmap_ml.instances.soft_masks import SoftMasks

__all__ = [
    "BITS",
    "SOFT",
    "Annotations",
    "BitMasks",
    "Category",
    "ImageAnnotations",
    "Images",
    "Instances",
    "Masks",
    "PredictionSet",
    "PredictionWriter",
    "SoftMasks",
    "join_annotations",
    "read_annotations",
    "read_coco",
    "read_coco_images",
    "read_coco_results",
    "read_detectron2_results",
    "read_predictions",
    "read_ultralytics_results",
    "write_annotations",
    "write_coco",
    "write_coco_results",
    "write_predictions",
]
