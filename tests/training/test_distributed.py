"""Two processes that train one network: the mean of their gradients, one record, one end."""

import functools
import json
import os
import random
import shutil
import signal
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from hubmap_ml.instances import Annotations
from hubmap_ml.models import build_detector
from hubmap_ml.spec import InputError, Interrupted, NullRecorder, Processes
from hubmap_ml.training import FitData, FitInputs, distributed
from hubmap_ml.training.distributed import OUTPUT, RankError, _what_ended, fit_on_ranks
from hubmap_ml.training.mmdet import fit
from hubmap_ml.training.mmdet.batches import EpochOrder
from hubmap_ml.training.mmdet.draws import INITIAL, RANK_STEP, seed_everything
from hubmap_ml.training.mmdet.runner import EpochRunner
from hubmap_ml.training.rank_job import FOLDER, read_job, write_end, write_job
from hubmap_ml.training.rank_recorder import RankRecorder, Relay
from tests.detectors import VESSEL, mask_rcnn, vessels
from tests.training.forked_ranks import run_forked
from tests.training.test_resume import metrics, same

TWO = Processes(nproc=2)


@pytest.fixture(scope="module")
def tiles(tmp_path_factory: Any) -> tuple[Path, Annotations]:
    folder = tmp_path_factory.mktemp("tiles")
    return folder, vessels(folder, 6)


def data(tiles: tuple[Path, Annotations], **options: Any) -> FitData:
    folder, annotations = tiles
    return FitData(
        **{"train": annotations, "valid": annotations.take_images([0, 1, 5]), "image_root": folder, **options}
    )


def inputs(epochs: int = 2) -> FitInputs:
    # Plain descent: Adam divides by the size of gradients, and makes rounding errors of tiny ones as large as steps.
    changes = {
        "batch": {"global": 4},
        "optimizer": {"type": "SGD", "lr": 0.01, "momentum": 0.9},
        "runner": {"type": "EpochBasedRunner", "max_epochs": epochs},
        "ema": {"momentum": 0.5},
        "loss_weights": {"loss_mask": {"start": 1.0, "end": 2.0}},
    }
    return FitInputs(config={**mask_rcnn(), **changes}, categories=VESSEL, seed=3)


def test_the_parts_of_a_batch_are_its_samples_in_order() -> None:
    wide = np.array([False] * 5 + [True] * 4)
    whole = list(EpochOrder(wide, batch=4, seed=1))
    parts = [list(EpochOrder(wide, batch=4, seed=1, rank=rank, world=2)) for rank in range(2)]
    assert [first + second for first, second in zip(*parts, strict=True)] == whole
    assert {len(part) for part in parts[0] + parts[1]} == {2}


def test_a_job_is_read_as_it_was_written(tiles: tuple[Path, Annotations], tmp_path: Path) -> None:
    write_job(tmp_path / "job", "mmdet", inputs(), data(tiles), tmp_path, None)
    trainer, read, read_data, run, resume_from = read_job(tmp_path / "job")
    assert (trainer, run, resume_from) == ("mmdet", tmp_path, None)
    assert replace(read, postprocess=()) == replace(inputs(), postprocess=())
    assert list(read.postprocess) == list(inputs().postprocess)
    assert read_data.image_root == tiles[0]
    assert read_data.valid is not None
    assert list(read_data.valid.images.ids) == list(data(tiles).valid.images.ids)  # type: ignore[union-attr]
    np.testing.assert_array_equal(read_data.train.boxes, tiles[1].boxes)


@pytest.mark.parametrize(
    ("processes", "device", "said"),
    [
        (Processes(nproc=0), "cpu", "at least 1"),
        (Processes(nodes=2), "cpu", "need rdzv=HOST:PORT"),
        (Processes(nproc=3), "cpu", "cannot be shared by 3 processes"),
        (Processes(nproc=2), "cuda:1", "is one GPU: several processes take one each"),
    ],
)
def test_what_cannot_be_is_said_before_anything_starts(
    tiles: tuple[Path, Annotations], tmp_path: Path, processes: Processes, device: str, said: str
) -> None:
    with pytest.raises(InputError, match=said):
        fit_on_ranks("mmdet", processes, inputs(), data(tiles, device=device), NullRecorder(tmp_path))
    assert not (tmp_path / FOLDER).exists()


