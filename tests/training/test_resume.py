"""A training killed anywhere goes on to the weights of one that was left alone; each (metric, step) is there once."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from hubmap_ml.instances import Annotations
from hubmap_ml.spec import InputError, Interrupted, NullRecorder
from hubmap_ml.training import FitData, FitInputs, FitResult, check_resumable, open_trainer
from tests.detectors import VESSEL, mask_rcnn, vessels

fit = open_trainer("mmdet")

EPOCHS = 2
ITERATIONS = 8  # four images, one a batch, two epochs
INPUTS = FitInputs(
    config={
        **mask_rcnn(),
        "runner": {"type": "EpochBasedRunner", "max_epochs": EPOCHS},
        "batch": {"global": 1},
    },
    categories=VESSEL,
    seed=3,
)


@pytest.fixture(scope="module")
def tiles(tmp_path_factory: Any) -> tuple[Path, Annotations]:
    folder = tmp_path_factory.mktemp("tiles")
    return folder, vessels(folder, 4)


def data(tiles: tuple[Path, Annotations], **options: Any) -> FitData:
    valid = tiles[1].take_images([0])
    return FitData(**{"train": tiles[1], "valid": valid, "image_root": tiles[0], "save_every": 1, **options})


def metrics(folder: Path) -> dict[tuple[str, int], float]:
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    values = {(line["key"], line["step"]): line["value"] for line in lines}
    assert len(values) == len(lines)  # each (metric, step) once
    return {key: value for key, value in values.items() if not key[0].startswith("time/")}


def same(a: Path, b: Path) -> bool:
    left, right = (load_file(str(folder / "weights.safetensors")) for folder in (a, b))
    return left.keys() == right.keys() and all(torch.equal(left[key], right[key]) for key in left)


@pytest.fixture(scope="module")
def whole(tiles: tuple[Path, Annotations], tmp_path_factory: Any) -> tuple[FitResult, Path]:
    folder = tmp_path_factory.mktemp("whole")
    return fit(INPUTS, data(tiles, save_every=0), NullRecorder(folder)), folder


class Killed(BaseException):
    """Stands for SIGKILL inside one process: nothing is tidied up."""


@pytest.mark.parametrize("workers", [0, 1])
def test_killed_at_any_iteration_it_goes_on_to_the_same_weights(
    tiles: tuple[Path, Annotations],
    whole: tuple[FitResult, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    workers: int,
) -> None:
    """Killed again and again: every start gets a few iterations further than the one before."""
    from hubmap_ml.training.mmdet.runner import EpochRunner

    step = EpochRunner._step
    draws = random.Random(7)
    resume_from, starts = None, 0
    while True:
        left = draws.choice([1, 2, 3])

        def dying(self: EpochRunner, batch: Any) -> None:
            nonlocal left
            step(self, batch)
            left -= 1
            if left < 0:
                raise Killed

        monkeypatch.setattr(EpochRunner, "_step", dying)
        folder = tmp_path / str(starts)
        starts += 1
        try:
            result = fit(INPUTS, data(tiles, workers=workers), NullRecorder(folder), resume_from=resume_from)
            break
        except Killed:
            resume_from = folder / "checkpoints" / "last"
    assert starts >= 4
    assert same(result.last, whole[0].last)
    assert same(result.best, whole[0].best)
    assert list(result.headline) == list(whole[0].headline)
    assert metrics(folder) == metrics(whole[1])


@pytest.fixture(autouse=True)
def interruptible() -> Iterator[None]:
    """Ctrl-C is heard also where the tests run as a shell's background job, which ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("at", [2, 4], ids=["inside an epoch", "before its scores"])
