"""COCO folders and LIVECell: the same records, in two layouts."""

import json
import re

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from hubmap_ml.data import assign_folds, convert_raw, write_prepared
from hubmap_ml.instances import read_coco
from hubmap_ml.spec import InputError
from tests.data.raw_folders import SIZE, coco_data, masks_of, picture, ring, write_coco_folder, write_livecell


def convert(folder, format="coco", types=("cell", "unsure"), max_rejected=0.01, **options):
    return convert_raw(format, folder, types=types, max_rejected=max_rejected, options=options)


@pytest.mark.parametrize("as_mapping", [True, False])
def test_both_layouts_hold_what_pycocotools_reads(tmp_path, as_mapping):
    plain = convert(write_coco_folder(tmp_path / "coco")).annotations
    live = convert(write_livecell(tmp_path / "live", as_mapping=as_mapping), "livecell").annotations
    for found in (plain, live):
        for mask, record in zip(masks_of(found), coco_data()["annotations"], strict=True):
            segmentation = record["segmentation"]
            if isinstance(segmentation, list):
                rles = coco_mask.frPyObjects(segmentation, *SIZE)
                expected = coco_mask.decode(coco_mask.merge(rles))
            elif isinstance(segmentation["counts"], list):
                expected = coco_mask.decode(coco_mask.frPyObjects(segmentation, *SIZE))
            else:
                expected = coco_mask.decode(segmentation)
            assert np.array_equal(mask, expected)
        assert found.labels.tolist() == [0, 0, 1, 0, 1, 0]
        assert found.iscrowd.tolist() == [False] * 4 + [True, False]
        assert found.areas[0] == 20.0


def test_ids_are_the_files_own_and_livecells_are_names(tmp_path):
    plain = convert(write_coco_folder(tmp_path / "coco")).images
    assert plain.ids.tolist() == ["7", "8", "9"]
    assert plain.original_ids.tolist() == [7, 8, 9]
    live = convert(write_livecell(tmp_path / "live"), "livecell").images
    assert live.ids.tolist() == ["A172_Phase_A7_1_00d00h00m_1", "SkBr3_Phase_B3_1_00d00h00m_2", "plain"]
    assert live.groups.tolist() == ["a172_A7", "skbr3_B3", ""]
    assert live.datasets.tolist() == ["train"] * 3
    assert live.file_names[0] == "images/livecell_train_val_images/A172/A172_Phase_A7_1_00d00h00m_1.tif"


def test_livecells_files_become_datasets_and_cell_types_classes(tmp_path):
    raw = write_livecell(tmp_path / "live")
    picture(raw / "images" / "BV2_Phase_C4_2_00d00h00m_1.tif")
    data = coco_data(
        [{"id": 7, "file_name": "BV2_Phase_C4_2_00d00h00m_1.tif", "height": SIZE[0], "width": SIZE[1]}],
        [{"id": 1, "image_id": 7, "category_id": 1, "segmentation": [ring(1, 1)]}],
    )
    (raw / "annotations" / "livecell_coco_val.json").write_text(json.dumps(data))
    found = convert(raw, "livecell", ("a172", "bv2"), classes="cell_type")
    assert found.images.datasets.tolist() == ["train"] * 3 + ["val"]
    assert found.annotations.labels.tolist() == [0, 0, 1]
    assert found.left_out == {"type skbr3": 2, "type plain": 2}
    only = convert(
        raw, "livecell", ("bv2",), classes="cell_type", annotations=["annotations/livecell_coco_val.json"]
    )
    assert len(only.images) == 1


def test_an_image_of_two_livecell_files_is_taken_once(tmp_path):
    raw = write_livecell(tmp_path / "live")
    file = raw / "annotations" / "livecell_coco_train.json"
    (raw / "annotations" / "livecell_coco_zz.json").write_bytes(file.read_bytes())
    found = convert(raw, "livecell", max_rejected=0.5)
    assert len(found.images) == 3
    assert len([r for r in found.rejected if "came already" in r.reason]) == 3
    assert len([r for r in found.rejected if "was left out" in r.reason]) == 6
    assert found.records == 12


def test_files_of_one_name_are_told_apart_by_their_folders(tmp_path):
    raw = write_livecell(tmp_path / "live")
    inner = raw / "images" / "livecell_train_val_images"
    picture(raw / "images" / "other" / "plain.tif")
    found = convert(raw, "livecell", max_rejected=0.5)
    first = found.rejected[0]
    assert first.file == "annotations/livecell_coco_train.json"
    assert first.reason == "several files of the name 'plain.tif'"
    data = coco_data()
    data["images"][2]["file_name"] = "livecell_train_val_images/plain.tif"
    (raw / "annotations" / "livecell_coco_train.json").write_text(json.dumps(data))
    found = convert(raw, "livecell")
    assert raw / found.images.file_names[2] == inner / "plain.tif"


def test_what_our_own_files_say_of_an_image_is_kept(tmp_path):
    data = coco_data()
    data["images"][0] |= {"dataset": "2", "slide": "S", "group": "G", "i": 5, "j": 6}
    data["images"][1] |= {"slide": "S"}
    data["images"][2] |= {"split": "test"}
    found = convert(write_coco_folder(tmp_path / "raw", data))
    images = found.images
    assert (images.datasets[0], images.slides[0], images.groups[0]) == ("2", "S", "G")
    assert (images.groups[1], images.positions[0].tolist()) == ("S", [5, 6])
    assert images.splits.tolist() == ["train", "train", "test"]
    assert found.left_out == {"annotations of test images": 2}


