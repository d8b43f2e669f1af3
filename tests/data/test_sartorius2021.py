import re

import numpy as np
import pytest

from hubmap_ml.data import convert_raw, select_pool
from hubmap_ml.data.sartorius2021 import plate_and_well
from hubmap_ml.spec import InputError
from tests.data.raw_folders import (
    blob,
    masks_of,
    picture,
    row_runs,
    sartorius_row,
    write_livecell,
    write_sartorius,
)

TYPES = ("cort", "shsy5y")


def convert(folder, types=TYPES, **options):
    keep = {key: options.pop(key) for key in ("workers", "max_rejected") if key in options}
    return convert_raw("sartorius2021", folder, types=types, options=options, **keep)


@pytest.fixture
def raw(tmp_path):
    return write_sartorius(tmp_path / "raw")


def test_rows_become_masks_of_their_cell_types(raw):
    found = convert(raw).annotations
    expected = [blob(1, 1), blob(10, 10), blob(2, 3), blob(12, 3), blob(2, 13), blob(18, 15)]
    assert all(np.array_equal(a, b) for a, b in zip(masks_of(found), expected, strict=True))
    assert [category.name for category in found.categories] == ["cort", "shsy5y"]
    assert found.labels.tolist() == [0, 0, 1, 1, 1, 0]
    assert found.boxes[0].tolist() == [1, 1, 6, 5]
    assert found.areas.tolist() == [20] * 6


def test_plate_is_the_slide_and_plate_and_well_the_group(raw):
    images = convert(raw).images
    labelled = images.take(images.datasets == "train")
    assert labelled.ids.tolist() == ["a0", "b1", "c2"]
    assert labelled.slides.tolist() == ["714", "715", "714"]
    assert labelled.groups.tolist() == ["714_A1", "715_E10", "714_A1"]


@pytest.mark.parametrize(
    ("sample", "expected"),
    [
        ("shsy5y[diff]_E10-4_Vessel-714_Ph_3", ("714", "E10")),
        ("astro[hippo]_D1-1_Vessel-361_Ph_1-02d00h00m00s", ("361", "D1")),
        ("cort[oka-high]_G6-2_Vessel-12b_Ph_2", ("12b", "G6")),
        ("shsy5y", None),
        ("", None),
    ],
)
def test_sample_ids_name_plate_and_well(sample, expected):
    assert plate_and_well(sample) == expected


def test_semi_supervised_images_are_a_pool_without_annotations(raw):
    found = convert(raw)
    rows = select_pool(found.images, {"dataset": "semi_supervised"}, annotations=found.annotations)
    assert found.images.file_names[rows].tolist() == [
        "train_semi_supervised/astro[hippo]_D1-1_Vessel-361_Ph_1-00d00h00m00s.png",
        "train_semi_supervised/nowhere.png",
    ]
    assert found.images.groups[rows].tolist() == ["361_D1", ""]
    assert found.annotations.take_images(rows).masks.bits.areas().tolist() == []
    assert "semi_supervised" not in convert(raw, semi_supervised=False).images.datasets


def test_test_images_follow_the_sample_submission(raw):
    picture(raw / "test" / "s9.png")
    (raw / "sample_submission.csv").write_text("id,predicted\nt0,1 1\ns9,1 1\n")
    images = convert(raw).images
    assert images.ids[images.splits == "test"].tolist() == ["t0", "s9"]


def test_types_that_are_not_asked_for_are_counted(raw):
    found = convert(raw, ("cort",))
    assert found.left_out == {"type shsy5y": 3}
    assert (found.records, len(found.annotations)) == (3, 3)
    with pytest.raises(
        InputError, match=r"'astro' occurs nowhere .*train\.csv; it has cort \(3\), shsy5y \(3\)"
    ):
        convert(raw, ("astro",))


def test_an_ignored_type_becomes_a_crowd_of_the_class_it_excuses(raw):
    found = convert(raw, ("cort",), ignore=["shsy5y"]).annotations
    assert found.iscrowd.tolist() == [False, False, True, True, True, False]
    assert found.labels.tolist() == [0] * 6


WRONG = [
    (3, "105 x", "no whole number"),
    (3, "999", "says 24 x 999"),
    (2, "20", "says 20 x 20"),
    (1, "1 2 3", "not pairs"),
    (1, "480 2", "beyond the image of 24 x 20"),
    (1, "1 3 2 3", "a pixel twice"),
    (1, "", "no pixel"),
    (0, "zz", r"there is no train/zz\.png"),
    (4, "", "no cell_type"),
    (7, "cort_A1", "names no well and plate"),
    (7, "cort[diff]_A2-1_Vessel-714_Ph_1", "not that of the image's first row"),
]


