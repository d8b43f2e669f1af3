"""Raw competition files to images, annotations and folds; reading pixels; generated tissue."""

from hubmap_ml.data.assembly import Converted
from hubmap_ml.data.blocks import count_across_folds
from hubmap_ml.data.folds import assign_folds, grouped, stratified, stratified_grouped
from hubmap_ml.data.formats import FORMATS, RawFormat, convert_raw
from hubmap_ml.data.hubmap2023 import convert
from hubmap_ml.data.images import ArrayImage, FileImage, ImageSource, Window, read_image, read_size
from hubmap_ml.data.leaks import LeakReport, leak_report
from hubmap_ml.data.other_data import beside
from hubmap_ml.data.pools import select_pool
from hubmap_ml.data.prepared import PreparedData, open_prepared, write_prepared
from hubmap_ml.data.rejected import Rejected
from hubmap_ml.data.synthetic import SyntheticTissue, generate

__all__ = [
    "FORMATS",
    "ArrayImage",
    "Converted",
    "FileImage",
    "ImageSource",
    "LeakReport",
    "PreparedData",
    "RawFormat",
    "Rejected",
    "SyntheticTissue",
    "Window",
    "assign_folds",
    "beside",
    "convert",
    "convert_raw",
    "count_across_folds",
    "generate",
    "grouped",
    "leak_report",
    "open_prepared",
    "read_image",
    "read_size",
    "select_pool",
    "stratified",
    "stratified_grouped",
    "write_prepared",
]
