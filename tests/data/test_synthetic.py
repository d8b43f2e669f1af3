import csv
import hashlib
import json
import re
from dataclasses import replace

import cv2
import numpy as np
import pytest
import tifffile
from scipy import ndimage

from hubmap_ml.data import SyntheticTissue, convert, generate, read_image
from hubmap_ml.data.tissue import VESSEL, paint_tile, ring_mask, slide_stain
from hubmap_ml.instances import (
    Annotations,
    BitMasks,
    Category,
    Images,
    Instances,
    Masks,
    PredictionSet,
    read_coco,
)
from hubmap_ml.metrics import average_precision
from hubmap_ml.spec import InputError

TINY = SyntheticTissue(
    seed=5,
    tile_size=64,
    slides=2,
    clean_per_slide=2,
    noisy_per_slide=1,
    unlabelled_per_slide=1,
    test_per_slide=1,
)


def contents(folder):
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def paint(slide, number, size=128):
    stain = slide_stain(np.random.default_rng([0, slide]))
    return paint_tile(np.random.default_rng([1, slide, number]), size=size, stain=stain)


@pytest.fixture(scope="module")
def tiles():
    return [paint(slide, number) for slide in range(4) for number in range(6)]


def test_the_same_seed_gives_the_same_bytes(tmp_path):
    assert contents(generate(tmp_path / "a", TINY)) == contents(generate(tmp_path / "b", TINY))


def test_another_seed_gives_other_tiles(tmp_path):
    names = [set(contents(generate(tmp_path / f"{seed}", replace(TINY, seed=seed)))) for seed in (1, 2)]
    assert {n for n in names[0] & names[1] if n.endswith(".tif")} == set()


def test_more_tiles_leave_the_others_as_they_were(tmp_path):
    few = contents(generate(tmp_path / "few", TINY))
    many = contents(generate(tmp_path / "many", replace(TINY, slides=3, clean_per_slide=4, test_per_slide=2)))
    tiles = {name for name in few if name.endswith(".tif")}
    assert {name: many[name] for name in tiles} == {name: few[name] for name in tiles}


def test_the_layout_is_the_competitions(generated):
    assert {path.name for path in generated.iterdir()} == {
        "train",
        "test",
        "polygons.jsonl",
        "tile_meta.csv",
        "wsi_meta.csv",
        "sample_submission.csv",
        "hidden_truth.json",
    }
    with (generated / "tile_meta.csv").open() as lines:
        rows = list(csv.DictReader(lines))
    assert list(rows[0]) == ["id", "source_wsi", "dataset", "i", "j"]
    assert all(re.fullmatch(r"[0-9a-f]{12}", row["id"]) for row in rows)
    assert [row["id"] for row in rows] == sorted(row["id"] for row in rows)
    places = [(row["source_wsi"], row["i"], row["j"]) for row in rows]
    assert len(set(places)) == len(places)
    with (generated / "sample_submission.csv").open() as lines:
        sample = list(csv.DictReader(lines))
    assert list(sample[0]) == ["id", "height", "width", "prediction_string"]
    assert {row["id"] for row in sample} == {path.stem for path in (generated / "test").glob("*.tif")}
    with (generated / "polygons.jsonl").open() as lines:
        outlined = {json.loads(line)["id"] for line in lines}
    assert outlined == {row["id"] for row in rows if row["dataset"] in "12"}


def test_tiles_are_plain_rgb_without_a_time(generated):
    path = next(iter((generated / "train").glob("*.tif")))
    with tifffile.TiffFile(path) as tiff:
        assert (tiff.pages[0].shape, tiff.pages[0].dtype) == ((64, 64, 3), np.uint8)
        assert not {"DateTime", "Software", "ImageDescription"} & {tag.name for tag in tiff.pages[0].tags}


