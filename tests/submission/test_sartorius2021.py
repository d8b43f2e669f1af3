"""Sartorius' csv: an independent decoder gets the same pixels back, and overlaps are refused."""

import csv

import numpy as np
import pytest

from hubmap_ml.instances import BitMasks, Category, Images, Instances, Masks, PredictionSet, SoftMasks
from hubmap_ml.postprocess import apply_steps, parse_steps
from hubmap_ml.spec import InputError
from hubmap_ml.submission import FORMATS, format_of, hubmap2023, sartorius2021, submission_format

SIZE = (40, 30)
CELLS = (Category(0, "cort"), Category(1, "astro"))


def blob(x, y, size=6):
    mask = np.zeros(SIZE, bool)
    mask[y : y + size, x : x + size] = True
    return mask


def predictions(masks, labels=None):
    """Images a, b, … with these masks each."""
    names = [chr(ord("a") + k) for k in range(len(masks))]
    images = Images.build(ids=names, heights=SIZE[0], widths=SIZE[1])
    found = []
    for k, some in enumerate(masks):
        bits = BitMasks.from_dense(some)
        label = labels[k] if labels else 0
        found.append(
            Instances.build(
                bits.tight_boxes(), np.full(len(some), 0.5), label, masks=Masks.from_bits(bits),
                height=SIZE[0], width=SIZE[1],
            )
        )  # fmt: skip
    return PredictionSet.from_instances(images, CELLS, found)


def decode(path):
    """As the competition's notebooks do it."""
    out = []
    with path.open(newline="") as file:
        for row in csv.DictReader(file):
            flat = np.zeros(SIZE[0] * SIZE[1], bool)
            numbers = np.array(row["predicted"].split(), int)
            for start, length in zip(numbers[::2] - 1, numbers[1::2], strict=True):
                flat[start : start + length] = True
            out.append((row["id"], flat.reshape(SIZE)))
    return out


def test_one_row_a_mask_and_an_empty_row_for_an_empty_image(tmp_path):
    masks = [[blob(1, 1), blob(20, 30)], [], [blob(24, 34)]]
    found = predictions(masks, [[0, 1], [], [1]])
    path = sartorius2021.write(tmp_path / "submission.csv", found)
    rows = decode(path)
    assert [name for name, _ in rows] == ["a", "a", "b", "c"]
    assert all(
        np.array_equal(mask, expected)
        for (_, mask), expected in zip(rows, [*masks[0], np.zeros(SIZE, bool), *masks[2]], strict=True)
    )
    back = sartorius2021.read(path, found.images, found.categories)
    assert np.array_equal(back.masks.bits.words, found.masks.bits.words)
    assert back.offsets.tolist() == [0, 2, 2, 3]
    assert set(back.labels.tolist()) == {0}


def test_touching_masks_are_allowed_and_overlapping_ones_refused(tmp_path):
    path = tmp_path / "submission.csv"
    sartorius2021.write(path, predictions([[blob(1, 1), blob(7, 1), blob(1, 7)]]))
    overlapping = predictions([[blob(1, 1)], [blob(1, 1), blob(20, 1), blob(6, 6), blob(5, 5)]])
    with pytest.raises(
        InputError,
        match=r"image b: 3 pairs of masks overlap .*instances 0 and 2, in 1 pixels\), which the competition",
    ):
        sartorius2021.write(tmp_path / "other.csv", overlapping)
    assert not (tmp_path / "other.csv").exists()
    path.write_text("id,predicted\na,1 5\na,3 1\n")
    with pytest.raises(InputError, match="image a: 1 pairs of masks overlap"):
        sartorius2021.read(path, predictions([[]]).images)


def test_the_step_that_the_refusal_names_makes_them_acceptable(tmp_path):
    found = predictions([[blob(1, 1), blob(4, 4), blob(2, 2, 3)], [blob(20, 1), blob(22, 3)], []])
    with pytest.raises(
        InputError, match="image a: 3 pairs .* add a no_overlaps step to the post-processing"
    ) as error:
        sartorius2021.write(tmp_path / "submission.csv", found)
    assert "\n" not in str(error.value)
    apart = apply_steps(found, parse_steps([{"no_overlaps": {"min_area": 2}}]))
    path = sartorius2021.write(tmp_path / "submission.csv", apart)
    rows = decode(path)
    assert [name for name, _ in rows] == ["a", "a", "b", "b", "c"]
    expected = [
        blob(1, 1), blob(4, 4) & ~blob(1, 1), blob(20, 1), blob(22, 3) & ~blob(20, 1), np.zeros(SIZE, bool),
    ]  # fmt: skip
    assert all(np.array_equal(mask, wanted) for (_, mask), wanted in zip(rows, expected, strict=True))
    back = sartorius2021.read(path, apart.images, apart.categories)
    assert np.array_equal(back.masks.bits.words, apart.masks.bits.words)


