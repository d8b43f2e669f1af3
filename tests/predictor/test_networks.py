"""A predictor whose leaves are real (tiny, random) networks."""

from pathlib import Path

import numpy as np
import pytest

from hubmap_ml.data import ArrayImage
from hubmap_ml.fusion import merge_sources
from hubmap_ml.instances import Images, PredictionSet
from hubmap_ml.postprocess import apply_steps, parse_steps
from hubmap_ml.predictor import open_predictor, write_predictor
from hubmap_ml.spec import InputError

pytest.importorskip("mmdet", reason="networks need mmdet")

from tests.detectors import VESSEL, mask_rcnn

STEPS = [{"nms": {"iou": 0.5, "by": "box"}}, {"mask_threshold": 0.5}]
SIZES = ((40, 64), (64, 40), (33, 57))


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    import torch

    from hubmap_ml.models import build_detector, write_checkpoint

    torch.set_num_threads(1)
    root = tmp_path_factory.mktemp("checkpoints")
    for seed in range(2):
        torch.manual_seed(seed)
        model = build_detector(mask_rcnn(), 1)
        model.init_weights()
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if "fc_cls" in name or "fc_reg" in name or "conv_logits" in name or "rpn_" in name:
                    parameter.add_(torch.randn_like(parameter) * 0.3)
        categories = [(category.id, category.name) for category in VESSEL]
        write_checkpoint(root / str(seed), model, family="mmdet", config=mask_rcnn(), categories=categories)
    return [root / "0", root / "1"]


@pytest.fixture(scope="module")
def folder(checkpoints: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    views = [
        {
            "kind": "views",
            "iou_threshold": 0.6,
            "children": [{"kind": "network", "path": f"leaves/f{k}", "views": ["none", "hflip"]}],
        }
        for k in range(2)
    ]
    tree = {
        "kind": "steps",
        "steps": STEPS,
        "child": {"kind": "folds", "iou_threshold": 0.6, "children": views},
    }
    leaves = {f"leaves/f{k}": path for k, path in enumerate(checkpoints)}
    made = tmp_path_factory.mktemp("p") / "predictor"
    return write_predictor(made, tree=tree, leaves=leaves, categories=VESSEL)


def pictures() -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (*size, 3)).astype(np.uint8) for size in SIZES]


def test_networks_views_and_folds_give_what_their_parts_give(folder: Path, checkpoints: list[Path]) -> None:
    from hubmap_ml.inference import open_network, predict_candidates

    found = open_predictor(folder).predict(pictures(), chunk=2)
    assert [(int(h), int(w)) for h, w in zip(found.images.heights, found.images.widths, strict=True)] == list(
        SIZES
    )
    assert len(found) > 0
    rows = [Images.build(ids=[f"array_{k}"], heights=size[0], widths=size[1]) for k, size in enumerate(SIZES)]
    pairs = [(row, ArrayImage(picture)) for row, picture in zip(rows, pictures(), strict=True)]
    folds = []
    for path in checkpoints:
        views = [
            each for _, each, _ in predict_candidates(open_network(path), pairs, views=("none", "hflip"))
        ]
        candidates = PredictionSet.from_instances(Images.concatenate(rows), VESSEL, views, ("none", "hflip"))
        folds.append(merge_sources(candidates, n_sources=2, iou_threshold=0.6))
    merged = merge_sources(PredictionSet.stack_sources(folds, ["a", "b"]), n_sources=2, iou_threshold=0.6)
    expected = apply_steps(merged, parse_steps(STEPS))
    assert np.array_equal(found.offsets, expected.offsets)
    assert np.array_equal(found.scores, expected.scores)
    assert np.array_equal(found.boxes, expected.boxes)
    assert found.masks is not None
    assert expected.masks is not None
    assert np.array_equal(found.masks.bits.words, expected.masks.bits.words)


def test_damaged_weights_are_found_when_the_folder_is_opened(folder: Path, tmp_path: Path) -> None:
    import shutil

    broken = tmp_path / "broken"
    shutil.copytree(folder, broken)
    weights = broken / "leaves/f0/weights.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(bytes(data))
    with pytest.raises(InputError, match="f0"):
        open_predictor(broken)
