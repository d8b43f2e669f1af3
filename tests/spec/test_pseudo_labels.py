from pathlib import Path
from typing import Any

import pytest
import yaml

from hubmap_ml.spec import Experiment, InputError, PseudoLabel, load_experiment

STAGE = {"config": "members/a.py"}


def document(**blocks: Any) -> dict[str, Any]:
    """Teachers a and b (b on fold 0 alone), students first (of one) and second (of two), a refit of the first."""
    return {
        "name": "vessels",
        "data": {
            "raw": "raw",
            "folds": {"n": 2},
            "pools": {"pretrain": {"dataset": 2}, "finetune": {"dataset": 1}, "unlabelled": {"dataset": 3}},
        },
        "pseudo_label": {"one": {"teachers": ["a"]}, "two": {"teachers": ["first"]}, **blocks},
        "members": {
            "second": {"pretrain": {**STAGE, "pseudo": "two"}, "finetune": STAGE},
            "first": {"pretrain": {**STAGE, "pseudo": "one"}, "finetune": STAGE},
            "all": {"refit": "first"},
            "a": {"pretrain": STAGE, "finetune": STAGE},
            "b": {"finetune": {**STAGE, "folds": [0]}},
            "elsewhere": {"kind": "external", "predictions": "imports/elsewhere"},
        },
    }


def load(folder: Path, given: dict[str, Any]) -> Experiment:
    path = folder / "experiment.yaml"
    path.write_text(yaml.safe_dump(given))
    return load_experiment(path)


def test_teachers_come_before_their_students(tmp_path: Path) -> None:
    found = load(tmp_path, document(late={"model": "models:/vessels.ensemble/3", "agreement": 3}))
    order = found.teachers_first()
    assert sorted(order) == sorted(found.members)
    assert order.index("a") < order.index("first") < order.index("second")
    assert order.index("a") < order.index("all")


def test_the_first_labels_are_meant_where_none_are_named(tmp_path: Path) -> None:
    found = load(tmp_path, document())
    assert found.labels_named("") == "one"
    assert found.labels_named("two") == "two"
    with pytest.raises(InputError, match="one, two"):
        found.labels_named("three")
    without = found.model_copy(update={"pseudo_label": {}})
    with pytest.raises(InputError, match="has no pseudo_label block"):
        without.labels_named("")


@pytest.mark.parametrize(
    ("block", "said"),
    [
        ({}, "one of them"),
        ({"teachers": ["a"], "model": "models:/x/1"}, "one of them"),
        ({"teachers": ["nobody"]}, "'nobody', which is no member"),
        ({"teachers": ["a", "a"]}, "named twice"),
        ({"teachers": ["a"], "agreement": 2}, "there are 1 teachers"),
        ({"model": "models:/vessels.ensemble/3", "method": "nms"}, "fused its own way"),
        ({"model": "models:/vessels.ensemble/3", "weights": {"a": 2}}, "fused its own way"),
        ({"teachers": ["a"], "weights": {"b": 2}}, "'b', which is no teacher"),
        ({"teachers": ["a"], "pool": "nowhere"}, "pool 'nowhere' is none of"),
        ({"teachers": ["a"], "method": "nms", "conf_type": "max"}, "option of wbf"),
        ({"model": "models:/vessels.ensemble@champion"}, "name a version, models:/NAME/NUMBER"),
        ({"teachers": ["elsewhere"]}, "'elsewhere' was made elsewhere"),
        ({"teachers": ["b"]}, "has no network of fold 1 for student 'first'"),
        ({"teachers": ["second"]}, "own students"),
        ({"teachers": ["a"], "scores": 1}, "allowed here: teachers, model"),
    ],
)
def test_a_block_that_does_not_fit_is_refused(tmp_path: Path, block: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        load(tmp_path, document(one=block))


def test_a_teacher_of_some_folds_may_teach_all_where_labels_are_shared(tmp_path: Path) -> None:
    assert load(tmp_path, document(one={"teachers": ["b"], "shared": True})).pseudo_label["one"].shared


def test_unknown_labels_of_a_student_are_refused(tmp_path: Path) -> None:
    given = document()
    given["members"]["second"]["pretrain"]["pseudo"] = "three"
    with pytest.raises(InputError, match="pseudo_label has one, two"):
        load(tmp_path, given)


def test_the_defaults_are_those_of_the_reference() -> None:
    block = PseudoLabel(teachers=("a",))
    assert (block.score, block.iou_threshold, block.skip_score, block.masks) == (0.5, 0.6, 0.01, "votes")