def test_asked_to_stop_it_saves_says_where_it_stands_and_goes_on_from_there(
    tiles: tuple[Path, Annotations],
    whole: tuple[FitResult, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    number: signal.Signals,
    at: int,
) -> None:
    from hubmap_ml.training.mmdet.runner import EpochRunner

    spoken = EpochRunner._spoken
    handler = signal.getsignal(number)

    def asked(self: EpochRunner) -> dict[str, float]:
        if self.iter == at:
            os.kill(os.getpid(), number)
        return spoken(self)

    with monkeypatch.context() as patched:
        patched.setattr(EpochRunner, "_spoken", asked)
        with pytest.raises(
            Interrupted, match=f"^interrupted at epoch 1, iteration {at}; start it again to go on$"
        ):
            fit(INPUTS, data(tiles, save_every=0), NullRecorder(tmp_path / "first"))
    assert signal.getsignal(number) is handler
    again = NullRecorder(tmp_path / "second")
    result = fit(INPUTS, data(tiles), again, resume_from=tmp_path / "first" / "checkpoints" / "last")
    assert same(result.last, whole[0].last)
    assert metrics(tmp_path / "second") == metrics(whole[1])


def test_asked_to_stop_while_it_scores_it_scores_again_later(
    tiles: tuple[Path, Annotations],
    whole: tuple[FitResult, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Asks(NullRecorder):
        def progress(self, text: str) -> None:
            if text.endswith("validation"):
                os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(Interrupted, match="^interrupted at epoch 1, iteration 4; start it again to go on$"):
        fit(INPUTS, data(tiles, save_every=0), Asks(tmp_path / "first"))
    again = NullRecorder(tmp_path / "second")
    result = fit(INPUTS, data(tiles), again, resume_from=tmp_path / "first" / "checkpoints" / "last")
    assert same(result.last, whole[0].last)
    assert metrics(tmp_path / "second") == metrics(whole[1])


KILLED_WHILE_WRITING = """
import os, pickle, shutil, signal, sys
from pathlib import Path
import tests.training.test_resume as case
from hubmap_ml.models import checkpoints

where, calls = sys.argv[3], 0
put, save = checkpoints._put, checkpoints.save_weights

def in_the_file(model, path):
    global calls
    calls += 1
    if calls == 3:
        path.write_bytes(b"half")
        os.kill(os.getpid(), signal.SIGKILL)
    return save(model, path)

def between_renames(partial, folder, **options):
    global calls
    calls += 1
    if calls == 3:
        shutil.rmtree(checkpoints._beside(folder, "old"))
        os.replace(folder, checkpoints._beside(folder, "old"))
        os.kill(os.getpid(), signal.SIGKILL)
    put(partial, folder, **options)

if where == "in the file":
    checkpoints.save_weights = in_the_file
else:
    checkpoints._put = between_renames
with open(sys.argv[2], "rb") as file:
    tiles = pickle.load(file)
case.fit(case.INPUTS, case.data(tiles), case.NullRecorder(Path(sys.argv[1])))
"""


@pytest.mark.parametrize("where", ["in the file", "between two renames"])
def test_killed_inside_the_checkpoint_write_it_goes_on_from_the_one_before(
    tiles: tuple[Path, Annotations], whole: tuple[FitResult, Path], tmp_path: Path, where: str
) -> None:
    import pickle

    (tmp_path / "tiles.pickle").write_bytes(pickle.dumps(tiles))
    words = [str(tmp_path / "first"), str(tmp_path / "tiles.pickle"), where]
    done = subprocess.run(
        [sys.executable, "-c", KILLED_WHILE_WRITING, *words],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    again = NullRecorder(tmp_path / "second")
    result = fit(INPUTS, data(tiles), again, resume_from=tmp_path / "first" / "checkpoints" / "last")
    assert same(result.last, whole[0].last)
    assert metrics(tmp_path / "second") == metrics(whole[1])


def test_a_crash_between_the_last_and_its_copy_loses_no_best(
    tiles: tuple[Path, Annotations],
    whole: tuple[FitResult, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from hubmap_ml.training.mmdet import progress

    def dies(*_: Any, **__: Any) -> None:
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(progress, "copy_checkpoint", dies)
        with pytest.raises(Killed):
            fit(INPUTS, data(tiles), NullRecorder(tmp_path / "first"))
    again = NullRecorder(tmp_path / "second")
    result = fit(INPUTS, data(tiles), again, resume_from=tmp_path / "first" / "checkpoints" / "last")
    assert same(result.best, whole[0].best)
    shutil.rmtree(tmp_path / "first")


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


@pytest.mark.parametrize("damage", [flip, cut])
@pytest.mark.parametrize("name", ["weights.safetensors", "resume.pt"])
def test_a_damaged_checkpoint_is_told_and_the_one_before_leads_to_the_same_weights(
    tiles: tuple[Path, Annotations],
    whole: tuple[FitResult, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    damage: Callable[[Path], None],
) -> None:
    from hubmap_ml.training.mmdet.runner import EpochRunner

    step = EpochRunner._step

    def dying(self: EpochRunner, batch: Any) -> None:
        if self.iter == 6:
            raise Killed
        step(self, batch)

    with monkeypatch.context() as patched:
        patched.setattr(EpochRunner, "_step", dying)
        with pytest.raises(Killed):
            fit(INPUTS, data(tiles), NullRecorder(tmp_path / "first"))
    last = tmp_path / "first" / "checkpoints" / "last"
    check_resumable("mmdet", last, INPUTS)
    damage(last / name)
    with pytest.raises(InputError, match=name):
        check_resumable("mmdet", last, INPUTS)
    with pytest.raises(InputError, match=name):
        fit(INPUTS, data(tiles), NullRecorder(tmp_path / "refused"), last)
    assert not (tmp_path / "refused" / "metrics.jsonl").exists()
    before = last.with_name(".last.old")
    check_resumable("mmdet", before, INPUTS)
    result = fit(INPUTS, data(tiles), NullRecorder(tmp_path / "second"), before)
    assert same(result.last, whole[0].last)
    assert metrics(tmp_path / "second") == metrics(whole[1])


def test_the_checkpoint_before_finds_the_best_of_its_time(tmp_path: Path) -> None:
    from hubmap_ml.training.mmdet.progress import Inside, Progress, resume

    model = torch.nn.Linear(2, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    progress = Progress(tmp_path / "first" / "checkpoints")
    inside = Inside(1, 3, [], {}, [])
    bests = []

    def save(**words: Any) -> None:
        progress.save(model, optimizer, INPUTS, loss_scaler=None, recorded=0, **words)

    for headline in (0.1, 0.2):
        torch.nn.init.normal_(model.weight)
        save(is_best=False, inside=inside)
        save(is_best=progress.add_epoch({}, headline, iterations=4))
        bests.append(load_file(str(progress.best / "weights.safetensors"))["weight"])
    last = progress.last
    for number, (checkpoint, best) in enumerate([(last, bests[1]), (last.with_name(".last.old"), bests[0])]):
        found, _, _ = resume(NullRecorder(tmp_path / str(number)), checkpoint, INPUTS)
        assert torch.equal(load_file(str(found.best / "weights.safetensors"))["weight"], best)
    for name in ("best", ".best.old"):
        flip(progress.folder / name / "weights.safetensors")
    check_resumable("mmdet", last, INPUTS)  # it closed the best epoch itself
    with pytest.raises(InputError, match="best"):
        check_resumable("mmdet", last.with_name(".last.old"), INPUTS)
