import json

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as coco_mask

from hubmap_ml.data.polygons import fill_polygon, fill_polygons, read_polygons
from hubmap_ml.instances import BitMasks
from hubmap_ml.spec import InputError

RING = [[1, 1], [9, 2], [5, 8]]


def read(path, *records, types=("blood_vessel",), tiles=("t",)):
    path.write_text("".join((r if isinstance(r, str) else json.dumps(r)) + "\n" for r in records))
    return read_polygons(path, types=types, tiles=tiles)


def line(ring=RING, tile="t", kind="blood_vessel"):
    return {"id": tile, "annotations": [{"type": kind, "coordinates": [ring]}]}


@settings(deadline=None, max_examples=80)
@given(st.integers(5, 90), st.integers(5, 90), st.data())
def test_pixels_box_area_and_run_lengths_are_the_references(height, width, data):
    point = st.tuples(st.integers(0, width - 1), st.integers(0, height - 1))
    ring = data.draw(st.lists(point, min_size=3, max_size=12))
    mask = fill_polygon(np.array(ring, float), height, width)
    many, reasons = fill_polygons([np.array(ring, float), np.full((3, 2), -1.0)], height, width)
    assert np.array_equal(many.to_dense(0, height, width), mask != 0)
    assert many.areas()[1] == 0
    assert [reason is None for reason in reasons] == [True, False]

    expected = np.zeros((height, width), np.uint8)
    cv2.fillPoly(expected, [np.array(ring, np.int32)], 1)
    assert np.array_equal(mask, expected)
    bits = BitMasks.from_dense([mask])
    encoded = coco_mask.encode(np.asfortranarray(expected))
    assert bits.to_rle([height], [width]) == [encoded["counts"].decode()]
    ys, xs = np.nonzero(expected)
    x0, y0, x1, y1 = bits.tight_boxes()[0]
    assert (x1 - x0, y1 - y0) == (xs.max() - xs.min() + 1, ys.max() - ys.min() + 1)
    assert (x0, y0) == (xs.min(), ys.min())
    assert bits.areas()[0] == expected.sum()


def test_a_closed_ring_has_the_pixels_of_the_open_one():
    ring = np.array(RING, float)
    assert np.array_equal(fill_polygon(ring, 12, 12), fill_polygon(np.vstack([ring, ring[:1]]), 12, 12))


def test_fractions_are_rounded_and_the_far_border_is_allowed():
    assert np.array_equal(
        fill_polygon(np.array([[0.6, 1.4], [9, 2.5], [5, 8]]), 12, 12),
        fill_polygon(np.array([[1.0, 1], [9, 3], [5, 8]]), 12, 12),
    )
    assert fill_polygon(np.array([[0.0, 0], [12, 0], [12, 10], [0, 10]]), 10, 12).all()


@pytest.mark.parametrize("point", [[-1, 3], [13, 3], [3, 11], [3, -0.5]])
def test_a_point_outside_the_image_is_refused(point):
    with pytest.raises(ValueError, match="outside the image of 12 x 10"):
        fill_polygon(np.array([*RING, point], float), 10, 12)


def test_only_the_first_ring_counts(tmp_path):
    hole = [[3, 3], [5, 3], [4, 5]]
    record = {"id": "t", "annotations": [{"type": "blood_vessel", "coordinates": [RING, hole]}]}
    found = read(tmp_path / "polygons.jsonl", record)
    assert np.array_equal(found.polygons["t"][0].ring, RING)


def test_other_types_are_left_out_without_being_rejected(tmp_path):
    records = [line(), line([[1, 2]], tile="u", kind="unsure"), line(kind="glomerulus", tile="v")]
    found = read(tmp_path / "p.jsonl", *records, tiles=("t", "u", "v"))
    assert (set(found.polygons), found.rejected, found.total) == ({"t"}, (), 1)


@pytest.mark.parametrize(
    ("coordinates", "reason"),
    [
        ([[[1, 1], [2, 2]]], "a polygon of 2 points"),
        ([[]], "a polygon of 0 points"),
        ([], "no list of rings"),
        (None, "no list of rings"),
        ("ring", "no list of rings"),
        ([[[1, 1], [2, 2], [3, float("nan")]]], "not finite"),
        ([[[1, 1], [2, 2], [float("inf"), 3]]], "not finite"),
        ([[[1, 1], [2, 2], [10**400, 3]]], "not finite"),
        ([[[1, 1], [2, 2], [3]]], "no pair of numbers"),
        ([[[1, 1], [2, 2], ["3", 4]]], "no pair of numbers"),
        ([[[1, 1], [2, 2], [True, 4]]], "no pair of numbers"),
        ([[1, 1, 2, 2, 3, 3]], "no pair of numbers"),
    ],
)
def test_a_broken_polygon_is_rejected_with_its_place_and_the_rest_kept(tmp_path, coordinates, reason):
    record = line()
    record["annotations"].insert(0, {"type": "blood_vessel", "coordinates": coordinates})
    found = read(tmp_path / "polygons.jsonl", record)
    assert len(found.polygons["t"]) == 1
    (rejected,) = found.rejected
    assert reason in rejected.reason
    assert (rejected.file, rejected.record) == ("polygons.jsonl", "line 1 (tile t), annotation 1")
    assert found.total == 2


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('{"id": "t", "annotations": [', "no JSON"),
        ("\xff\xfe", "no "),
        ("[1, 2]", 'no object with an "id"'),
        ('{"id": 5, "annotations": []}', 'no object with an "id"'),
        ('{"id": "t"}', 'no list "annotations"'),
        ("[" * 100_000, "no JSON"),
    ],
)
def test_a_broken_line_is_rejected_and_the_next_one_read(tmp_path, text, reason):
    found = read(tmp_path / "p.jsonl", text, "", line())
    assert len(found.polygons["t"]) == 1
    (rejected,) = found.rejected
    assert reason in rejected.reason
    assert (rejected.record, found.total) == ("line 1", 2)


def test_an_annotation_without_a_type_is_rejected(tmp_path):
    record = line()
    record["annotations"] += [{"coordinates": [RING]}, "vessel"]
    found = read(tmp_path / "p.jsonl", record)
    assert [r.record for r in found.rejected] == [
        "line 1 (tile t), annotation 2",
        "line 1 (tile t), annotation 3",
    ]


def test_a_tile_twice_or_unknown_loses_all_its_annotations(tmp_path):
    two = {"id": "x", "annotations": line()["annotations"] * 2}
    found = read(tmp_path / "p.jsonl", line(), line(), two)
    assert [(r.record, r.lost) for r in found.rejected] == [("line 2", 1), ("line 3", 2)]
    assert "came already" in found.rejected[0].reason
    assert "not in tile_meta.csv" in found.rejected[1].reason
    assert found.total == 4


def test_a_type_that_occurs_nowhere_is_named_with_those_that_do(tmp_path):
    with pytest.raises(InputError, match=r"'vessels' occurs nowhere in .*blood_vessel \(1\), unsure \(1\)"):
        read(
            tmp_path / "p.jsonl", line(), line(tile="u", kind="unsure"), types=("vessels",), tiles=("t", "u")
        )
    with pytest.raises(InputError, match="none at all"):
        read(tmp_path / "p.jsonl", "")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(InputError, match=r"polygons\.jsonl does not exist"):
        read_polygons(tmp_path / "polygons.jsonl", types=("blood_vessel",), tiles=())