def test_a_file_with_overlaps_is_refused_with_the_pixels_named(tmp_path):
    path = tmp_path / "submission.csv"
    path.write_text("id,predicted\na,1 5\na,3 1\n")
    with pytest.raises(
        InputError, match=r"image a: 1 pairs .* in 1 pixels\), .*: each pixel may belong to one row only"
    ):
        sartorius2021.read(path, predictions([[]]).images)


def test_rows_follow_the_sample(tmp_path):
    sample = tmp_path / "sample.csv"
    sample.write_text("id,predicted\nb,1 1\na,1 1\n")
    found = predictions([[blob(1, 1)], [blob(2, 2)]])
    path = sartorius2021.write(tmp_path / "submission.csv", found, sample)
    assert [name for name, _ in decode(path)] == ["b", "a"]
    back = sartorius2021.read(path, found.images, found.categories)
    assert np.array_equal(back.masks.bits.words, found.masks.bits.words)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("id\na\n", "no column 'predicted'"),
        ("id,predicted\na,1 2\n", "image 'b' of the images to read has no row"),
        ("id,predicted\na,1 2\nb,\nz,1 2\n", "row 4: image 'z' is not among"),
        ("id,predicted\na,1 2\nb,1 2 3\n", "row 3: its run lengths are not pairs"),
        ("id,predicted\na,1 2\nb,0 3\n", "row 3: its run lengths hold something"),
        ("id,predicted\na,1 2\nb,1200 2\n", "row 3: its run lengths reach beyond"),
        ("id,predicted\na,1 2\nb\n", "row 3: 1 columns, must be 2"),
    ],
)
def test_a_wrong_file_is_named_with_its_row(tmp_path, content, message):
    path = tmp_path / "submission.csv"
    path.write_text(content)
    with pytest.raises(InputError, match=message):
        sartorius2021.read(path, predictions([[], []]).images)


def test_a_sample_of_other_images_is_refused(tmp_path):
    sample = tmp_path / "sample.csv"
    for content, message in (
        ("id\na\n", "image 'b' of the predictions has no row"),
        ("id\na\nb\nz\n", "image 'z' is not among the predictions"),
        ("id\na\nb\na\n", "row 4: image 'a' a second time"),
    ):
        sample.write_text(content)
        with pytest.raises(InputError, match=message):
            sartorius2021.write(tmp_path / "submission.csv", predictions([[], []]), sample)


def test_masks_must_be_decided(tmp_path):
    soft = SoftMasks.from_crops([np.ones((4, 4), np.float32)], np.array([[0, 0, 4, 4]], np.float32))
    one = Instances.build(
        np.array([[0, 0, 4, 4]], np.float32),
        [0.5],
        0,
        masks=Masks.from_soft(soft),
        height=SIZE[0],
        width=SIZE[1],
    )
    images = Images.build(ids=["a"], heights=SIZE[0], widths=SIZE[1])
    with pytest.raises(InputError, match="add a mask_threshold step"):
        sartorius2021.write(tmp_path / "s.csv", PredictionSet.from_instances(images, CELLS, [one]))


def test_sizes_must_be_given_to_read(tmp_path):
    with pytest.raises(InputError, match="does not say how large"):
        sartorius2021.read(tmp_path / "s.csv")


def test_a_format_is_known_by_its_columns(tmp_path):
    path = tmp_path / "s.csv"
    path.write_text("id,predicted\n")
    assert format_of(path) is sartorius2021
    path.write_text("id,height,width,prediction_string\n")
    assert format_of(path) is hubmap2023
    path.write_text("id,rle\n")
    with pytest.raises(InputError, match="has the columns id, rle, which no format has"):
        format_of(path)


def test_formats_without_a_competition_are_one_line():
    assert tuple(FORMATS) == ("hubmap2023", "sartorius2021")
    with pytest.raises(
        InputError, match="no submission file of format 'livecell'; competitions known: hubmap2023, sart"
    ):
        submission_format("livecell")
