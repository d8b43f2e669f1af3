"""Any csv of run lengths: pixels as numpy's flat order has them, whatever way runs go; wrong rows are named."""

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from hubmap_ml.instances import Category, Images
from hubmap_ml.spec import InputError
from hubmap_ml.submission import RunLengthColumns, Runs, read_image_list, read_run_length_csv

TABLE = Images.build(
    ids=["a", "b"], heights=[5, 7], widths=[6, 4], file_names=["train/one.tif", "train/two.tif"]
)
CELL = (Category(3, "cell"),)
BOTH = (Category(3, "cell"), Category(9, "tube"))
COLUMNS = {"image": "ImageId", "mask": "EncodedPixels"}


def runs_of(mask: np.ndarray, runs: str, first: int) -> str:
    """Run lengths by comparing neighbours in the flat order."""
    flat = np.concatenate([[0], mask.ravel(order="F" if runs == "columns" else "C").astype(int), [0]])
    turns = np.flatnonzero(np.diff(flat))
    return " ".join(
        f"{start + first} {end - start}" for start, end in zip(turns[::2], turns[1::2], strict=True)
    )


def written(path: Path, header: list[str], *rows: list[Any]) -> Path:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([header, *rows])
    return path


@settings(deadline=None, max_examples=50)
@given(
    masks=st.tuples(arrays(np.bool_, (5, 6)), arrays(np.bool_, (7, 4))),
    runs=st.sampled_from(["columns", "rows"]),
    first=st.sampled_from([0, 1]),
)
def test_runs_in_every_order_are_the_same_pixels(
    tmp_path_factory: pytest.TempPathFactory, masks: tuple[np.ndarray, np.ndarray], runs: Runs, first: int
) -> None:
    path = written(
        tmp_path_factory.mktemp("runs") / "theirs.csv",
        ["ImageId", "EncodedPixels"],
        *[[name, runs_of(mask, runs, first)] for name, mask in zip("ab", masks, strict=True)],
    )
    found = read_run_length_csv(path, TABLE, CELL, RunLengthColumns(**COLUMNS, runs=runs, first=first))
    assert np.diff(found.offsets).tolist() == [int(mask.any()) for mask in masks]
    assert found.masks is not None
    for place, row in enumerate(found.image_rows()):
        size = int(TABLE.heights[row]), int(TABLE.widths[row])
        assert (found.masks.bits.to_dense(place, *size) == masks[row]).all()


def test_images_are_named_by_id_or_file_and_classes_by_name_or_id(tmp_path: Path) -> None:
    path = written(
        tmp_path / "theirs.csv",
        ["score", "ImageId", "EncodedPixels", "class"],
        [0.5, "two.tif", "1 2", "tube"],
        [0.25, "a", "3 1", "3"],
        [0.75, "one", "1 1", "9"],
        [1, "b", "", ""],
    )
    how = RunLengthColumns(**COLUMNS, score="score", category="class")
    found = read_run_length_csv(path, TABLE, BOTH, how)
    assert found.scores.tolist() == [0.25, 0.75, 0.5]
    assert found.labels.tolist() == [0, 1, 1]
    assert np.diff(found.offsets).tolist() == [2, 1]


@pytest.mark.parametrize(
    ("row", "how", "words"),
    [
        (["c", "1 2"], {}, "row 2: there is no image 'c'"),
        (["a", "1"], {}, "row 2: its run lengths are not pairs"),
        (["a", "1 x"], {}, "row 2: its run lengths hold something that is no whole number"),
        (["a", "0 2"], {}, "row 2: its run lengths hold something that is no whole number"),
        (["a", f"1 {'9' * 5000}"], {}, "row 2: its run lengths hold something"),
        (["a", f"{'9' * 5000} 1"], {"first": 0}, "row 2: its run lengths hold something"),
        (["a", "29 3"], {}, "row 2: its run lengths reach beyond"),
        (["a", "1 3 2 2"], {}, "row 2: its run lengths give a pixel twice"),
        (["a", "29 3"], {"runs": "rows"}, "row 2: its run lengths reach beyond"),
        (["a", "1 2"], {"runs": "coco"}, "row 2"),
        (["a", "1 2"], {"category": "EncodedPixels"}, "row 2: there is no class '1 2'"),
        (["a", "1 2"], {"score": "ImageId"}, "row 2: its score is 'a'"),
        (["a", "1 2"], {"score": "conf"}, "no column 'conf'"),
        (["a", "1 2"], {"runs": "down"}, "--runs is 'down'"),
        (["a", "1 2"], {"first": 2}, "--first-pixel is 2"),
    ],
)
def test_what_does_not_fit_is_one_line(
    tmp_path: Path, row: list[str], how: dict[str, Any], words: str
) -> None:
    path = written(tmp_path / "theirs.csv", ["ImageId", "EncodedPixels"], row)
    with pytest.raises(InputError, match=words):
        read_run_length_csv(path, TABLE, CELL, RunLengthColumns(**COLUMNS, **how))


def test_of_several_classes_the_column_must_be_named(tmp_path: Path) -> None:
    path = written(tmp_path / "theirs.csv", ["ImageId", "EncodedPixels"], ["a", "1 2"])
    with pytest.raises(InputError, match="which column says the class, of cell, tube"):
        read_run_length_csv(path, TABLE, BOTH, RunLengthColumns(**COLUMNS))


def test_a_list_of_images_says_their_sizes(tmp_path: Path) -> None:
    found = read_image_list(
        written(tmp_path / "a.csv", ["id", "width", "height"], ["x", 30, 20], ["y", 5, 6])
    )
    assert (found.ids.tolist(), found.heights.tolist(), found.widths.tolist()) == (
        ["x", "y"],
        [20, 6],
        [30, 5],
    )
    with pytest.raises(InputError, match="row 2: height '0'"):
        read_image_list(written(tmp_path / "b.csv", ["id", "width", "height"], ["x", 30, 0]))
    with pytest.raises(InputError, match="row 3: image 'x' a second time"):
        read_image_list(written(tmp_path / "c.csv", ["id", "width", "height"], ["x", 30, 20], ["x", 30, 20]))
