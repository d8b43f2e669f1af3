import csv
import json

import cv2
import numpy as np
import pytest
import tifffile
from pycocotools import mask as coco_mask

from hubmap_ml.data import convert
from hubmap_ml.spec import InputError

VESSEL = ("blood_vessel",)
RING = [[3, 4], [15, 5], [12, 20]]


def rle_of(annotations):
    images, rows = annotations.images, annotations.image_rows()
    return annotations.masks.bits.to_rle(images.heights[rows], images.widths[rows])


def test_tiles_of_any_size_keep_their_pixels(handmade):
    converted = convert(handmade, types=VESSEL)
    images = converted.images
    assert images.ids.tolist() == ["a1", "b2"]
    assert list(zip(images.heights.tolist(), images.widths.tolist(), strict=True)) == [(30, 40), (50, 20)]
    for height, width, counts in [
        (30, 40, rle_of(converted.annotations)[0]),
        (50, 20, rle_of(converted.annotations)[1]),
    ]:
        mask = np.zeros((height, width), np.uint8)
        cv2.fillPoly(mask, [np.array(RING, np.int32)], 1)
        assert counts == coco_mask.encode(np.asfortranarray(mask))["counts"].decode()
    assert converted.annotations.boxes.tolist() == [[3, 4, 16, 21]] * 2
    assert converted.annotations.ids.tolist() == [1, 2]


def test_the_table_says_where_a_tile_comes_from(handmade):
    images = convert(handmade, types=VESSEL).images
    assert images.file_names.tolist() == ["train/a1.tif", "train/b2.tif"]
    assert images.datasets.tolist() == ["1", "2"]
    assert images.slides.tolist() == images.groups.tolist() == ["1", "2"]
    assert images.splits.tolist() == ["train", "train"]
    assert images.positions.tolist() == [[0, 512], [512, 0]]
    assert images.folds.tolist() == [-1, -1]


def test_every_tile_is_a_row_whether_annotated_or_not(generated):
    converted = convert(generated, types=VESSEL)
    with (generated / "tile_meta.csv").open() as lines:
        train = [row["id"] for row in csv.DictReader(lines)]
    with (generated / "sample_submission.csv").open() as lines:
        test = [row["id"] for row in csv.DictReader(lines)]
    images = converted.images
    assert images.ids.tolist() == train + test
    assert images.splits.tolist() == ["train"] * 14 + ["test"] * 4
    assert converted.annotations.images.ids.tolist() == train
    assert sorted(images.datasets.tolist()) == [""] * 4 + ["1"] * 6 + ["2"] * 6 + ["3"] * 2
    unlabelled = np.flatnonzero(images.datasets == "3")
    assert (np.diff(converted.annotations.offsets)[unlabelled] == 0).all()


def test_types_become_categories_in_the_order_given(generated):
    one = convert(generated, types=VESSEL).annotations
    two = convert(generated, types=("unsure", "blood_vessel")).annotations
    assert [(c.id, c.name) for c in two.categories] == [(0, "unsure"), (1, "blood_vessel")]
    assert rle_of(two.take(two.labels == 1)) == rle_of(one)
    assert (two.labels == 0).any()


@pytest.mark.parametrize("workers", [2, 5])
def test_workers_change_nothing(generated, workers):
    alone, together = (convert(generated, types=VESSEL, workers=n) for n in (1, workers))
    assert rle_of(alone.annotations) == rle_of(together.annotations)
    assert alone.tile_digests == together.tile_digests
    assert alone.images.to_frame().equals(together.images.to_frame())


def test_progress_counts_every_tile(generated):
    said = []
    convert(generated, types=VESSEL, progress=lambda done, total: said.append((done, total)))
    assert said == [(k, 18) for k in range(1, 19)]


def test_an_id_that_looks_like_a_number_stays_text(handmade, write):
    for old, new in (("a1", "012"), ("b2", "1e5")):
        (handmade / "train" / f"{old}.tif").rename(handmade / "train" / f"{new}.tif")
    write.meta(handmade, [["012", "1", "1", "0", "0"], ["1e5", "1", "1", "0", "0"]])
    write.polygons(handmade, [write.record("1e5", RING)])
    converted = convert(handmade, types=VESSEL)
    assert converted.images.ids.tolist() == ["012", "1e5"]
    assert np.diff(converted.annotations.offsets).tolist() == [0, 1]


