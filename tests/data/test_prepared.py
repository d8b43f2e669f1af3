import errno
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import tifffile
from pycocotools.coco import COCO

from hubmap_ml.data import assign_folds, convert, open_prepared, read_image, select_pool, write_prepared
from hubmap_ml.data import prepared as prepared_module
from hubmap_ml.data.prepared import content_digest
from hubmap_ml.instances import read_coco
from hubmap_ml.spec import InputError

VESSEL = ("blood_vessel",)


def digest_of(raw, **options):
    converted = convert(raw, types=VESSEL, **options)
    return content_digest(converted.images, converted.annotations, converted.tile_digests)


def prepare(raw, folder, **options):
    converted = convert(raw, types=VESSEL, **options)
    rows = np.flatnonzero(converted.images.datasets == "1")
    folds = assign_folds(converted.images, rows=rows, n=2, by="source_wsi", seed=42)
    return write_prepared(folder, converted, folds, raw=raw)


@pytest.fixture(scope="module")
def data(generated, tmp_path_factory):
    return prepare(generated, tmp_path_factory.mktemp("prepared") / "data")


def test_what_is_written_is_what_is_opened(data, generated):
    again = open_prepared(data.folder)
    converted = convert(generated, types=VESSEL)
    assert again.digest == data.digest
    assert again.raw == generated.resolve()
    assert [(c.id, c.name) for c in again.categories] == [(0, "blood_vessel")]
    assert again.images.ids.tolist() == again.annotations.images.ids.tolist() == converted.images.ids.tolist()
    assert np.array_equal(again.annotations.masks.bits.words, converted.annotations.masks.bits.words)
    assert again.rejected_count == 0
    assert sorted(set(again.images.folds.tolist())) == [-1, 0, 1]


def test_only_pooled_images_have_folds(data):
    assert np.array_equal(np.flatnonzero(data.images.folds >= 0), data.pool({"dataset": 1}))


def test_pycocotools_reads_the_coco_file(data):
    coco = COCO(data.folder / "coco.json")
    assert sorted(coco.getImgIds()) == sorted(data.images.ids[data.images.splits == "train"])
    assert len(coco.getAnnIds()) == len(data.annotations)
    for record in coco.loadAnns(coco.getAnnIds()):
        mask = coco.annToMask(record)
        ys, xs = np.nonzero(mask)
        box = [xs.min(), ys.min(), xs.max() - xs.min() + 1, ys.max() - ys.min() + 1]
        assert record["bbox"] == box
        assert record["area"] == mask.sum()


def test_the_hidden_truth_speaks_of_the_test_tiles(data):
    truth = read_coco(data.hidden_truth)
    assert truth.images.ids.tolist() == data.images.ids[data.images.splits == "test"].tolist()
    assert truth.categories == data.categories
    assert len(truth) > 0


