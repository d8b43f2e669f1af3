import contextlib
import io
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from hubmap_ml.instances import (
    Images,
    Masks,
    read_coco,
    read_coco_results,
    write_coco,
    write_coco_results,
)
from hubmap_ml.spec import InputError
from tests.instances.examples import (
    CATEGORIES,
    random_annotations,
    random_images,
    random_predictions,
    same,
    seeds,
)


@settings(deadline=None, max_examples=40)
@given(seeds, st.integers(0, 5), st.booleans())
def test_annotations_come_back_unchanged(tmp_path_factory, seed, count, whole_ids):
    rng = np.random.default_rng(seed)
    original = list(range(7, 7 + count)) if whole_ids else None
    truth = random_annotations(rng, random_images(rng, count, original_ids=original))
    if count == 0:
        truth = truth.replace(images=Images.build(ids=[], heights=[], widths=[]))
    path = tmp_path_factory.mktemp("coco") / "deep" / "truth.json"
    write_coco(path, truth)
    assert same(read_coco(path), truth)
    assert [p.name for p in path.parent.iterdir()] == ["truth.json"]


@settings(deadline=None, max_examples=40)
@given(seeds, st.booleans())
def test_results_come_back_unchanged(tmp_path_factory, seed, whole_ids):
    rng = np.random.default_rng(seed)
    images = random_images(rng, 4, original_ids=[5, 3, 9, 1] if whole_ids else None)
    found = random_predictions(rng, images, kinds="bits")
    path = tmp_path_factory.mktemp("coco") / "results.json"
    write_coco_results(path, found)
    back = read_coco_results(path, images, CATEGORIES)
    assert same(back, found.replace(sources=(), properties={}, source=back.source))
    assert back.file_order is None


def test_results_in_another_order_keep_it_for_ties(tmp_path):
    rng = np.random.default_rng(3)
    images = random_images(rng, 4)
    found = random_predictions(rng, images, kinds="bits")
    path = tmp_path / "results.json"
    write_coco_results(path, found)
    records = json.loads(path.read_text())
    shuffled = rng.permutation(len(records))
    path.write_text(json.dumps([records[k] for k in shuffled]))
    back = read_coco_results(path, images, CATEGORIES)
    assert back.scores[np.argsort(back.file_order)].tolist() == found.scores[shuffled].tolist()


def test_pycocotools_reads_our_files(tmp_path):
    rng = np.random.default_rng(4)
    images = random_images(rng, 3, original_ids=[11, 12, 13])
    truth, found = random_annotations(rng, images, most=4), random_predictions(rng, images, kinds="bits")
    write_coco(tmp_path / "truth.json", truth)
    write_coco_results(tmp_path / "results.json", found)
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO(str(tmp_path / "truth.json"))
        results = coco.loadRes(str(tmp_path / "results.json"))
    areas = [coco_mask.area(coco.annToRLE(coco.anns[int(k)])) for k in truth.ids]
    assert areas == truth.areas.tolist()
    assert [coco_mask.area(results.anns[k + 1]["segmentation"]) for k in range(len(found))] == (
        found.masks.bits.areas().tolist()
    )


def foreign(tmp_path, **change):
    """A small file as others write it, with some of its records changed."""
    data = {
        "info": {"year": 2023},
        "images": [{"id": 4, "file_name": "a.png", "height": 20, "width": 30}],
        "categories": [{"id": 3, "name": "cell", "supercategory": "x"}],
        "annotations": [
            {
                "id": 8,
                "image_id": 4,
                "category_id": 3,
                "segmentation": [[1, 1, 9, 1, 9, 12.5], [20, 2, 29, 2, 25, 9]],
            },
            {
                "id": 9,
                "image_id": 4,
                "category_id": 3,
                "segmentation": {"size": [20, 30], "counts": [300, 5, 295]},
                "iscrowd": 1,
                "area": 4.5,
                "bbox": [15, 0, 1.5, 5],
            },
        ],
    }
    for key, value in change.items():
        name, _, field = key.partition("__")
        if field == "":
            data[name] = value
        elif value is None:
            del data[name][-1][field]
        else:
            data[name][-1][field] = value
    path = tmp_path / "foreign.json"
    path.write_text(json.dumps(data))
    return path