def test_test_tiles_keep_the_order_of_the_sample_submission(generated, raw):
    with (generated / "sample_submission.csv").open() as lines:
        ids = [row["id"] for row in csv.DictReader(lines)]
    turned = ids[::-1]
    (raw / "sample_submission.csv").write_text(
        "id,prediction_string\n" + "".join(f"{i},\n" for i in turned[:3])
    )
    images = convert(raw, types=VESSEL).images
    assert images.ids[images.splits == "test"].tolist() == turned  # the one not listed comes last
    (raw / "sample_submission.csv").unlink()
    images = convert(raw, types=VESSEL).images
    assert images.ids[images.splits == "test"].tolist() == sorted(ids)


def test_test_tiles_that_the_table_knows_keep_their_slide(raw):
    name = next(iter((raw / "test").glob("*.tif"))).stem
    with (raw / "tile_meta.csv").open("a") as out:
        out.write(f"{name},2,1,0,64\n")
    images = convert(raw, types=VESSEL).images
    row = images.rows_of([name])[0]
    assert (images.splits[row], images.slides[row], images.datasets[row]) == ("test", "2", "1")


def test_a_few_broken_annotations_are_left_out_and_listed(handmade, write):
    good = write.record("a1", *[RING] * 199)
    outside = write.record("b2", [[1, 1], [25, 2], [3, 3]])  # inside a1, but b2 is 20 wide
    write.polygons(handmade, [good, outside])
    converted = convert(handmade, types=VESSEL, max_rejected=0.01)
    assert len(converted.annotations) == 199
    (rejected,) = converted.rejected
    assert (rejected.file, rejected.record) == ("polygons.jsonl", "line 2 (tile b2), annotation 1")
    assert "(25, 2) lies outside the image of 20 x 50" in rejected.reason


def test_too_many_broken_annotations_stop_with_the_first(handmade, write):
    write.polygons(handmade, [write.record("a1", *[RING] * 9, [[1, 1], [2, 2]]), write.record("b2", RING)])
    with pytest.raises(
        InputError, match=r"1 of 11 annotations .*9\.1%.*1\.0%.*tile a1\), annotation 10: .*2 points"
    ):
        convert(handmade, types=VESSEL)
    assert len(convert(handmade, types=VESSEL, max_rejected=0.1).annotations) == 10


def test_annotations_of_unknown_tiles_count_as_lost(handmade, write):
    write.polygons(handmade, [write.record("a1", RING), write.record("zz", RING, RING)])
    with pytest.raises(InputError, match=r"2 of 3 annotations.*line 2: the tile zz is not in tile_meta"):
        convert(handmade, types=VESSEL)
    assert len(convert(handmade, types=VESSEL, max_rejected=0.9).annotations) == 1


def test_a_training_tile_that_the_table_does_not_know_is_left_out(handmade, write):
    write.meta(handmade, [["a1", "1", "1", "0", "0"]])
    write.polygons(handmade, [write.record("a1", RING)])
    with pytest.raises(InputError, match=r"1 of 2 training tiles.*train/b2\.tif"):
        convert(handmade, types=VESSEL)
    converted = convert(handmade, types=VESSEL, max_rejected=0.5)
    assert converted.images.ids.tolist() == ["a1"]
    assert [r.file for r in converted.rejected] == ["train/b2.tif"]


@pytest.mark.parametrize("name", ["tile_meta.csv", "polygons.jsonl", "train"])
def test_a_missing_file_is_named(raw, name):
    (raw / name).rename(raw / f"{name}.away")
    with pytest.raises(InputError, match=rf"{name} does not exist"):
        convert(raw, types=VESSEL)


def test_a_missing_raw_folder_is_named(tmp_path):
    with pytest.raises(InputError, match="nowhere does not exist"):
        convert(tmp_path / "nowhere", types=VESSEL)


def test_a_tile_without_its_file_is_named(raw):
    first = sorted((raw / "train").glob("*.tif"))[0]
    first.unlink()
    with pytest.raises(InputError, match=rf"1 tiles of .*tile_meta\.csv have no file.*{first.name}"):
        convert(raw, types=VESSEL)


def test_a_listed_test_tile_without_its_file_is_named(raw):
    first = sorted((raw / "test").glob("*.tif"))[0]
    first.unlink()
    with pytest.raises(InputError, match=f"sample_submission.csv lists the tile {first.stem}"):
        convert(raw, types=VESSEL)


