"""The moving average of the weights is mmdet's, is scored beside them, and outlives interruptions to the last bit."""

import json
import random
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from mmdet.core.hook.ema import BaseEMAHook, ExpMomentumEMAHook
from safetensors.torch import load_file
from torch import Tensor, nn

from hubmap_ml.inference import open_network
from hubmap_ml.instances import Annotations, PredictionSet
from hubmap_ml.models import build_detector, import_weights
from hubmap_ml.spec import InputError, NullRecorder
from hubmap_ml.training import FitData, FitInputs, FitResult, open_trainer
from hubmap_ml.training.mmdet.averaging import WeightAverage
from hubmap_ml.training.mmdet.progress import Progress, resume
from hubmap_ml.training.mmdet.runner import EpochRunner
from hubmap_ml.training.mmdet.validation import Validation
from tests.detectors import VESSEL, mask_rcnn, vessels

fit = open_trainer("mmdet")

MOMENTUM, WARM_UP = 0.2, 3
INPUTS = FitInputs(
    config={
        **mask_rcnn(),
        "optimizer": {"type": "AdamW", "lr": 1e-3, "amsgrad": True},
        "lr_config": {"policy": "Plateau", "factor": 0.5, "patience": 0},
        "runner": {"type": "EpochBasedRunner", "max_epochs": 2},
        "batch": {"global": 1},
        "ema": {"momentum": MOMENTUM, "warm_up": WARM_UP},
        "loss_weights": {"loss_cls": {"start": 1.0, "end": 0.5}, "loss_mask": [1.0, 2.0]},
    },
    categories=VESSEL,
    seed=3,
)


def net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))


def steps(model: nn.Module, hooks: list[Any], count: int, *, every: int = 1) -> None:
    """Train on noise; hooks are told of each iteration as mmcv's runner does."""
    optimizer = torch.optim.SGD([v for v in model.parameters() if v.requires_grad], lr=0.1)
    runner = SimpleNamespace(model=model, iter=0, _max_iters=count)
    for hook in hooks:
        hook.before_run(runner)
    draws = torch.Generator().manual_seed(1)
    for runner.iter in range(count):
        model.train()
        model(torch.randn(5, 3, generator=draws)).square().sum().backward()
        if (runner.iter + 1) % every == 0 or runner.iter + 1 == count:
            optimizer.step()
            optimizer.zero_grad()
        for hook in hooks:
            hook.after_train_iter(runner)


@pytest.mark.parametrize(
    ("options", "theirs"),
    [
        ({"momentum": 0.1}, BaseEMAHook(momentum=0.1)),
        ({"momentum": 0.01, "warm_up": 4}, ExpMomentumEMAHook(momentum=0.01, total_iter=4)),
    ],
)
def test_the_average_is_mmdets(options: dict[str, Any], theirs: BaseEMAHook) -> None:
    model = net()
    ours = WeightAverage(model, **options)
    steps(model, [ours], 12)
    steps(net(), [theirs], 12)  # it puts its buffers into the network: one of its own, trained alike
    for name, value in ours.values.items():
        if value.dtype.is_floating_point:
            expected = theirs.model_buffers[theirs.param_ema_buffer[name]]
            torch.testing.assert_close(value, expected, rtol=1e-5, atol=1e-6)
            assert not torch.equal(value, model.state_dict()[name])
    assert ours.values["1.num_batches_tracked"] == 12


@given(momentum=st.floats(0.001, 0.999), count=st.integers(1, 8))
def test_after_n_steps_the_first_weights_count_as_the_closed_form_says(momentum: float, count: int) -> None:
    model = nn.Linear(1, 1, bias=False).double()
    average = WeightAverage(model, momentum)
    seen = [model.weight.item()]
    for i in range(count):
        with torch.no_grad():
            model.weight.fill_(float(i))
        average.after_train_iter(SimpleNamespace(iter=i, _max_iters=count))
        seen.append(float(i))
    shares = [(1 - momentum) ** count, *(momentum * (1 - momentum) ** (count - 1 - i) for i in range(count))]
    assert average.values["weight"].item() == pytest.approx(np.dot(shares, seen), rel=1e-9, abs=1e-12)


def test_frozen_weights_are_their_own_average_and_others_move_only_with_a_step() -> None:
    model = net()
    model[0].requires_grad_(False)
    average = WeightAverage(model, 0.3, every=3)
    values = []

    class Watch:
        def before_run(self, _: Any) -> None:
            pass

        def after_train_iter(self, _: Any) -> None:
            values.append({key: value.clone() for key, value in average.values.items()})

    steps(model, [average, Watch()], 8, every=3)
    assert all(torch.equal(value["0.weight"], model[0].weight) for value in values)
    moved = [not torch.equal(a["2.weight"], b["2.weight"]) for a, b in pairwise(values)]
    assert moved == [False, True, False, False, True, False, True]  # after the third, the sixth, and the last


