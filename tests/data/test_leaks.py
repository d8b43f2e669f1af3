import json

import cv2
import numpy as np
import pytest

from hubmap_ml.data import (
    ArrayImage,
    SyntheticTissue,
    generate,
    leak_report,
    read_image,
    select_pool,
    write_prepared,
)
from hubmap_ml.data.fingerprints import fingerprint_all
from hubmap_ml.data.folds import assign_folds
from hubmap_ml.data.hubmap2023 import convert
from hubmap_ml.instances import Images
from hubmap_ml.spec import InputError, LeakLevel

SIZE = 96


@pytest.fixture(scope="module")
def tiles(tmp_path_factory):
    """Twelve different pictures."""
    wanted = SyntheticTissue(seed=11, tile_size=SIZE, slides=2, noisy_per_slide=2, clean_per_slide=2)
    folder = generate(tmp_path_factory.mktemp("tissue") / "raw", wanted)
    return [read_image(path) for path in sorted(folder.glob("t*/*.tif"))][:12]


def recompressed(pixels):
    _, content = cv2.imencode(".jpg", pixels[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, 60])
    return np.ascontiguousarray(cv2.imdecode(content, cv2.IMREAD_COLOR)[:, :, ::-1])


class Table:
    """Images one by one: what they show, and where they lie."""

    def __init__(self):
        self.rows = []

    def add(self, name, pixels, *, slide="", at=(-1, -1), group=""):
        self.rows.append((name, pixels, slide, at, group))
        return name

    def report(self, *, scored, **seen):
        images = Images.build(
            ids=[row[0] for row in self.rows],
            heights=[row[1].shape[0] for row in self.rows],
            widths=[row[1].shape[1] for row in self.rows],
            slides=[row[2] for row in self.rows],
            positions=np.array([row[3] for row in self.rows], np.int32),
            groups=[row[4] for row in self.rows],
        )
        prints = fingerprint_all(list(images.ids), [ArrayImage(row[1]) for row in self.rows])
        return leak_report(images, prints, scored=scored, seen=seen)


def test_planted_leaks_are_found_and_nothing_else(tiles):
    table = Table()
    s = [table.add(f"s{k}", tiles[k], slide=f"slide {k}", at=(960, 960)) for k in range(5)]
    mirrored = table.add("mirrored", recompressed(np.ascontiguousarray(tiles[0][:, ::-1])), slide="elsewhere")
    copy = table.add("copy", tiles[1].copy(), slide="elsewhere")
    corner = table.add("corner", tiles[5], slide="slide 2", at=(960 + SIZE, 960 - SIZE))
    overlap = table.add("overlap", tiles[6], slide="slide 2", at=(960 + 10, 960))
    apart = table.add("apart", tiles[7], slide="slide 4", at=(960 + SIZE + 1, 960))
    unrelated = table.add("unrelated", tiles[8], slide="elsewhere", at=(960, 960))
    report = table.report(
        scored=s,
        pretrain=[mirrored, copy, unrelated],
        finetune=[copy, corner, overlap, apart, s[3], unrelated],
    )
    found = {
        (row.scored, row.seen): (row.kind, row.through, round(row.distance))
        for row in report.pairs.itertuples()
    }
    assert found == {
        ("s0", "mirrored"): ("near_duplicate", "pretrain", 0),
        ("s1", "copy"): ("exact_duplicate", "pretrain+finetune", 0),
        ("s2", "corner"): ("neighbour", "finetune", 0),
        ("s2", "overlap"): ("neighbour", "finetune", 10 - SIZE),
        ("s3", "s3"): ("trained_on", "finetune", 0),
    }
    assert len(report.pairs) == len(found)
    assert report.slides.to_dict("records") == [
        {"slide": "slide 2", "scored": 1, "seen": 2, "through": "finetune"},
        {"slide": "slide 3", "scored": 1, "seen": 1, "through": "finetune"},
        {"slide": "slide 4", "scored": 1, "seen": 1, "through": "finetune"},
    ]
    assert report.counts == {
        "slide": 4,
        "neighbour": 2,
        "near_duplicate": 1,
        "exact_duplicate": 1,
        "trained_on": 1,
    }
    assert report.level is LeakLevel.TRAINED_ON
    assert report.unplaced == 0
    assert json.loads(json.dumps(report.to_data()))["pairs"][0]["through"] == "finetune"


