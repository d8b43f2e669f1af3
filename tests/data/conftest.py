"""Small raw folders: generated tissue, and one written by hand with tiles of two sizes."""

import csv
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import tifffile

from hubmap_ml.data.synthetic import SyntheticTissue, generate

SMALL = SyntheticTissue(
    seed=3,
    tile_size=64,
    slides=2,
    clean_per_slide=3,
    noisy_per_slide=3,
    unlabelled_per_slide=1,
    test_per_slide=2,
)


@pytest.fixture(scope="session")
def generated(tmp_path_factory):
    """A raw folder of generated tissue; not to be changed."""
    return generate(tmp_path_factory.mktemp("tissue") / "raw", SMALL)


@pytest.fixture
def raw(generated, tmp_path):
    """A copy of the generated raw folder that a test may damage."""
    return Path(shutil.copytree(generated, tmp_path / "raw"))


@pytest.fixture
def handmade(tmp_path):
    """A raw folder with tiles of 40 x 30 and 20 x 50 pixels (width x height), one vessel each, no test tile."""
    folder = tmp_path / "handmade"
    (folder / "train").mkdir(parents=True)
    for name, (height, width) in {"a1": (30, 40), "b2": (50, 20)}.items():
        pixels = np.random.default_rng(0).integers(0, 255, (height, width, 3), np.uint8)
        tifffile.imwrite(folder / "train" / f"{name}.tif", pixels, photometric="rgb")
    write_meta(folder, [["a1", "1", "1", "0", "512"], ["b2", "2", "2", "512", "0"]])
    ring = [[3, 4], [15, 5], [12, 20]]
    write_polygons(folder, [polygon_record("a1", ring), polygon_record("b2", ring)])
    return folder


@pytest.fixture(scope="session")
def shared_data():
    """Real pixels in the competitions' layouts, where they are at hand."""
    beside_the_checkout = Path(__file__).resolve().parents[3] / "shared" / "data"
    root = Path(os.environ.get("HUBMAP_ML_SHARED_DATA", beside_the_checkout))
    for folder in (root / "nuclei-hubmap2023", root / "nuclei-sartorius"):
        if not folder.is_dir():
            pytest.skip(f"no {folder.name} beside the checkout or in HUBMAP_ML_SHARED_DATA")
    return root


@pytest.fixture(scope="session")
def nuclei(shared_data):
    return shared_data / "nuclei-hubmap2023"


def polygon_record(tile, *rings, kind="blood_vessel"):
    """One line of polygons.jsonl."""
    return {"id": tile, "annotations": [{"type": kind, "coordinates": [ring]} for ring in rings]}


def write_polygons(folder, records):
    """Write polygons.jsonl; a text stands for itself, so that broken lines can be written."""
    lines = [record if isinstance(record, str) else json.dumps(record) for record in records]
    (folder / "polygons.jsonl").write_text("\n".join(lines) + "\n")


def write_meta(folder, rows, header=("id", "source_wsi", "dataset", "i", "j")):
    """Write tile_meta.csv."""
    with (folder / "tile_meta.csv").open("w", newline="") as out:
        csv.writer(out).writerows([header, *rows])


@pytest.fixture
def write():
    """The writers above, for tests (modules of tests do not import each other)."""

    class Write:
        record = staticmethod(polygon_record)
        polygons = staticmethod(write_polygons)
        meta = staticmethod(write_meta)

    return Write