def test_polygons_and_plain_counts_are_read_as_pycocotools_does(tmp_path):
    truth = read_coco(foreign(tmp_path))
    polygons = [[1, 1, 9, 1, 9, 12.5], [20, 2, 29, 2, 25, 9]]
    expected = coco_mask.decode(coco_mask.merge(coco_mask.frPyObjects(polygons, 20, 30))).astype(bool)
    assert np.array_equal(truth.masks.bits.to_dense(0, 20, 30), expected)
    assert truth.masks.bits.areas()[1] == 5
    assert truth.areas.tolist() == [expected.sum(), 4.5]
    assert truth.boxes[1].tolist() == [15, 0, 16.5, 5]
    assert truth.iscrowd.tolist() == [False, True]
    assert truth.ids.tolist() == [8, 9]
    assert truth.images.ids.tolist() == ["4"]
    assert truth.images.original_ids.tolist() == [4]


def test_annotations_may_be_a_mapping_from_id(tmp_path):
    listed = read_coco(foreign(tmp_path))
    data = json.loads((tmp_path / "foreign.json").read_text())
    data["annotations"] = {str(record.pop("id")): record for record in data["annotations"]}
    (tmp_path / "mapping.json").write_text(json.dumps(data))
    assert same(read_coco(tmp_path / "mapping.json"), listed)


def test_only_named_categories(tmp_path):
    rng = np.random.default_rng(0)
    truth = random_annotations(rng, random_images(rng, 6))
    write_coco(tmp_path / "truth.json", truth)
    assert same(read_coco(tmp_path / "truth.json", ["glomerulus"]), truth.with_categories(["glomerulus"]))
    with pytest.raises(InputError, match=r"truth\.json: there is no category 'duct'"):
        read_coco(tmp_path / "truth.json", ["duct"])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"images": {"a": 3}}, "images 0 is a int"),
        ({"images": 3}, "'images' is a int"),
        ({"images__width": None}, "image 4: it has no 'width'"),
        ({"images__width": 0}, "width and height must be positive"),
        ({"images__height": "tall"}, "image 4: its height is 'tall'"),
        ({"images__id": 1.5}, "image 1.5: its id must be"),
        ({"categories__name": 5}, "category 0: its name is 5"),
        ({"categories": [{"id": 1, "name": "a"}, {"id": 1, "name": "b"}]}, "two categories have the same id"),
        ({"annotations": [5]}, "annotations 0 is a int"),
        ({"annotations__image_id": 99}, "annotation 9: there is no image 99"),
        ({"annotations__image_id": [4]}, "annotation 9: there is no image"),
        ({"annotations__category_id": 99}, "annotation 9: there is no category 99"),
        ({"annotations__category_id": None}, "annotation 9: it has no 'category_id'"),
        ({"annotations__segmentation": None}, "annotation 9: it has no 'segmentation'"),
        ({"annotations__segmentation": []}, "neither polygons nor run lengths"),
        ({"annotations__segmentation": "abc"}, "neither polygons nor run lengths"),
        ({"annotations__segmentation": [[1, 2, 3, 4]]}, "at least three points"),
        ({"annotations__segmentation": [[1, 2, 3, 4, 5, 6, 7]]}, "at least three points"),
        ({"annotations__segmentation": [1, 2, 3, 4, 5, 6]}, "at least three points"),
        ({"annotations__segmentation": [[1, 2, 3, "4", 5, 6]]}, "not a number"),
        ({"annotations__segmentation": [[1, 2, 3, float("nan"), 5, 6]]}, "not a number"),
        ({"annotations__segmentation": [[1, 2, 3, 1e9, 5, 6]]}, "1e\\+09 pixels away"),
        ({"annotations__segmentation": {"counts": "5"}}, "it has no 'size'"),
        ({"annotations__segmentation": {"size": [30, 20], "counts": "5"}}, "its mask has size"),
        (
            {"annotations__segmentation": {"size": [20, 30], "counts": "5"}},
            "annotation 9: its run lengths do not",
        ),
        (
            {"annotations__segmentation": {"size": [20, 30], "counts": "\ud800"}},
            "annotation 9: its counts are no",
        ),
        ({"annotations__segmentation": {"size": [20, 30], "counts": [1.5]}}, "whole numbers"),
        ({"annotations__segmentation": {"size": [20, 30], "counts": [10**30]}}, "whole numbers"),
        ({"annotations__segmentation": {"size": [20, 30], "counts": None}}, "its run lengths are a NoneType"),
        ({"annotations__id": 8}, "two annotations have the same id"),
        ({"annotations__id": 8.5}, "its id is 8.5"),
        ({"annotations__area": "large"}, "its area is 'large'"),
        ({"annotations__bbox": [1, 2, 3]}, "its bbox is"),
    ],
)
def test_a_wrong_record_is_named(tmp_path, change, said):
    path = foreign(tmp_path, **change)
    with pytest.raises(InputError, match=said) as raised:
        read_coco(path)
    assert str(path) in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "not a json file"),
        ("[]", "is an object"),
        ('{"images": []}', "no 'annotations'"),
        ('{"images": [], "annotations": [], "categories": []', "cut off"),
    ],
)
def test_a_file_that_is_none(tmp_path, text, said):
    path = tmp_path / "broken.json"
    path.write_text(text)
    with pytest.raises(InputError, match=said):
        read_coco(path)


