"""Train on fixed, validate on raw."""

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.ndimage import binary_fill_holes

from hubmap_ml.data import convert_raw, open_prepared, write_prepared
from hubmap_ml.data.cleaning import filled
from hubmap_ml.data.prepared import content_digest
from hubmap_ml.instances import BitMasks
from hubmap_ml.spec import InputError
from tests.data.raw_folders import (
    blob,
    masks_of,
    sartorius_row,
    write_coco_folder,
    write_dsb,
    write_hubmap,
    write_sartorius,
)


def hollow(x, y):
    mask = blob(x, y, 6, 6)
    mask[y + 2 : y + 4, x + 2 : x + 4] = 0
    return mask


@pytest.fixture
def raw(tmp_path):
    rows = [
        sartorius_row("a0", hollow(1, 1)),
        sartorius_row("a0", blob(12, 8)),
        sartorius_row("b1", hollow(3, 3), "astro"),
        sartorius_row("c2", blob(5, 5)),
    ]
    return write_sartorius(tmp_path / "raw", rows)


def convert(raw, **options):
    return convert_raw("sartorius2021", raw, types=("cort", "astro"), options=options)


def clean_mask(raw, image, inside, channel=2):
    """An RGB png of which one channel (of OpenCV's order, blue first) is the mask."""
    pixels = np.zeros((*inside.shape, 3), np.uint8)
    pixels[:, :, channel] = 255 * inside
    (raw / "clean").mkdir(exist_ok=True)
    cv2.imwrite(str(raw / "clean" / f"{image}.png"), pixels)


def test_without_cleaning_there_is_one_set(raw):
    found = convert(raw)
    assert found.training_annotations is found.annotations


@settings(deadline=None, max_examples=60)
@given(arrays(np.bool_, (70, 12)), st.integers(0, 70))
def test_holes_are_filled_as_scipy_fills_them(mask, above):
    whole = np.pad(mask, ((above, 0), (3, 0)))
    bits = BitMasks.from_dense([whole, whole])
    solid = filled(bits, np.array([True, False]))
    assert np.array_equal(solid.to_dense(0, *whole.shape), binary_fill_holes(whole))
    assert np.array_equal(solid.to_dense(1, *whole.shape), whole)


def test_filled_masks_are_trained_on_and_raw_ones_score(raw):
    found = convert(raw, fill_holes=True)
    assert found.annotations.areas.tolist() == [32, 20, 32, 20]
    assert found.training_annotations.areas.tolist() == [36, 20, 36, 20]
    assert np.array_equal(masks_of(found.annotations)[0], hollow(1, 1))
    assert np.array_equal(masks_of(found.training_annotations)[0], blob(1, 1, 6, 6))
    assert found.training_annotations.ids.tolist() == found.annotations.ids.tolist()
    assert found.rejected == ()


def test_masks_are_cut_by_somebody_elses(raw):
    clean_mask(raw, "a0", blob(0, 0, 4, 20))
    clean_mask(raw, "b1", blob(0, 0, 6, 20))
    found = convert(raw, clean_masks={"folder": "clean"})
    assert np.array_equal(masks_of(found.training_annotations)[0], hollow(1, 1) & blob(0, 0, 4, 20))
    # the second of a0 lies outside: it is not trained on, it is listed, and it still scores
    assert found.training_annotations.ids.tolist() == [1, 3, 4]
    assert len(found.annotations) == 4
    assert [(r.file, r.record, r.lost) for r in found.rejected] == [("train/a0.png", "annotation 2", 0)]
    assert found.records == 4


def test_only_the_named_types_are_cut_by_the_named_channel(raw):
    clean_mask(raw, "a0", blob(0, 0, 4, 20))
    clean_mask(raw, "b1", blob(0, 0, 6, 20))
    only = convert(raw, clean_masks={"folder": "clean", "types": ["astro"], "channel": "red"})
    assert only.training_annotations.areas.tolist() == [32, 20, (hollow(3, 3) & blob(0, 0, 6, 20)).sum(), 20]
    emptied = convert(raw, clean_masks={"folder": "clean", "channel": "blue"})
    assert emptied.training_annotations.ids.tolist() == [4]  # nothing is blue; c2 has no file


def test_holes_are_filled_before_masks_are_cut(raw):
    clean_mask(raw, "b1", blob(0, 0, 6, 20))
    found = convert(raw, fill_holes=True, clean_masks={"folder": "clean"})
    assert np.array_equal(masks_of(found.training_annotations)[2], blob(3, 3, 3, 6))


def test_crowds_stay_as_they_are(raw):
    options = {"ignore": {"astro": "cort"}, "fill_holes": True}
    found = convert_raw("sartorius2021", raw, types=("cort",), options=options)
    assert found.training_annotations.areas.tolist() == [36, 20, 32, 20]


