"""A predictor folder of stored predictions: the same numbers as its parts by hand, however images come in."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from hubmap_ml.data import ArrayImage
from hubmap_ml.fusion import FusionOptions, fuse, merge_sources
from hubmap_ml.instances import (
    Annotations,
    BitMasks,
    Category,
    Images,
    PredictionSet,
    write_coco,
    write_predictions,
)
from hubmap_ml.postprocess import apply_steps, parse_steps
from hubmap_ml.predictor import (
    combine,
    combine_agreed,
    members_of,
    name_images,
    open_predictor,
    parse_node,
    read_manifest,
    write_predictor,
)
from hubmap_ml.spec import InputError
from tests.random_scenes import CATEGORIES, images, predictions

TABLE = images(5, height=60, width=90)
MEMBER_STEPS = [{"score": 0.05}, {"nms": {"iou": 0.5, "by": "box"}}]
FINAL_STEPS = [{"mask_threshold": 0.45}, {"min_area": 20}, {"max_per_image": 12}]
TREE: dict[str, Any] = {
    "kind": "steps",
    "steps": FINAL_STEPS,
    "child": {
        "kind": "fusion",
        "iou_threshold": 0.55,
        "skip_score": 0.01,
        "weights": [2, 1],
        "children": [
            {
                "kind": "steps",
                "name": "folded",
                "steps": MEMBER_STEPS,
                "child": {
                    "kind": "folds",
                    "iou_threshold": 0.6,
                    "children": [
                        {
                            "kind": "views",
                            "iou_threshold": 0.6,
                            "children": [{"kind": "stored", "path": f"leaves/f{k}"}],
                        }
                        for k in range(2)
                    ],
                },
            },
            {"kind": "steps", "steps": MEMBER_STEPS, "child": {"kind": "stored", "path": "leaves/m1"}},
        ],
    },
}


def candidates() -> dict[str, PredictionSet]:
    """Two folds that looked through two views each, and a member with neither."""
    views = {
        f"leaves/f{k}": predictions(k, table=TABLE, objects_seed=9, n_sources=2).replace(
            sources=("none", "hflip")
        )
        for k in range(2)
    }
    return views | {"leaves/m1": predictions(5, table=TABLE, objects_seed=9).replace(sources=())}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("predictor")
    leaves = {}
    for number, (path, found) in enumerate(candidates().items()):
        leaves[path] = root / f"leaf{number}"
        write_predictions(leaves[path], found)
    return write_predictor(
        root / "made", tree=TREE, leaves=leaves, categories=CATEGORIES, properties={"run": "abc"}
    )


def pairs() -> list[Any]:
    pixels = np.zeros((60, 90, 3), np.uint8)
    return [(TABLE.take([row]), ArrayImage(pixels)) for row in range(len(TABLE))]


def assert_same(one: PredictionSet, other: PredictionSet) -> None:
    assert list(one.images.ids) == list(other.images.ids)
    assert np.array_equal(one.offsets, other.offsets)
    assert np.array_equal(one.scores, other.scores)
    assert np.array_equal(one.boxes, other.boxes)
    assert np.array_equal(one.labels, other.labels)
    assert one.masks is not None
    assert other.masks is not None
    assert np.array_equal(one.masks.bits.words, other.masks.bits.words)


def by_hand() -> PredictionSet:
    """The tree, spelled out with the functions that tuning uses, all images at once."""
    found = candidates()
    folds = [merge_sources(found[f"leaves/f{k}"], n_sources=2, iou_threshold=0.6) for k in range(2)]
    folded = merge_sources(PredictionSet.stack_sources(folds, ["0", "1"]), n_sources=2, iou_threshold=0.6)
    members = [apply_steps(member, parse_steps(MEMBER_STEPS)) for member in (folded, found["leaves/m1"])]
    fused = fuse(members, FusionOptions(iou_threshold=0.55, skip_score=0.01), weights=[2, 1])
    return apply_steps(fused, parse_steps(FINAL_STEPS))


@pytest.mark.parametrize("chunk", [1, 2, 100])
def test_the_tree_does_what_its_parts_do_whatever_the_chunk(folder: Path, chunk: int) -> None:
    found = open_predictor(folder).predict(pairs(), chunk=chunk)
    expected = by_hand()
    assert len(expected) > 20
    assert_same(found, expected)
    assert found.categories == CATEGORIES


def test_an_ensemble_says_how_many_members_agreed(folder: Path) -> None:
    def half_seen(leaf: Any) -> PredictionSet:
        found = candidates()[leaf.path]
        return found.take(np.arange(0, len(found), 2)) if leaf.path == "leaves/m1" else found

    tree = parse_node(TREE)
    found, agreed = combine_agreed(tree, half_seen)
    assert_same(found, combine(tree, half_seen))
    assert found.member_rows is not None
    assert found.cluster_offsets is not None
    members = [combine(node, half_seen) for node in members_of(tree)]
    stacked = PredictionSet.stack_sources(members, ["folded", "m1"])
    clusters = np.split(stacked.source[found.member_rows], found.cluster_offsets[1:-1])
    assert agreed.tolist() == [len(set(one.tolist())) for one in clusters]
    assert set(agreed) == {1, 2}

    opened = open_predictor(folder)
    found, agreed = opened.predict_agreed(pairs(), chunk=2)
    assert_same(found, opened.predict(pairs()))
    assert agreed.tolist() == combine_agreed(tree, lambda leaf: candidates()[leaf.path])[1].tolist()


def test_who_is_no_ensemble_agrees_with_himself_and_classes_with_weights_keep_no_count() -> None:
    found = predictions(3, table=TABLE, objects_seed=9).replace(sources=())
    alone = parse_node({"kind": "steps", "steps": FINAL_STEPS, "child": {"kind": "stored", "path": "f0"}})
    assert set(combine_agreed(alone, lambda leaf: found)[1]) == {1}
    weights = {category.name: [1, 2] for category in CATEGORIES}
    children = [{"kind": "stored", "path": f"f{k}"} for k in range(2)]
    by_class = parse_node(
        {"kind": "fusion", "iou_threshold": 0.5, "class_weights": weights, "children": children}
    )
    with pytest.raises(InputError, match="how many members agreed"):
        combine_agreed(by_class, lambda leaf: found)


def test_equal_folds_predict_what_one_of_them_does() -> None:
    """However often the same fold model is counted, its boxes, scores and masks stay what they are."""
    found = predictions(3, table=TABLE, objects_seed=9).replace(sources=())
    for count in (2, 5):
        children = [{"kind": "stored", "path": f"f{k}"} for k in range(count)]
        tree = {
            "kind": "steps",
            "steps": FINAL_STEPS,
            "child": {"kind": "folds", "iou_threshold": 0.6, "children": children},
        }
        alone = {**tree, "child": {"kind": "stored", "path": "f0"}}
        assert_same(*(combine(parse_node(one), lambda leaf: found) for one in (tree, alone)))


def test_images_come_back_in_the_order_they_were_given(folder: Path) -> None:
    found = open_predictor(folder).predict(pairs()[::-1], chunk=2)
    assert list(found.images.ids) == list(TABLE.ids)[::-1]
    assert_same(found.take_images([4, 3, 2, 1, 0]), by_hand())


def test_images_can_be_had_one_by_one(folder: Path) -> None:
    taken = []

    def one_by_one() -> Any:
        for number, pair in enumerate(pairs()):
            taken.append(number)
            yield pair

    results = open_predictor(folder).predict_each(one_by_one(), chunk=1)
    row, instances = next(results)
    assert taken == [0]
    assert row.ids[0] == TABLE.ids[0]
    assert np.array_equal(instances.scores, by_hand().image(0).scores)
    assert len(list(results)) == 4


def test_no_images_give_an_empty_set(folder: Path) -> None:
    assert len(open_predictor(folder).predict([]).images) == 0


def test_the_manifest_keeps_what_was_said(folder: Path) -> None:
    manifest = read_manifest(folder)
    assert manifest.categories == CATEGORIES
    assert manifest.properties == {"run": "abc"}
    assert {path.suffix for path in folder.rglob("*") if path.is_file()} == {".json", ".parquet"}


def test_an_image_that_was_never_predicted_is_refused(folder: Path) -> None:
    with pytest.raises(InputError, match=r"'array_0'.*stored predictions"):
        open_predictor(folder).predict(np.zeros((60, 90, 3), np.uint8))


def test_an_image_of_another_size_is_not_the_stored_one(folder: Path) -> None:
    [(row, _), *_] = pairs()
    other = np.zeros((int(row.heights[0]) + 1, int(row.widths[0]), 3), np.uint8)
    named = (row.replace(heights=row.heights + 1), ArrayImage(other))
    with pytest.raises(InputError, match=rf"{row.ids[0]}'? is .*knows only their images"):
        open_predictor(folder).predict([named])


def test_stored_views_need_a_node_that_merges_them(tmp_path: Path) -> None:
    write_predictions(tmp_path / "leaf", candidates()["leaves/f0"])
    made = write_predictor(
        tmp_path / "p",
        tree={"kind": "stored", "path": "a"},
        leaves={"a": tmp_path / "leaf"},
        categories=CATEGORIES,
    )
    with pytest.raises(InputError, match=r"2 views \(none, hflip\)"):
        open_predictor(made).predict(pairs())


def test_stored_predictions_need_no_torch_and_no_mlflow(folder: Path) -> None:
    code = (
        "import sys, numpy, hubmap_ml.predictor as p\n"
        f"p.open_predictor({str(folder)!r})\n"
        "assert not {'torch', 'mmcv', 'mmdet', 'mlflow', 'albumentations'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def edited(folder: Path, tmp_path: Path, **changes: Any) -> Path:
    copy = tmp_path / "edited"
    copy.mkdir()
    data = json.loads((folder / "predictor.json").read_text()) | changes
    (copy / "predictor.json").write_text(json.dumps(data))
    (copy / "leaves").symlink_to(folder / "leaves")
    return copy


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"version": 2}, "version 2.*up to 1"),
        ({"version": None}, "version None"),
        ({"format": "other"}, "no predictor"),
        ({"categories": []}, "categories"),
        ({"tree": {"kind": "group", "path": "a"}}, "'group' is unknown"),
        ({"tree": {"kind": "stored", "path": "leaves/absent"}}, "leaves/absent/images.parquet is missing"),
        ({"properties": []}, "properties"),
    ],
)
def test_a_folder_that_cannot_be_understood_is_refused(
    folder: Path, tmp_path: Path, changes: dict[str, Any], said: str
) -> None:
    with pytest.raises(InputError, match=said):
        open_predictor(edited(folder, tmp_path, **changes))


def test_other_categories_than_the_stored_ones_are_refused(folder: Path, tmp_path: Path) -> None:
    other = edited(folder, tmp_path, categories=[[0, "a"], [1, "b"]])
    with pytest.raises(InputError, match="other categories"):
        open_predictor(other).predict(pairs())


def test_a_folder_without_its_manifest_is_no_predictor(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no predictor folder"):
        open_predictor(tmp_path)
    (tmp_path / "predictor.json").write_text("{")
    with pytest.raises(InputError, match="cannot be read"):
        open_predictor(tmp_path)


def checkpoint(folder: Path, weights: bytes, digest: str | None = None) -> Path:
    """What a checkpoint folder looks like from outside; nothing opens these weights."""
    import hashlib

    folder.mkdir()
    (folder / "weights.safetensors").write_bytes(weights)
    (folder / "resume.pt").write_bytes(b"state")
    config = {
        "family": "mmdet",
        "format": 1,
        "categories": [[0, "vessel"]],
        "digest_of_weights": digest or hashlib.sha256(weights).hexdigest(),
    }
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def folds(count: int) -> dict[str, Any]:
    children = [{"kind": "network", "path": f"f{k}"} for k in range(count)]
    return {"kind": "folds", "iou_threshold": 0.6, "children": children}


def test_folds_with_the_same_weights_are_refused(tmp_path: Path) -> None:
    same = {f"f{k}": checkpoint(tmp_path / f"f{k}", b"same") for k in range(2)}
    with pytest.raises(InputError, match="f0 and f1 have the same weights"):
        write_predictor(tmp_path / "p", tree=folds(2), leaves=same, categories=[Category(0, "vessel")])
    assert not (tmp_path / "p").exists()
    assert not (tmp_path / "p.partial").exists()


def test_only_what_prediction_needs_is_copied(tmp_path: Path) -> None:
    leaves = {f"f{k}": checkpoint(tmp_path / f"f{k}", bytes([k])) for k in range(2)}
    made = write_predictor(tmp_path / "p", tree=folds(2), leaves=leaves, categories=[Category(0, "vessel")])
    assert {path.name for path in made.rglob("*") if path.is_file()} == {
        "predictor.json",
        "config.json",
        "weights.safetensors",
    }


def test_weights_that_changed_after_writing_are_refused(tmp_path: Path) -> None:
    leaves = {"f0": checkpoint(tmp_path / "f0", b"bent", digest="0" * 64)}
    with pytest.raises(InputError, match="changed after it was written"):
        write_predictor(tmp_path / "p", tree=folds(1), leaves=leaves, categories=[Category(0, "vessel")])


@pytest.mark.parametrize(
    ("leaves", "said"),
    [
        ({}, "'f0' is not given"),
        ({"f0": "f0", "x": "f0"}, "'x' is not in the tree"),
        ({"f0": "no"}, "does not exist"),
    ],
)
def test_leaves_and_tree_must_name_each_other(tmp_path: Path, leaves: dict[str, str], said: str) -> None:
    checkpoint(tmp_path / "f0", b"w")
    given = {name: tmp_path / path for name, path in leaves.items()}
    with pytest.raises(InputError, match=said):
        write_predictor(tmp_path / "p", tree=folds(1), leaves=given, categories=[Category(0, "vessel")])


def test_networks_of_other_categories_and_used_folders_are_refused(tmp_path: Path) -> None:
    leaves = {"f0": checkpoint(tmp_path / "f0", b"w")}
    with pytest.raises(InputError, match=r"'vessel'.*'nucleus'"):
        write_predictor(tmp_path / "p", tree=folds(1), leaves=leaves, categories=[Category(0, "nucleus")])
    (tmp_path / "q").mkdir()
    with pytest.raises(InputError, match="exists already"):
        write_predictor(tmp_path / "q", tree=folds(1), leaves=leaves, categories=[Category(0, "vessel")])


def names(found: Any) -> list[str]:
    return [str(row.ids[0]) for row, _ in name_images(found)]


@pytest.fixture
def tiles(tmp_path: Path) -> Path:
    for name, size in (("b.png", (4, 6)), ("a.png", (5, 3)), ("more/a.png", (2, 2))):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        cv2.imwrite(str(tmp_path / name), np.zeros((*size, 3), np.uint8))
    (tmp_path / "notes.txt").write_text("not a picture")
    return tmp_path


def test_paths_folders_arrays_and_sources_get_names_and_sizes(tiles: Path) -> None:
    array = np.zeros((7, 8, 3), np.uint8)
    inputs = [tiles, array, ArrayImage(array), str(tiles / "more" / "a.png")]
    assert names(inputs) == ["a", "b", "array_1", "array_2", str(tiles / "more" / "a.png")]
    found = list(name_images(inputs))
    assert [(int(row.heights[0]), int(row.widths[0])) for row, _ in found[:3]] == [(5, 3), (4, 6), (7, 8)]
    assert found[0][1].read().shape == (5, 3, 3)


def test_one_input_needs_no_list(tiles: Path) -> None:
    assert names(str(tiles / "a.png")) == ["a"]
    assert names(np.zeros((7, 8, 3), np.uint8)) == ["array_0"]
    assert names((TABLE.take([1]), ArrayImage(np.zeros((60, 90, 3), np.uint8)))) == [TABLE.ids[1]]


def test_a_coco_file_names_its_images(tiles: Path) -> None:
    table = Images.build(
        ids=["7", "8"], original_ids=[7, 8], heights=[4, 5], widths=[6, 3], file_names=["b.png", "a.png"]
    )
    annotations = Annotations.from_bits(table, [Category(1, "vessel")], np.zeros(0, int), BitMasks.empty())
    write_coco(tiles / "set.json", annotations)
    found = list(name_images([tiles / "set.json", tiles / "b.png"]))
    assert [source.read().shape for _, source in found] == [(4, 6, 3), (5, 3, 3), (4, 6, 3)]
    assert len({str(row.ids[0]) for row, _ in found}) == 3
    Images.concatenate([row for row, _ in found])


@pytest.mark.parametrize(
    ("inputs", "said"),
    [
        (["a.png", "a.png", "a.png"], "twice"),
        (["no.png"], "does not exist"),
        ([3], "is a int"),
        (["empty"], "no images"),
    ],
)
def test_inputs_that_are_no_images_are_named(tiles: Path, inputs: list[Any], said: str) -> None:
    (tiles / "empty").mkdir()
    with pytest.raises(InputError, match=said):
        list(name_images([tiles / item if isinstance(item, str) else item for item in inputs]))
