"""Every fixture of the original architectures is met: keys, outputs, intermediate values, losses, gradients."""

import copy
import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pycocotools.mask as rle
import pytest
import torch
from mmcv import ConfigDict
from mmdet.core import BitmapMasks
from mmdet.core.bbox.samplers import BaseSampler
from mmdet.models import BACKBONES, NECKS
from torch import Tensor, nn

from hubmap_ml.models import architectures, build_detector  # noqa: F401  (registers them)
from tests.models.parity import (
    ABSENT,
    FOLDER,
    Fixture,
    backward,
    difference,
    gradient_differences,
    names,
    open_fixture,
)

# As the fixtures' README suggests: what two threads or another order of sums may move, with room, and far below what
# any wrong constant moves (sensitivity.json).
MAPS, NECK_MAPS = 2e-4, 5e-5
GRADIENTS, DETECTOR_GRADIENTS = 1e-3, 5e-3
PIXELS, SCORES, LOSSES, BUFFERS = 1e-2, 1e-4, 5e-4, 1e-4
MASK_PIXELS = 5
KINDS = {"backbone", "neck", "backbone+neck", "detector"}


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.skipif(not FOLDER.is_dir(), reason=ABSENT)
def test_no_fixture_is_passed_over() -> None:
    kinds = {
        path.parent.name: open_fixture(path.parent.name).meta["kind"] for path in FOLDER.glob("*/meta.json")
    }
    assert kinds, f"{FOLDER} holds no fixture"
    assert set(kinds.values()) <= KINDS, kinds


@pytest.mark.parametrize("name", names("backbone"))
def test_a_backbone_gives_the_originals_maps_and_gradients(name: str) -> None:
    fixture = open_fixture(name)
    model = fixture.load(BACKBONES.build(fixture.config)).eval()
    tensors = fixture.tensors
    for size, norms in fixture.meta["grad_l2"].items():
        model.zero_grad(set_to_none=True)
        with seen(model) as middle:
            outputs = model(tensors[f"{size}.input"])
        wanted = {key: value for key, value in tensors.items() if key.startswith(f"{size}.out.")}
        assert len(outputs) == len(wanted)
        for number, output in enumerate(outputs):
            assert difference(output, wanted[f"{size}.out.{number}"]) <= MAPS, (size, number)
        for key, value in tensors.items():
            if key.startswith(f"{size}.mid."):
                assert difference(middle[key.removeprefix(f"{size}.mid.")], value) <= MAPS, key
        backward(outputs)
        assert max(gradient_differences(model, norms).values()) <= GRADIENTS, size


@pytest.mark.parametrize("name", names("neck"))
def test_a_neck_gives_the_originals_maps_and_gradients(name: str) -> None:
    fixture = open_fixture(name)
    model = fixture.load(NECKS.build([ConfigDict(part) for part in fixture.config])).eval()
    tensors = fixture.tensors
    inputs = numbered(tensors, "input")
    attended = model[0](inputs)
    for key, value in tensors.items():
        if key.startswith("mid.extra_attention."):
            assert difference(attended[int(key.rsplit(".", 1)[1])], value) <= NECK_MAPS, key
    outputs = model(inputs)
    wanted = numbered(tensors, "out")
    assert [difference(*pair) <= NECK_MAPS for pair in zip(outputs, wanted, strict=True)] == [True] * len(
        wanted
    )
    backward(list(outputs))
    assert max(gradient_differences(model, fixture.meta["grad_l2"]).values()) <= GRADIENTS


@pytest.mark.parametrize("name", names("backbone+neck"))
def test_a_composite_backbone_gives_the_originals_pyramids_and_gradients(name: str) -> None:
    fixture = open_fixture(name)
    model = nn.ModuleDict(
        {
            "backbone": BACKBONES.build(fixture.config["backbone"]),
            "neck": NECKS.build(fixture.config["neck"]),
        }
    )
    fixture.load(model)
    tensors = fixture.tensors
    for size, norms in fixture.meta["grad_l2"].items():
        model.eval()
        with torch.no_grad():
            maps = model["backbone"](tensors[f"{size}.input"])
            pyramid = model["neck"](maps)
        for one, which in zip(maps, ("assistant", "lead"), strict=True):
            for pair in zip(one, numbered(tensors, f"{size}.backbone.{which}"), strict=True):
                assert difference(*pair) <= MAPS, (size, which)
        for pair in zip(pyramid, numbered(tensors, f"{size}.eval"), strict=True):
            assert difference(*pair) <= MAPS, size
        model.train()
        model.zero_grad(set_to_none=True)
        pyramids = model["neck"](model["backbone"](tensors[f"{size}.input"]))
        for one, which in zip(pyramids, ("assistant", "lead"), strict=True):
            for pair in zip(one, numbered(tensors, f"{size}.train.{which}"), strict=True):
                assert difference(*pair) <= MAPS, (size, which)
        backward([output for one in pyramids for output in one])
        assert max(gradient_differences(model, norms).values()) <= GRADIENTS, size