def test_the_hidden_truth_is_that_of_the_test_tiles(generated):
    truth = read_coco(generated / "hidden_truth.json")
    assert [category.name for category in truth.categories] == ["blood_vessel"]
    assert set(truth.images.ids) == {path.stem for path in (generated / "test").glob("*.tif")}
    assert len(truth) >= len(truth.images)
    assert set(truth.images.slides) == {"1", "2"}


def test_an_outline_is_where_the_vessel_is_painted(tiles):
    """Walls are darker in green than what lies just outside the outline, and the outline fills what it was made of."""
    darker = []
    for tile in tiles:
        green = tile.pixels[:, :, 1].astype(float)
        all_shapes = np.zeros((128, 128), np.uint8)
        for outline in tile.outlines:
            all_shapes |= ring_mask(outline.ring, 128)
        for outline in tile.outlines:
            if outline.type != VESSEL:
                continue
            mask = ring_mask(outline.ring, 128)
            inner = mask.astype(bool) & ~cv2.erode(mask, np.ones((5, 5)), borderValue=1).astype(bool)
            outer = cv2.dilate(mask, np.ones((7, 7))).astype(bool) & ~cv2.dilate(
                all_shapes, np.ones((3, 3))
            ).astype(bool)
            if outer.any():
                darker.append(np.median(green[outer]) - np.median(green[inner]))
    assert len(darker) > 80
    assert np.mean(np.array(darker) > 8) > 0.9


def test_structures_do_not_overlap_and_lie_inside_the_tile(tiles):
    for tile in tiles:
        total = np.zeros((128, 128), int)
        for outline in tile.outlines:
            assert outline.ring.min() >= 0
            assert outline.ring.max() < 128
            total += ring_mask(outline.ring, 128)
        assert total.max() <= 1


def test_there_are_a_few_vessels_a_tile_and_other_things_now_and_then(tiles):
    counts = [sum(outline.type == VESSEL for outline in tile.outlines) for tile in tiles]
    assert 4 <= np.mean(counts) <= 7
    assert {o.type for tile in tiles for o in tile.outlines} == {"blood_vessel", "glomerulus", "unsure"}
    areas = [ring_mask(o.ring, 128).sum() for tile in tiles for o in tile.outlines if o.type == VESSEL]
    assert min(areas) > 100
    assert max(areas) < 2500


@pytest.mark.parametrize("size", [48, 96, 256])
def test_structures_grow_with_the_tile(size):
    shares = []
    for number in range(8):
        tile = paint(0, number, size)
        assert tile.pixels.shape == (size, size, 3)
        shares.append(sum(ring_mask(o.ring, size).mean() for o in tile.outlines if o.type == VESSEL))
    assert 0.12 < np.mean(shares) < 0.4


def test_slides_differ_in_colour_more_than_their_tiles_do(tiles):
    means = np.array([tile.pixels.mean(axis=(0, 1)) for tile in tiles]).reshape(4, 6, 3)
    assert means.mean(axis=1).std(axis=0).max() > 2 * means.std(axis=1).mean()


def test_dataset_two_is_disturbed_and_misses_one_in_ten(tmp_path):
    tissue = SyntheticTissue(
        seed=1, tile_size=64, clean_per_slide=0, noisy_per_slide=25, unlabelled_per_slide=0, test_per_slide=0
    )
    noisy = convert(generate(tmp_path / "raw", tissue), types=(VESSEL,), workers=2)
    assert noisy.rejected == ()
    kept, whole, overlaps = 0, 0, []
    truths = {}
    for slide in range(1, 5):
        stain = slide_stain(np.random.default_rng([1, slide, 99, 0]))
        for number in range(25):
            name = hashlib.sha256(f"1/{slide}/2/{number}".encode()).hexdigest()[:12]
            tile = paint_tile(np.random.default_rng([1, slide, 2, number]), size=64, stain=stain)
            assert np.array_equal(tile.pixels, read_image(tmp_path / "raw" / "train" / f"{name}.tif"))
            truths[name] = [ring_mask(o.ring, 64) for o in tile.outlines if o.type == VESSEL]
    for row, name in enumerate(noisy.annotations.images.ids):
        outlined = noisy.annotations.image(row).masks
        kept, whole = kept + len(outlined), whole + len(truths[name])
        if len(outlined) and truths[name]:
            bits = BitMasks.from_dense(truths[name])
            overlaps += outlined.binarize(0.5, 64, 64).iou_matrix(bits).max(axis=1).tolist()
    assert 0.85 < kept / whole < 0.95
    assert 0.7 < np.median(overlaps) < 0.95