def test_a_missing_file(tmp_path):
    with pytest.raises(InputError, match=r"nowhere\.json: no such file"):
        read_coco(tmp_path / "nowhere.json")
    with pytest.raises(InputError, match="cannot be read"):
        read_coco(tmp_path)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"score": None}, "result 1: its score is None"),
        ({"score": float("nan")}, "its score is nan"),
        ({"image_id": "tile 77"}, "result 1: there is no image 'tile 77'"),
        ({"category_id": 5}, "there is no category 5"),
        ({"segmentation": {"size": [3, 3], "counts": "9"}}, "its mask has size"),
    ],
)
def test_a_wrong_result_is_named_by_its_place(tmp_path, change, said):
    rng = np.random.default_rng(2)
    images = random_images(rng, 3, low=20)
    path = tmp_path / "results.json"
    write_coco_results(path, random_predictions(rng, images, kinds="bits", most=8))
    records = json.loads(path.read_text())
    records[1].update(change)
    path.write_text(json.dumps(records))
    with pytest.raises(InputError, match=said):
        read_coco_results(path, images, CATEGORIES)
    path.write_text("{}")
    with pytest.raises(InputError, match="are a list"):
        read_coco_results(path, images, CATEGORIES)


def test_an_empty_list_of_results(tmp_path):
    images = random_images(np.random.default_rng(0), 2)
    (tmp_path / "results.json").write_text("[]")
    found = read_coco_results(tmp_path / "results.json", images, CATEGORIES)
    assert len(found) == 0
    assert len(found.images) == 2


def test_soft_masks_are_not_written_as_results(tmp_path):
    rng = np.random.default_rng(1)
    found = random_predictions(rng, random_images(rng, 3), kinds="soft", most=9)
    for one in (found, found.replace(masks=None)):
        with pytest.raises(InputError, match="binarise"):
            write_coco_results(tmp_path / "results.json", one)
    bits = found.masks.binarize(0.5, found.heights_of_instances(), found.widths_of_instances())
    write_coco_results(tmp_path / "results.json", found.replace(masks=Masks.from_bits(bits)))