@pytest.fixture(scope="module", autouse=True)
def forked() -> Iterator[None]:
    """Torchrun itself is in tests/e2e and tests/long."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(distributed, "_run", run_forked)
        yield


@pytest.fixture(scope="module")
def two_ranks(tiles: tuple[Path, Annotations], tmp_path_factory: Any) -> Any:
    folder = tmp_path_factory.mktemp("two_ranks")
    return fit_on_ranks("mmdet", TWO, inputs(), data(tiles), NullRecorder(folder)), folder


def test_two_ranks_equal_one_process_that_averages_their_gradients(
    two_ranks: Any, tiles: tuple[Path, Annotations], tmp_path: Path, monkeypatch: Any
) -> None:
    """The reference: one process, each batch in halves, each half with its rank's draws, the mean loss descended."""
    states: list[Any] = [None, None]

    def step(self: EpochRunner, batch: dict[str, Any]) -> None:
        if self.inner_iter == 0:
            states[0] = drawn()
            seed_everything(3, RANK_STEP, 1, self.epoch)
            states[1] = drawn()
        outputs = []
        for number in range(2):
            draw_from(states[number])
            half = {key: value[2 * number : 2 * number + 2] for key, value in batch.items()}
            outputs.append(self.model.train_step(half, self.optimizer))
            states[number] = drawn()
        first, second = outputs
        logged = {key: (first["log_vars"][key] + second["log_vars"][key]) / 2 for key in first["log_vars"]}
        self.outputs = {"loss": (first["loss"] + second["loss"]) / 2, "log_vars": logged, "num_samples": 4}
        self.call_hook("after_train_iter")

    monkeypatch.setattr(EpochRunner, "_step", step)
    expected = fit(inputs(), data(tiles), NullRecorder(tmp_path))
    result, _ = two_ranks
    found, wanted = (load_file(str(item.last / "weights.safetensors")) for item in (result, expected))
    names = [name for name, _ in parameters()]
    assert set(names) <= set(found)
    for name in names:
        torch.testing.assert_close(found[name], wanted[name], rtol=1e-3, atol=1e-6)
    start = parameters(fresh=True)
    moved = [name for name, value in start if not torch.equal(value, found[name])]
    assert moved, "the training changed nothing: the comparison says nothing"
    assert list(result.headline) == pytest.approx(list(expected.headline), abs=0.02)
    for epoch, other in zip(result.history, expected.history, strict=True):
        assert epoch["train/loss"] == pytest.approx(other["train/loss"], rel=1e-4)


def parameters(*, fresh: bool = False) -> list[tuple[str, torch.Tensor]]:
    seed_everything(3, INITIAL)
    model = build_detector(dict(inputs().config), len(VESSEL))
    if fresh:
        model.init_weights()
    return [(name, value.detach()) for name, value in model.named_parameters()]


def drawn() -> Any:
    return random.getstate(), np.random.get_state(), torch.get_rng_state()  # noqa: NPY002


def draw_from(state: Any) -> None:
    random.setstate(state[0])
    np.random.set_state(state[1])  # noqa: NPY002
    torch.set_rng_state(state[2])


def test_rank_0_records_each_value_once_and_both_end_equal(two_ranks: Any) -> None:
    result, folder = two_ranks
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    points = [(line["key"], line["step"]) for line in lines]
    assert len(points) == len(set(points))
    assert {step for key, step in points if key == "val/ap60"} == {1, 2}
    assert result.last == folder / "checkpoints" / "last"
    assert (result.last / "resume.pt").is_file()
    assert sorted(path.name for path in (folder / "images" / "val").iterdir())
    first, second = json.loads((folder / "artifacts" / "ranks.json").read_text())["weights"]
    assert first == second


class AsksToStop(NullRecorder):
    """Stops the training softly, as a person would, as soon as a checkpoint inside an epoch is asked for."""

    asked = False

    @property
    def position(self) -> int:
        if not self.asked:
            os.kill(os.getpid(), signal.SIGTERM)
        self.asked = True
        return super().position


def test_asked_to_stop_all_save_and_go_on_later_as_if_nothing_had_been(
    two_ranks: Any, tiles: tuple[Path, Annotations], tmp_path: Path
) -> None:
    handler = signal.getsignal(signal.SIGTERM)
    with pytest.raises(
        Interrupted, match="^interrupted at epoch 1, iteration [12]; start it again to go on$"
    ):
        fit_on_ranks("mmdet", TWO, inputs(), data(tiles, save_every=1), AsksToStop(tmp_path / "first"))
    assert signal.getsignal(signal.SIGTERM) is handler
    last = tmp_path / "first" / "checkpoints" / "last"
    result = fit_on_ranks("mmdet", TWO, inputs(), data(tiles), NullRecorder(tmp_path / "second"), last)
    assert same(result.last, two_ranks[0].last)
    assert same(result.best, two_ranks[0].best)
    assert metrics(tmp_path / "second") == metrics(two_ranks[1])


@pytest.mark.parametrize("iteration", [2, 3, 4])
def test_a_rank_that_dies_ends_all_and_the_training_goes_on_to_the_same_weights(
    two_ranks: Any,
    tiles: tuple[Path, Annotations],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    iteration: int,
) -> None:
    step = EpochRunner._step

    def dying(self: EpochRunner, batch: dict[str, Any]) -> None:
        if self.iter + 1 == iteration and os.environ.get("RANK") == "1":
            os.kill(os.getpid(), signal.SIGKILL)
        step(self, batch)

    with monkeypatch.context() as patched:
        patched.setattr(EpochRunner, "_step", dying)
        with pytest.raises(RankError, match="of 2"):
            fit_on_ranks("mmdet", TWO, inputs(), data(tiles, save_every=1), NullRecorder(tmp_path / "first"))
    last = tmp_path / "first" / "checkpoints" / "last"
    result = fit_on_ranks("mmdet", TWO, inputs(), data(tiles), NullRecorder(tmp_path / "second"), last)
    assert same(result.last, two_ranks[0].last)
    assert metrics(tmp_path / "second") == metrics(two_ranks[1])


