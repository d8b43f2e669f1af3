"""A member's configuration is refused where it leaves its own ground, naming the key and what is allowed."""

from typing import Any

import pytest

from hubmap_ml.spec import InputError
from hubmap_ml.spec.member_config import MEMBER_KEYS, PLATFORM_KEYS, check


def member(**changes: Any) -> dict[str, Any]:
    config: dict[str, Any] = {
        "model": {"type": "MaskRCNN", "roi_head": {"bbox_head": [{"type": "A"}, {"type": "B"}]}},
        "train_pipeline": [{"type": "LoadImageFromFile"}, {"type": "RandomFlip", "flip_ratio": 0.5}],
        "test_pipeline": [{"type": "MultiScaleFlipAug", "transforms": [{"type": "Resize"}]}],
        "optimizer": {"type": "SGD", "lr": 0.02},
        "runner": {"type": "EpochBasedRunner", "max_epochs": 12},
        "batch": {"global": 16},
    }
    return {key: value for key, value in {**config, **changes}.items() if value is not ...}


def refused(match: str, **changes: Any) -> None:
    with pytest.raises(InputError, match=match) as error:
        check(member(**changes), "m.py")
    assert str(error.value).startswith("m.py")
    assert "\n" not in str(error.value)


def test_a_plain_member_passes() -> None:
    check(member(), "m.py")
    check(
        member(
            fp16={"loss_scale": 512.0},
            optimizer_config={"grad_clip": None},
            lr_config={"policy": "step", "step": [8, 11]},
            custom_hooks=[{"type": "SetEpochInfoHook"}],
            momentum_config=None,
            ema={"momentum": 0.0002, "warm_up": 2000},
            loss_weights={"loss_mask": 2.0},
            freeze={"modules": ["backbone.layer1"], "batch_norms": True},
        ),
        "m.py",
    )


@pytest.mark.parametrize("key", list(PLATFORM_KEYS))
def test_each_platform_key_is_refused_with_its_reason(key: str) -> None:
    assert key not in MEMBER_KEYS
    refused(f"'{key}' is not the member's to set", **{key: 1})


def test_an_unknown_key_is_named_with_what_there_is() -> None:
    refused("unknown key 'optimiser'; a member has model, train_pipeline", optimiser={})


@pytest.mark.parametrize("key", ["model", "train_pipeline", "test_pipeline", "optimizer", "runner", "batch"])
def test_a_missing_key_is_named(key: str) -> None:
    refused(f"'{key}' is missing", **{key: ...})


def test_class_counts_are_found_wherever_they_hide() -> None:
    model = {"type": "X", "roi_head": {"mask_head": [{"type": "A"}, {"type": "B", "num_classes": 80}]}}
    refused(r"model\.roi_head\.mask_head\[1\]\.num_classes", model=model)
    refused(
        r"model\.panoptic_head\.num_things_classes",
        model={"type": "X", "panoptic_head": {"num_things_classes": 1}},
    )
    # A semantic branch counts the classes of its own maps.
    check(member(model={"type": "X", "roi_head": {"semantic_head": {"num_classes": 183}}}), "m.py")


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"model": [1]}, "'model' must be a dict"),
        ({"optimizer": {"lr": 1}}, "'optimizer' needs a 'type'"),
        ({"train_pipeline": {"type": "Pad"}}, "train_pipeline must be a list"),
        ({"train_pipeline": ["Pad"]}, r"train_pipeline\[0\] must be a dict with a 'type'"),
        ({"train_pipeline": [{"type": "LoadProposals"}]}, r"train_pipeline\[0\] is LoadProposals"),
        ({"train_pipeline": [{"type": "LoadAnnotations", "with_seg": True}]}, "semantic maps"),
        (
            {"test_pipeline": [{"type": "MultiScaleFlipAug", "transforms": [{"type": "Albu"}]}]},
            r"transforms\[0\] is Albu",
        ),
        ({"test_pipeline": [{"type": "MultiScaleFlipAug"}]}, "transforms must be a list"),
        ({"runner": {"type": "IterBasedRunner", "max_iters": 9}}, "allowed: EpochBasedRunner"),
        (
            {"runner": {"type": "EpochBasedRunner", "max_epochs": 0}},
            "max_epochs must be a whole number from 1",
        ),
        ({"runner": {"type": "EpochBasedRunner", "max_epochs": 2, "meta": 1}}, r"unknown key runner\.meta"),
        ({"batch": {"global": 2.5}}, r"batch\.global must be a whole number"),
        ({"batch": {"global": True}}, r"batch\.global must be a whole number"),
        ({"batch": {"global": 2, "repeat": 0}}, r"batch\.repeat must be a whole number"),
        ({"batch": {"global": 2, "per_gpu": 1}}, r"unknown key batch\.per_gpu"),
        ({"custom_hooks": [{"type": "CheckpointHook"}]}, "custom_hooks.*allowed: SetEpochInfoHook"),
        (
            {"custom_hooks": [{"type": "ExpMomentumEMAHook", "momentum": 1e-4}]},
            "is ExpMomentumEMAHook: say ema = dict",
        ),
        ({"custom_hooks": "EMA"}, "custom_hooks must be a list"),
        ({"optimizer_config": {"type": "MyHook"}}, r"optimizer_config\.type"),
        ({"optimizer_config": 35}, "optimizer_config must be a dict"),
        ({"lr_config": {"step": [1]}}, "lr_config needs a 'policy'"),
        ({"ema": 0.999}, "ema must be a dict with momentum"),
        ({"ema": {"momentum": 0.1, "decay": 0.9}}, "ema must be a dict with momentum and perhaps warm_up"),
        ({"ema": {"momentum": 1}}, r"ema\.momentum must be over 0 and under 1, not 1"),
        ({"ema": {"momentum": 0.1, "warm_up": 0.5}}, r"ema\.warm_up must be a whole number of iterations"),
        ({"freeze": True}, "freeze must be a dict with modules or batch_norms, not True"),
        ({"freeze": {"stages": 2}}, "freeze must be a dict with modules or batch_norms"),
        ({"freeze": {"modules": "backbone"}}, r"freeze\.modules must be a list of modules' names"),
        ({"freeze": {"batch_norms": 1}}, r"freeze\.batch_norms must be True or False, not 1"),
        ({"loss_weights": {"loss_cls": -1}}, r"loss_weights\.loss_cls: a weight is a number from 0, not -1"),
    ],
)
def test_values_of_the_wrong_shape_are_refused(changes: dict[str, Any], match: str) -> None:
    refused(match, **changes)


@pytest.mark.parametrize("place", ["nms", "nms_type"])
def test_the_name_of_a_suppression_is_no_python(place: str) -> None:
    """mmcv evaluates it: whatever stands there would run."""
    planted: Any = "print(1) or nms"
    rcnn = {place: {"type": planted} if place == "nms" else planted}
    refused("allowed: nms, soft_nms", model={"type": "MaskRCNN", "test_cfg": {"rcnn": rcnn}})
    check(member(model={"type": "MaskRCNN", "test_cfg": {"rcnn": {"nms": {"type": "soft_nms"}}}}), "m.py")