def thresholded(pixels, channel, dark, filled, opened):
    """The obvious baseline: Otsu's threshold, then connected components of at least 40 pixels."""
    smooth = cv2.GaussianBlur(channel(pixels), (0, 0), 1.0)
    kind = cv2.THRESH_BINARY_INV if dark else cv2.THRESH_BINARY
    mask = cv2.threshold(smooth, 0, 1, kind | cv2.THRESH_OTSU)[1]
    if filled:
        mask = ndimage.binary_fill_holes(mask).astype(np.uint8)
    if opened:
        mask = cv2.morphologyEx(mask, cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
    count, labels, stats, _ = cv2.connectedComponentsWithStats(mask)
    return [labels == k for k in range(1, count) if 40 <= stats[k, cv2.CC_STAT_AREA] < mask.size / 2]


CHANNELS = {
    "red": lambda p: p[:, :, 0],
    "green": lambda p: p[:, :, 1],
    "grey": lambda p: cv2.cvtColor(p, cv2.COLOR_RGB2GRAY),
    "saturation": lambda p: cv2.cvtColor(p, cv2.COLOR_RGB2HSV)[:, :, 1],
    "pinkness": lambda p: cv2.cvtColor(p, cv2.COLOR_RGB2LAB)[:, :, 1],
}


def test_a_threshold_does_not_find_the_vessels(tiles):
    images = Images.build(ids=[f"t{k}" for k in range(len(tiles))], heights=128, widths=128)
    category = (Category(0, VESSEL),)
    rings = [[ring_mask(o.ring, 128) for o in tile.outlines if o.type == VESSEL] for tile in tiles]
    truth = Annotations.from_dense(images, category, rings)

    def score(channel, dark, filled, opened):
        found = []
        for tile in tiles:
            masks = BitMasks.from_dense(thresholded(tile.pixels, channel, dark, filled, opened))
            scores = masks.areas() / 128**2
            boxes = masks.tight_boxes()
            found.append(Instances.build(boxes, scores, masks=Masks.from_bits(masks), height=128, width=128))
        return average_precision(
            truth, PredictionSet.from_instances(images, category, found), iou_threshold=0.5
        ).value

    best = max(
        score(channel, dark, filled, opened)
        for channel in CHANNELS.values()
        for dark in (False, True)
        for filled in (False, True)
        for opened in (False, True)
    )
    assert 0 < best < 0.4


def test_no_free_disk_is_said_before_anything_is_written(tmp_path):
    with pytest.raises(InputError, match="no free disk for generated tissue"):
        generate(tmp_path / "raw", TINY, free=lambda folder: 10_000)
    assert list(tmp_path.iterdir()) == []


def test_an_existing_folder_is_left_alone(tmp_path):
    with pytest.raises(InputError, match="exists already"):
        generate(tmp_path, TINY)


def test_progress_counts_every_tile(tmp_path):
    said = []
    generate(tmp_path / "raw", TINY, progress=lambda done, total: said.append((done, total)))
    assert said == [(k, 10) for k in range(1, 11)]


@pytest.mark.parametrize(
    "change",
    [{"seed": -1}, {"slides": 0}, {"tile_size": 8}, {"test_per_slide": -1}],
)
def test_impossible_sizes_are_refused(change):
    with pytest.raises(InputError, match="needs seed >= 0"):
        replace(TINY, **change)