def test_prepared_data_can_be_prepared_again(tmp_path):
    """What prepare writes as coco.json is read by the format coco, folds apart."""
    raw = write_coco_folder(tmp_path / "raw")
    found = convert(raw)
    folds = assign_folds(found.images, rows=np.arange(3), n=2, by="dataset", seed=0)
    data = write_prepared(tmp_path / "prepared", found, folds, raw=raw)
    (raw / "annotations.json").write_bytes((data.folder / "coco.json").read_bytes())
    again = convert(raw)
    assert again.images.to_frame().drop(columns="fold").equals(data.images.to_frame().drop(columns="fold"))
    assert np.array_equal(again.annotations.masks.bits.words, data.annotations.masks.bits.words)
    assert again.annotations.areas.tolist() == read_coco(data.folder / "coco.json").areas.tolist()


def damaged(record, **values):
    return {key: value for key, value in {**record, **values}.items() if value != "gone"}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"segmentation": "gone"}, "has no 'segmentation'"),
        ({"segmentation": [[1, 2, 3, 4]]}, "at least three points"),
        ({"segmentation": [[0, 0, 9, 0, 10**400, 9]]}, "not a number"),
        ({"segmentation": [ring(100, 100)]}, "no pixel"),
        ({"segmentation": {"size": [20, 24], "counts": [1, 2]}}, "do not add up"),
        ({"segmentation": {"size": [24, 20], "counts": [480]}}, r"size \[24, 20\], its image \[20, 24\]"),
        ({"segmentation": {"size": [20, 24], "counts": "\x7f"}}, "no COCO run lengths"),
        ({"segmentation": {"size": [20, 24], "counts": [480]}}, "no pixel"),
        ({"image_id": 99}, "no image 99"),
        ({"image_id": [7]}, r"no image \[7\]"),
        ({"category_id": 9}, "no category 9"),
        ({"iscrowd": 2}, "iscrowd is 2"),
        ({"area": -1}, "area is -1"),
        ({"area": "many"}, "area is 'many'"),
    ],
)
def test_a_wrong_annotation_is_rejected_alone(tmp_path, change, reason):
    data = coco_data()
    data["annotations"][3] = damaged(data["annotations"][3], **change)
    found = convert(write_coco_folder(tmp_path / "raw", data), max_rejected=0.2)
    (rejected,) = found.rejected
    assert (rejected.file, rejected.record) == ("annotations.json", "annotation 3 of the list")
    assert re.search(reason, rejected.reason)
    assert not rejected.reason.startswith(":")
    assert (found.records, len(found.annotations)) == (6, 5)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"file_name": "gone"}, "no path inside"),
        ({"file_name": "nowhere.tif"}, "there is no file 'nowhere.tif'"),
        ({"file_name": "../raw/plain.tif"}, "no path inside"),
        ({"file_name": "x" * 999}, "there is no file"),
        ({"height": "gone"}, "has no 'height'"),
        ({"height": 21}, "it is 24 x 20 pixels .*says 24 x 21"),
        ({"height": 10**12}, "no number of pixels"),
        ({"split": "valid"}, "expected train or test"),
        ({"slide": 5}, "its slide is 5, expected text"),
        ({"id": 7}, "its id came already"),
        ({"id": "7"}, "an image '7' came already"),
        ({"id": None}, "its id is None"),
    ],
)
def test_a_wrong_image_is_rejected_with_its_annotations(tmp_path, change, reason):
    data = coco_data()
    data["images"][1] = damaged(data["images"][1], **change)
    found = convert(write_coco_folder(tmp_path / "raw", data), max_rejected=0.5)
    assert any(re.search(reason, rejected.reason) for rejected in found.rejected)
    assert found.images.ids.tolist() == ["7", "9"]
    assert found.records == 6
    assert sum(rejected.lost for rejected in found.rejected) == 2


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "not a json file"),
        ("[]", "no 'images'"),
        ('{"images": [], "annotations": 5, "categories": []}', "'annotations' is a int"),
        ('{"images": [], "annotations": [], "categories": [{"id": 1}]}', "category 0: it has no 'name'"),
        ('{"images": [], "annotations": [], "categories": []}', "'cell' occurs nowhere"),
        ("[" * 100_000, "not a json file"),
        ("1" * 5000, "not a json file"),
    ],
)
def test_a_file_that_is_no_coco_is_refused(tmp_path, content, message):
    raw = write_coco_folder(tmp_path / "raw")
    (raw / "annotations.json").write_text(content)
    with pytest.raises(InputError, match=message):
        convert(raw)


def test_the_file_must_be_named_where_there_are_two(tmp_path):
    raw = write_coco_folder(tmp_path / "raw")
    (raw / "more.json").write_text("{}")
    with pytest.raises(InputError, match=r"holds 2 json files \(annotations.json, more.json\)"):
        convert(raw)
    assert len(convert(raw, annotations="annotations.json").annotations) == 6
    with pytest.raises(InputError, match="no such file"):
        convert(raw, annotations="other.json")
    with pytest.raises(InputError, match=r"holds no livecell_coco_\*\.json"):
        convert(raw, "livecell")


def test_real_livecell_files_convert_as_described(shared_data):
    found = convert(shared_data / "nuclei-sartorius" / "livecell", "livecell", ("SkBr3",))
    assert (len(found.images), len(found.annotations), found.rejected) == (16, 1722, ())
