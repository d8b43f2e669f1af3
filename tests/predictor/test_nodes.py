"""The tree as data: what is written is read back, and what makes no sense is refused by place and name."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hubmap_ml.fusion import FusionOptions, MaskFusion, ScoreMap, fuse_weighted
from hubmap_ml.predictor import (
    Fusion,
    Merge,
    Network,
    Scores,
    Steps,
    Stored,
    leaves_of,
    node_to_data,
    parse_node,
)
from hubmap_ml.predictor.combine import combine
from hubmap_ml.spec import InputError
from tests.random_scenes import predictions

ENSEMBLE: dict[str, Any] = {
    "kind": "steps",
    "steps": [{"mask_threshold": 0.45}, {"max_per_image": 100}],
    "child": {
        "kind": "fusion",
        "iou_threshold": 0.6,
        "weights": [2, 1],
        "children": [
            {
                "kind": "steps",
                "name": "htc",
                "steps": [{"score": 0.05}, {"nms": {"iou": 0.5, "by": "box"}}],
                "child": {
                    "kind": "folds",
                    "iou_threshold": 0.6,
                    "children": [
                        {
                            "kind": "views",
                            "iou_threshold": 0.7,
                            "children": [
                                {
                                    "kind": "network",
                                    "path": f"leaves/m0_f{fold}",
                                    "views": ["none", "hflip"],
                                    "scales": [512, [800, 600]],
                                }
                            ],
                        }
                        for fold in range(2)
                    ],
                },
            },
            {"kind": "stored", "path": "leaves/m1"},
        ],
    },
}


def test_an_ensemble_is_read_as_nodes() -> None:
    tree = parse_node(ENSEMBLE)
    assert isinstance(tree, Steps)
    assert isinstance(tree.child, Fusion)
    assert tree.child.weights == (2.0, 1.0)
    assert tree.child.children[0].name == "htc"
    assert [leaf.path for leaf in leaves_of(tree)] == ["leaves/m0_f0", "leaves/m0_f1", "leaves/m1"]
    first = next(leaves_of(tree))
    assert isinstance(first, Network)
    assert first.sources == ("none@512", "hflip@512", "none@800x600", "hflip@800x600")


def test_what_is_written_is_read_back() -> None:
    tree = parse_node(ENSEMBLE)
    assert parse_node(node_to_data(tree)) == tree
    assert node_to_data(parse_node(node_to_data(tree))) == node_to_data(tree)


stored = st.builds(Stored, path=st.sampled_from(["a", "leaves/b"]), name=st.sampled_from(["", "n"]))
thresholds = st.floats(0.01, 0.99)
options = st.builds(
    FusionOptions,
    method=st.sampled_from(["wbf", "nmw", "nms"]),
    iou_threshold=thresholds,
    by=st.sampled_from(["box", "mask"]),
    masks=st.builds(
        MaskFusion, rule=st.sampled_from(["mean", "votes"]), vote_share=thresholds, clip=st.booleans()
    ),
)
trees = st.recursive(
    stored | st.builds(Network, path=st.just("n"), score=st.floats(0, 1), dedupe_iou=st.none() | thresholds),
    lambda children: st.one_of(
        st.builds(
            Merge,
            over=st.just("folds"),
            children=st.lists(children, min_size=1, max_size=3).map(tuple),
            iou_threshold=thresholds,
        ),
        st.builds(Fusion, children=st.lists(children, min_size=1, max_size=3).map(tuple), options=options),
        st.builds(Steps, child=children, steps=st.just(())),
        st.builds(Scores, child=children, score_map=st.just(ScoreMap((0.1, 0.5), (0.0, 1.0)))),
    ),
    max_leaves=6,
)


@settings(deadline=None, max_examples=50)
@given(tree=trees)
def test_any_tree_survives_its_data(tree: Any) -> None:
    assert parse_node(node_to_data(tree)) == tree


LEAF = {"kind": "stored", "path": "a"}
VIEWS = {"kind": "network", "path": "n", "views": ["none", "hflip"]}


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ({"kind": "segmenter", "path": "a"}, "'segmenter' is unknown; known: network.*newer"),
        ("stored", "None is unknown"),
        ({"kind": "stored"}, "'path' is missing"),
        ({"kind": "stored", "path": "a", "views": []}, "unknown key 'views'"),
        ({"kind": "stored", "path": "../a"}, "inside the predictor folder"),
        ({"kind": "stored", "path": "/a"}, "inside the predictor folder"),
        ({"kind": "network", "path": "a", "views": ["none", "none"]}, "different names"),
        ({"kind": "network", "path": "a", "scales": [[1, 2, 3]]}, "scale"),
        ({"kind": "network", "path": "a", "score": "low"}, "score is 'low'"),
        ({"kind": "network", "path": "a", "dedupe_iou": 2}, "dedupe_iou is 2"),
        ({"kind": "folds", "iou_threshold": 1, "children": [LEAF]}, r"in \(0, 1\)"),
        ({"kind": "folds", "iou_threshold": 0.5, "children": []}, "at least one"),
        ({"kind": "folds", "iou_threshold": 0.5, "rule": "max", "children": [LEAF]}, "one of match_mean"),
        ({"kind": "views", "iou_threshold": 0.5, "children": [LEAF, LEAF]}, "directly above one network"),
        ({"kind": "folds", "iou_threshold": 0.5, "children": [VIEWS]}, "'views' above it"),
        ({"kind": "fusion", "iou_threshold": 0.5, "weights": [1], "children": [LEAF, LEAF]}, "2 numbers"),
        ({"kind": "fusion", "iou_threshold": 0.5, "weights": [0], "children": [LEAF]}, "> 0"),
        ({"kind": "fusion", "iou_threshold": 0.5, "method": "nmw2", "children": [LEAF]}, "one of wbf"),
        (
            {"kind": "fusion", "iou_threshold": 0.5, "masks": "median", "children": [LEAF]},
            "one of mean, votes",
        ),
        ({"kind": "fusion", "iou_threshold": 0.5, "clip": 1, "children": [LEAF]}, "true or false"),
        (
            {"kind": "fusion", "iou_threshold": 0.5, "method": "nms", "conf_type": "max", "children": [LEAF]},
            r"tree \(fusion\): conf_type 'max' is an option of wbf",
        ),
        (
            {"kind": "scores", "scores": [0.5, 0.1], "values": [0.0, 1.0], "child": LEAF},
            r"tree \(scores\): a map of scores",
        ),
        ({"kind": "steps", "steps": [{"erode": 1}], "child": LEAF}, "erode"),
        ({"kind": "steps", "steps": [], "child": {"kind": "fusion"}}, r"tree \(steps\).child \(fusion\)"),
    ],
)
def test_what_makes_no_sense_is_refused(data: Any, said: str) -> None:
    with pytest.raises(InputError, match=said):
        parse_node(data)


def test_weights_by_class_are_read_back_and_fuse_each_class_by_its_own():
    children = [{"kind": "stored", "path": f"leaves/{k}"} for k in range(2)]
    data = {"kind": "fusion", "iou_threshold": 0.6, "children": children}
    node = parse_node({**data, "class_weights": {"vessel": [1, 0], "glomerulus": [0.5, 1]}})
    assert parse_node(node_to_data(node)) == node
    members = {f"leaves/{k}": predictions(k, count=20).replace(sources=()) for k in range(2)}
    table = members["leaves/0"].images
    members = {path: item.replace(images=table) for path, item in members.items()}
    found = combine(node, lambda leaf: members[leaf.path])
    for label, weights in enumerate(([1, 0], [0.5, 1])):
        own = [item.take(np.flatnonzero(item.labels == label)) for item in members.values()]
        expected = fuse_weighted(own, weights, node.options)
        assert np.array_equal(found.scores[found.labels == label], expected.scores)
        assert np.array_equal(found.boxes[found.labels == label], expected.boxes)


@pytest.mark.parametrize(
    "weights", [{"vessel": [1]}, {"vessel": [0, 0]}, {"vessel": [1, -1]}, [1, 2], {"vessel": "ab"}]
)
def test_weights_by_class_that_make_no_sense_are_named(weights):
    children = [{"kind": "stored", "path": f"leaves/{k}"} for k in range(2)]
    with pytest.raises(InputError, match="class_weights"):
        parse_node({"kind": "fusion", "iou_threshold": 0.6, "children": children, "class_weights": weights})


def test_a_networks_batch_is_its_own_and_a_whole_number():
    node = parse_node({"kind": "network", "path": "leaves/a", "batch": 4})
    assert node.batch == 4
    assert parse_node(node_to_data(node)) == node
    assert "batch" not in node_to_data(parse_node({"kind": "network", "path": "leaves/a"}))
    for wrong in (0, 1.5, "2", True):
        with pytest.raises(InputError, match="batch is"):
            parse_node({"kind": "network", "path": "leaves/a", "batch": wrong})
