"""Silent bugs of well-placed competition code, each planted against ours: none of these may come back unnoticed.

The systems: HuBMAP 2023, third place; HuBMAP kidney 2021, second place; Sartorius 2021, eleventh place; experiments on
Sartorius by a fourth team.
"""

import ast
import dataclasses
import importlib
import inspect
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from typer.testing import CliRunner

from hubmap_ml.fusion import weighted_boxes_fusion
from hubmap_ml.instances import (
    Images,
    Instances,
    Masks,
    PredictionSet,
    PredictionWriter,
    SoftMasks,
    read_predictions,
    write_predictions,
)
from hubmap_ml.postprocess import STEPS, apply_steps, parse_steps
from hubmap_ml.spec import Experiment, InputError, LeakLevel, NullRecorder, load_experiment
from tests.random_scenes import CATEGORIES, images, predictions

PROJECT = Path(__file__).parents[1]
STAGES = (
    "main",
    "prepare",
    "plan",
    "pseudo-label",
    "pretrain",
    "finetune",
    "predict",
    "tune",
    "promote",
    "ensemble",
    "submit",
    "report",
)


# Networks


def test_validation_looks_at_the_network_in_evaluation_mode(tmp_path: Path) -> None:
    """HuBMAP kidney 2021: only the attribute of the outermost module was switched, batch norm went on training."""
    torch = pytest.importorskip("torch")
    from hubmap_ml.models import build_detector
    from hubmap_ml.training import FitData, FitInputs
    from hubmap_ml.training.mmdet.validation import Validation
    from tests.detectors import VESSEL, mask_rcnn, vessels

    truth = vessels(tmp_path, 2)
    config = mask_rcnn()
    config["model"]["backbone"]["norm_eval"] = False  # as where batch statistics are trained
    inputs = FitInputs(config=config, categories=VESSEL, seed=0)
    model = build_detector(config, 1)
    model.init_weights()
    model.train()
    norms = [
        module for module in model.modules() if isinstance(module, torch.nn.modules.batchnorm._BatchNorm)
    ]
    assert any(module.training for module in norms)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    seen: list[bool] = []
    for module in norms:
        module.register_forward_pre_hook(lambda module, _: seen.append(module.training))
    Validation(inputs, FitData(train=truth, valid=truth, image_root=tmp_path)).predict(
        model, torch.device("cpu")
    )
    assert len(seen) >= len(norms)
    assert not any(seen)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@pytest.fixture(scope="module")
