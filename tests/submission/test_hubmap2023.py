"""HuBMAP 2023's csv: an independent decoder gets the same pixels back, and bad files are named."""

import base64
import csv
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from hubmap_ml.instances import BitMasks, Category, Images, Instances, Masks, PredictionSet, SoftMasks
from hubmap_ml.spec import InputError
from hubmap_ml.submission import FORMATS, hubmap2023, submission_format

VESSEL = Category(id=0, name="blood_vessel")
Decoded = dict[str, tuple[int, int, list[tuple[float, NDArray[np.bool_]]]]]


def decode_independently(path: Path) -> tuple[list[str], Decoded]:
    """The format as the competition describes it, by pycocotools and the standard library alone."""
    order: list[str] = []
    decoded: Decoded = {}
    csv.field_size_limit(2**31 - 1)
    with path.open(newline="") as file:
        for row in csv.DictReader(file):
            height, width = int(row["height"]), int(row["width"])
            words = row["prediction_string"].split(" ") if row["prediction_string"] else []
            found = []
            for start in range(0, len(words), 3):
                assert words[start] == "0"
                counts = zlib.decompress(base64.b64decode(words[start + 2]))
                mask = coco_mask.decode({"size": [height, width], "counts": counts}).astype(bool)
                found.append((float(words[start + 1]), mask))
            order.append(row["id"])
            decoded[row["id"]] = (height, width, found)
    return order, decoded


def prediction_set(
    tiles: dict[str, tuple[int, int, list[tuple[float, NDArray[np.bool_]]]]],
    categories: tuple[Category, ...] = (VESSEL,),
    labels: dict[str, list[int]] | None = None,
) -> PredictionSet:
    instances = []
    for name, (height, width, found) in tiles.items():
        bits = BitMasks.from_dense([mask for _, mask in found])
        instances.append(
            Instances.build(
                bits.tight_boxes(),
                [score for score, _ in found],
                (labels or {}).get(name, 0),
                masks=Masks.from_bits(bits),
                height=height,
                width=width,
            )
        )
    images = Images.build(
        ids=list(tiles),
        heights=[tile[0] for tile in tiles.values()],
        widths=[tile[1] for tile in tiles.values()],
    )
    return PredictionSet.from_instances(images, categories, instances)


def corner(height: int, width: int, rows: slice, columns: slice) -> NDArray[np.bool_]:
    mask = np.zeros((height, width), dtype=bool)
    mask[rows, columns] = True
    return mask


@pytest.fixture
def tiles() -> dict[str, tuple[int, int, list[tuple[float, NDArray[np.bool_]]]]]:
    """Two non-square tiles with asymmetric masks, one of them with a hole, and an empty tile."""
    ring = corner(70, 130, slice(3, 40), slice(90, 129))
    ring[10:15, 100:105] = False
    return {
        "tall": (200, 65, [(0.9, corner(200, 65, slice(0, 150), slice(2, 9)))]),
        "empty": (64, 32, []),
        "wide": (70, 130, [(0.75, ring), (0.1, corner(70, 130, slice(69, 70), slice(0, 130)))]),
    }


def test_an_independent_decoder_gets_the_same_pixels_back(tmp_path: Path, tiles: Decoded) -> None:
    path = hubmap2023.write(tmp_path / "submission.csv", prediction_set(tiles))
    order, decoded = decode_independently(path)
    assert order == ["tall", "empty", "wide"]
    for name, (height, width, found) in tiles.items():
        assert decoded[name][:2] == (height, width)
        assert [score for score, _ in decoded[name][2]] == pytest.approx([score for score, _ in found])
        assert all(
            np.array_equal(mask, expected)
            for (_, mask), (_, expected) in zip(decoded[name][2], found, strict=True)
        )
    assert path.read_text().splitlines()[2] == "empty,64,32,"