def test_bad_images_are_dropped_and_listed(raw):
    found = convert(raw, bad_images=["a0", "t0"])
    assert found.images.ids[found.images.datasets == "train"].tolist() == ["b1", "c2"]
    assert [(r.file, r.reason, r.lost) for r in found.rejected] == [
        ("train/a0.png", "it is in bad_images", 2),
        ("test/t0.png", "it is in bad_images", 0),
    ]
    assert (found.records, len(found.annotations)) == (4, 2)


def test_a_bad_image_may_be_unreadable(raw):
    (raw / "train" / "a0.png").write_bytes(b"no picture")
    with pytest.raises(InputError, match=r"a0\.png"):
        convert(raw)
    assert len(convert(raw, bad_images=["a0"]).annotations) == 2


def small_mask(raw):
    clean_mask(raw, "a0", np.ones((5, 5), np.uint8))


@pytest.mark.parametrize(
    ("options", "message", "before"),
    [
        ({"bad_images": ["zz"]}, "there is no image 'zz'", None),
        ({"clean_masks": {"folder": "nowhere"}}, "nowhere does not exist", None),
        ({"clean_masks": {"folder": "train", "types": ["x"]}}, "'x' is no class", None),
        ({"clean_masks": {"folder": "test"}}, r"holds no IMAGE_ID\.png of a training image", None),
        ({"clean_masks": {"folder": "clean"}}, r"5 x 5 pixels, its image 24 x 20", small_mask),
        ({"ignore": {"cort": "astro"}}, "'cort' is a class in data.types", None),
        ({"ignore": ["x"]}, "which class 'x' excuses", None),
        ({"ignore": {"x": "y"}}, "which class 'x' excuses", None),
        ({"ignore": {"x": "cort"}}, r"type 'x' occurs nowhere .*correct data\.options\.ignore", None),
        ({"clean": 1}, "unknown key 'clean' for sartorius2021; allowed here: bad_images", None),
    ],
)
def test_an_option_that_would_do_nothing_is_refused(raw, options, message, before):
    if before:
        before(raw)
    with pytest.raises(InputError, match=message):
        convert(raw, **options)


@pytest.mark.parametrize(
    ("format", "write", "types", "bad"),
    [
        ("hubmap2023", write_hubmap, ("blood_vessel", "unsure"), "a1"),
        ("coco", write_coco_folder, ("cell", "unsure"), "7"),
        ("dsb2018", write_dsb, ("nucleus",), "aa"),
    ],
)
def test_every_format_knows_the_cleaning(tmp_path, format, write, types, bad):
    raw = write(tmp_path / "raw")
    found = convert_raw(format, raw, types=types, options={"bad_images": [bad], "fill_holes": True})
    assert bad not in found.images.ids
    assert found.rejected[0].reason == "it is in bad_images"
    assert found.training_annotations is not found.annotations


def test_unsure_outlines_can_be_a_class_or_be_ignored(tmp_path):
    raw = write_hubmap(tmp_path / "raw")
    own = convert_raw("hubmap2023", raw, types=("blood_vessel", "unsure")).annotations
    assert own.labels.tolist() == [0, 0, 1, 0]
    ignored = convert_raw(
        "hubmap2023", raw, types=("blood_vessel",), options={"ignore": ["unsure"]}
    ).annotations
    assert ignored.iscrowd.tolist() == [False, False, True, False]
    left = convert_raw("hubmap2023", raw, types=("blood_vessel",))
    assert left.left_out == {"type unsure": 1}


def prepare(raw, folder, **options):
    found = convert(raw, **options)
    return write_prepared(folder, found, np.full(len(found.images), -1, np.int16), raw=raw)


def test_prepared_data_keeps_both_sets(raw, tmp_path):
    data = prepare(raw, tmp_path / "data", fill_holes=True)
    assert open_prepared(data.folder).training_annotations.areas.tolist() == [36, 20, 36, 20]
    assert data.annotations.areas.tolist() == [32, 20, 32, 20]
    rows = data.images.rows_of(["b1", "a0"])
    assert data.training_annotations_of(rows).areas.tolist() == [36, 36, 20]
    assert data.annotations_of(rows).areas.tolist() == [32, 32, 20]
    assert data.training_annotations.images.ids.tolist() == data.images.ids.tolist()
    plain = prepare(raw, tmp_path / "plain")
    assert plain.training_annotations is plain.annotations
    assert not (plain.folder / "training").exists()


def test_the_digest_knows_what_is_trained_on(raw, tmp_path):
    plain, again, fixed = (
        prepare(raw, tmp_path / name, **options).digest
        for name, options in {"a": {}, "b": {}, "c": {"fill_holes": True}}.items()
    )
    assert plain == again != fixed


def test_the_digest_knows_wells_and_crowds(raw):
    found = convert(raw)
    digest = content_digest(found.images, found.annotations, found.tile_digests)
    wells = found.images.replace(groups=found.images.groups[::-1].copy())
    assert content_digest(wells, found.annotations, found.tile_digests) != digest
    crowd = found.annotations.replace(iscrowd=~found.annotations.iscrowd)
    assert content_digest(found.images, crowd, found.tile_digests) != digest
