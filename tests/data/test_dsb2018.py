import re
import shutil

import cv2
import numpy as np
import pytest

from hubmap_ml.data import convert_raw
from hubmap_ml.spec import InputError
from tests.data.raw_folders import blob, masks_of, picture, write_dsb


def convert(folder, max_rejected=0.01, types=("nucleus",), **options):
    return convert_raw("dsb2018", folder, types=types, max_rejected=max_rejected, options=options)


@pytest.fixture
def raw(tmp_path):
    return write_dsb(tmp_path / "raw")


def test_every_mask_file_is_an_instance(raw):
    found = convert(raw)
    expected = [blob(1, 1), blob(10, 10), blob(5, 5)]
    assert all(np.array_equal(a, b) for a, b in zip(masks_of(found.annotations), expected, strict=True))
    assert np.diff(found.annotations.offsets).tolist() == [2, 1]
    assert [c.name for c in found.annotations.categories] == ["nucleus"]
    assert found.images.ids.tolist() == ["aa", "bb", "tt"]
    assert found.images.splits.tolist() == ["train", "train", "test"]
    assert found.images.file_names[0] == "stage1_train/aa/images/aa.png"


def test_folders_may_have_other_names(raw):
    (raw / "stage1_train").rename(raw / "mine")
    shutil.rmtree(raw / "stage1_test")
    with pytest.raises(InputError, match=r"stage1_train does not exist.*data\.options\.train"):
        convert(raw)
    assert len(convert(raw, train="mine").images) == 2


def damage_size(path):
    picture(path, (9, 9))


def damage_empty(path):
    cv2.imwrite(str(path), np.zeros((20, 24), np.uint8))


def damage_cut(path):
    path.write_bytes(path.read_bytes()[:-20])


def damage_name(path):
    path.rename(path.with_suffix(".txt"))


def damage_folder(path):
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (damage_size, "it is 9 x 9 pixels .*its image 24 x 20"),
        (damage_empty, "no pixel"),
        (damage_cut, "is cut short"),
        (damage_name, "it is no picture"),
        (damage_folder, "does not exist"),
    ],
)
def test_a_wrong_mask_is_rejected_alone(raw, damage, reason):
    damage(raw / "stage1_train" / "aa" / "masks" / "aa1.png")
    found = convert(raw, max_rejected=0.5)
    (rejected,) = found.rejected
    assert rejected.file.startswith("stage1_train/aa/masks/aa1")
    assert re.search(reason, rejected.reason)
    assert (found.records, len(found.annotations)) == (3, 2)


def test_an_image_folder_without_its_picture_is_rejected_with_its_masks(raw):
    shutil.rmtree(raw / "stage1_train" / "aa" / "images")
    (raw / "stage1_train" / "notes.csv").write_text("x")
    found = convert(raw, max_rejected=0.7)
    assert [(r.file, r.lost) for r in found.rejected] == [
        ("stage1_train/aa", 2),
        ("stage1_train/notes.csv", 0),
    ]
    assert found.images.ids.tolist() == ["bb", "tt"]
    with pytest.raises(InputError, match="2 of 3 annotations cannot be used"):
        convert(raw)


def test_masks_of_test_images_are_not_read(raw):
    path = raw / "stage1_test" / "tt" / "masks" / "m.png"
    path.parent.mkdir()
    path.write_bytes(b"not looked at")
    assert convert(raw).left_out == {"masks of test images": 1}


def test_there_is_one_class(raw):
    with pytest.raises(InputError, match="knows one class"):
        convert(raw, types=("nucleus", "cell"))


def test_an_image_in_both_folders_is_refused(raw):
    picture(raw / "stage1_test" / "aa" / "images" / "aa.png")
    with pytest.raises(InputError, match="image aa is in stage1_train/ and in stage1_test/"):
        convert(raw)