def test_rows_stand_in_the_sample_submissions_order(tmp_path: Path, tiles: Decoded) -> None:
    sample = tmp_path / "sample_submission.csv"
    sample.write_text("id,height,width,prediction_string\nwide,70,130,\ntall,200,65,\nempty,64,32,\n")
    path = hubmap2023.write(tmp_path / "s.csv", prediction_set(tiles), sample_submission=sample)
    order, decoded = decode_independently(path)
    assert order == ["wide", "tall", "empty"]
    assert np.array_equal(decoded["tall"][2][0][1], tiles["tall"][2][0][1])


@settings(deadline=None, max_examples=40)
@given(data=st.data())
def test_what_was_written_is_read_back_to_the_last_bit(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    tiles = {}
    for number in range(data.draw(st.integers(1, 3))):
        height, width = data.draw(st.tuples(st.integers(1, 140), st.integers(1, 140)))
        count = data.draw(st.integers(0, 3))
        masks = [rng.random((height, width)) < rng.random() for _ in range(count)]
        tiles[f"t{number}"] = (
            height,
            width,
            [(float(np.float32(rng.random())), mask) for mask in masks if mask.any()],
        )
    predictions = prediction_set(tiles)
    path = hubmap2023.write(tmp_path_factory.mktemp("s") / "s.csv", predictions)
    back = hubmap2023.read(path, images=predictions.images, categories=(VESSEL,))
    assert list(back.images.ids) == list(predictions.images.ids)
    assert np.array_equal(back.offsets, predictions.offsets)
    assert np.array_equal(back.scores, predictions.scores)
    assert np.array_equal(back.boxes, predictions.boxes)
    assert back.masks is not None
    assert predictions.masks is not None
    assert np.array_equal(back.masks.bits.words, predictions.masks.bits.words)
    _, decoded = decode_independently(path)
    assert all(
        np.array_equal(mask, expected)
        for name in tiles
        for (_, mask), (_, expected) in zip(decoded[name][2], tiles[name][2], strict=True)
    )


def test_without_images_the_file_says_which_there_are(tmp_path: Path, tiles: Decoded) -> None:
    path = hubmap2023.write(tmp_path / "s.csv", prediction_set(tiles))
    back = hubmap2023.read(path)
    assert list(back.images.ids) == list(tiles)
    assert list(back.images.heights) == [200, 64, 70]
    assert back.categories == (VESSEL,)


def test_only_the_scored_class_is_written_and_read(tmp_path: Path, tiles: Decoded) -> None:
    categories = (Category(1, "glomerulus"), VESSEL)
    predictions = prediction_set(tiles, categories, labels={"tall": [0], "wide": [1, 0]})
    path = hubmap2023.write(tmp_path / "s.csv", predictions)
    _, decoded = decode_independently(path)
    assert [len(decoded[name][2]) for name in ("tall", "empty", "wide")] == [0, 0, 1]
    assert list(hubmap2023.read(path, categories=categories).labels) == [1]


def test_instances_without_a_pixel_are_left_out(tmp_path: Path) -> None:
    tiles = {"a": (8, 9, [(0.9, np.zeros((8, 9), bool)), (0.8, corner(8, 9, slice(0, 2), slice(1, 3)))])}
    _, decoded = decode_independently(hubmap2023.write(tmp_path / "s.csv", prediction_set(tiles)))
    assert [score for score, _ in decoded["a"][2]] == pytest.approx([0.8])


def test_several_classes_without_the_scored_one_are_refused(tmp_path: Path, tiles: Decoded) -> None:
    predictions = prediction_set(tiles, (Category(0, "shsy5y"), Category(1, "cort")))
    with pytest.raises(InputError, match="blood_vessel"):
        hubmap2023.write(tmp_path / "s.csv", predictions)


def test_soft_masks_and_no_masks_are_refused(tmp_path: Path, tiles: Decoded) -> None:
    soft = SoftMasks.from_crops([np.full((4, 4), 0.7, np.float32)], np.array([[0, 0, 8, 8]], np.float32))
    one = Instances.build([[0, 0, 8, 8]], [0.5], masks=Masks.from_soft(soft), height=10, width=12)
    images = Images.build(ids=["a"], heights=10, widths=12)
    with pytest.raises(InputError, match="mask_threshold"):
        hubmap2023.write(tmp_path / "s.csv", PredictionSet.from_instances(images, (VESSEL,), [one]))
    bare = prediction_set(tiles).replace(masks=None)
    with pytest.raises(InputError, match="no masks"):
        hubmap2023.write(tmp_path / "s.csv", bare)


@pytest.mark.parametrize(
    ("sample", "said"),
    [
        ("id,height,width,prediction_string\ntall,200,65,\nother,1,1,\n", "row 3.*'other'.*not among"),
        ("id,height,width,prediction_string\ntall,200,65,\nempty,64,32,\n", "'wide'.*no row"),
        ("id,height,width,prediction_string\ntall,65,200,\nempty,64,32,\nwide,70,130,\n", "row 2.*200 x 65"),
        ("id\ntall\ntall\n", "row 3.*second time"),
        ("image\ntall\n", "no column 'id'"),
    ],
)
def test_a_sample_submission_that_does_not_fit_is_named(
    tmp_path: Path, tiles: Decoded, sample: str, said: str
) -> None:
    path = tmp_path / "sample.csv"
    path.write_text(sample)
    with pytest.raises(InputError, match=said):
        hubmap2023.write(tmp_path / "s.csv", prediction_set(tiles), sample_submission=path)
    assert not (tmp_path / "s.csv").exists()


def test_a_sample_submission_may_be_a_list_of_ids(tmp_path: Path, tiles: Decoded) -> None:
    path = tmp_path / "sample.csv"
    path.write_text("id\nwide\nempty\ntall\n")
    written = hubmap2023.write(tmp_path / "s.csv", prediction_set(tiles), sample_submission=path)
    assert decode_independently(written)[0] == ["wide", "empty", "tall"]


GOOD = base64.b64encode(
    zlib.compress(coco_mask.encode(np.asfortranarray(np.eye(4, 5, dtype=np.uint8)))["counts"])
).decode()
BROKEN = base64.b64encode(zlib.compress(b"\x01\x02")).decode()


@pytest.mark.parametrize(
    ("row", "said"),
    [
        (f"a,4,5,0 0.5 {GOOD} 0", "row 2.*4 words"),
        (f"a,4,5,1 0.5 {GOOD}", "row 2, instance 0: class '1'"),
        (f"a,4,5,0 high {GOOD}", "score 'high'"),
        (f"a,4,5,0 nan {GOOD}", "score 'nan'"),
        ("a,4,5,0 0.5 !!!!", "not base64"),
        ("a,4,5,0 0.5 AAAA", "not base64 of zlib"),
        (f"a,4,5,0 0.5 {BROKEN}", "row 2: mask 0"),
        (f"a,6,7,0 0.5 {GOOD}", "row 2: mask 0.*add up"),
        (f"a,4,-5,0 0.5 {GOOD}", "whole numbers"),
        ("a,4,5", "row 2: 3 columns"),
    ],
)
def test_a_bad_row_is_named(tmp_path: Path, row: str, said: str) -> None:
    path = tmp_path / "s.csv"
    path.write_text(f"id,height,width,prediction_string\n{row}\n")
    with pytest.raises(InputError, match=said) as raised:
        hubmap2023.read(path)
    assert str(path) in str(raised.value)


def test_other_images_than_asked_for_are_refused_both_ways(tmp_path: Path, tiles: Decoded) -> None:
    predictions = prediction_set(tiles)
    path = hubmap2023.write(tmp_path / "s.csv", predictions)
    with pytest.raises(InputError, match=r"'wide'.*not among"):
        hubmap2023.read(path, images=predictions.images.take([0, 1]))
    more = Images.concatenate([predictions.images, Images.build(ids=["more"], heights=3, widths=3)])
    with pytest.raises(InputError, match=r"'more'.*no row"):
        hubmap2023.read(path, images=more)


def test_a_missing_file_and_an_unknown_format_say_so(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        hubmap2023.read(tmp_path / "absent.csv")
    with pytest.raises(InputError, match=r"sartorius.*hubmap2023"):
        submission_format("sartorius")
    assert submission_format("hubmap2023") is FORMATS["hubmap2023"]
