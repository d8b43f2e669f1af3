"""Which code a run was made with: commit, uncommitted changes, versions, machine."""

import importlib.metadata
import os
import platform
import subprocess
from pathlib import Path
from typing import Any

import hubmap_ml

PACKAGES = (
    "mlflow",
    "torch",
    "torchvision",
    "mmcv-full",
    "mmdet",
    "optuna",
    "numpy",
    "pandas",
    "pyarrow",
    "pycocotools",
    "ensemble-boxes",
    "albumentations",
    "opencv-python-headless",
    "numba",
)


def commit_and_changes() -> tuple[str, str]:
    """Return the commit of the project's checkout and its uncommitted difference; empty texts outside one."""
    folder = Path(hubmap_ml.__file__).resolve().parents[1]
    if not (folder / ".git").exists():
        return "", ""
    return _git(folder, "rev-parse", "HEAD").strip(), _git(folder, "diff", "HEAD")


def environment() -> dict[str, Any]:
    """Return versions of what computes, and the machine in a few words."""
    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return {
        "hubmap-ml": hubmap_ml.__version__,
        "python": platform.python_version(),
        "packages": versions,
        "system": f"{platform.system()} {platform.machine()}",
        "cores": os.cpu_count(),
    }


def _git(folder: Path, *words: str) -> str:
    try:
        done = subprocess.run(["git", *words], cwd=folder, capture_output=True, text=True, check=False)
    except OSError:  # no git on this machine
        return ""
    return done.stdout if done.returncode == 0 else ""
