"""Tiles with a slider: the page holds each picture once, and says at every threshold what is above it."""

import base64
import json
import re

import cv2
import numpy as np
import pytest

from hubmap_ml.instances import Annotations, Category, Images, Instances, Masks
from hubmap_ml.instances.bit_masks import BitMasks
from hubmap_ml.viz import Gallery, GalleryTile, ReportData, count_above, render_page
from hubmap_ml.viz.gallery import PictureSize, gallery

SIZE = 40
SCORES = np.array([0.9, 0.6, 0.2], np.float32)
KINDS = ("right", "background", "right")


def square(top: int, left: int, side: int) -> np.ndarray:
    mask = np.zeros((SIZE, SIZE), bool)
    mask[top : top + side, left : left + side] = True
    return mask


def tile(name: str = "tile") -> GalleryTile:
    images = Images.build(ids=["a"], heights=[SIZE], widths=[SIZE])
    places = [square(2, 2, 8), square(20, 20, 10), square(2, 25, 6)]
    truth = Annotations.from_dense(images, [Category(1, "vessel")], [np.stack(places)])
    found = np.stack([places[0], square(30, 2, 7), places[2]])
    predictions = Instances.build(
        boxes=np.array([[2, 2, 10, 10], [2, 30, 9, 37], [25, 2, 31, 8]], np.float32),
        scores=SCORES,
        masks=Masks.from_bits(BitMasks.from_dense(found)),
        height=SIZE,
        width=SIZE,
    )
    pixels = np.full((SIZE, SIZE, 3), 128, np.uint8)
    return GalleryTile(
        name, "why & how", pixels, truth.image(0), predictions, SCORES, KINDS, np.array([0, -1, 2])
    )


def shown(**changes: object) -> Gallery:
    values = {
        "title": "Worst tiles",
        "words": "what they are",
        "tiles": [tile()],
        "threshold": 0.5,
        "registered": 0.25,
        "counts": count_above(SCORES, KINDS, 3, 1),
    }
    return Gallery(**{**values, **changes})  # type: ignore[arg-type]


def test_a_tile_says_what_is_found_missed_and_wrong_where_the_slider_begins() -> None:
    text = gallery(shown(), number=0)
    said = "1 found, 2 missed, 1 wrong; precision 0.500, recall 0.333, F1 0.400"
    assert text.count(said) == 2  # of the tile, and of all images
    assert "as registered (0.25)" in text
    assert 'min="0" max="100" value="50"' in text


def test_each_outline_carries_what_the_slider_needs() -> None:
    text = gallery(shown(), number=0)
    errors = text.split('aria-label="tile: what was found, missed and wrong"')[1]
    finders = re.findall(r'class="fn ?(off)?" data-by="([\d.]*)"', errors)
    assert finders == [("off", "0.9000"), ("", ""), ("", "0.2000")]  # found at 0.5, never, below 0.5
    guesses = re.findall(r'class="(tp|fp) ?(off)?" data-s="([\d.]+)"', errors)
    assert guesses == [("tp", "", "0.9000"), ("fp", "", "0.6000"), ("tp", "off", "0.2000")]


def test_outlines_have_the_shape_of_the_masks() -> None:
    text = gallery(shown(), number=0)
    paths = re.findall(r'<path id="g0t0a\d" d="([^"]+)"', text)
    assert len(paths) == 3
    drawn = np.zeros((SIZE * 8, SIZE * 8), np.uint8)  # tiles of 40 pixels are enlarged to 320
    numbers = [int(n) for n in re.findall(r"-?\d+", paths[1])]
    corners = np.cumsum(np.array(numbers).reshape(-1, 2), axis=0)
    cv2.fillPoly(drawn, [corners.astype(np.int32)], 1)
    wanted = np.kron(square(20, 20, 10), np.ones((8, 8), bool))
    assert (drawn.astype(bool) ^ wanted).sum() <= 2


def test_a_picture_stands_in_the_page_once_and_is_the_tile() -> None:
    text = gallery(shown(), number=0)
    [data] = re.findall(r"data:image/jpeg;base64,([^\"]+)", text)
    decoded = cv2.imdecode(np.frombuffer(base64.b64decode(data), np.uint8), cv2.IMREAD_COLOR)
    assert decoded.shape == (320, 320, 3)
    assert np.abs(decoded.astype(int) - 128).max() < 4
    assert text.count('<use href="#g0t0"') == 2


def test_counts_of_all_images_are_there_for_every_position() -> None:
    text = gallery(shown(), number=0)
    counts = json.loads(re.search(r'data-counts="([^"]+)"', text)[1].replace("&quot;", '"'))  # type: ignore[index]
    assert [counts[key][0] for key in ("right", "wrong", "missed")] == [2, 1, 1]
    assert [counts[key][60] for key in ("right", "wrong", "missed")] == [1, 1, 2]
    assert [counts[key][61] for key in ("right", "wrong", "missed")] == [1, 0, 2]
    assert len(counts["right"]) == 101


def test_the_slider_goes_no_lower_than_what_was_kept() -> None:
    text = gallery(shown(lowest=0.3, registered=0.1, threshold=0.2), number=0)
    assert 'min="30" max="100" value="30"' in text
    assert "as registered (0.30)" in text


def test_names_and_notes_are_escaped() -> None:
    text = gallery(shown(tiles=[tile("<b>x</b>")], words="<i>"), number=0)
    assert "<b>x</b>" not in text.replace("<b>&lt;b&gt;", "")
    assert "<i>" not in text
    assert "why &amp; how" in text


def noisy(k: int) -> GalleryTile:
    pixels = np.random.default_rng(k).integers(0, 256, (600, 600, 3)).astype(np.uint8)
    blank = Instances.empty(600, 600)
    none = np.zeros(0, np.float32)
    return GalleryTile(f"tile {k}", "", pixels, blank, blank, none, (), none.astype(np.int64))


@pytest.mark.parametrize("largest", [2_000_000, 700_000, 150_000])
def test_a_page_keeps_to_its_size_by_smaller_and_fewer_pictures(largest: int) -> None:
    data = ReportData(
        "t", "v", "ap60", [], galleries=[shown(tiles=[noisy(k) for k in range(8)], counts=None)]
    )
    whole = render_page(data)
    text = render_page(data, largest=largest)
    assert len(text.encode()) <= largest < len(whole.encode())
    assert text.count("<figure") <= whole.count("<figure") == 8
    if text.count("<figure") < 8:
        assert "keeps to its size" in text or "too large" in text


def test_a_gallery_without_room_says_so() -> None:
    assert "too large" in gallery(shown(), number=0, size=PictureSize(share=0.0))
