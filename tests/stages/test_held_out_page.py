"""What a prediction run shows: classes mixed up, counted by brute force; worst tiles as pictures; the page."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st

from hubmap_ml.metrics import sort_detections
from hubmap_ml.spec import NullRecorder
from hubmap_ml.stages.held_out_page import PAGE, confusion, show_held_out
from tests.metrics.scenes import DUCT, VESSEL, bar, predicted, random_scene, truth_of

BOTH = (VESSEL, DUCT)


def test_classes_mixed_up_missed_and_made_up_are_told_apart() -> None:
    truth = truth_of([[bar(0, 20), bar(40, 60), bar(80, 100)]], labels=[[0, 1, 1]], categories=BOTH)
    found = predicted(
        [[(bar(0, 20), 0.9, 0), (bar(40, 60), 0.8, 0), (bar(22, 36), 0.7, 1), (bar(80, 100), 0.1, 1)]],
        categories=BOTH,
    )
    table = confusion(sort_detections(truth, found, iou_threshold=0.6), 0.5)
    assert table.tolist() == [[1, 0, 0], [1, 0, 1], [0, 1, 0]]


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 10**6), threshold=st.sampled_from([0.0, 0.3, 0.5]))
def test_each_truth_and_each_detection_is_counted_once(seed: int, threshold: float) -> None:
    truth, found = random_scene(np.random.default_rng(seed), n_categories=2)
    sorted_ = sort_detections(truth, found, iou_threshold=0.5)
    table = confusion(sorted_, threshold)
    counts = np.bincount(sorted_.truth.labels, minlength=2)
    assert table[:2].sum(axis=1).tolist() == counts.tolist()
    above = sorted_.predictions.scores >= threshold
    assert table[:, :2].sum() == above.sum()


@pytest.fixture
def shown(tmp_path: Path) -> tuple[Path, Any]:
    truth = truth_of([[bar(0, 20)], [bar(0, 20), bar(40, 60)]])
    found = predicted([[(bar(0, 20), 0.9)], [(bar(70, 90), 0.95)]])
    for name in truth.images.ids:
        tifffile.imwrite(tmp_path / f"{name}.tif", np.full((4, 100, 3), 200, np.uint8), photometric="rgb")
    data = SimpleNamespace(
        images=truth.images, image_path=lambda row: tmp_path / f"{truth.images.ids[row]}.tif"
    )
    recorder = NullRecorder(tmp_path / "run")
    at: Any = SimpleNamespace(
        recorder=recorder, session=SimpleNamespace(experiment=SimpleNamespace(name="demo"))
    )
    show_held_out(at, data, truth, found, "ap60", "ap60 0.1")  # type: ignore[arg-type]
    return tmp_path / "run", truth


def test_the_worst_tile_is_a_picture_and_on_the_page(shown: tuple[Path, Any]) -> None:
    folder, truth = shown
    assert [path.name for path in (folder / "images" / "val").iterdir()] == ["worst_tiles_0.png"]
    text = (folder / PAGE).read_text()
    assert f"<b>{truth.images.ids[1]}</b>" in text
    assert f"<b>{truth.images.ids[0]}</b>" not in text
    assert "as registered" not in text
    assert "Precision over recall" in text