@pytest.mark.parametrize(("column", "value", "reason"), WRONG)
def test_a_wrong_row_is_rejected_with_its_line(tmp_path, column, value, reason):
    rows = [sartorius_row("a0", blob(1, 1)) for _ in range(5)]
    rows += [sartorius_row("b1", blob(1, 1)), sartorius_row("c2", blob(1, 1), "shsy5y")]
    rows[3][column] = value
    raw = write_sartorius(tmp_path / "raw", rows)
    found = convert(raw, max_rejected=0.2)
    (rejected,) = found.rejected
    assert rejected.file == "train.csv"
    assert rejected.record.startswith("line 5")
    assert re.search(reason, rejected.reason)
    assert (found.records, len(found.annotations)) == (7, 6)
    with pytest.raises(InputError, match=r"1 of 7 annotations cannot be used .*train\.csv, line 5"):
        convert(raw, max_rejected=0.1)


def test_a_row_cut_short_is_rejected(raw):
    with (raw / "train.csv").open("a") as out:
        out.write("a0,1 2,24\n")
    (rejected,) = convert(raw, max_rejected=0.5).rejected
    assert (rejected.record, rejected.reason) == (
        "line 8",
        "it has another number of cells than the first line",
    )


def test_an_image_that_no_row_names_is_listed(raw):
    picture(raw / "train" / "extra.png")
    found = convert(raw, max_rejected=0.5)
    assert [(r.file, r.lost) for r in found.rejected] == [("train/extra.png", 0)]
    with pytest.raises(InputError, match=r"1 of 6 training images"):
        convert(raw)


def test_an_image_of_two_folders_is_refused(raw):
    picture(raw / "test" / "a0.png")
    with pytest.raises(InputError, match="a0 is in two of"):
        convert(raw)


def test_a_table_without_a_usable_row_names_the_first(tmp_path):
    raw = write_sartorius(tmp_path / "raw", [["zz", "1 2", 24, 20, "cort", "", "", "s", ""]])
    with pytest.raises(InputError, match=r"train\.csv has no usable row; the first is line 2"):
        convert(raw)


def test_long_run_lengths_are_read(raw):
    mask = np.indices((600, 700)).sum(axis=0).astype(np.uint8) % 2
    picture(raw / "train" / "big.png", (600, 700))
    assert len(row_runs(mask)) > 2**17  # the csv module's own limit
    rows = [
        sartorius_row(name, blob(1, 1), kind)
        for name, kind in (("a0", "cort"), ("b1", "cort"), ("c2", "shsy5y"))
    ]
    write_sartorius(raw, [*rows, sartorius_row("big", mask)])
    assert convert(raw).annotations.areas.max() == mask.sum()


@pytest.mark.parametrize("workers", [3])
def test_workers_change_nothing(raw, workers):
    alone, together = convert(raw), convert(raw, workers=workers)
    assert np.array_equal(alone.annotations.masks.bits.words, together.annotations.masks.bits.words)
    assert alone.images.to_frame().equals(together.images.to_frame())


def test_real_images_convert_as_described(shared_data):
    found = convert(shared_data / "nuclei-sartorius", workers=2)
    assert (len(found.images), len(found.annotations), found.rejected) == (150, 4206, ())
    assert np.bincount(found.annotations.labels).tolist() == [2609, 1597]
    assert set(found.images.slides) == {"714", "715", "716", "717"}


def with_livecell(raw):
    """LIVECell as the competition gave it along: two cell types, one of them named below."""
    write_livecell(raw / "LIVECell_dataset_2021")
    return raw


def test_livecell_beside_it_is_a_data_set_of_its_own(raw):
    found = convert(with_livecell(raw), livecell={"types": {"a172": "cort", "skbr3": "shsy5y"}})
    images = found.images
    beside = images.take(images.datasets == "livecell")
    assert beside.ids.tolist() == ["A172_Phase_A7_1_00d00h00m_1", "SkBr3_Phase_B3_1_00d00h00m_2", "plain"]
    assert beside.groups.tolist() == ["a172_A7", "skbr3_B3", ""]
    assert images.datasets.tolist().count("train") == 3
    alone = convert_raw("livecell", raw, types=("a172", "skbr3"), options={"classes": "cell_type"})
    own = found.annotations.take_images(np.flatnonzero(images.datasets == "livecell"))
    assert [mask.tolist() for mask in masks_of(own)] == [
        mask.tolist() for mask in masks_of(alone.annotations)
    ]
    assert own.labels.tolist() == alone.annotations.labels.tolist() == [0, 0, 1, 1]
    assert found.left_out["type plain of LIVECell"] == 2


def test_a_cell_type_of_livecell_that_is_not_named_is_left_out(raw):
    found = convert(with_livecell(raw), livecell={"types": {"a172": "cort"}})
    assert found.left_out["type skbr3 of LIVECell"] == 2
    assert select_pool(found.images, {"dataset": "livecell"}).size == 3


def test_a_cell_type_that_livecell_lacks_is_one_line(raw):
    with pytest.raises(InputError, match=r"has no image of 'bv2'.*there are a172, plain, skbr3"):
        convert(with_livecell(raw), livecell={"types": {"bv2": "cort"}})
    with pytest.raises(
        InputError, match=r"unknown key 'livecell.type' for sartorius2021; allowed here: folder, types"
    ):
        convert(raw, livecell={"types": {}, "type": "a172"})


def test_livecell_is_not_read_unless_asked_for(raw):
    assert set(convert(with_livecell(raw)).images.datasets) == {"train", "semi_supervised", "test"}