@pytest.mark.parametrize(
    ("seen", "level"),
    [
        ("other", LeakLevel.NONE),
        ("same slide", LeakLevel.SLIDE),
        ("next", LeakLevel.NEIGHBOUR),
        ("turned", LeakLevel.DUPLICATE),
        ("copy", LeakLevel.DUPLICATE),
        ("scored", LeakLevel.TRAINED_ON),
    ],
)
def test_a_leak_only_through_stage_1_sets_the_level(tiles, seen, level):
    table = Table()
    table.add("scored", tiles[0], slide="a", at=(0, 0))
    table.add("other", tiles[1], slide="b", at=(0, 0))
    table.add("same slide", tiles[2], slide="a", at=(0, 2 * SIZE))
    table.add("next", tiles[3], slide="a", at=(0, SIZE))
    table.add("turned", recompressed(np.ascontiguousarray(tiles[0][::-1, ::-1])), slide="c")
    table.add("copy", tiles[0].copy(), slide="d")
    report = table.report(scored=["scored"], pretrain=[seen, "other"], finetune=["other"])
    assert report.level is level
    assert set(report.pairs["through"]) | set(report.slides["through"]) <= {"pretrain"}
    assert table.report(scored=["scored"], pretrain=["other"], finetune=["other"]).level is LeakLevel.NONE


def test_where_there_is_no_slide_the_group_stands_for_it(tiles):
    table = Table()
    for name, group in (("a", "plate1_A1"), ("b", "plate1_A1"), ("c", "plate2_B3"), ("d", "")):
        table.add(name, tiles[ord(name) - 97], group=group)
    assert table.report(scored=["a"], finetune=["b", "c"]).level is LeakLevel.SLIDE
    assert table.report(scored=["a"], finetune=["c", "d"]).level is LeakLevel.NONE
    blind = table.report(scored=["d"], finetune=["a", "b"])
    assert (blind.level, blind.unplaced) == (LeakLevel.NONE, 1)


def test_blank_pictures_leak_nothing(tiles):
    table = Table()
    for name in "ab":
        table.add(name, np.zeros((SIZE, SIZE, 3), np.uint8))
    assert table.report(scored=["a"], finetune=["b"]).level is LeakLevel.NONE


def test_an_unknown_image_is_named(tiles):
    table = Table()
    table.add("a", tiles[0])
    with pytest.raises(InputError, match="'gone'"):
        table.report(scored=["a"], finetune=["gone"])


def test_clean_folds_of_whole_slides_have_no_leak(tmp_path):
    wanted = SyntheticTissue(seed=2, tile_size=64, slides=4, clean_per_slide=6, noisy_per_slide=1)
    raw = generate(tmp_path / "raw", wanted)
    converted = convert(raw, types=("blood_vessel",))
    rows = select_pool(converted.images, {"dataset": 1})
    levels = {}
    for method, by in (("grouped", "slide"), ("stratified", "slide"), ("spatial_blocks", "slide")):
        folds = assign_folds(converted.images, rows=rows, method=method, n=2, by=by, seed=0)
        data = write_prepared(tmp_path / method, converted, folds, raw=raw)
        ids, fold = data.images.ids[rows], data.images.folds[rows]
        report = leak_report(
            data.images, data.fingerprints, scored=ids[fold == 0], seen={"finetune": ids[fold == 1]}
        )
        levels[method] = report.level
        assert report.counts["near_duplicate"] == report.counts["exact_duplicate"] == 0
    assert levels["grouped"] is LeakLevel.NONE
    assert levels["stratified"] >= LeakLevel.SLIDE
    assert levels["spatial_blocks"] >= LeakLevel.SLIDE
