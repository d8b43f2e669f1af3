import pytest

from hubmap_ml.spec import InputError, load_experiment
from hubmap_ml.spec.data_options import OPTIONS, parse_options
from hubmap_ml.spec.experiment import Data

HEAD = "name: x\nmembers: {m: {finetune: {config: a.py}}}\n"


def load(tmp_path, data):
    path = tmp_path / "experiment.yaml"
    path.write_text(f"{HEAD}data: {data}\n")
    return load_experiment(path).data


def test_options_are_those_of_the_format(tmp_path):
    data = load(
        tmp_path, "{format: sartorius2021, options: {fill_holes: true, bad_images: [a, b], ignore: [astro]}}"
    )
    assert isinstance(data.options, OPTIONS["sartorius2021"])
    assert data.options.fill_holes
    assert data.options.bad_images == ("a", "b")
    assert data.options.ignore == {"astro": None}


@pytest.mark.parametrize("format", OPTIONS)
def test_every_format_has_options_that_survive_as_data(format):
    data = Data(
        format=format, options={"fill_holes": True, "clean_masks": {"folder": "clean", "channel": "red"}}
    )
    written = data.model_dump(mode="json")["options"]
    assert written["fill_holes"] is True
    assert written["clean_masks"]["channel"] == "red"
    assert parse_options(format, written) == data.options
    assert Data(format=format).options == OPTIONS[format]()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("{format: dicom}", "data.format: Input should be 'hubmap2023', .*got 'dicom'"),
        (
            "{options: {holes: true}}",
            "data.options: unknown key 'holes' for hubmap2023; allowed here: bad_images, fill",
        ),
        ("{options: {semi_supervised: true}}", "unknown key 'semi_supervised' for hubmap2023"),
        ("{options: {fill_holes: maybe}}", "data.options: fill_holes: .*boolean.*got 'maybe'"),
        (
            "{options: {clean_masks: {folder: /x}}}",
            "clean_masks.folder: a path must be relative to the raw folder",
        ),
        ("{options: {clean_masks: {folder: ../x}}}", "inside it, got '../x'"),
        (
            "{options: {clean_masks: {folder: x, tint: red}}}",
            "unknown key 'clean_masks.tint' .*folder, channel, types",
        ),
        ("{options: {ignore: [[1]]}}", "data.options: ignore"),
        ("{options: [1]}", "data.options: .*got \\[1\\]"),
        ("{format: dsb2018, options: {ignore: [a]}}", "unknown key 'ignore' for dsb2018"),
        (
            "{format: coco, synthetic: {}}",
            "synthetic tissue is written as hubmap2023, and the format is coco",
        ),
    ],
)
def test_a_wrong_option_is_one_line(tmp_path, data, message):
    with pytest.raises(InputError, match=message):
        load(tmp_path, data)
