import copy

import pytest

from hubmap_ml.spec import InputError, apply_overrides, parse_overrides

CONFIG = {
    "optimizer": {"type": "SGD", "lr": 0.02},
    "pipeline": [{"type": "Resize", "img_scale": (128, 128)}, {}],
}


def test_values_get_the_type_they_read_as() -> None:
    assert parse_overrides("optimizer.lr=1e-3; a.b = [1, 2];c=true;d=text;e={type: SGD};f=2") == {
        "optimizer.lr": 1e-3, "a.b": [1, 2], "c": True, "d": "text", "e": {"type": "SGD"}, "f": 2,
    }  # fmt: skip


def test_a_change_reaches_its_place_and_leaves_the_original_alone() -> None:
    before = copy.deepcopy(CONFIG)
    changed = apply_overrides(CONFIG, parse_overrides("optimizer.lr=0.5;pipeline.0.img_scale=[96, 96]"))
    assert changed["optimizer"]["lr"] == 0.5
    assert changed["pipeline"][0]["img_scale"] == (96, 96)
    assert before == CONFIG


def test_a_new_key_needs_a_plus() -> None:
    with pytest.raises(InputError, match="no 'optimizer.weight_decay'.*type, lr"):
        apply_overrides(CONFIG, {"optimizer.weight_decay": 0.1})
    assert apply_overrides(CONFIG, {"+optimizer.weight_decay": 0.1})["optimizer"]["weight_decay"] == 0.1


@pytest.mark.parametrize(
    "path", ["optimiser.lr", "pipeline.7.type", "optimizer.lr.x", "pipeline.0.img_scale.0"]
)
def test_a_place_that_is_not_there_is_said(path: str) -> None:
    with pytest.raises(InputError, match="set"):
        apply_overrides(CONFIG, {path: 1})


@pytest.mark.parametrize("text", ["optimizer.lr", "=3", "a=[1"])
def test_unreadable_text_is_said(text: str) -> None:
    with pytest.raises(InputError, match="set"):
        parse_overrides(text)
