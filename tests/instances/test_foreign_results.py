"""What Detectron2 and Ultralytics write, made here with pycocotools, is read to the same pixels."""

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from pycocotools import mask as coco_mask

from hubmap_ml.instances import Category, Images, read_detectron2_results, read_ultralytics_results
from hubmap_ml.spec import InputError

CATEGORIES = (Category(3, "vessel"), Category(7, "glomerulus"))
TABLE = Images.build(
    ids=["a", "b", "c"],
    heights=[20, 30, 20],
    widths=[24, 16, 24],
    original_ids=[11, 12, 13],
    file_names=["train/tile_a.tif", "train/000012.tif", "train/tile_c.tif"],
)


def dense(row: int, seed: int) -> np.ndarray:
    height, width = int(TABLE.heights[row]), int(TABLE.widths[row])
    found = np.zeros((height, width), np.uint8)
    rng = np.random.default_rng(seed)
    x0, y0 = rng.integers(1, 6, 2)
    found[y0 : y0 + 9, x0 : x0 + 7] = 1
    found[y0, x0] = 0  # no box
    return found


def record(row: int, image_id: int | str, category: int, score: float, seed: int) -> dict[str, Any]:
    encoded = coco_mask.encode(np.asfortranarray(dense(row, seed)))
    box = coco_mask.toBbox(encoded).tolist()
    return {
        "image_id": image_id,
        "category_id": category,
        "bbox": box,
        "score": score,
        "segmentation": {"size": encoded["size"], "counts": encoded["counts"].decode()},
    }


def written(path: Path, records: Any) -> Path:
    path.write_text(json.dumps(records))
    return path


def test_detectron2_names_classes_by_the_data_sets_ids(tmp_path: Path) -> None:
    written(tmp_path / "coco_instances_results.json", [record(1, 12, 7, 0.5, 1), record(0, 11, 3, 0.9, 2)])
    found = read_detectron2_results(tmp_path, TABLE, CATEGORIES)
    assert np.diff(found.offsets).tolist() == [1, 1, 0]
    assert found.labels.tolist() == [0, 1]
    assert found.scores.tolist() == pytest.approx([0.9, 0.5])
    assert found.masks is not None
    assert (found.masks.bits.to_dense(0, 20, 24) == dense(0, 2)).all()
    assert (found.masks.bits.to_dense(1, 30, 16) == dense(1, 1)).all()


def test_detectron2_without_ids_counts_classes_from_zero(tmp_path: Path) -> None:
    path = written(tmp_path / "r.json", [record(0, 11, 0, 0.9, 1), record(0, 11, 1, 0.8, 2)])
    assert read_detectron2_results(path, TABLE, CATEGORIES).labels.tolist() == [0, 1]


def test_detectron2s_pickle_is_not_opened(tmp_path: Path) -> None:
    (tmp_path / "instances_predictions.pth").write_bytes(b"cos\nsystem\n(S'false'\ntR.")
    with pytest.raises(InputError, match="a pickle, which is not opened"):
        read_detectron2_results(tmp_path, TABLE, CATEGORIES)


@pytest.mark.parametrize("first", [0, 1])
def test_ultralytics_names_images_by_stem_and_counts_classes(tmp_path: Path, first: int) -> None:
    records = [record(0, "tile_a", first, 0.9, 1), record(1, 12, first + 1, 0.25, 2)]  # 000012 is 12 there
    path = written(tmp_path / "predictions.json", records)
    for given in (path, tmp_path):
        found = read_ultralytics_results(given, TABLE, CATEGORIES)
        assert found.labels.tolist() == [0, 1]
        assert np.diff(found.offsets).tolist() == [1, 1, 0]


def test_a_class_number_that_may_mean_two_things_is_asked_for(tmp_path: Path) -> None:
    path = written(tmp_path / "predictions.json", [record(0, "tile_a", 1, 0.9, 1)])
    with pytest.raises(InputError, match="counted from 0 or from 1; say which with --first-class"):
        read_ultralytics_results(path, TABLE, CATEGORIES)
    for first, label in ((0, 1), (1, 0)):
        assert read_ultralytics_results(path, TABLE, CATEGORIES, first_class=first).labels.tolist() == [label]
    assert read_ultralytics_results(path, TABLE, CATEGORIES[:1]).labels.tolist() == [0]


def test_label_files_are_polygons_in_shares_of_the_image(tmp_path: Path) -> None:
    (tmp_path / "labels").mkdir()
    polygon = np.array([[4, 2], [14, 3], [15, 12], [5, 13]], np.float64)
    shares = (polygon / [24, 20]).reshape(-1)
    line = " ".join(["1", *(f"{value:.6f}" for value in shares), "0.75"])
    (tmp_path / "labels" / "tile_c.txt").write_text(f"{line}\n\n")
    found = read_ultralytics_results(tmp_path, TABLE, CATEGORIES)
    assert np.diff(found.offsets).tolist() == [0, 0, 1]
    assert (found.labels.tolist(), found.scores.tolist()) == ([1], [0.75])
    assert found.masks is not None
    filled = cv2.fillPoly(np.zeros((20, 24), np.uint8), [polygon.astype(np.int32)], 1).astype(bool)
    pixels = found.masks.bits.to_dense(0, 20, 24)
    assert (pixels & filled).sum() / (pixels | filled).sum() > 0.75  # fillPoly takes the border pixels too


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        (
            "tile_a.txt",
            "0 0.1 0.1 0.5 0.1 0.5 0.5\n",
            "line 1: has no score; write the labels with save_conf",
        ),
        ("tile_a.txt", "0 0.1 0.1 0.5 0.1 0.9\n", "line 1: a polygon needs x, y of at least three points"),
        ("tile_a.txt", "vessel 0.1\n", "line 1: a line holds numbers"),
        ("tile_a.txt", "0.5 0.1 0.1 0.5 0.1 0.5 0.5 0.9\n", "line 1: a line is a class"),
        ("tile_a.txt", "9 0.1 0.1 0.5 0.1 0.5 0.5 0.9\n", "line 1: there is no category 9"),
        ("other.txt", "0 0.1 0.1 0.5 0.1 0.5 0.5 0.9\n", "there is no image 'other'"),
    ],
)
def test_a_wrong_label_file_is_one_line(tmp_path: Path, name: str, text: str, words: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(InputError, match=words):
        read_ultralytics_results(tmp_path, TABLE, CATEGORIES)


def test_images_of_one_stem_cannot_be_told_apart(tmp_path: Path) -> None:
    table = Images.build(ids=["a", "b"], heights=8, widths=8, file_names=["x/1.tif", "y/1.tif"])
    path = written(tmp_path / "predictions.json", [])
    with pytest.raises(InputError, match="are both called '1'"):
        read_ultralytics_results(path, table, CATEGORIES)


def test_what_is_no_results_file_is_one_line(tmp_path: Path) -> None:
    for value, words in (({"a": 1}, "are a list of records"), ([3], "it has no 'image_id'")):
        path = written(tmp_path / "predictions.json", value)
        with pytest.raises(InputError, match=words):
            read_ultralytics_results(path, TABLE, CATEGORIES)
    with pytest.raises(InputError, match="neither predictions.json nor label files"):
        (tmp_path / "empty").mkdir()
        read_ultralytics_results(tmp_path / "empty", TABLE, CATEGORIES)