@pytest.mark.parametrize("name", names("detector"))
def test_a_detector_proposes_finds_and_masks_what_the_original_does(name: str) -> None:
    fixture = open_fixture(name)
    model, tensors = detector(fixture).eval(), fixture.tensors
    metas = image_metas(fixture)
    with torch.no_grad():
        features = model.extract_feat(tensors["img"])
        for pair in zip(features, numbered(tensors, "eval.feats"), strict=True):
            assert difference(*pair) <= MAPS
        for maps, what in zip(model.rpn_head(features), ("cls", "reg"), strict=True):
            for level, found in enumerate(maps):
                if f"eval.rpn_{what}.{level}" in tensors:
                    assert difference(found, tensors[f"eval.rpn_{what}.{level}"]) <= MAPS
        proposals = model.rpn_head.simple_test_rpn(features, metas)
        for pair in zip(proposals, numbered(tensors, "eval.proposals"), strict=True):
            assert_boxes(*pair)
        with mask_logits(model) as logits:
            results = model.simple_test(tensors["img"], metas, rescale=True)
    wanted_boxes = numbered(tensors, "eval.bboxes")
    for (boxes, masks), wanted, told in zip(results, wanted_boxes, fixture.results["eval"], strict=True):
        assert_boxes(torch.from_numpy(np.concatenate(boxes)), wanted)
        assert_masks(masks, told)
    if "eval.mask_prob.0" in tensors:
        wanted_masks = tensors["eval.mask_prob.0"]
        mean = torch.stack([one[: len(wanted_masks)].sigmoid() for one in logits]).mean(0)
        assert difference(mean, wanted_masks) <= MAPS


@pytest.mark.parametrize("name", names("detector"))
def test_a_detector_joins_flipped_views_as_the_original_does(name: str) -> None:
    fixture = open_fixture(name)
    model, tensors = detector(fixture).eval(), fixture.tensors
    meta = image_metas(fixture)[0]
    height, width = meta["img_shape"][:2]
    images, metas = [], []
    for direction, axes in ((None, ()), ("horizontal", (3,)), ("vertical", (2,))):
        image = torch.zeros_like(tensors["img"][:1])
        image[..., :height, :width] = tensors["img"][:1, :, :height, :width].flip(axes)
        images.append(image)
        metas.append([{**meta, "flip": direction is not None, "flip_direction": direction}])
    with torch.no_grad():
        boxes, masks = model.aug_test(images, metas, rescale=True)[0]
    assert_boxes(torch.from_numpy(np.concatenate(boxes)), tensors["aug.bboxes"])
    assert_masks(masks, fixture.results["aug"])


@pytest.mark.parametrize("name", names("detector"))
def test_a_detector_learns_as_the_original_does(name: str) -> None:
    fixture = open_fixture(name)
    told, tensors = fixture.results["train_all_samples"], fixture.tensors
    config = copy.deepcopy(fixture.config)
    train_cfg = config["model"]["train_cfg"]
    for part in (train_cfg["rpn"], *train_cfg["rcnn"]):
        part["sampler"]["num"] = told["sampler_num"]
    model = detector(fixture, config).train()
    with sampled() as counts, proposed(model) as proposals:
        losses = model.forward_train(**training_input(fixture))
    assert_losses(losses, told)
    assert counts == told["sampler_pos_neg"]
    for key, value in tensors.items():
        if key.startswith("train.proposals."):
            number, image = key.split(".")[2:]
            assert_boxes(proposals[int(number)][int(image)], value)
    buffers = dict(model.named_buffers())
    for key, value in tensors.items():
        if key.startswith("train.buffer."):
            assert difference(buffers[key.removeprefix("train.buffer.")], value) <= BUFFERS, key
    total_loss(losses).backward()
    found = gradient_differences(model, fixture.meta["grad_l2_train_all_samples"])
    worst = max(found, key=lambda key: found[key])
    assert found[worst] <= DETECTOR_GRADIENTS, worst


@pytest.mark.parametrize("name", names("detector"))
def test_a_detector_draws_its_samples_in_the_originals_order(name: str) -> None:
    fixture = open_fixture(name)
    told = fixture.results["train_seeded"]
    model = detector(fixture).train()
    with sampled() as counts:
        random.seed(told["seed"])
        np.random.seed(told["seed"])  # noqa: NPY002  (mmdet's own draws)
        torch.manual_seed(told["seed"])
        losses = model.forward_train(**training_input(fixture))
    assert_losses(losses, told)
    assert counts == told["sampler_pos_neg"]


def detector(fixture: Fixture, config: dict[str, Any] | None = None) -> nn.Module:
    config = fixture.config if config is None else config
    return fixture.load(build_detector(config, config["model"]["roi_head"]["bbox_head"][0]["num_classes"]))


