"""The shims are in place, and the room can be imported without torch."""

import subprocess
import sys

import numpy as np

import hubmap_ml.models  # noqa: F401


def test_names_that_numpy_dropped_are_there_for_mmdet() -> None:
    assert vars(np)["int"] is int
    assert vars(np)["float"] is float


def test_rooms_are_imported_without_torch() -> None:
    rooms = "hubmap_ml.models, hubmap_ml.inference, hubmap_ml.training, hubmap_ml.training.mmdet"
    code = f"import sys, {rooms}; sys.exit('torch' in sys.modules or 'mmcv' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_importing_mmcv_neither_warns_nor_prints_initialisations() -> None:
    code = (
        "from tests.detectors import mask_rcnn; from hubmap_ml.models import build_detector;"
        "build_detector(mask_rcnn(), 1).init_weights()"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout == ""
    assert "MMCV will release" not in done.stderr
    assert "mmcv - INFO" not in done.stderr


WARNS = """
import logging, sys
logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
import hubmap_ml.training.mmdet.trainer
logging.getLogger("hubmap_ml.stages").warning("a checkpoint is damaged")
"""


def test_warnings_are_seen_after_mmcv_was_imported() -> None:
    done = subprocess.run([sys.executable, "-c", WARNS], capture_output=True, text=True, check=True)
    assert "a checkpoint is damaged" in done.stderr.splitlines()
