"""What mmcv-full 1.7.2, mmdet 2.28.2 and albumentations 2 need to work and to be quiet, each with its reason.

Importing this module imports none of them.
"""

import logging
import os
import warnings

import numpy as np


def prepare() -> None:
    """Before any of them is imported; calling it again changes nothing."""
    # numpy 1.24 dropped np.int, which mmdet says in core/bbox/samplers/iou_balanced_neg_sampler.py:76,
    # datasets/custom.py:167 and datasets/openimages.py:613, and np.float (mmcv/ops/pixel_group.py:79).
    for name, plain in (("int", int), ("float", float)):
        if name not in vars(np):
            setattr(np, name, plain)
    # albumentations asks the network for a newer version of itself while it is imported.
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
    # torch warns at each import of mmcv where the CUDA compiler is there and a GPU is not; `doctor` says both.
    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)
    # mmdet's Albu must be given box parameters, which albumentations finds odd where no transform moves anything.
    warnings.filterwarnings(
        "ignore", message="Got processor for bboxes, but no transform", category=UserWarning
    )
    # mmcv 1.7 announces mmcv 2 at every import.
    warnings.filterwarnings("ignore", message="On January 1, 2023, MMCV", category=UserWarning)


def hush_loggers() -> None:
    """Once mmcv is imported: keep it from adding handlers that print a line for each initialised tensor, and let ours
    speak again.
    """
    from mmcv.utils.logging import logger_initialized

    for name in ("mmcv", "mmdet"):
        logger_initialized[name] = True  # mmcv adds its own handler to a logger that it does not find here
        logging.getLogger(name).setLevel(logging.WARNING)
    # Its import (cnn/rfsearch) sets the root's plain handlers, the command line's, to errors only: no warning was seen.
    for handler in logging.root.handlers:
        if type(handler) is logging.StreamHandler and handler.level == logging.ERROR:
            handler.setLevel(logging.NOTSET)
