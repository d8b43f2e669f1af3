"""A predictor on trial, and what the watch over its process refuses. Each watch needs a process of its own."""

import json
import pickle
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hubmap_ml.data import ArrayImage
from hubmap_ml.instances import Images, read_predictions
from hubmap_ml.predictor import Trial, try_predictor
from hubmap_ml.stages.worker import TorchWorker
from tests.predictor.test_networks import checkpoints, folder  # noqa: F401

pytest.importorskip("mmdet", reason="networks need mmdet")


def images(count: int) -> list[Any]:
    rng = np.random.default_rng(5)
    made = []
    for number in range(count):
        source = ArrayImage(rng.integers(0, 255, (48, 64, 3), np.uint8))
        made.append((Images.build(ids=[f"tile{number}"], heights=[48], widths=[64]), source))
    return made


def tried(folder: Path, out: Path, *, again: dict[str, Any] | None = None) -> Trial:  # noqa: F811
    with TorchWorker() as fresh:
        result: Trial = fresh.call(_try, folder, images(2), again or {}, out)
    return result


def _try(folder: Path, timed: Any, again: Any, out: Path) -> Trial:  # noqa: F811
    return try_predictor(folder, timed=timed, again=again, out=out)


def test_a_predictor_shows_its_cost_and_its_candidates(folder: Path, tmp_path: Path) -> None:  # noqa: F811
    shown = tried(folder, tmp_path / "out", again={"leaves/f1": images(2)})
    assert shown.problem == ""
    from hubmap_ml.inference import open_network, predict_candidates

    network = open_network(folder / "leaves/f1")
    assert shown.parameters == 2 * network.parameters
    assert shown.device == "cpu"
    assert 0 < shown.seconds < 60
    assert shown.peak_mib > 100
    found = read_predictions(tmp_path / "out" / "0")
    direct = [item for _, item, _ in predict_candidates(network, images(2), views=("none", "hflip"))]
    assert np.array_equal(found.scores, np.concatenate([item.scores for item in direct]))
    assert len(found.scores) > 0


def test_a_name_that_would_be_evaluated_is_refused(folder: Path, tmp_path: Path) -> None:  # noqa: F811
    """mmcv evaluates the type of a suppression as Python: a configuration in an artifact could run anything."""
    bad = tmp_path / "bad"
    shutil.copytree(folder, bad)
    path = bad / "leaves/f0/config.json"
    text = path.read_text()
    planted = f"__import__('pathlib').Path({str(tmp_path / 'ran')!r}).touch() or nms"
    config = json.loads(
        text.replace('"nms"', json.dumps(planted)).replace(json.dumps(planted) + ":", '"nms":')
    )
    path.write_text(json.dumps(config))
    shown = tried(bad, tmp_path / "out")
    assert "nms.type is" in shown.problem
    assert "allowed: nms, soft_nms" in shown.problem
    assert not (tmp_path / "ran").exists()


ATTEMPTS = {
    "unpickling": ("pickle.loads(b'cpathlib\\nPath\\n.')", "unpickling pathlib.Path"),
    "a pickle in the folder": ("open(folder + '/x.pkl', 'rb')", "which is no JSON"),
    "a pickle by another path": ("open(folder + '/../artifact/x.pkl', 'rb')", "which is no JSON"),
    "torch.load": ("torch.load(folder + '/../w.pth', weights_only=False)", "unpickling"),
    "a module of the folder": ("__import__('planted')", "planted"),
    "code by its file's name": ("exec(compile('1', folder + '/planted.py', 'exec'))", "planted.py"),
    "text from a JSON file": ("eval(json.loads(open(folder + '/c.json').read()))", "compiling"),
    "a library of the folder": ("ctypes.CDLL(folder + '/x.so')", "x.so"),
}
ALLOWED = {
    "data": "json.loads(open(folder + '/c.json').read())",
    "our own kernels": "BitMasks.from_dense([np.ones((9, 9), bool)]).areas()",
}
WATCHED = """
import ctypes, json, pickle, sys
from pathlib import Path
import numpy as np
import torch
from hubmap_ml.instances import BitMasks
from hubmap_ml.predictor.audit import forbid_code_from

folder, attempts = sys.argv[1], json.loads(sys.argv[2])
torch.save(Path("x"), folder + "/../w.pth")
sys.path.insert(0, folder)
compiled = {name: compile(text, "attempt", "exec") for name, text in attempts.items()}
forbid_code_from(Path(folder))
for name, code in compiled.items():
    try:
        exec(code)
        said = "went through"
    except Exception as error:
        said = f"{type(error).__name__}: {error}"
    print(json.dumps([name, said]))
"""


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What each attempt came to, all in one watched process."""
    made = tmp_path_factory.mktemp("watched") / "artifact"
    made.mkdir()
    (made / "x.pkl").write_bytes(pickle.dumps(Path("x")))
    (made / "planted.py").write_text("raise SystemExit('planted code ran')")
    (made / "c.json").write_text('"1 + 1"')
    (made / "x.so").write_bytes(b"")
    attempts = {name: text for name, (text, _) in ATTEMPTS.items()} | ALLOWED
    done = subprocess.run(
        [sys.executable, "-c", WATCHED, str(made), json.dumps(attempts)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return dict(json.loads(line) for line in done.stdout.splitlines())


@pytest.mark.parametrize("name", ATTEMPTS)
def test_code_is_refused(said: dict[str, str], name: str) -> None:
    assert said[name].startswith("ForbiddenError: ")
    assert ATTEMPTS[name][1] in said[name]


@pytest.mark.parametrize("name", ALLOWED)
def test_data_and_our_own_kernels_are_allowed(said: dict[str, str], name: str) -> None:
    assert said[name] == "went through"
