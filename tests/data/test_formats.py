import typing

import pytest

from hubmap_ml.data import FORMATS, convert, convert_raw
from hubmap_ml.spec import InputError
from hubmap_ml.spec.data_options import OPTIONS, DataFormat
from tests.data.raw_folders import write_hubmap


def test_the_table_holds_what_an_experiment_may_name():
    assert tuple(FORMATS) == typing.get_args(DataFormat) == tuple(OPTIONS)


def test_a_format_is_found_by_its_name(tmp_path):
    raw = write_hubmap(tmp_path / "raw")
    by_name = convert_raw("hubmap2023", raw, types=("blood_vessel",))
    assert by_name.tile_digests == convert(raw, types=("blood_vessel",)).tile_digests


def test_an_unknown_format_is_refused(tmp_path):
    with pytest.raises(
        InputError, match="'dicom' is unknown; known: hubmap2023, sartorius2021, livecell, coco, dsb2018"
    ):
        convert_raw("dicom", tmp_path, types=("x",))


@pytest.mark.parametrize("format", FORMATS)
def test_a_missing_folder_and_wrong_workers_are_refused(format, tmp_path):
    with pytest.raises(InputError, match="nowhere does not exist"):
        convert_raw(format, tmp_path / "nowhere", types=("x",))
    with pytest.raises(InputError, match="workers is 0"):
        convert_raw(format, tmp_path, types=("x",), workers=0)
    with pytest.raises(InputError, match="name at least one"):
        convert_raw(format, tmp_path, types=())


@pytest.mark.parametrize("format", FORMATS)
def test_an_empty_folder_is_one_line(format, tmp_path):
    with pytest.raises(InputError):
        convert_raw(format, tmp_path, types=("x",))