@pytest.mark.parametrize(
    ("criteria", "expected"),
    [
        ({}, lambda im, n: im.splits == "train"),
        ({"dataset": 2}, lambda im, n: im.datasets == "2"),
        ({"dataset": "2", "slide": [1]}, lambda im, n: (im.datasets == "2") & (im.slides == "1")),
        (
            {"dataset": [1, 3], "source_wsi": 2},
            lambda im, n: np.isin(im.datasets, ["1", "3"]) & (im.slides == "2"),
        ),
        ({"split": "test"}, lambda im, n: im.splits == "test"),
        ({"split": ["train", "test"]}, lambda im, n: im.splits != ""),
        ({"has_annotations": False}, lambda im, n: (n == 0) & (im.splits == "train")),
        ({"has_annotations": True, "dataset": 1}, lambda im, n: (n > 0) & (im.datasets == "1")),
        ({"fold": 1}, lambda im, n: im.folds == 1),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else "",
)
def test_a_pool_is_what_meets_all_criteria(data, criteria, expected):
    wanted = expected(data.images, np.diff(data.annotations.offsets))
    assert np.array_equal(data.pool(criteria), np.flatnonzero(wanted))


def test_test_tiles_with_a_dataset_never_slip_into_a_pool(raw, tmp_path):
    name = next(iter((raw / "test").glob("*.tif"))).stem
    with (raw / "tile_meta.csv").open("a") as out:
        out.write(f"{name},2,1,0,64\n")
    data = prepare(raw, tmp_path / "data")
    assert name not in data.images.ids[data.pool({"dataset": 1})]


def test_an_unknown_key_lists_what_there_is(data):
    with pytest.raises(InputError, match=r"'wsi' is no column .*dataset, slide, source_wsi.*has_annotations"):
        data.pool({"wsi": 1})


def test_a_pool_without_images_says_what_there_is(data):
    with pytest.raises(InputError, match=r"no image .*'dataset': 9.*dataset can be 1, 2, 3"):
        data.pool({"dataset": 9})


def test_pools_are_the_same_before_and_after_writing(data, generated):
    converted = convert(generated, types=VESSEL)
    for criteria in (
        {"dataset": 2},
        {"has_annotations": True},
        {"has_annotations": False, "dataset": [1, 2, 3]},
    ):
        before = select_pool(converted.images, criteria, annotations=converted.annotations)
        assert np.array_equal(before, data.pool(criteria))


def test_annotations_follow_the_rows_asked_for(data):
    rows = data.pool({"dataset": 1})[::-1]
    some = data.annotations_of(rows)
    assert some.images.ids.tolist() == data.images.ids[rows].tolist()
    assert len(some) == np.diff(data.annotations.offsets)[rows].sum()


def test_pixels_are_found_below_the_raw_folder(data, raw, tmp_path):
    assert data.image_path(0).is_file()
    moved = prepare(raw, tmp_path / "data")
    shutil.rmtree(raw)
    with pytest.raises(InputError, match="is gone"):
        moved.image_path(0)


def test_the_digest_knows_neither_place_nor_order(generated, raw):
    header, *rows = (raw / "tile_meta.csv").read_text().splitlines()
    (raw / "tile_meta.csv").write_text("\n".join([header, *rows[::-1]]) + "\n")
    lines = (raw / "polygons.jsonl").read_text().splitlines()
    (raw / "polygons.jsonl").write_text("\n".join(lines[::-1]) + "\n")
    (raw / "sample_submission.csv").unlink()
    assert digest_of(raw) == digest_of(generated) == digest_of(raw, workers=3)


def change_pixel(raw):
    tile = sorted((raw / "train").glob("*.tif"))[0]
    pixels = read_image(tile).copy()
    pixels[5, 7, 1] ^= 1
    tifffile.imwrite(tile, pixels, photometric="rgb")


def change_polygon(raw):
    lines = (raw / "polygons.jsonl").read_text().splitlines()
    record = json.loads(lines[0])
    vessel = next(a for a in record["annotations"] if a["type"] == "blood_vessel")
    vessel["coordinates"][0] = [[1, 1], [20, 3], [9, 30]]
    (raw / "polygons.jsonl").write_text("\n".join([json.dumps(record), *lines[1:]]) + "\n")


def change_slide(raw):
    lines = (raw / "tile_meta.csv").read_text().splitlines()
    cells = lines[1].split(",")
    cells[1] = "9"
    (raw / "tile_meta.csv").write_text("\n".join([lines[0], ",".join(cells), *lines[2:]]) + "\n")


def drop_test_tile(raw):
    sorted((raw / "test").glob("*.tif"))[0].unlink()
    (raw / "sample_submission.csv").unlink()


@pytest.mark.parametrize("change", [change_pixel, change_polygon, change_slide, drop_test_tile])
def test_the_digest_knows_what_matters(generated, raw, change):
    change(raw)
    assert digest_of(raw) != digest_of(generated)


def test_folds_and_donors_are_no_part_of_the_digest(data, raw, tmp_path):
    (raw / "wsi_meta.csv").write_text("source_wsi,age\n1,99\n")
    converted = convert(raw, types=VESSEL)
    again = write_prepared(tmp_path / "data", converted, np.zeros(len(converted.images), np.int16), raw=raw)
    assert again.digest == data.digest


def test_the_rejected_are_listed(handmade, write, tmp_path):
    ring = [[3, 4], [15, 5], [12, 20]]
    write.polygons(handmade, [write.record("a1", ring, [[1, 1], [2, 2]])])
    converted = convert(handmade, types=VESSEL, max_rejected=0.5)
    data = write_prepared(tmp_path / "data", converted, np.full(2, -1, np.int16), raw=handmade)
    assert data.rejected_count == 1
    assert data.hidden_truth is None
    assert (data.folder / "rejected.csv").read_text().splitlines() == [
        "file,record,reason,annotations",
        'polygons.jsonl,"line 1 (tile a1), annotation 2",a polygon of 2 points: at least 3 are needed,1',
    ]


def test_no_free_disk_is_said_before_anything_is_written(generated, tmp_path):
    converted = convert(generated, types=VESSEL)
    folds = np.full(len(converted.images), -1, np.int16)
    with pytest.raises(InputError, match="no free disk for prepared data"):
        write_prepared(tmp_path / "data", converted, folds, raw=generated, free=lambda folder: 1000)
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_fills_up_is_one_line_and_leaves_no_folder(generated, tmp_path, monkeypatch):
    def full(path: Path, annotations: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(prepared_module, "write_coco", full)
    with pytest.raises(InputError, match="no free disk while writing prepared data"):
        prepare(generated, tmp_path / "data")
    assert not (tmp_path / "data").exists()
    with pytest.raises(InputError, match="no folder of prepared data"):
        open_prepared(tmp_path / "data")
    monkeypatch.undo()
    assert len(prepare(generated, tmp_path / "data").images) == 18  # what was left behind does not disturb


def test_another_folder_is_not_overwritten(data, generated):
    with pytest.raises(InputError, match="exists already"):
        prepare(generated, data.folder)


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"schema": 1, "raw": 5, "digest": "", "rejected": 0}'])
def test_a_damaged_folder_is_refused(data, tmp_path, content):
    folder = Path(shutil.copytree(data.folder, tmp_path / "data"))
    (folder / "data.json").write_text(content)
    with pytest.raises(InputError, match=r"no folder of prepared data.*run prepare"):
        open_prepared(folder)


def test_a_newer_layout_is_refused(data, tmp_path):
    folder = Path(shutil.copytree(data.folder, tmp_path / "data"))
    facts = json.loads((folder / "data.json").read_text())
    (folder / "data.json").write_text(json.dumps({**facts, "schema": 99}))
    with pytest.raises(InputError, match="has layout 99"):
        open_prepared(folder)


def test_real_tiles_survive_the_round_trip(nuclei, tmp_path):
    data = prepare(nuclei, tmp_path / "data")
    assert len(data.images) == 60
    assert len(data.annotations) == 1469
    assert np.bincount(data.images.folds[data.pool({"dataset": 1})]).sum() == 21