@pytest.mark.parametrize("first", [1, 2])
def test_another_number_of_processes_goes_on_too(
    two_ranks: Any, tiles: tuple[Path, Annotations], tmp_path: Path, first: int
) -> None:
    """Region samples are drawn otherwise then; samples, their order and the record are not."""
    ways = [fit, functools.partial(fit_on_ranks, "mmdet", TWO)]
    if first == 2:
        ways.reverse()
    with pytest.raises(Interrupted):
        ways[0](inputs(), data(tiles, save_every=1), AsksToStop(tmp_path / "first"))
    last = tmp_path / "first" / "checkpoints" / "last"
    result = ways[1](inputs(), data(tiles), NullRecorder(tmp_path / "second"), last)
    assert len(result.history) == 2
    assert metrics(tmp_path / "second").keys() == metrics(two_ranks[1]).keys()


def test_bad_input_in_one_rank_is_its_line(tiles: tuple[Path, Annotations], tmp_path: Path) -> None:
    shutil.copytree(tiles[0], tmp_path / "tiles")
    (tmp_path / "tiles" / "tile_2.png").write_bytes(b"no picture")
    with pytest.raises(InputError, match=r"tile_2\.png"):
        fit_on_ranks(
            "mmdet", TWO, inputs(), data((tmp_path / "tiles", tiles[1])), NullRecorder(tmp_path / "run")
        )


FAILURES = """
hubmap_ml.training.rank FAILED
Failures:
[1]:
  time      : 2026-11-20_12:00:00
  host      : here
  rank      : 1 (local_rank: 1)
  exitcode  : -9 (pid: 12)
  error_file: <N/A>
Root Cause (first observed failure):
[0]:
  time      : 2026-11-20_12:00:00
  host      : here
  rank      : 0 (local_rank: 0)
  exitcode  : 1 (pid: 11)
  error_file: <N/A>
"""


def test_the_rank_that_was_killed_is_named_not_the_one_that_lost_it(tmp_path: Path) -> None:
    """Both ends are seen within one second: torchrun then calls the lower number the cause."""
    (tmp_path / OUTPUT).write_text(FAILURES)
    write_end(tmp_path, 0, "error", "RuntimeError: Connection closed by peer")
    assert _what_ended(tmp_path, TWO, 1).startswith(
        "rank 1 of 2 ended with signal 9 (SIGKILL); out of memory?"
    )


def test_of_ranks_that_raised_the_first_is_named(tmp_path: Path) -> None:
    (tmp_path / OUTPUT).write_text(FAILURES.replace("-9", "1"))
    write_end(tmp_path, 1, "error", "ZeroDivisionError: division by zero")
    write_end(tmp_path, 0, "error", "RuntimeError: Connection closed by peer")
    assert _what_ended(tmp_path, TWO, 1).startswith("rank 1 of 2 ended: ZeroDivisionError: division by zero;")


def test_what_a_rank_records_arrives_in_order_and_it_knows_the_position(tmp_path: Path) -> None:
    (tmp_path / "job").mkdir()
    (tmp_path / "kept.jsonl").write_text("earlier\nlater\n")
    heard = NullRecorder(tmp_path / "run")
    relay = Relay(tmp_path / "job", heard)
    first = RankRecorder(tmp_path / "job", tmp_path / "run", speaks=True)
    other = RankRecorder(tmp_path / "job", tmp_path / "run", speaks=False)
    first.continue_from(tmp_path / "kept.jsonl", len("earlier\n"))
    other.metrics({"loss": 3.0}, step=1)
    first.metrics({"loss": 2.0}, step=1)
    first.image(np.zeros((4, 4, 3), np.uint8), key="val/overlay_0", step=1)
    first.data({"a": 1}, "a.json")
    answered: list[int] = []
    asking = threading.Thread(target=lambda: answered.append(first.position))
    asking.start()
    while asking.is_alive():
        relay.run()
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    assert lines[0] == "earlier"
    assert [json.loads(line)["value"] for line in lines[1:]] == [2.0]
    assert answered == [(tmp_path / "run" / "metrics.jsonl").stat().st_size]
    assert other.position == 0
    assert (tmp_path / "run" / "images" / "val" / "overlay_0_1.png").exists()
    assert json.loads((tmp_path / "run" / "artifacts" / "a.json").read_text()) == {"a": 1}
    assert not list((tmp_path / "job").glob("*.npy"))