def two_checkpoints(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two networks with weights of their own that find something."""
    torch = pytest.importorskip("torch")
    from hubmap_ml.models import build_detector, write_checkpoint
    from tests.detectors import VESSEL, mask_rcnn

    root = tmp_path_factory.mktemp("checkpoints")
    for seed in range(2):
        torch.manual_seed(seed)
        model = build_detector(mask_rcnn(), 1)
        model.init_weights()
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if any(part in name for part in ("fc_cls", "fc_reg", "conv_logits", "rpn_")):
                    parameter.add_(torch.randn_like(parameter) * 0.3)
        categories = [(category.id, category.name) for category in VESSEL]
        write_checkpoint(root / str(seed), model, family="mmdet", config=mask_rcnn(), categories=categories)
    return [root / "0", root / "1"]


def test_each_fold_is_a_network_with_weights_of_its_own(two_checkpoints: list[Path], tmp_path: Path) -> None:
    """HuBMAP kidney 2021: every fold's weights were loaded into one module, whose last fold was averaged four times."""
    from hubmap_ml.predictor import open_predictor, write_predictor
    from tests.detectors import VESSEL

    def predictor(name: str, paths: list[Path]) -> Any:
        leaves = {f"leaves/f{k}": path for k, path in enumerate(paths)}
        networks = [{"kind": "network", "path": leaf, "views": ["none"]} for leaf in leaves]
        views = [{"kind": "views", "iou_threshold": 0.6, "children": [network]} for network in networks]
        tree = {"kind": "folds", "iou_threshold": 0.6, "children": views}
        steps = {
            "kind": "steps",
            "steps": [{"nms": {"iou": 0.5, "by": "box"}}, {"mask_threshold": 0.5}],
            "child": tree,
        }
        return open_predictor(write_predictor(tmp_path / name, tree=steps, leaves=leaves, categories=VESSEL))

    a, b = two_checkpoints
    picture = [np.random.default_rng(0).integers(0, 256, (48, 64, 3)).astype(np.uint8)]
    both, first, last = (
        predictor(name, paths).predict(picture)
        for name, paths in (("both", [a, b]), ("first", [a]), ("last", [b]))
    )
    assert len(first)
    assert len(last)
    for single in (first, last):  # what one module for all folds would give
        assert not (len(both) == len(single) and np.array_equal(both.scores, single.scores))


def test_folds_with_the_same_weights_do_not_pass_the_gate() -> None:
    """HuBMAP kidney 2021, the same bug, seen by the digests of the weights."""
    from hubmap_ml.ensembling import FoldRecord, MemberRecord, check_member

    def verdict(*digests: str) -> bool:
        folds = tuple(FoldRecord(k, f"run{k}", digest, 0.5, "") for k, digest in enumerate(digests))
        return check_member(MemberRecord("m", (0, 1), folds, 0.5, "line", LeakLevel.NONE)).passed

    assert verdict("one", "other")
    assert not verdict("one", "one")


def test_the_optimiser_gets_every_setting_of_the_member(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sartorius 2021: weight_decay 0.01 was configured and never passed on; training ran with 0."""
    pytest.importorskip("torch")
    from hubmap_ml.training import FitData, FitInputs
    from hubmap_ml.training.mmdet import trainer
    from tests.detectors import VESSEL, mask_rcnn, vessels

    made: list[tuple[Any, Any]] = []
    build = trainer.EpochRunner

    def spying(model: Any, **options: Any) -> Any:
        made.append((model, options["optimizer"]))
        return build(model, **options)

    monkeypatch.setattr(trainer, "EpochRunner", spying)
    settings = {"type": "AdamW", "lr": 0.00125, "weight_decay": 0.0375, "betas": (0.8, 0.9), "eps": 1e-5}
    config = {**mask_rcnn(), "optimizer": settings, "lr_config": {"policy": "fixed"}}
    truth = vessels(tmp_path, 2)
    trainer.fit(
        FitInputs(config=config, categories=VESSEL, seed=0),
        FitData(train=truth, valid=None, image_root=tmp_path),
        NullRecorder(tmp_path / "run"),
    )
    [(model, optimizer)] = made
    for group in optimizer.param_groups:
        assert {key: group[key] for key in settings if key != "type"} == {
            key: value for key, value in settings.items() if key != "type"
        }
    held = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
    assert {id(parameter) for parameter in model.parameters() if parameter.requires_grad} <= held


def test_every_loss_of_a_network_is_trained_the_semantic_one_too() -> None:
    """Sartorius 2021: re-weighting the losses by name left loss_semantic_seg out of the sum."""
    torch = pytest.importorskip("torch")
    from mmdet.core import BitmapMasks
    from torch.utils.data import DataLoader

    from hubmap_ml.models import build_detector
    from hubmap_ml.training.mmdet.batches import EpochOrder
    from hubmap_ml.training.mmdet.runner import EpochRunner
    from tests.detectors import htc

    torch.manual_seed(0)
    model = build_detector(htc(semantic=True), 1)
    model.init_weights()
    meta = {
        "img_shape": (64, 64, 3),
        "pad_shape": (64, 64, 3),
        "ori_shape": (64, 64, 3),
        "scale_factor": np.ones(4),
    }
    mask = np.zeros((1, 64, 64), np.uint8)
    mask[:, 16:48, 16:48] = 1
    batch = {
        "img": torch.randn(1, 3, 64, 64),
        "img_metas": [{**meta, "flip": False, "filename": "", "batch_input_shape": (64, 64)}],
        "gt_bboxes": [torch.tensor([[16.0, 16.0, 48.0, 48.0]])],
        "gt_labels": [torch.tensor([0])],
        "gt_masks": [BitmapMasks(mask, 64, 64)],
        "gt_semantic_seg": torch.randint(0, 5, (1, 1, 8, 8)),
    }
    heard: list[dict[str, float]] = []
    head = list(model.roi_head.semantic_head.conv_logits.parameters())
    before = [parameter.detach().clone() for parameter in head]
    runner = EpochRunner(
        model,
        optimizer=torch.optim.SGD(model.parameters(), lr=0.01),
        max_epochs=1,
        device=torch.device("cpu"),
        seed=0,
        on_iteration=lambda values, *_: heard.append(values),
    )
    runner.register_training_hooks({"policy": "fixed"}, {}, timer_config=None)
    order = EpochOrder(np.zeros(1, bool), batch=1, seed=0)
    only = {(0, 0): 0}  # the one sample of epoch 0
    runner.start(DataLoader(only, batch_sampler=order, collate_fn=lambda _: batch))
    runner.train_epoch()
    [values] = heard
    parts = {key: value for key, value in values.items() if "loss" in key and key != "loss"}
    assert parts["loss_semantic_seg"] > 0
    assert values["loss"] == pytest.approx(sum(parts.values()), rel=1e-5)
    assert all(not torch.equal(old, new) for old, new in zip(before, head, strict=True))


# Instances


def picture_of(boxes: list[list[float]], scores: list[float], values: list[int]) -> PredictionSet:
    """One image whose instances have masks of one value each."""
    crops = [np.full((4, 4), value, np.uint8) for value in values]
    masks = Masks.from_soft(SoftMasks.from_crops(crops, np.array(boxes, np.float32)))
    found = Instances.build(boxes, scores, 0, masks=masks, height=64, width=64)
    return PredictionSet.from_instances(images(1, height=64, width=64), CATEGORIES, [found])


def test_equal_scores_do_not_mix_up_masks() -> None:
    """The fourth team on Sartorius: a fused box's mask was looked up by its score; of equals the first won."""
    boxes = [[0.0, 0, 20, 20], [30, 0, 60, 20], [0, 30, 20, 60], [30, 30, 60, 60]]
    values = [255, 204, 178, 153]
    first = picture_of(boxes, [0.5] * 4, values)
    second = picture_of(boxes[::-1], [0.5] * 4, values[::-1])  # another order, the same scores
    fused = weighted_boxes_fusion([first, second], iou_threshold=0.5)
    assert len(fused) == 4
    assert len(set(fused.scores.tolist())) == 1
    assert fused.masks is not None
    value_of = {tuple(box): value for box, value in zip(boxes, values, strict=True)}
    for row in range(4):
        box = tuple(fused.boxes[row].round(3).tolist())
        crop = fused.masks.soft.crop(row)
        assert int(crop.max()) == value_of[box]
    kept = apply_steps(first, parse_steps([{"nms": {"iou": 0.5, "by": "box"}}, {"mask_threshold": 0.65}]))
    assert kept.masks is not None
    areas = kept.masks.bits.areas()
    for box, area in zip(kept.boxes.tolist(), areas.tolist(), strict=True):
        assert (area > 0) == (value_of[tuple(box)] / 255 >= 0.65)


@pytest.mark.parametrize("count", [1, 99, 100, 101, 199, 250])
def test_a_written_set_holds_every_image(tmp_path: Path, count: int) -> None:
    """HuBMAP 2023: pseudo-labels were written at every hundredth image; the tail of 99 tiles was lost."""
    table = images(count, height=16, width=16)
    rng = np.random.default_rng(count)
    found = []
    for row in range(count):
        n = (
            0 if row == count - 2 else int(rng.integers(1, 90))
        )  # several row groups, and an image without instances
        boxes = np.tile(np.array([[1, 1, 9, 9]], np.float32), (n, 1))
        crops = [np.full((2, 2), 200, np.uint8)] * n
        masks = Masks.from_soft(SoftMasks.from_crops(crops, boxes)) if n else Masks.empty()
        found.append(Instances.build(boxes, rng.random(n), 0, masks=masks, height=16, width=16))
    with PredictionWriter(tmp_path / "streamed", CATEGORIES) as writer:
        for row in range(count):
            writer.add(table.take([row]), found[row])
    whole = PredictionSet.from_instances(table, CATEGORIES, found)
    write_predictions(tmp_path / "whole", whole)
    for name in ("streamed", "whole"):
        read = read_predictions(tmp_path / name)
        assert list(read.images.ids) == list(table.ids)
        assert np.diff(read.offsets).tolist() == [len(item) for item in found]
        assert np.array_equal(read.scores, whole.scores)


@pytest.mark.parametrize("count", [1, 3, 5])
def test_every_image_is_predicted_whatever_the_batch(two_checkpoints: list[Path], count: int) -> None:
    """HuBMAP 2023, the same bug on the way there: what does not fill the last batch is predicted too."""
    from hubmap_ml.data import ArrayImage
    from hubmap_ml.inference import open_network, predict_candidates

    rng = np.random.default_rng(0)
    rows = [Images.build(ids=[f"tile_{k}"], heights=40, widths=48) for k in range(count)]
    pairs = [(row, ArrayImage(rng.integers(0, 256, (40, 48, 3)).astype(np.uint8))) for row in rows]
    found = list(predict_candidates(open_network(two_checkpoints[0]), pairs, views=("none", "hflip")))
    assert [str(row.ids[0]) for row, _, _ in found] == [f"tile_{k}" for k in range(count)]
    assert all(set(np.unique(instances.source)) == {0, 1} for _, instances, _ in found)


def test_all_small_masks_are_removed_not_only_the_smallest() -> None:
    """Sartorius 2021: remove_small_masks took away the single smallest mask, if it was under the limit."""
    sizes = [2, 3, 4, 5, 6, 12]
    boxes = [[k * 10.0, 0, k * 10 + size, size] for k, size in enumerate(sizes[:5])] + [[0, 30.0, 12, 42]]
    found = picture_of(boxes, [0.9, 0.8, 0.7, 0.6, 0.5, 0.4], [255] * 6)
    kept = apply_steps(found, parse_steps([{"mask_threshold": 0.5}, {"min_area": 36}]))
    assert kept.masks is not None
    assert kept.scores.tolist() == [np.float32(0.5), np.float32(0.4)]  # 36 pixels are enough
    assert kept.masks.bits.areas().min() == 36


def test_small_masks_are_removed_in_studies_as_in_submissions() -> None:
    """Sartorius 2021: the tuner removed all small masks and the submission one; scores were of different procedures."""
    from hubmap_ml.tuning import CachedScorer, DirectScorer
    from tests.random_scenes import truths

    target, found = truths(3), predictions(3, objects_seed=3)
    rows = [np.arange(len(found.images))]
    for area in (0.0, 40.0, 300.0):
        steps = parse_steps([{"nms": {"iou": 0.5, "by": "box"}}, {"mask_threshold": 0.5}, {"min_area": area}])
        cached = CachedScorer(target, found, rows, metric="ap60", variants=[steps])
        direct = DirectScorer(target, found, rows, "ap60")
        assert [item.value for item in cached.scores(steps)] == [item.value for item in direct.scores(steps)]


# Options. HuBMAP kidney 2021: --only_rle was on by default, so that inference never ran, the README's --do_rle did not
# exist, and "AMP: True" was read by nobody. HuBMAP 2023: ensemble weights were written down and never passed.

ENTRIES: dict[str, Any] = yaml.safe_load((PROJECT / "MLproject").read_text())["entry_points"]
VALUES = {
    "experiment": "tiny",
    "member": "maskrcnn",
    "labels": "round1",
    "fold": "1",
    "raw": "somewhere",
    "set": "optimizer.lr=0.5",
    "workers": "3",
    "device": "cuda:1",
    "with_upstream": "true",
    "fresh": "true",
    "nproc": "2",
    "nodes": "3",
    "rdzv": "first:29500",
    "model": "models:/x@y",
    "predictions": "folder",
    "iterations": "7",
    "run": "3f2a91",
    "against": "demo",
}
ARRIVES = {**VALUES, "fold": 1, "workers": 3, "with_upstream": True, "fresh": True, "nproc": 2, "nodes": 3}
ARRIVES |= {"iterations": 7}


class Arrived(Exception):
    """Carries what a stage was called with."""


@pytest.mark.parametrize("name", STAGES)
def test_each_parameter_of_an_entry_point_reaches_its_stage(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import importlib

    from hubmap_ml.cli.main import app

    stage = importlib.import_module(f"hubmap_ml.stages.{name.replace('-', '_')}")
    accepted = set(inspect.signature(stage.run).parameters)

    def run(**given: Any) -> None:
        assert given.keys() <= accepted
        raise Arrived(given)

    monkeypatch.setattr(stage, "run", run)
    entry = ENTRIES[name]
    values = {key: VALUES[key] for key in entry["parameters"]}  # a new parameter must be added to VALUES
    words = entry["command"].removeprefix("python -m hubmap_ml ").format(**values).split()
    result = CliRunner().invoke(app, words)
    assert isinstance(result.exception, Arrived), result.output
    [given] = result.exception.args
    assert {key: given[key] for key in values} == {key: ARRIVES[key] for key in values}


@pytest.mark.parametrize("name", STAGES)
def test_an_entry_point_does_its_work_without_any_parameter(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Defaults of MLproject and of the command line are those of the stage: none of them turns the stage off."""
    import importlib

    from hubmap_ml.cli.main import app

    stage = importlib.import_module(f"hubmap_ml.stages.{name.replace('-', '_')}")
    defaults = {key: item.default for key, item in inspect.signature(stage.run).parameters.items()}

    def run(**given: Any) -> None:
        raise Arrived(given)

    monkeypatch.setattr(stage, "run", run)
    entry = ENTRIES[name]
    written = {key: str(item["default"]) for key, item in entry["parameters"].items()}
    words = [
        word.format(**written) for word in entry["command"].removeprefix("python -m hubmap_ml ").split()
    ]  # an empty default stays a word of its own
    for given_words in (words, [name]):
        result = CliRunner().invoke(app, given_words)
        assert isinstance(result.exception, Arrived), result.output
        [given] = result.exception.args
        for key in written:
            assert given[key] == defaults[key], key


ON_FILES = {"ensemble": {"truth", "predictions", "further", "report", "metric"}, "report": {"ensemble"}}
"""Options of a command that looks at anyone's files instead of running its stage, or that say another one shortly."""


def test_each_option_of_a_command_is_a_parameter_of_its_entry_point() -> None:
    import typer

    from hubmap_ml.cli.main import app
    from hubmap_ml.stages import tune_files

    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    for name, entry in ENTRIES.items():
        options = {parameter.name for parameter in commands[name].params if parameter.name != "help"}
        if name == "tune":  # and of the study on files, which is no entry point
            of_files = set(inspect.signature(tune_files.run).parameters)
            assert of_files <= options
            options -= of_files
        options -= ON_FILES.get(name, set()) | {"as_json"}
        assert options == set(entry["parameters"]), name


def parts_of(model: Any, seen: dict[str, Any]) -> dict[str, Any]:
    """All parts of an experiment by their class's name."""
    seen[model.__name__] = model
    for field in model.model_fields.values():
        for module, inner in re.findall(r"(hubmap_ml\.spec\.\w+)\.(\w+)", str(field.annotation)):
            part = getattr(importlib.import_module(module), inner)
            if inner not in seen and hasattr(part, "model_fields"):
                parts_of(part, seen)
    return seen


PARTS = parts_of(Experiment, {})


def test_an_unknown_key_is_refused_in_every_part_of_an_experiment() -> None:
    assert {"Data", "Folds", "Member", "Pretrain", "Finetune", "Predict", "Tune", "Ensemble"} <= set(PARTS)
    for name, part in PARTS.items():
        assert part.model_config.get("extra") == "forbid", name


def test_an_unknown_key_of_a_step_is_refused() -> None:
    for name in STEPS:
        with pytest.raises(InputError):
            parse_steps([{name: {"no_such_key": 1}}])
    with pytest.raises(InputError, match="unknown step"):
        parse_steps([{"only_rle": True}])


def test_each_key_of_an_experiment_is_read_by_some_stage() -> None:
    """A key that nobody reads is an option that does nothing."""
    read: set[str] = set()
    declared = {Path(inspect.getfile(part)) for part in PARTS.values()}
    for path in {*(PROJECT / "hubmap_ml").rglob("*.py")} - declared:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Attribute):
                read.add(node.attr)
            if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant):
                read.add(str(node.slice.value))  # a stage reads its inputs, a mapping
    # Handed over as a whole, key by key: to the generator of tissue, whose fields must be these, to the making of
    # folds, and, as the stage's inputs, to the study.
    from hubmap_ml.data import SyntheticTissue, assign_folds
    from hubmap_ml.tuning import run_study

    assert set(PARTS["Synthetic"].model_fields) <= {item.name for item in dataclasses.fields(SyntheticTissue)}
    assert set(PARTS["Folds"].model_fields) - {"pool", "buffer"} <= set(
        inspect.signature(assign_folds).parameters
    )
    for name, part in PARTS.items():
        if name not in ("Synthetic", "Folds"):
            unread = set(part.model_fields) - read - {"folder", "task", "kind"}  # of one value so far
            unread -= (
                set(inspect.signature(run_study).parameters) | {"per_class"} if name == "Tune" else set()
            )
            assert not unread, f"{name}: {unread}"


def test_an_ensembles_weights_change_what_it_says() -> None:
    """HuBMAP 2023: MODEL_WEIGHTS were zipped with the models and not passed to the fusion."""
    first, second = predictions(1, objects_seed=1), predictions(2, objects_seed=1)
    equal = weighted_boxes_fusion([first, second], iou_threshold=0.5)
    unequal = weighted_boxes_fusion([first, second], weights=[0.25, 0.75], iou_threshold=0.5)
    assert not (
        equal.boxes.shape == unequal.boxes.shape
        and np.array_equal(np.sort(equal.scores), np.sort(unequal.scores))
    )


def test_the_projects_experiments_hold_known_keys_only(tmp_path: Path) -> None:
    document = yaml.safe_load((PROJECT / "experiments" / "tiny" / "experiment.yaml").read_text())
    for place in ("", "data", "members.maskrcnn", "members.maskrcnn.predict", "tune", "ensemble"):
        changed = yaml.safe_load(yaml.safe_dump(document))
        part = changed
        for key in filter(None, place.split(".")):
            part = part.setdefault(key, {})
        part["amp"] = True
        (tmp_path / "experiment.yaml").write_text(yaml.safe_dump(changed))
        with pytest.raises(InputError, match=r"unknown key '[\w.]*amp'"):
            load_experiment(tmp_path / "experiment.yaml")