def test_inside_the_block_the_network_has_the_average_and_behind_it_its_own_weights() -> None:
    model = net()
    average = WeightAverage(model, 0.3)
    steps(model, [average], 4)
    own = {key: value.clone() for key, value in model.state_dict().items()}
    averaged = {key: value.clone() for key, value in average.values.items()}
    with pytest.raises(RuntimeError, match="left"), average.in_place() as trained:
        assert all(torch.equal(value, averaged[key]) for key, value in model.state_dict().items())
        assert all(torch.equal(value, own[key]) for key, value in trained.items())
        raise RuntimeError("left")
    assert all(torch.equal(value, own[key]) for key, value in model.state_dict().items())
    assert all(torch.equal(value, averaged[key]) for key, value in average.values.items())


@pytest.fixture(scope="module")
def tiles(tmp_path_factory: Any) -> tuple[Path, Annotations]:
    folder = tmp_path_factory.mktemp("tiles")
    return folder, vessels(folder, 4)


def data(tiles: tuple[Path, Annotations], **options: Any) -> FitData:
    valid = tiles[1].take_images([0])
    return FitData(**{"train": tiles[1], "valid": valid, "image_root": tiles[0], "save_every": 1, **options})


def weights(folder: Path) -> dict[str, Tensor]:
    return dict(load_file(str(folder / "weights.safetensors")))


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


def metrics(folder: Path) -> dict[tuple[str, int], float]:
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    values = {(line["key"], line["step"]): line["value"] for line in lines}
    assert len(values) == len(lines)  # each (metric, step) once
    return {key: value for key, value in values.items() if not key[0].startswith("time/")}


@dataclass(frozen=True)
class Whole:
    """A training: what it left, its weights at the start and after each iteration, and those that were scored."""

    result: FitResult
    folder: Path
    seen: list[dict[str, Tensor]]
    scored: list[dict[str, Tensor]]


@pytest.fixture(scope="module")
def whole(tiles: tuple[Path, Annotations], tmp_path_factory: Any) -> Whole:
    """A training left alone."""
    folder = tmp_path_factory.mktemp("whole")
    seen: list[dict[str, Tensor]] = []
    scored: list[dict[str, Tensor]] = []
    step, predict = EpochRunner._step, Validation.predict

    def watched(self: EpochRunner, batch: Any) -> None:
        copies = [{key: value.clone() for key, value in self.model.state_dict().items()}] if not seen else []
        step(self, batch)
        seen.extend([*copies, {key: value.clone() for key, value in self.model.state_dict().items()}])

    def asked(self: Validation, model: nn.Module, device: torch.device, rows: Any = None) -> PredictionSet:
        if rows is None:  # all images: they score; some are only drawn
            scored.append({key: value.clone() for key, value in model.state_dict().items()})
        return predict(self, model, device, rows)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(EpochRunner, "_step", watched)
        patch.setattr(Validation, "predict", asked)
        result = fit(INPUTS, data(tiles, save_every=0), NullRecorder(folder))
    return Whole(result, folder, seen, scored)


def test_the_last_checkpoint_is_the_average_of_all_iterations_weights(
    whole: Whole,
) -> None:
    result, seen = whole.result, whole.seen
    assert len(seen) == 9
    found = weights(result.last)
    assert (
        found.keys() == seen[0].keys()
    )  # the network's own names: what predicts, imports and starts stage two
    for name, value in found.items():
        expected = seen[0][name].double()
        for i, present in enumerate(seen[1:]):
            share = MOMENTUM + (1 - MOMENTUM) * np.exp(-(1 + i) / WARM_UP)
            expected = (1 - share) * expected + share * present[name].double()
        if value.dtype.is_floating_point:
            torch.testing.assert_close(value.double(), expected, rtol=1e-4, atol=1e-6)
    assert not same(found, seen[-1])
    other = build_detector(dict(INPUTS.config), 1)
    assert import_weights(other, result.last / "weights.safetensors").complete
    assert same(dict(other.state_dict()), found)
    assert open_network(result.last).config["ema"] == INPUTS.config["ema"]


def test_both_models_are_scored_after_each_epoch(
    whole: Whole,
) -> None:
    result, folder = whole.result, whole.folder
    values = metrics(folder)
    for key in ("val/ap60", "val_ema/ap60", "val_coco/segm_mAP", "val_ema_coco/segm_mAP"):
        assert {step for name, step in values if name == key} == {1, 2}
    assert list(result.headline) == [values["val_ema/ap60", epoch] for epoch in (1, 2)]
    assert result.best_score == max(
        values[f"{name}/ap60", epoch] for name in ("val", "val_ema") for epoch in (1, 2)
    )
    assert any("average (ema)" in note for note in result.notes)
    names = sorted(path.name for path in (folder / "images" / "val_ema").iterdir())
    assert names == ["overlay_0_1.png", "overlay_0_2.png"]


