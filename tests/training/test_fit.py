"""A training leaves checkpoints, scores and pictures; workers and interruptions change no weight."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from hubmap_ml.inference import open_network
from hubmap_ml.instances import Annotations, Category
from hubmap_ml.models import build_detector, write_checkpoint
from hubmap_ml.spec import InputError, NullRecorder
from hubmap_ml.training import FitData, FitInputs, FitResult, open_trainer
from hubmap_ml.training.mmdet import fit as fit_function
from hubmap_ml.training.mmdet import validation
from tests.detectors import VESSEL, htc, mask_rcnn, vessels

fit = open_trainer("mmdet")


@pytest.fixture(scope="module")
def tiles(tmp_path_factory: Any) -> tuple[Path, Annotations]:
    folder = tmp_path_factory.mktemp("tiles")
    return folder, vessels(folder, 6, empty=1)


def data(tiles: tuple[Path, Annotations], **options: Any) -> FitData:
    folder, annotations = tiles
    return FitData(
        **{"train": annotations, "valid": annotations.take_images([0, 5]), "image_root": folder, **options}
    )


def member(epochs: int = 1, **changes: Any) -> dict[str, Any]:
    return {**mask_rcnn(), "runner": {"type": "EpochBasedRunner", "max_epochs": epochs}, **changes}


def inputs(config: dict[str, Any] | None = None, **options: Any) -> FitInputs:
    return FitInputs(**{"config": config or member(), "categories": VESSEL, "seed": 3, **options})


def weights(folder: Path) -> dict[str, Tensor]:
    return dict(load_file(str(folder / "weights.safetensors")))


def same(a: Path, b: Path) -> bool:
    left, right = weights(a), weights(b)
    return left.keys() == right.keys() and all(torch.equal(left[key], right[key]) for key in left)


def metrics(folder: Path) -> dict[tuple[str, int], float]:
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    values = {(line["key"], line["step"]): line["value"] for line in lines}
    assert len(values) == len(lines)  # each (metric, step) once
    return values


@pytest.fixture(scope="module")
def two_epochs(tiles: tuple[Path, Annotations], tmp_path_factory: Any) -> tuple[FitResult, Path]:
    folder = tmp_path_factory.mktemp("two_epochs")
    return fit(inputs(member(2)), data(tiles), NullRecorder(folder)), folder


def test_a_training_leaves_what_the_contract_says(two_epochs: tuple[FitResult, Path]) -> None:
    result, folder = two_epochs
    assert result.last == folder / "checkpoints" / "last"
    assert sorted(path.name for path in result.last.iterdir()) == [
        "config.json",
        "resume.json",
        "resume.pt",
        "weights.safetensors",
    ]
    assert open_network(result.best).categories == VESSEL
    assert [epoch["epoch"] for epoch in result.history] == [1, 2]
    assert len(result.headline) == 2
    assert result.best_epoch == int(np.argmax(result.headline)) + 1
    assert result.notes == ("training images left out: 1 without an instance (first: tile_5)",)
    assert {"train/loss_mask", "train/loss_rpn_cls", "train/lr", "val/ap60", "val_coco/segm_mAP"} <= set(
        result.history[0]
    )


def test_losses_go_by_iteration_and_scores_by_epoch(two_epochs: tuple[FitResult, Path]) -> None:
    values = metrics(two_epochs[1])
    assert {step for key, step in values if key == "train/loss"} == {3, 6}  # five images, two a batch
    assert {step for key, step in values if key == "val/ap60"} == {1, 2}
    assert {step for key, step in values if key == "time/epoch_valid_s"} == {1, 2}
    # Linear warm-up over two iterations, then a step down after the first epoch: mmcv's hooks are at work.
    assert values[("train/lr", 3)] == pytest.approx(1e-3)
    assert values[("train/lr", 6)] == pytest.approx(1e-4)


def test_a_training_shows_what_it_learns_from_and_how_fast(two_epochs: tuple[FitResult, Path]) -> None:
    folder = two_epochs[1]
    assert [path.name for path in (folder / "images" / "train").iterdir()] == ["gallery_0.png"]
    groups = json.loads((folder / "artifacts" / "optimizer_groups.json").read_text())
    assert sum(row["values"] for row in groups) > 0


def test_the_same_tiles_are_drawn_after_each_epoch(two_epochs: tuple[FitResult, Path]) -> None:
    names = sorted(path.name for path in (two_epochs[1] / "images" / "val").iterdir())
    assert names == [
        "overlay_0_0.png",
        "overlay_0_1.png",
        "overlay_0_2.png",
    ]  # the tile without a truth is left out


def test_workers_change_no_weight(tiles: tuple[Path, Annotations], tmp_path: Path) -> None:
    results = [
        fit(
            inputs(member(2)), data(tiles, valid=None, workers=workers), NullRecorder(tmp_path / str(workers))
        )
        for workers in (0, 2)
    ]
    assert same(results[0].last, results[1].last)


def test_another_seed_gives_other_weights(tiles: tuple[Path, Annotations], tmp_path: Path) -> None:
    results = [
        fit(inputs(seed=seed), data(tiles, valid=None), NullRecorder(tmp_path / str(seed))) for seed in (1, 2)
    ]
    assert not same(results[0].last, results[1].last)


def test_an_interrupted_training_goes_on_to_the_same_weights(
    two_epochs: tuple[FitResult, Path], tiles: tuple[Path, Annotations], tmp_path: Path, monkeypatch: Any
) -> None:
    class Interrupted(NullRecorder):
        """Stops when the second epoch begins to speak."""

        def metrics(self, values: Any, *, step: int) -> None:
            if step > 3:
                raise KeyboardInterrupt
            super().metrics(values, step=step)

    with pytest.raises(KeyboardInterrupt):
        fit(inputs(member(2)), data(tiles), Interrupted(tmp_path / "first"))
    left = tmp_path / "first" / "checkpoints" / "last"
    result = fit(
        inputs(member(2)), data(tiles, workers=1), NullRecorder(tmp_path / "second"), resume_from=left
    )
    whole = two_epochs[0]
    assert same(result.last, whole.last)
    assert same(result.best, whole.best)
    assert list(result.headline) == list(whole.headline)
    assert metrics(tmp_path / "second").keys() == metrics(two_epochs[1]).keys()
    timeless = [{k: v for k, v in epoch.items() if "time/" not in k} for epoch in result.history]
    assert timeless == [{k: v for k, v in epoch.items() if "time/" not in k} for epoch in whole.history]


def test_a_finished_training_is_taken_up_without_a_step(
    two_epochs: tuple[FitResult, Path], tiles: tuple[Path, Annotations], tmp_path: Path
) -> None:
    result = fit(inputs(member(2)), data(tiles), NullRecorder(tmp_path), resume_from=two_epochs[0].last)
    assert same(result.last, two_epochs[0].last)
    assert result.best_epoch == two_epochs[0].best_epoch


def test_a_checkpoint_of_another_training_is_not_taken_up(
    two_epochs: tuple[FitResult, Path], tiles: tuple[Path, Annotations], tmp_path: Path
) -> None:
    last = two_epochs[0].last
    for other in (inputs(member(3)), inputs(member(2), seed=4)):
        with pytest.raises(InputError, match="another configuration, classes or seed"):
            fit(other, data(tiles), NullRecorder(tmp_path), resume_from=last)
    with pytest.raises(InputError, match="continues from the last checkpoint"):
        fit(inputs(member(2)), data(tiles), NullRecorder(tmp_path), resume_from=two_epochs[0].best)


def test_without_validation_the_last_epoch_is_the_best(
    tiles: tuple[Path, Annotations], tmp_path: Path
) -> None:
    result = fit(inputs(member(2)), data(tiles, valid=None), NullRecorder(tmp_path))
    assert result.best_epoch == 2
    assert same(result.best, result.last)
    assert np.isnan(result.headline).all()


@pytest.mark.parametrize(("scores", "best"), [([0.0, 0.0], 1), ([0.2, 0.5], 2), ([0.5, 0.2], 1)])
def test_the_first_of_the_highest_scores_is_the_best_and_zero_counts(
    tiles: tuple[Path, Annotations], tmp_path: Path, monkeypatch: Any, scores: list[float], best: int
) -> None:
    coming = iter(scores)
    monkeypatch.setattr(
        validation.Validation,
        "run",
        lambda *_, **__: validation.Scores(value := next(coming), {"val/ap60": value}),
    )
    result = fit(inputs(member(2)), data(tiles), NullRecorder(tmp_path))
    assert result.best_epoch == best
    assert same(result.best, result.last) == (best == 2)


def test_training_starts_from_given_weights_and_reports_what_fitted(
    tiles: tuple[Path, Annotations], tmp_path: Path
) -> None:
    config = member(optimizer={"type": "SGD", "lr": 0.0})
    model = build_detector(config, 3)
    model.init_weights()
    write_checkpoint(
        tmp_path / "init", model, family="mmdet", config=config, categories=[(i, str(i)) for i in range(3)]
    )
    result = fit(
        inputs(config, init_weights=tmp_path / "init"),
        data(tiles, valid=None),
        NullRecorder(tmp_path / "run"),
    )
    after = weights(result.last)
    assert torch.equal(after["backbone.conv1.weight"], model.state_dict()["backbone.conv1.weight"])
    assert result.load_report is not None
    assert "roi_head.bbox_head.fc_cls.weight" in result.load_report["reinitialised"]
    report = json.loads((tmp_path / "run" / "artifacts" / "load_report.json").read_text())
    assert report == result.load_report


def test_training_starts_from_weights_as_others_publish_them(
    tiles: tuple[Path, Annotations], tmp_path: Path
) -> None:
    config = member(optimizer={"type": "SGD", "lr": 0.0})
    model = build_detector(config, 80)
    state = {f"module.{key}": value for key, value in model.state_dict().items()}
    torch.save({"meta": {"epoch": 12}, "state_dict": state}, tmp_path / "published.pth")
    result = fit(
        inputs(config, init_weights=tmp_path / "published.pth"),
        data(tiles, valid=None),
        NullRecorder(tmp_path / "run"),
    )
    assert torch.equal(
        weights(result.last)["backbone.conv1.weight"], model.state_dict()["backbone.conv1.weight"]
    )
    report = json.loads((tmp_path / "run" / "artifacts" / "load_report.json").read_text())
    assert "roi_head.bbox_head.fc_cls.weight" in report["reinitialised"]
    assert not report["missing"]


def test_pretrained_weights_that_are_replaced_are_not_fetched(
    tiles: tuple[Path, Annotations], tmp_path: Path
) -> None:
    config = member()
    write_checkpoint(
        tmp_path / "init",
        build_detector(config, 1),
        family="mmdet",
        config=config,
        categories=[(0, "blood_vessel")],
    )
    config["model"]["backbone"]["init_cfg"] = {"type": "Pretrained", "checkpoint": "/absent.pth"}
    fit(
        inputs(config, init_weights=tmp_path / "init"),
        data(tiles, valid=None),
        NullRecorder(tmp_path / "run"),
    )


def test_half_precision_on_a_cpu_is_dropped_and_said_once(
    tiles: tuple[Path, Annotations], tmp_path: Path, caplog: Any
) -> None:
    result = fit(inputs(member(fp16={"loss_scale": 512.0})), data(tiles, valid=None), NullRecorder(tmp_path))
    assert sum("fp16 was dropped" in note for note in result.notes) == 1
    assert sum("fp16 was dropped" in record.message for record in caplog.records) == 1


def test_a_cascade_trains_too(tiles: tuple[Path, Annotations], tmp_path: Path) -> None:
    config = {**htc(), "runner": {"type": "EpochBasedRunner", "max_epochs": 1}}
    result = fit(inputs(config), data(tiles), NullRecorder(tmp_path))
    assert {"train/s0.loss_mask", "train/s2.loss_cls"} <= set(result.history[0])
    open_network(result.last)


def test_a_loss_that_is_no_number_ends_the_training_without_a_checkpoint(
    tiles: tuple[Path, Annotations], tmp_path: Path, monkeypatch: Any
) -> None:
    config = member(
        2, optimizer={"type": "SGD", "lr": 1e30}, optimizer_config={}, lr_config={"policy": "fixed"}
    )
    with pytest.raises(InputError, match="the loss was not finite in iterations"):
        fit(inputs(config), data(tiles, valid=None), NullRecorder(tmp_path))


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"load_from": "x.pth"}, "'load_from' is not the member's to set"),
        ({"optimizer": {"type": "Adamant"}}, "optimizer cannot be built"),
        ({"lr_config": {"policy": "sawtooth"}}, "schedule cannot be built"),
    ],
)
def test_a_member_that_cannot_be_trained_is_one_line(
    tiles: tuple[Path, Annotations], tmp_path: Path, changes: dict[str, Any], match: str
) -> None:
    with pytest.raises(InputError, match=match):
        fit(inputs(member(**changes)), data(tiles), NullRecorder(tmp_path))


def test_data_that_cannot_be_trained_on_is_one_line(
    tiles: tuple[Path, Annotations], tmp_path: Path, monkeypatch: Any
) -> None:
    recorder = NullRecorder(tmp_path)
    with pytest.raises(InputError, match=r"training data has the classes \['blood_vessel'\]"):
        fit(inputs(categories=(Category(0, "blood_vessels"),)), data(tiles), recorder)
    with pytest.raises(InputError, match="none of the 1 training images"):
        fit(inputs(), data(tiles, train=tiles[1].take_images([5])), recorder)
    with pytest.raises(InputError, match="validation set holds no image"):
        fit(inputs(), data(tiles, valid=tiles[1].take_images([])), recorder)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(InputError, match="finds no GPU"):
        fit(inputs(), replace(data(tiles), device="cuda"), recorder)


def test_the_package_names_the_trainer() -> None:
    assert fit_function is fit


@pytest.mark.parametrize("workers", [0, 1])
def test_a_tile_that_is_damaged_later_is_one_plain_line(
    tmp_path: Path, tiles: tuple[Path, Annotations], workers: int
) -> None:
    folder = tmp_path / "tiles"
    shutil.copytree(tiles[0], folder)
    (folder / "tile_2.png").write_bytes(b"no picture")
    with pytest.raises(InputError, match="tile_2.png") as caught:
        fit(inputs(), data((folder, tiles[1]), workers=workers), NullRecorder(tmp_path / "run"))
    assert "Traceback" not in str(caught.value)
    assert "InputError" not in str(caught.value)


def test_epochs_are_scored_by_the_experiments_own_steps(tiles: tuple[Path, Annotations]) -> None:
    model = build_detector(member(), 1)
    model.init_weights()

    def found(steps: list[dict[str, Any]]) -> int:
        scored = validation.Validation(inputs(postprocess=steps), data(tiles))
        return len(scored.predict(model, torch.device("cpu")))

    assert found([{"mask_threshold": 0.01}, {"max_per_image": 7}]) == 14
    assert found([{"score": 1.0}, {"mask_threshold": 0.01}]) == 0
