"""The page of a data set counts what is there, and shows tiles where they lie."""

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
import tifffile

from hubmap_ml.instances import Annotations, Category, Images
from hubmap_ml.stages import dataset_page
from hubmap_ml.viz import CountTable, DatasetPage, PlacedTile, write_dataset_page

SIDE = 32


@pytest.fixture
def page(tmp_path: Path) -> str:
    images = Images.build(
        ids=["a", "b", "c", "d"],
        heights=SIDE,
        widths=SIDE,
        slides=["1", "1", "2", ""],
        datasets=["x", "x", "y", "y"],
        splits=["train", "train", "train", "test"],
        folds=[0, 1, -1, -1],
        positions=[[0, 0], [0, SIDE], [64, 64], [-1, -1]],
    )
    mask = np.zeros((SIDE, SIDE), bool)
    mask[2:6, 2:7] = True
    vessel, duct = Category(1, "<vessel>"), Category(2, "duct")
    truth = Annotations.from_dense(
        images, (vessel, duct), [[mask, mask.T], [mask], [], []], labels=[[0, 1], [0], [], []]
    )
    for number, name in enumerate(images.ids):
        tifffile.imwrite(
            tmp_path / f"{name}.tif", np.full((SIDE, SIDE, 3), 60 * number, np.uint8), photometric="rgb"
        )
    data: Any = SimpleNamespace(
        images=images,
        annotations=truth,
        categories=truth.categories,
        rejected_count=3,
        image_path=lambda row: tmp_path / f"{images.ids[row]}.tif",
    )
    path = dataset_page.write_page(
        tmp_path / "page.html", data, title="t", verdict="4 images", left_out={"type_unsure": 5}
    )
    return path.read_text()


def row(page: str, name: str) -> list[str]:
    found = re.search(rf'<th scope="row" class="">{name}</th>(.*?)</tr>', page)
    assert found is not None
    return re.findall(r'class="number">([\d,]+)<', found[1])


def test_images_and_objects_are_counted_by_data_set_fold_slide_and_class(page: str) -> None:
    assert row(page, "train x") == ["2", "0", "3", "2", "1"]
    assert row(page, "test y") == ["1", "1", "0", "0", "0"]
    assert row(page, "fold 1") == ["1", "0", "1", "1", "0"]
    assert row(page, "in no fold") == ["2", "2", "0", "0", "0"]
    assert row(page, "slide 1") == ["2", "0", "3", "2", "1"]
    assert row(page, "&lt;vessel&gt;") == ["2", "20", "20", "20", "20", "20"]
    assert row(page, "type_unsure") == ["5"]
    assert "3 records were rejected" in page
    assert "1 images say no slide" in page


def test_tiles_lie_where_they_lie_in_their_slide(page: str) -> None:
    import base64

    first = page.split("<figure>")[1]
    assert 'viewBox="0 0 64 32"' in first
    [data] = re.findall(r"base64,([^\"]+)", first)
    picture = cv2.imdecode(np.frombuffer(base64.b64decode(data), np.uint8), cv2.IMREAD_COLOR)
    assert np.abs(picture[:, :30].astype(int) - 0).max() < 12
    assert np.abs(picture[:, 34:].astype(int) - 60).max() < 12
    frames = re.findall(r'<rect class="(\w+)" x="([\d.]+)" y="([\d.]+)"', first)
    assert frames == [("set0", "0.0", "0.0"), ("set1", "32.0", "0.0")]
    assert "a: 2 objects, fold 0" in first


def test_an_empty_page_and_a_tile_without_its_picture(tmp_path: Path) -> None:
    tile = PlacedTile("<x>", 0, 0, 10, 10, -1, 0)
    page = DatasetPage("t", "v", [CountTable("Empty", [""], [])], {"1": [tile]}, ["<note>"])
    text = write_dataset_page(tmp_path / "p.html", page).read_text()
    assert "Empty" not in text
    assert "<image" not in text
    assert "<x>" not in text
    assert "<note>" not in text
    assert 'class="none"' in text