@pytest.mark.parametrize("folder", ["train", "test"])
@pytest.mark.parametrize("workers", [1, 3])
def test_a_truncated_tiff_is_named(raw, folder, workers):
    tile = sorted((raw / folder).glob("*.tif"))[1]
    tile.write_bytes(tile.read_bytes()[:-2000])
    with pytest.raises(InputError, match=rf"{tile.name} is cut short"):
        convert(raw, types=VESSEL, workers=workers)


def test_a_wrong_column_is_named_with_those_there_are(handmade, write):
    write.meta(handmade, [["a1", "1", "1", "0", "0"]], header=("id", "wsi", "dataset", "i", "j"))
    with pytest.raises(
        InputError, match=r"tile_meta\.csv has no column 'source_wsi' .*id, wsi, dataset, i, j"
    ):
        convert(handmade, types=VESSEL)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([["a1", "1", "1", "0", "0"], ["a1", "1", "1", "0", "0"]], "line 3: the tile a1 comes twice"),
        ([["a1", "1", "1", "0"]], "line 2: it has another number of cells"),
        ([["a1", "1", "1", "0", "0", "7"]], "line 2: it has another number of cells"),
        ([["a1", "1", "1", "left", "0"]], "line 2, column i: 'left' is no whole number"),
        ([["a1", "1", "1", "0", "inf"]], "line 2, column j: 'inf' is no whole number"),
        ([["", "1", "1", "0", "0"]], "line 2: the tile has no id"),
        ([], "has no rows"),
    ],
)
def test_a_wrong_row_is_named(handmade, write, rows, message):
    write.meta(handmade, rows)
    with pytest.raises(InputError, match=message):
        convert(handmade, types=VESSEL)


def test_a_table_that_is_no_text_is_refused(handmade):
    (handmade / "tile_meta.csv").write_bytes(b"id,source_wsi,dataset,i,j\n\xff\xfe\x00")
    with pytest.raises(InputError, match="cannot be read as csv"):
        convert(handmade, types=VESSEL)


def test_unknown_positions_and_whole_floats_are_understood(handmade, write):
    write.meta(handmade, [["a1", "1", "1", "", ""], ["b2", "1", "1", "1024.0", "512"]])
    assert convert(handmade, types=VESSEL).images.positions.tolist() == [[-1, -1], [1024, 512]]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"types": ()}, "name at least one"),
        ({"types": ("a", "a")}, "none twice"),
        ({"types": ("vessel",)}, r"'vessel' occurs nowhere .*blood_vessel \(2\)"),
        ({"types": VESSEL, "workers": 0}, "workers is 0"),
    ],
)
def test_wrong_options_are_refused(handmade, options, message):
    with pytest.raises(InputError, match=message):
        convert(handmade, **options)


def test_a_deep_tile_is_refused(handmade):
    tifffile.imwrite(handmade / "train" / "a1.tif", np.zeros((30, 40, 3), np.uint16), photometric="rgb")
    with pytest.raises(InputError, match=r"a1\.tif holds uint16"):
        convert(handmade, types=VESSEL)


def test_real_tiles_convert_as_described(nuclei):
    converted = convert(nuclei, types=VESSEL, workers=2)
    images, annotations = converted.images, converted.annotations
    assert {name: int((images.datasets == name).sum()) for name in "123"} == {"1": 21, "2": 23, "3": 9}
    assert (images.splits == "test").sum() == 7
    assert set(images.heights) == set(images.widths) == {256}
    assert len(annotations) == 1469
    assert converted.rejected == ()
    assert len(convert(nuclei, types=("glomerulus", "unsure")).annotations) == 5 + 26

    with (nuclei / "polygons.jsonl").open() as lines:
        record = json.loads(next(lines))
    rings = [a["coordinates"][0] for a in record["annotations"] if a["type"] == "blood_vessel"]
    expected = []
    for ring in rings:
        mask = np.zeros((256, 256), np.uint8)
        cv2.fillPoly(mask, [np.array(ring, np.int32)], 1)
        expected.append(coco_mask.encode(np.asfortranarray(mask))["counts"].decode())
    assert rle_of(annotations.take_images(images.rows_of([record["id"]]))) == expected
