"""design.md's table of rooms, as pyproject.toml gives it to import-linter, seen to bite on planted
imports.
"""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ROOMS = [
    "spec",
    "instances",
    "data",
    "metrics",
    "fusion",
    "postprocess",
    "tuning",
    "ensembling",
    "models",
    "training",
    "inference",
    "predictor",
    "serving",
    "submission",
    "viz",
    "tracking",
    "stages",
    "cli",
]


@pytest.fixture
def house(tmp_path: Path) -> Path:
    """A package with every room empty, under the project's own rules."""
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    for room in ROOMS:
        (tmp_path / "hubmap_ml" / room).mkdir(parents=True)
        (tmp_path / "hubmap_ml" / room / "__init__.py").touch()
    (tmp_path / "hubmap_ml" / "__init__.py").touch()
    return tmp_path


def _broken_rules(house: Path) -> list[str]:
    command = [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"]
    ran = subprocess.run(
        command, cwd=house, env={"PYTHONPATH": str(house), "COLUMNS": "200"}, capture_output=True, text=True
    )
    broken = [
        line.removesuffix("BROKEN").strip() for line in ran.stdout.splitlines() if line.endswith("BROKEN")
    ]
    assert (ran.returncode != 0) == bool(broken), ran.stdout + ran.stderr
    return broken


def test_empty_rooms_and_what_the_table_allows_pass(house: Path) -> None:
    allowed = {
        "spec": "import pydantic",
        "tuning": "from hubmap_ml import instances, metrics, fusion, postprocess, spec",
        "ensembling": "from hubmap_ml import tuning, metrics",
        "training": "import torch, mmcv, mmdet\nfrom hubmap_ml import models, data, inference, viz, fusion",
        "serving": "import mlflow, torch\nfrom hubmap_ml import predictor, fusion",
        "tracking": "import mlflow",
        "stages": "from hubmap_ml import training, tracking, serving, tuning",
        "cli": "from hubmap_ml import stages, tracking",
    }
    for room, text in allowed.items():
        (house / "hubmap_ml" / room / "module.py").write_text(text + "\n")
    assert _broken_rules(house) == []


def test_each_planted_import_breaks_its_rule_even_inside_a_function(house: Path) -> None:
    planted = {
        "training": "import mlflow",
        "metrics": "import torch",
        "viz": "from mmcv import ops",
        "data": "import albumentations",
        "fusion": "from hubmap_ml import postprocess",
        "submission": "from hubmap_ml.metrics import x",
        "tracking": "from hubmap_ml import stages",
    }
    for room, text in planted.items():
        (house / "hubmap_ml" / room / "module.py").write_text(f"def f():\n    {text}\n")
    (house / "hubmap_ml" / "metrics" / "x.py").touch()
    broken = _broken_rules(house)
    for expected in (
        "mlflow in tracking and serving only",
        "torch and what needs it in models, training, inference, predictor and serving only",
        "only cli imports stages",
        "fusion imports instances",
        "submission imports instances",
        "tracking imports no room",
    ):
        assert any(line.startswith(expected) for line in broken), (expected, broken)
    assert not any(line.startswith("tuning imports") for line in broken)


@pytest.mark.parametrize(
    ("room", "caught"), [("inference", True), ("serving", True), ("training/mmdet", False), ("models", False)]
)
def test_mmdet_configs_and_runners_stay_in_models_and_training(
    tmp_path: Path, room: str, caught: bool
) -> None:
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    (tmp_path / "hubmap_ml" / room).mkdir(parents=True)
    module = tmp_path / "hubmap_ml" / room / "module.py"
    module.write_text(
        "import mmcv\nfrom mmcv.runner import load_checkpoint\n\nx = mmcv.Config, load_checkpoint\n"
    )
    command = [str(Path(sys.executable).with_name("ruff")), "check", "--select", "TID251", "--no-cache", "."]
    ran = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert ("mmcv.Config" in ran.stdout and "mmcv.runner" in ran.stdout) == caught
