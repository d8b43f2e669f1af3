from pathlib import Path

import numpy as np

from hubmap_ml.data import convert_raw, write_prepared
from hubmap_ml.stages.fitting import fit_data
from tests.data.raw_folders import blob, sartorius_row, write_sartorius


def test_training_sees_the_cleaned_truth_and_validation_the_raw_one(tmp_path: Path) -> None:
    ring = blob(1, 1, 6, 6) - blob(3, 3, 2, 2)
    rows = [sartorius_row(name, ring) for name in ("a0", "b1", "c2")]
    raw = write_sartorius(tmp_path / "raw", rows)
    converted = convert_raw("sartorius2021", raw, types=("cort",), options={"fill_holes": True})
    folds = np.full(len(converted.images), -1, np.int16)
    data = write_prepared(tmp_path / "data", converted, folds, raw=raw)
    fit = fit_data(
        data, data.images.rows_of(["a0", "c2"]), data.images.rows_of(["b1"]), workers=0, device="cpu"
    )
    assert fit.train.areas.tolist() == [36, 36]
    assert fit.valid is not None
    assert fit.valid.areas.tolist() == [32]
    assert fit.image_root == raw
