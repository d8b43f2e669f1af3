"""Logs of the HuBMAP 2023 third place's own trainings, where they lie, and lines like theirs.

`REFERENCE_LOGS` names the folder; the default lies next to the checkout.
"""

import os
from pathlib import Path

import pytest

BESIDE = Path(__file__).parents[1].parent / "shared" / "data" / "reference_logs"
FOLDER = Path(os.environ.get("REFERENCE_LOGS") or BESIDE)
CBNET_STAGE1 = FOLDER / "cb_base_stage1.log"
R50_STAGE2 = FOLDER / "detectors_r50_stage2.log"
needs_logs = pytest.mark.skipif(
    not (CBNET_STAGE1.is_file() and R50_STAGE2.is_file()),
    reason=f"no reference logs in {FOLDER}; set REFERENCE_LOGS to their folder",
)


def train(epoch: int, i: int, *, loss: str = "1.0", time: float = 2.0, second: int = 20) -> str:
    """A line of training in an epoch of 30 iterations."""
    start = f"2023-07-10 19:20:{second:02},151 - mmdet - INFO - Epoch [{epoch}][{i}/30]"
    return f"{start}\tlr: 1.9e-03, eta: 0:35:40, time: {time}, loss: {loss}"


def val(epoch: int, score: float) -> str:
    """A line of evaluation."""
    start = f"2023-07-10 19:21:{epoch:02},702 - mmdet - INFO - Epoch(val) [{epoch}][29]"
    return f"{start}\tsegm_mAP: {score}, segm_mAP_copypaste: 0.1 0.2"


def written(folder: Path, *lines: str) -> Path:
    """A log of these lines, with what mmdet says before them."""
    path = folder / "a.log"
    path.write_text("\n".join(("2023-07-10 19:00:00,000 - mmdet - INFO - Config:", "lr = 1", *lines)))
    return path