def test_the_first_score_is_of_the_trained_weights_and_the_second_of_their_average(whole: Whole) -> None:
    assert len(whole.scored) == 4
    assert same(whole.scored[0], whole.seen[4])
    assert same(whole.scored[2], whole.seen[8])
    assert same(whole.scored[3], weights(whole.result.last))
    assert not same(whole.scored[0], whole.scored[1])


class Killed(BaseException):
    """Stands for SIGKILL inside one process: nothing is tidied up."""


def test_killed_again_and_again_it_ends_with_the_same_weights_averages_and_scores(
    tiles: tuple[Path, Annotations],
    whole: Whole,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With everything that has a state: averages, amsgrad, a plateau, weighted losses."""
    step = EpochRunner._step
    draws = random.Random(7)
    resume_from, starts, ended = None, 0, {}
    while True:
        left = draws.choice([1, 2, 3])

        def dying(self: EpochRunner, batch: Any) -> None:
            nonlocal left, ended
            step(self, batch)
            ended = {key: value.clone() for key, value in self.model.state_dict().items()}
            left -= 1
            if left < 0:
                raise Killed

        monkeypatch.setattr(EpochRunner, "_step", dying)
        folder = tmp_path / str(starts)
        starts += 1
        try:
            result = fit(INPUTS, data(tiles), NullRecorder(folder), resume_from=resume_from)
            break
        except Killed:
            resume_from = folder / "checkpoints" / "last"
    assert starts >= 3
    assert same(ended, whole.seen[-1])
    assert same(weights(result.last), weights(whole.result.last))
    assert same(weights(result.best), weights(whole.result.best))
    assert (list(result.headline), result.best_score) == (
        list(whole.result.headline),
        whole.result.best_score,
    )
    assert metrics(folder) == metrics(whole.folder)


@pytest.mark.parametrize(
    ("epochs", "best", "score", "apart"),
    [
        ([(0.3, 0.2), (0.4, 0.3)], 2, 0.4, False),
        ([(0.3, 0.5), (0.4, 0.3)], 1, 0.5, True),
        ([(0.3, 0.3), (0.3, 0.3)], 1, 0.3, False),  # of equals the average, and the first epoch
        ([(0.3, 0.2), (0.2, 0.4)], 2, 0.4, True),
        ([(np.nan, 0.0), (np.nan, np.nan)], 1, 0.0, True),
        ([(0.0, np.nan)], 1, 0.0, False),
    ],
)
def test_the_best_is_the_highest_score_of_either_model(
    tmp_path: Path, epochs: list[tuple[float, float]], best: int, score: float, apart: bool
) -> None:
    progress = Progress(tmp_path)
    for averaged, trained in epochs:
        progress.add_epoch({}, averaged, iterations=1, trained=trained)
    assert (progress.best_epoch, progress.best_headline, progress.best_apart) == (best, score, apart)
    assert progress.headline == pytest.approx([averaged for averaged, _ in epochs], nan_ok=True)


@pytest.mark.parametrize("crash", [False, True], ids=["whole", "before the last was written"])
def test_a_best_of_the_trained_weights_is_found_again(tmp_path: Path, crash: bool) -> None:
    model = nn.Linear(2, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    average = WeightAverage(model, 0.5)
    progress = Progress(tmp_path / "first" / "checkpoints")
    bests = []
    for averaged, trained in ((0.1, 0.2), (0.2, 0.3)):
        nn.init.normal_(model.weight)
        progress.add_epoch({}, averaged, iterations=4, trained=trained)
        progress.save_best(model, INPUTS)
        bests.append(model.weight.detach().clone())
        if crash and len(bests) == 2:
            break
        with average.in_place() as own:
            progress.save(model, optimizer, INPUTS, is_best=True, loss_scaler=None, recorded=0, trained=own)
    found, checkpoint, state = resume(NullRecorder(tmp_path / "second"), progress.last, INPUTS)
    assert torch.equal(weights(found.best)["weight"], bests[0 if crash else 1])
    assert (found.best_apart, found.epochs) == (True, 1 if crash else 2)
    assert not torch.equal(weights(checkpoint.folder)["weight"], state["trained"]["weight"])


def test_without_held_out_images_no_plateau_can_be_followed(
    tiles: tuple[Path, Annotations], tmp_path: Path
) -> None:
    with pytest.raises(
        InputError, match="'Plateau' follows the score of held-out images, and this training has none"
    ):
        fit(INPUTS, data(tiles, valid=None), NullRecorder(tmp_path))
