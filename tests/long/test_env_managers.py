"""Environments that others make from conda.yaml: mmcv-full compiles inside an isolated build, with its ops.

Each test fetches torch and compiles mmcv-full: about a quarter of an hour on two cores, and 15 GB of disk. The conda
route itself is not run here; it hands the same list to pip, which the first test stands for.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import setup_environment

ROOT = Path(__file__).resolve().parents[2]

pytestmark = [pytest.mark.long, pytest.mark.timeout(5400)]

CHECK = """\
import importlib.metadata, sys
import mmcv._ext, mmdet, mmcv.ops, cv2, torch
import hubmap_ml
names = [d.metadata["Name"] for d in importlib.metadata.distributions()]
assert "opencv-python" not in names, "two OpenCVs"
assert mmcv.ops.batched_nms is not None
open("found.txt", "w").write(f"{sys.prefix} {torch.__version__} {hubmap_ml.__file__}")
"""


def test_pip_builds_mmcv_full_in_a_blank_environment(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-m", "venv", str(tmp_path / "blank")], check=True)
    pip = [str(tmp_path / "blank" / "bin" / "python"), "-m", "pip"]
    subprocess.run(
        [*pip, "wheel", "--no-deps", "--wheel-dir", str(tmp_path), str(ROOT / "packaging" / "mmcv-full")],
        check=True,
        cwd=tmp_path,
        env=_without_this_environment(tmp_path),
    )
    wheel = next(tmp_path.glob("mmcv_full-1.7.2-*.whl"))
    assert setup_environment.has_ops(wheel)


def test_mlflow_makes_a_working_environment_with_uv(tmp_path: Path) -> None:
    project = tmp_path / "project"
    project.mkdir()
    for folder in ("hubmap_ml", "packaging"):
        shutil.copytree(ROOT / folder, project / folder, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "conda.yaml", project)
    (project / "check.py").write_text(CHECK)
    (project / "MLproject").write_text(
        'name: check\nconda_env: conda.yaml\nentry_points:\n  main: {command: "python check.py"}\n'
    )
    environment = _without_this_environment(tmp_path)
    environment |= setup_environment.uv_settings(setup_environment._pip_configuration(), environment)
    environment["MLFLOW_ENV_ROOT"] = str(tmp_path / "envs")
    environment["MLFLOW_TRACKING_URI"] = f"sqlite:///{tmp_path / 'mlflow.db'}"
    subprocess.run(
        [sys.executable, "-m", "mlflow", "run", ".", "--env-manager", "uv"],
        cwd=project,
        env=environment,
        check=True,
    )
    prefix, torch, package = (project / "found.txt").read_text().split()
    assert Path(prefix).is_relative_to(tmp_path / "envs")
    assert torch.startswith("2.12.1")
    assert Path(package).is_relative_to(project)


def _without_this_environment(cache: Path) -> dict[str, str]:
    """This process's variables less those that lead to this environment, and caches of their own."""
    left_out = {"VIRTUAL_ENV", "PYTHONPATH", "PYTHONHOME"}
    environment = {name: value for name, value in os.environ.items() if name not in left_out}
    environment["PATH"] = (
        f"{Path(sys.executable).parent}{os.pathsep}{environment.get('PATH', os.defpath)}"  # uv
    )
    environment["XDG_CACHE_HOME"] = str(cache / "cache")
    return environment
