"""Raw competition files to images, annotations and folds; reading pixels; generated tissue."""

from hubmap_ml.data.folds import assign_folds, stratified
from hubmap_ml.data.hubmap2023 import Converted, convert
from hubmap_ml.data.images import ArrayImage, FileImage, ImageSource, Window, read_image, read_size
from hubmap_ml.data.pools import select_pool
from hubmap_ml.data.prepared import PreparedData, open_prepared, write_prepared
from hubmap_ml.data.rejected import Rejected
from hubmap_ml.data.synthetic import SyntheticTissue, generate

__all__ = [
    "ArrayImage",
    "Converted",
    "FileImage",
    "ImageSource",
    "PreparedData",
    "Rejected",
    "SyntheticTissue",
    "Window",
    "assign_folds",
    "convert",
    "generate",
    "open_prepared",
    "read_image",
    "read_size",
    "select_pool",
    "stratified",
    "write_prepared",
]
