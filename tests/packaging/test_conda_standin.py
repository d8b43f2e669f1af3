"""The stand-in for conda, called by MLflow itself in a small clone of the project with a trivial
MLproject.
"""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import conda_standin
import pytest
from mlflow.utils.conda import get_conda_command

ROOT = Path(__file__).resolve().parents[2]
SYSTEM = "/usr/bin:/bin"

MLPROJECT = """\
name: trivial
conda_env: conda.yaml
entry_points:
  main:
    command: "python where.py"
"""


@dataclass(frozen=True)
class Clone:
    """A project folder with an environment that behaves like one made by set-up."""

    folder: Path
    store: Path

    @property
    def bin(self) -> Path:
        return self.folder / ".venv" / "bin"

    def run(
        self, *command: str, path: str | None = None, **variables: str
    ) -> subprocess.CompletedProcess[str]:
        """Run a command with nothing in the environment but HOME, PATH and what is given."""
        environment = {
            "HOME": str(self.folder),
            "PATH": path or f"{self.bin}:{SYSTEM}",
            "MLFLOW_TRACKING_URI": f"sqlite:///{self.store}",
            **variables,
        }
        return subprocess.run(
            ["/usr/bin/env", "-i", *[f"{k}={v}" for k, v in environment.items()], *command],
            cwd=self.folder,
            capture_output=True,
            text=True,
            check=False,
        )

    def where_it_ran(self) -> Path:
        return Path((self.folder / "where.txt").read_text())


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One store for the module: creating one takes MLflow seconds."""
    return tmp_path_factory.mktemp("store") / "mlflow.db"


@pytest.fixture
def clone(tmp_path: Path, store: Path) -> Clone:
    folder = tmp_path / "a clone"
    shutil.copytree(ROOT / "scripts", folder / "scripts", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "packaging", folder / "packaging", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "requirements.lock", "requirements-core.lock", "conda.yaml"):
        shutil.copy(ROOT / name, folder)
    (folder / "MLproject").write_text(MLPROJECT)
    (folder / "where.py").write_text("import sys\nopen('where.txt', 'w').write(sys.prefix)\n")

    here, environment = Path(sys.prefix), folder / ".venv"
    (environment / "bin").mkdir(parents=True)
    shutil.copy(here / "pyvenv.cfg", environment)
    (environment / "lib").symlink_to(here / "lib")
    (environment / "bin" / "python").symlink_to((here / "bin" / "python").resolve())
    activate = (here / "bin" / "activate").read_text()
    (environment / "bin" / "activate").write_text(activate.replace(str(here), str(environment)))
    (environment / "bin" / "mlflow").write_text('#!/bin/sh\nexec "${0%/*}/python" -m mlflow "$@"\n')
    (environment / "bin" / "mlflow").chmod(0o755)
    lock = hashlib.sha256((folder / "requirements.lock").read_bytes()).hexdigest()
    (environment / ".hubmap_ml_setup.json").write_text(json.dumps({"lock": lock}))
    conda_standin.place(environment / "bin", {"PATH": str(environment / "bin")})
    return Clone(folder, store)


@pytest.fixture
def fake_conda(tmp_path: Path) -> Path:
    """A conda installation that writes down how it is called, with ``activate`` and ``conda.sh`` of its
    own.
    """
    home = tmp_path / "fake conda".replace(" ", "_")
    (home / "bin").mkdir(parents=True)
    (home / "etc" / "profile.d").mkdir(parents=True)
    calls = home / "calls"
    (home / "bin" / "conda").write_text(
        f'#!/bin/sh\necho "conda $*" >> "{calls}"\n[ "$2" = list ] && echo \'{{"envs": []}}\'\nexit 0\n'
    )
    (home / "bin" / "conda").chmod(0o755)
    (home / "bin" / "activate").write_text(f'echo "activate $1" >> "{calls}"\n')
    (home / "etc" / "profile.d" / "conda.sh").write_text(f'conda() {{ echo "function $1" >> "{calls}"; }}\n')
    return home


needs_no_conda = pytest.mark.skipif(
    conda_standin.find_conda({"PATH": SYSTEM}) is not None, reason="this machine has a conda in /usr/bin"
)


@needs_no_conda
def test_the_literal_command_runs_in_the_projects_environment_and_says_so_in_one_line(clone: Clone) -> None:
    done = clone.run("mlflow", "run", ".")
    assert done.returncode == 0, done.stderr
    assert clone.where_it_ran() == clone.folder / ".venv"
    said = [line for line in done.stderr.splitlines() if conda_standin.MARKER in line]
    assert len(said) == 1
    assert "is used as it is" in said[0]


@needs_no_conda
def test_without_the_standin_the_same_command_fails(clone: Clone) -> None:
    (clone.bin / "conda").unlink()
    done = clone.run("mlflow", "run", ".")
    assert done.returncode != 0
    assert "Could not find Conda executable" in done.stderr


def test_a_conda_earlier_on_path_is_the_one_called_with_its_own_activate(
    clone: Clone, fake_conda: Path
) -> None:
    done = clone.run("mlflow", "run", ".", path=f"{fake_conda / 'bin'}:{clone.bin}:{SYSTEM}")
    assert done.returncode == 0, done.stderr
    calls = (fake_conda / "calls").read_text().splitlines()
    assert calls[-2].startswith("conda env create -n mlflow-")
    assert calls[-1].startswith("activate mlflow-")
    assert conda_standin.MARKER not in done.stderr


def test_a_conda_later_on_path_stops_the_standin_and_its_advice_works(clone: Clone, fake_conda: Path) -> None:
    path = f"{clone.bin}:{fake_conda / 'bin'}:{SYSTEM}"
    stopped = clone.run("conda", "env", "list", "--json", path=path)
    assert stopped.returncode == 1
    assert stopped.stdout == ""
    assert len(stopped.stderr.splitlines()) == 1
    advice = re.search(r"export CONDA_EXE=(.+)$", stopped.stderr.strip())
    assert advice is not None
    assert not (fake_conda / "calls").exists()

    done = clone.run("mlflow", "run", ".", path=path, CONDA_EXE=advice[1])
    assert done.returncode == 0, done.stderr
    assert (fake_conda / "calls").read_text().splitlines()[-1] == "function activate"
    assert conda_standin.MARKER not in done.stderr


def test_mlflow_activates_by_source_activate_unless_told_where_conda_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("CONDA_EXE", raising=False)
    monkeypatch.delenv("MLFLOW_CONDA_HOME", raising=False)
    assert get_conda_command("name") == ["source activate name 1>&2"]


def test_source_activate_takes_the_environments_own_script(clone: Clone) -> None:
    done = clone.run("bash", "-c", "source activate mlflow-name 1>&2 && command -v python")
    assert done.stdout.strip() == str(clone.bin / "python")


def test_another_activate_earlier_on_path_is_refused(clone: Clone, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "activate").touch()
    path = f"{tmp_path / 'other'}:{clone.bin}:{SYSTEM}"
    assert "first on PATH" in _create(clone, path=path)


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("conda.yaml", "optuna==5.0.0", "optuna==4.0.0"),
        ("conda.yaml", "      - ./packaging/mmcv-full\n", ""),
        ("requirements.lock", "optuna==5.0.0", "optuna==5.0.1"),
    ],
)
def test_pins_that_disagree_are_refused(clone: Clone, file: str, old: str, new: str) -> None:
    target = clone.folder / file
    text = target.read_text()
    assert old in text
    target.write_text(text.replace(old, new))
    said = _create(clone)
    assert "disagree" in said
    assert "conda.yaml" in said


def test_an_environment_made_from_another_lock_is_refused(clone: Clone) -> None:
    with (clone.folder / "requirements.lock").open("a") as lock:
        lock.write("# a later lock\n")
    assert "made from another requirements.lock" in _create(clone)


def test_an_unfinished_set_up_is_refused(clone: Clone) -> None:
    (clone.folder / ".venv" / ".hubmap_ml_setup.json").unlink()
    assert "not complete" in _create(clone)


def test_another_projects_conda_yaml_is_refused(clone: Clone, tmp_path: Path) -> None:
    other = tmp_path / "conda.yaml"
    shutil.copy(clone.folder / "conda.yaml", other)
    assert "this stand-in serves" in _create(clone, file=other)


@pytest.mark.parametrize(
    "call",
    [
        ["install", "numpy"],
        ["info", "--json"],
        ["env", "remove", "-n", "x"],
        ["create", "--channel", "conda-forge", "--yes", "--override-channels", "-n", "x", "python"],
        [],
    ],
    ids=" ".join,
)
def test_anything_else_is_answered_with_one_clear_line(clone: Clone, call: list[str]) -> None:
    done = clone.run("conda", *call)
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert "needs a real conda" in done.stderr


def test_place_puts_it_there_once_and_takes_it_away_when_a_conda_appears(
    tmp_path: Path, fake_conda: Path
) -> None:
    folder = tmp_path / "bin"
    folder.mkdir()
    conda_standin.place(folder, {"PATH": str(folder)})
    first = (folder / "conda").stat()
    assert os.access(folder / "conda", os.X_OK)
    conda_standin.place(folder, {"PATH": str(folder)})
    assert (folder / "conda").stat().st_ino == first.st_ino
    for found in (
        {"PATH": f"{folder}:{fake_conda / 'bin'}"},
        {"PATH": str(folder), "CONDA_EXE": str(fake_conda / "bin" / "conda")},
        {"PATH": str(folder), "MLFLOW_CONDA_HOME": str(fake_conda)},
    ):
        assert str(fake_conda) in conda_standin.place(folder, found)
        assert not (folder / "conda").exists()
        conda_standin.place(folder, {"PATH": str(folder)})


def test_place_leaves_a_real_conda_in_the_environment_alone(fake_conda: Path) -> None:
    before = (fake_conda / "bin" / "conda").read_text()
    conda_standin.place(fake_conda / "bin", {"PATH": "/nowhere"})
    assert (fake_conda / "bin" / "conda").read_text() == before


def _create(clone: Clone, *, file: Path | None = None, path: str | None = None) -> str:
    """What the stand-in says, in one line, when it refuses MLflow's call to create the environment."""
    yaml = file or clone.folder / "conda.yaml"
    done = clone.run("conda", "env", "create", "-n", "mlflow-x", "--file", str(yaml), path=path)
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1, done.stderr
    return done.stderr
