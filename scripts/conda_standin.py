"""Answer as ``conda`` where no conda is installed, so that a plain ``mlflow run .`` works.

``MLproject`` names ``conda.yaml``, and MLflow (3.17) then insists on conda: it asks ``conda --help`` (is it
there?), ``conda env list --json`` (is the environment there?), ``conda env create -n NAME --file conda.yaml``
(if not), and starts the command after ``source activate NAME``. The stand-in maps create to the environment
it lies in, which set-up made from the same pins; ``source activate`` finds that environment's own
``activate``. It is no conda: it answers these calls for this project's ``conda.yaml`` and refuses everything
else in one line. A real conda always goes first: MLflow finds it through ``MLFLOW_CONDA_HOME`` or
``CONDA_EXE`` by itself, and where one lies further down PATH the stand-in stops and says so.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
MARKER = "stand-in of hubmap_ml"
LAUNCHER = f"""#!/bin/sh
# The conda {MARKER}: see scripts/conda_standin.py. Placed by `make setup` where no conda is installed.
exec "${{0%/*}}/python" "${{0%/*}}/../../scripts/conda_standin.py" "$@"
"""


class Refusal(Exception):
    """Why the stand-in does not answer, and what to do, in one line."""


def place(bin_folder: Path, environ: Mapping[str, str]) -> str:
    """Put the stand-in into an environment's ``bin``, or take it away if there is a real conda by now.

    Args:
        bin_folder: where ``activate`` lies.
        environ: where to look for conda (``MLFLOW_CONDA_HOME``, ``CONDA_EXE``, ``PATH``).

    Returns:
        One line that says which conda MLflow will call.
    """
    target = bin_folder / "conda"
    if real := find_conda(environ):
        if is_standin(target):
            target.unlink()
        return f"conda: {real}"
    if target.exists() and not is_standin(target):
        return f"conda: {target}"
    if not target.exists() or target.read_text() != LAUNCHER:
        beside = bin_folder / f".conda.{os.getpid()}"
        beside.write_text(LAUNCHER)
        beside.chmod(0o755)
        beside.replace(target)
    return "conda: none found; a stand-in in the environment's bin answers `mlflow run`"


def find_conda(environ: Mapping[str, str]) -> Path | None:
    """The real conda that MLflow would call, in MLflow's order; None if there is none."""
    candidates = []
    if home := environ.get("MLFLOW_CONDA_HOME"):
        candidates.append(Path(home) / "bin" / "conda")
    if executable := environ.get("CONDA_EXE"):
        candidates.append(Path(executable).parent / "conda")
    candidates += [Path(folder) / "conda" for folder in _path(environ)]
    for candidate in candidates:
        if candidate.is_file() and os.access(candidate, os.X_OK) and not is_standin(candidate):
            return candidate
    return None


def is_standin(executable: Path) -> bool:
    """Whether this file is a stand-in (of any checkout)."""
    try:
        with executable.open("rb") as file:
            return MARKER.encode() in file.read(500)
    except OSError:
        return False


def answer(arguments: list[str], environ: Mapping[str, str]) -> str:
    """Do what MLflow asks for.

    Args:
        arguments: after ``conda``.
        environ: the caller's environment.

    Returns:
        What to print.

    Raises:
        Refusal: a real conda exists, the pins disagree, or the call is none of MLflow's.
    """
    if arguments in (["--help"], ["-h"]):
        return f"This is the conda {MARKER}, not conda. It answers `mlflow run` in this project only."
    if real := find_conda(environ):
        raise Refusal(f"a real conda lies on PATH behind this stand-in, so use it: export CONDA_EXE={real}")
    match arguments:
        case ["env", "list", "--json"]:
            return '{"envs": []}'  # MLflow then asks to create, whose output the user sees
        case ["env", "create", "-n", _, "--file", file]:
            _check(Path(file), environ)
            return ""
        case _:
            raise Refusal(
                f"`conda {' '.join(arguments)}` needs a real conda, "
                f"this stand-in only answers `mlflow run` in {ROOT}"
            )


def _check(conda_yaml: Path, environ: Mapping[str, str]) -> None:
    """Refuse unless the environment is what this conda.yaml describes and will be the one activated."""
    if conda_yaml.resolve() != ROOT / "conda.yaml":
        raise Refusal(
            f"this stand-in serves {ROOT / 'conda.yaml'}, not {conda_yaml}: "
            "install conda, or add `--env-manager uv` or `--env-manager local`"
        )
    import check_dependencies  # reads yaml, which the environment has

    if found := check_dependencies.differences(ROOT):
        more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
        raise Refusal(
            f"conda.yaml and the locks disagree: {found[0]}{more}; run `make lock`, then `make setup`"
        )
    environment = Path(sys.prefix)
    lock = ROOT / "requirements.lock"
    try:
        stamp = json.loads((environment / ".hubmap_ml_setup.json").read_text())
    except (OSError, ValueError):
        raise Refusal(f"the set-up of {environment} is not complete: run `make setup`") from None
    if stamp.get("lock") != hashlib.sha256(lock.read_bytes()).hexdigest():
        raise Refusal(f"{environment} was made from another {lock.name}: run `make setup`")
    scripts = [Path(folder) / "activate" for folder in _path(environ)]
    activate = next(filter(Path.is_file, scripts), None)
    if activate is None or activate.resolve() != (environment / "bin" / "activate").resolve():
        raise Refusal(f"`source activate` would take {activate}: put {environment / 'bin'} first on PATH")


def _path(environ: Mapping[str, str]) -> list[str]:
    return [folder for folder in environ.get("PATH", os.defpath).split(os.pathsep) if folder]


def main() -> int:
    """Answer one call; 0, or 1 with one line."""
    arguments = sys.argv[1:]
    try:
        text = answer(arguments, os.environ)
    except Refusal as refusal:
        print(f"conda ({MARKER}): {refusal}", file=sys.stderr)
        return 1
    if text:
        print(text)
    else:
        print(f"conda ({MARKER}): no conda here, {sys.prefix} is used as it is", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
