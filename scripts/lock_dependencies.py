"""Write requirements.lock, requirements-core.lock and conda.yaml from pyproject.toml: ``make lock``.

Versions that are locked already stay unless pyproject.toml forbids them; ``--upgrade`` takes the newest of
everything, ``--upgrade-package NAME`` of one. The locks hold exact versions with hashes and no address: they
install from any index that offers the same files. conda.yaml holds the same versions of what runs (no tests,
no tools), without hashes, because pip takes no local folder in a list with hashes, and mmcv-full is one.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import setup_environment
from setup_environment import CORE, FULL, ROOT, SetupError

# The platform that the project is tested on.
PLATFORM = "x86_64-manylinux_2_28"

CONDA_HEAD = """\
# What MLproject's commands run in; written by `make lock` from pyproject.toml and requirements.lock. The
# project itself is not listed: its commands run `python -m hubmap_ml` in the project's folder, whose code is
# then always the one that runs (MLflow's managers would install an editable project from a folder that they
# delete).
name: hubmap-ml
channels:
  - conda-forge
dependencies:
  - python=3.11
  - pip
  - pip:
"""


def main(arguments: list[str] | None = None) -> int:
    """Write the three files; 1 with one line on failure."""
    extra = sys.argv[1:] if arguments is None else arguments
    try:
        uv = setup_environment._find_or_fetch_uv()
        _compile(uv, FULL.lock, "--all-extras", *extra)
        _compile(uv, CORE.lock, "--extra", "test", "--constraint", FULL.lock.name)
        pins = _compile(uv, None, "--extra", "detect", "--constraint", FULL.lock.name)
        lines = [f"      - {line}\n" for line in [*pins, "./packaging/mmcv-full"]]
        (ROOT / "conda.yaml").write_text(CONDA_HEAD + "".join(lines))
    except SetupError as error:
        print(f"lock: {error}", file=sys.stderr)
        return 1
    return 0


def _compile(uv: str, target: Path | None, *options: str) -> list[str]:
    """Resolve pyproject.toml into a lock file, or without one into a list of ``name==version``."""
    command = [uv, "pip", "compile", "pyproject.toml", "--quiet", "--no-annotate"]
    command += ["--python-version", "3.11", "--python-platform", PLATFORM]
    command += ["--no-emit-package", "mmcv-full"]
    if target is None:
        command += ["--no-header"]
    else:
        command += [
            "--generate-hashes",
            "--custom-compile-command",
            "make lock",
            "--output-file",
            target.name,
        ]
    resolved = subprocess.run(
        [*command, *options], cwd=ROOT, env=_settings(), stdout=subprocess.PIPE, text=True, check=False
    )
    if resolved.returncode != 0:
        raise SetupError(
            f"pyproject.toml does not resolve for {target.name if target else 'conda.yaml'}, see above"
        )
    return resolved.stdout.split("\n")[:-1] if target is None else []


def _settings() -> dict[str, str]:
    """The user's one index; not the extra ones, whose builds would lend their hashes to the lock."""
    translated = setup_environment.uv_settings(setup_environment._pip_configuration(), os.environ)
    for variable in ("UV_INDEX", "UV_INDEX_STRATEGY", "UV_FIND_LINKS"):
        translated.pop(variable, None)
    return dict(os.environ) | translated


if __name__ == "__main__":
    sys.exit(main())