def numbered(tensors: dict[str, Tensor], prefix: str) -> list[Tensor]:
    """``prefix.0``, ``prefix.1``, ... in order; there must be one at least."""
    found = [
        key for key in tensors if key.startswith(f"{prefix}.") and key.removeprefix(f"{prefix}.").isdigit()
    ]
    assert found, prefix
    return [tensors[f"{prefix}.{number}"] for number in range(len(found))]


def image_metas(fixture: Fixture) -> list[dict[str, Any]]:
    return [
        {
            **meta,
            "img_shape": tuple(meta["img_shape"]),
            "pad_shape": tuple(meta["pad_shape"]),
            "ori_shape": tuple(meta["ori_shape"]),
            "scale_factor": np.array(meta["scale_factor"], np.float32),
        }
        for meta in fixture.meta["img_metas"]
    ]


def training_input(fixture: Fixture) -> dict[str, Any]:
    tensors = fixture.tensors
    height, width = tensors["img"].shape[-2:]
    masks = [rle.decode(one).transpose(2, 0, 1) for one in fixture.results["gt_masks_rle"]]
    return {
        "img": tensors["img"],
        "img_metas": image_metas(fixture),
        "gt_bboxes": numbered(tensors, "gt_bboxes"),
        "gt_labels": numbered(tensors, "gt_labels"),
        "gt_masks": [BitmapMasks(one, height, width) for one in masks],
    }


def total_loss(losses: dict[str, Any]) -> Tensor:
    return sum(
        (part.mean() for key, value in losses.items() if "loss" in key for part in as_list(value)),
        torch.zeros(()),
    )


def as_list(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else [value]


def assert_losses(found: dict[str, Any], told: dict[str, Any]) -> None:
    assert list(found) == list(told["losses"])
    for key, wanted in told["losses"].items():
        values = [float(value.detach().mean()) for value in as_list(found[key])]
        tolerance = (
            LOSSES if "loss" in key else 1e-5
        )  # an accuracy is a count; its printed share is a float32
        np.testing.assert_allclose(values, as_list(wanted), rtol=0, atol=tolerance, err_msg=key)
    assert float(total_loss(found).detach()) == pytest.approx(told["total"], abs=LOSSES * len(found))


def assert_boxes(found: Tensor, wanted: Tensor) -> None:
    """Same number and order, (x1, y1, x2, y2, score)."""
    assert difference(found[:, :4], wanted[:, :4]) <= PIXELS
    assert difference(found[:, 4], wanted[:, 4]) <= SCORES


def assert_masks(found: list[list[Any]], told: dict[str, Any]) -> None:
    flat = [mask for one in found for mask in one]
    assert len(flat) == told["num"]
    wanted = rle.decode(told["masks_rle"]).transpose(2, 0, 1).astype(bool)
    assert int((np.stack(flat) != wanted).sum()) <= MASK_PIXELS


@contextmanager
def seen(model: nn.Module) -> Iterator[dict[str, Tensor]]:
    """What the parts of a ViT-Adapter give, by the fixtures' names."""
    found: dict[str, Tensor] = {}

    def keep(*keys: str) -> Any:
        def hook(module: nn.Module, inputs: Any, output: Any) -> None:
            found.update(zip(keys, output if isinstance(output, tuple) else (output,), strict=True))

        return hook

    handles = [
        model.spm.register_forward_hook(keep("spm.c1", "spm.c2", "spm.c3", "spm.c4")),
        model.patch_embed.register_forward_hook(keep("patch_embed")),
        *(
            part.register_forward_hook(keep(f"interactions.{number}.x", f"interactions.{number}.c"))
            for number, part in enumerate(model.interactions)
        ),
    ]
    yield found
    for handle in handles:
        handle.remove()


@contextmanager
def mask_logits(model: nn.Module) -> Iterator[list[Tensor]]:
    """The logits of each mask head, in order."""
    found: list[Tensor] = []

    def hook(module: nn.Module, inputs: Any, output: Any) -> None:
        found.append(output[0] if isinstance(output, list | tuple) else output)

    handles = [head.register_forward_hook(hook) for head in model.roi_head.mask_head]
    yield found
    for handle in handles:
        handle.remove()


@contextmanager
def sampled() -> Iterator[list[list[int]]]:
    """Positives and negatives of each call of a sampler."""
    found: list[list[int]] = []
    original = BaseSampler.sample

    def sample(self: BaseSampler, *arguments: Any, **named: Any) -> Any:
        result = original(self, *arguments, **named)
        found.append([len(result.pos_inds), len(result.neg_inds)])
        return result

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(BaseSampler, "sample", sample)
        yield found


@contextmanager
def proposed(model: nn.Module) -> Iterator[list[list[Tensor]]]:
    """The proposals of each pass of the region proposal network in training."""
    found: list[list[Tensor]] = []
    original = model.rpn_head.forward_train

    def forward_train(*arguments: Any, **named: Any) -> Any:
        losses, proposals = original(*arguments, **named)
        found.append(proposals)
        return losses, proposals

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(model.rpn_head, "forward_train", forward_train)
        yield found
