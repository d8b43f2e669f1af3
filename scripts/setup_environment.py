"""Make the project's environments from its locks: ``.venv`` and, without torch, ``.venv-core``.

Runs on a bare Python 3.11 (standard library only). What it does, each step in one line on the terminal: uv
(from PATH or fetched into ``.tools/``), the locked packages with their hashes, mmcv-full compiled once per
machine and kept in the user's cache, the project itself (editable), a check that mmcv's ops are there, and
the stand-in for conda. When nothing that went in has changed, a second call returns at once.

uv does not read pip's configuration. Where the user configured pip (a mirror, a proxy, certificates) and not
uv, the settings are translated; exact versions and hashes keep another index from slipping in another build.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import fcntl
import hashlib
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import sysconfig
import time
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import conda_standin

ROOT = Path(__file__).resolve().parents[1]
BUILD_PACKAGE = ROOT / "packaging" / "mmcv-full"
STAMP = ".hubmap_ml_setup.json"
GIGABYTE = 1_000_000_000


class SetupError(Exception):
    """What stopped the set-up and what to do about it, in one line."""


@dataclass(frozen=True)
class Environment:
    """One of the project's environments."""

    folder: Path
    lock: Path
    detectors: bool
    """Whether it can train and infer (torch, mmcv, mmdet)."""
    disk_bytes: int
    """What a first installation takes, package cache included, with some reserve."""

    @property
    def python(self) -> Path:
        """Its interpreter."""
        return self.folder / "bin" / "python"


FULL = Environment(ROOT / ".venv", ROOT / "requirements.lock", detectors=True, disk_bytes=9 * GIGABYTE)
CORE = Environment(
    ROOT / ".venv-core", ROOT / "requirements-core.lock", detectors=False, disk_bytes=3 * GIGABYTE
)


def main(arguments: list[str] | None = None) -> int:
    """Parse the command line, make the environment, and return the exit code (1 with one line on failure)."""
    parser = argparse.ArgumentParser(prog="make setup", description="Make the project's environment.")
    parser.add_argument("--core", action="store_true", help="the environment without torch (.venv-core)")
    parser.add_argument("--force", action="store_true", help="go through every step even if nothing changed")
    options = parser.parse_args(arguments)
    try:
        with _only_one_at_a_time():
            set_up(CORE if options.core else FULL, force=options.force)
    except SetupError as error:
        print(f"set-up: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("set-up: interrupted; call it again to go on", file=sys.stderr)
        return 130
    return 0


def set_up(environment: Environment, *, force: bool = False) -> None:
    """Bring one environment up to date.

    Raises:
        SetupError: something is missing or failed.
    """
    begun = time.monotonic()
    name = environment.folder.name
    stamp = _read_stamp(environment)
    if not force and environment.lock.exists() and _is_current(environment, stamp):
        if environment.detectors:
            conda_standin.place(environment.folder / "bin", os.environ)
        print(f"{name} is up to date")
        return
    (environment.folder / STAMP).unlink(missing_ok=True)
    _check_machine(environment)
    uv = _find_or_fetch_uv()
    settings = dict(os.environ) | uv_settings(_pip_configuration(), os.environ)
    settings["VIRTUAL_ENV"] = str(environment.folder)

    moved = bool(stamp) and stamp.get("project") != str(ROOT)
    if moved or not environment.python.exists():
        _say(f"creating {name} with Python {platform.python_version()}")
        _run(
            [uv, "venv", "--quiet", "--clear", "--python", sys.executable, str(environment.folder)], settings
        )
    _say(f"installing {environment.lock.name} (exact versions, checked hashes)")
    install = [uv, "pip", "install", "--python", str(environment.python)]
    quiet = [] if sys.stderr.isatty() else ["--quiet"]
    _run([*install, *quiet, "--require-hashes", "-r", str(environment.lock)], settings)
    if environment.detectors:
        wheel = _mmcv_wheel(environment, settings)
        _run([*install, "--quiet", "--no-deps", "--reinstall-package", "mmcv-full", str(wheel)], settings)
    _say("installing hubmap-ml (editable)")
    _run([*install, "--quiet", "--no-deps", "--no-build-isolation", "-e", str(ROOT)], settings)
    result = dict[str, Any](_ingredients(environment))
    if environment.detectors:
        result["cuda_ops"] = check_ops(environment.python)
        _say(f"CUDA ops: {'yes' if result['cuda_ops'] else 'no'}")
        _say(conda_standin.place(environment.folder / "bin", os.environ))
        create_store(environment.python)
    (environment.folder / STAMP).write_text(json.dumps(result, indent=1))
    _say(f"{name} is ready ({time.monotonic() - begun:.0f} s)")


def uv_settings(pip: Mapping[str, str], environ: Mapping[str, str]) -> dict[str, str]:
    """uv's environment variables that say what pip's configuration says, where uv itself has none.

    Args:
        pip: option to value, such as ``{"extra-index-url": "https://a https://b"}``.
        environ: the user's environment; what it already tells uv stays.

    Returns:
        Variables to add.
    """
    settings: dict[str, str] = {}
    if not {"UV_DEFAULT_INDEX", "UV_INDEX_URL", "UV_INDEX", "UV_EXTRA_INDEX_URL", "UV_CONFIG_FILE"} & set(
        environ
    ):
        if "index-url" in pip:
            settings["UV_DEFAULT_INDEX"] = pip["index-url"]
        if "extra-index-url" in pip:
            settings["UV_INDEX"] = " ".join(pip["extra-index-url"].split())
            # As pip does: any index may offer the locked version. Safe, because hashes are required.
            settings["UV_INDEX_STRATEGY"] = "unsafe-best-match"
        if "find-links" in pip:
            settings["UV_FIND_LINKS"] = ",".join(pip["find-links"].split())
        if "trusted-host" in pip:
            settings["UV_INSECURE_HOST"] = " ".join(pip["trusted-host"].split())
        if pip.get("no-index", "").lower() in {"1", "true", "yes", "on"}:
            settings["UV_NO_INDEX"] = "1"
    simple = {
        "cert": "SSL_CERT_FILE",
        "client-cert": "SSL_CLIENT_CERT",
        "timeout": "UV_HTTP_TIMEOUT",
        "default-timeout": "UV_HTTP_TIMEOUT",
        "proxy": "ALL_PROXY",
    }
    for option, variable in simple.items():
        if option in pip and variable not in environ:
            settings[variable] = pip[option]
    return {variable: value for variable, value in settings.items() if variable not in environ}


def parse_pip_configuration(listing: str) -> dict[str, str]:
    r"""What ``pip config list`` prints, as option to value; a command's section wins over ``global``,
    variables over both.

    >>> parse_pip_configuration("global.cert='/a.pem'\n:env:.cert='/b.pem'")
    {'cert': '/b.pem'}
    """
    found: dict[str, tuple[int, str]] = {}
    for line in listing.splitlines():
        matched = re.fullmatch(r"(global|install|:env:)\.([\w-]+)=(.*)", line.strip())
        if not matched:
            continue
        section, option, written = matched.groups()
        rank = {"global": 0, "install": 1, ":env:": 2}[section]
        if rank >= found.get(option, (-1, ""))[0]:
            with contextlib.suppress(ValueError, SyntaxError):
                found[option] = (rank, str(ast.literal_eval(written)))
    return {option: value for option, (_, value) in found.items()}


def check_ops(python: Path) -> bool:
    """Import mmcv's compiled ops in ``python``; whether they were compiled for CUDA.

    Raises:
        SetupError: they are missing or do not load.
    """
    code = "import mmcv._ext, mmcv.ops; print('OPS', mmcv.ops.get_compiling_cuda_version())"
    ran = subprocess.run(
        [str(python), "-W", "ignore", "-c", code], capture_output=True, text=True, check=False
    )
    answer = [line for line in ran.stdout.splitlines() if line.startswith("OPS ")]
    if ran.returncode != 0 or not answer:
        reason = (ran.stderr.strip().splitlines() or ["no message"])[-1]
        raise SetupError(f"mmcv-full is installed without working ops ({reason}): make setup ARGS=--force")
    return answer[0] != "OPS not available"


def create_store(python: Path) -> None:
    """Create the store that runs of this checkout go to, unless there is one or the user has one elsewhere.

    Before the first run: MLflow cannot repair a store whose creation was killed half-way.

    Raises:
        SetupError: it cannot be created.
    """
    if os.environ.get("MLFLOW_TRACKING_URI") or (ROOT / "mlflow.db").exists():
        return
    code = "from hubmap_ml.tracking import open_store; open_store()"
    ran = subprocess.run(
        [str(python), "-W", "ignore", "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if ran.returncode != 0:
        reason = (ran.stderr.strip().splitlines() or ["no message"])[-1]
        raise SetupError(f"the MLflow store {ROOT / 'mlflow.db'} cannot be created ({reason})")
    _say("created mlflow.db, where runs are kept (MLFLOW_TRACKING_URI names another place)")


@dataclass(frozen=True)
class WheelKey:
    """What a compiled mmcv-full depends on: a wheel is reused only where all of it is equal."""

    python: str
    platform: str
    torch: str
    cuda: str
    """``cpu``, or the architectures asked for."""
    compiler: str
    sources: str
    """Digest of the build package, which names the version and the sources' SHA-256."""

    @property
    def folder(self) -> str:
        """A readable folder name."""
        digest = hashlib.sha256(repr(self).encode()).hexdigest()[:12]
        return f"mmcv-full-{self.python}-{self.platform}-torch{self.torch}-{self.cuda.split(';')[0]}-{digest}"


def has_ops(wheel: Path) -> bool:
    """Whether the wheel carries the compiled ``mmcv/_ext``: a build without torch ends well, without it."""
    try:
        with zipfile.ZipFile(wheel) as content:
            return any(re.fullmatch(r"mmcv/_ext\..*so", name) for name in content.namelist())
    except (OSError, zipfile.BadZipFile):
        return False


def cached_wheel(key: WheelKey) -> Path | None:
    """The wheel built earlier on this machine for the same things, if it is whole."""
    wheels = sorted((_cache() / key.folder).glob("mmcv_full-*.whl"))
    return next((wheel for wheel in wheels if has_ops(wheel)), None)


def keep_wheel(wheel: Path, key: WheelKey) -> Path:
    """Move a wheel into the cache, whole or not at all, and return where it lies."""
    folder = _cache() / key.folder
    folder.mkdir(parents=True, exist_ok=True)
    beside = folder / f".{wheel.name}.{os.getpid()}"
    shutil.copyfile(wheel, beside)
    return beside.replace(folder / wheel.name)


def wheel_key(environment: Environment) -> WheelKey:
    """What a wheel for this environment has to fit.

    Raises:
        SetupError: torch is not there or does not import.
    """
    code = "import torch; print(torch.__version__, int(torch.cuda.is_available()))"
    command = [str(environment.python), "-c", code]
    asked = subprocess.run(command, capture_output=True, text=True, check=False)
    if asked.returncode != 0:
        raise SetupError(
            f"torch does not import: {(asked.stderr.strip().splitlines() or ['no message'])[-1]}"
        )
    torch, gpu = asked.stdout.split()
    cuda = gpu == "1" or os.environ.get("FORCE_CUDA") == "1"  # as mmcv's setup.py decides
    compiler = _compiler()
    return WheelKey(
        python=f"cp{sys.version_info.major}{sys.version_info.minor}",
        platform=sysconfig.get_platform(),
        torch=torch,
        cuda=f"cuda;{os.environ.get('TORCH_CUDA_ARCH_LIST', 'native')}" if cuda else "cpu",
        compiler=_compiler_version(compiler) if compiler else "none",
        sources=_digest(_build_package()),
    )


def _mmcv_wheel(environment: Environment, settings: dict[str, str]) -> Path:
    """A wheel of mmcv-full with ops for this environment, from the cache or compiled now."""
    key = wheel_key(environment)
    cuda = key.cuda != "cpu"
    if wheel := cached_wheel(key):
        _say("mmcv-full: using the wheel that was built here before")
        return wheel
    if _compiler() is None:
        raise SetupError("no C++ compiler (c++ or g++) on PATH: install one, mmcv-full has to be compiled")
    if not (Path(sysconfig.get_path("include")) / "Python.h").exists():
        raise SetupError(
            f"Python.h is missing in {sysconfig.get_path('include')}: "
            "install Python 3.11's headers (python3.11-dev)"
        )
    if cuda and not (shutil.which("nvcc") or os.environ.get("CUDA_HOME")):
        raise SetupError(
            "a GPU is visible but no CUDA compiler: put nvcc on PATH or set CUDA_HOME "
            "(or, for ops without CUDA: CUDA_VISIBLE_DEVICES= make setup)"
        )
    _say(
        f"compiling mmcv-full for torch {key.torch}, CUDA ops: {'yes' if cuda else 'no'} "
        "(4 to 8 minutes on two cores)"
    )
    with _scratch(environment.folder) as folder:
        wheel = _compile(environment, settings, folder)
        if not has_ops(wheel):
            raise SetupError(f"{wheel.name} was built without ops: not installed")
        return keep_wheel(wheel, key)


def _compile(environment: Environment, settings: dict[str, str], folder: Path) -> Path:
    """Run the build package's backend in the environment itself, where torch already is."""
    log = environment.folder / "mmcv-full.log"
    code = f"import build_mmcv_full; print('WHEEL', build_mmcv_full.build_wheel({str(folder)!r}))"
    settings = settings | {
        "PATH": f"{environment.folder / 'bin'}{os.pathsep}{settings.get('PATH', os.defpath)}",  # ninja
        "PYTHONPATH": str(BUILD_PACKAGE),
        "PYTHONUNBUFFERED": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    last = ""
    told = 0
    with log.open("w") as written:
        process = subprocess.Popen(
            [str(environment.python), "-c", code],
            env=settings,
            text=True,
            errors="replace",
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        assert process.stdout is not None
        for line in process.stdout:
            written.write(line)
            last = line.strip() or last
            if counted := re.match(r"\[(\d+)/(\d+)\]", line):
                done, total = int(counted[1]), int(counted[2])
                if done * 4 // total > told:
                    told = done * 4 // total
                    _say(f"  {done} of {total} files compiled")
    if process.wait() != 0:
        reason = last.partition("BuildError: ")[2] or last[:200]
        raise SetupError(f"mmcv-full could not be built: {reason} (whole output: {log})")
    return next(folder.glob("mmcv_full-*.whl"))


def _check_machine(environment: Environment) -> None:
    if sys.version_info[:2] != (3, 11):
        raise SetupError(f"Python 3.11 is needed, this is {platform.python_version()}")
    if not environment.lock.exists():
        raise SetupError(f"{environment.lock.name} is missing: make lock")
    free = shutil.disk_usage(ROOT).free
    if not environment.python.exists() and free < environment.disk_bytes:
        raise SetupError(
            f"{free / GIGABYTE:.1f} GB free where the project lies, "
            f"a first set-up needs about {environment.disk_bytes // GIGABYTE}: make room"
        )


def _find_or_fetch_uv() -> str:
    """uv from PATH, or the locked version in ``.tools/uv``."""
    if found := shutil.which("uv"):
        with contextlib.suppress(OSError):
            if subprocess.run([found, "--version"], capture_output=True, check=False).returncode == 0:
                return found
    folder = ROOT / ".tools" / "uv"
    uv = folder / "bin" / "uv"
    if uv.exists():
        return str(uv)
    _say("fetching uv into .tools/ (nothing is installed outside the project)")
    made = subprocess.run(
        [sys.executable, "-m", "venv", "--clear", str(folder)], capture_output=True, text=True, check=False
    )
    if made.returncode != 0:
        raise SetupError(
            "Python's venv module does not work (install python3.11-venv), and uv is not on PATH"
        )
    requirement = folder / "uv.txt"
    requirement.write_text(_locked("uv"))
    _run(
        [
            str(folder / "bin" / "python"),
            "-m",
            "pip",
            "install",
            "--quiet",
            "--disable-pip-version-check",
            "--require-hashes",
            "--no-deps",
            "-r",
            str(requirement),
        ],
        dict(os.environ),
    )
    return str(uv)


def _locked(package: str) -> str:
    """One package's lines of the lock, hashes included."""
    text = FULL.lock.read_text()
    matched = re.search(rf"^{re.escape(package)}==.*(?:\n .*)*", text, flags=re.MULTILINE)
    if not matched:
        raise SetupError(f"{package} is not in {FULL.lock.name}: make lock")
    return matched[0].rstrip().rstrip("\\") + "\n"


def _pip_configuration() -> dict[str, str]:
    """The user's pip settings; none where this Python has no pip."""
    for python in (sys.executable, str(ROOT / ".tools" / "uv" / "bin" / "python")):
        with contextlib.suppress(OSError):
            command = [python, "-m", "pip", "config", "list"]
            listed = subprocess.run(command, capture_output=True, text=True, check=False)
            if listed.returncode == 0:
                return parse_pip_configuration(listed.stdout)
    return {}


def _build_package() -> list[Path]:
    return [BUILD_PACKAGE / "build_mmcv_full.py", BUILD_PACKAGE / "pyproject.toml"]


def _compiler() -> str | None:
    return next(
        (found for name in (os.environ.get("CXX"), "c++", "g++") if name and (found := shutil.which(name))),
        None,
    )


def _compiler_version(compiler: str) -> str:
    said = subprocess.run([compiler, "--version"], capture_output=True, text=True, check=False).stdout
    return next(iter(said.splitlines()), "unknown")


def _ingredients(environment: Environment) -> dict[str, str]:
    """Everything that the environment was made from; equal ingredients mean nothing to do."""
    files = [
        ROOT / "pyproject.toml",
        environment.lock,
        Path(__file__),
        Path(__file__).with_name("conda_standin.py"),
    ]
    if environment.detectors:
        files += _build_package()
    return {
        "project": str(ROOT),
        "files": _digest(files),
        "lock": hashlib.sha256(
            environment.lock.read_bytes()
        ).hexdigest(),  # the stand-in for conda compares it
    }


def _read_stamp(environment: Environment) -> dict[str, Any]:
    """What the last complete set-up left; empty if there was none."""
    try:
        return dict(json.loads((environment.folder / STAMP).read_text()))
    except (OSError, ValueError):
        return {}


def _is_current(environment: Environment, stamp: dict[str, Any]) -> bool:
    cuda_wanted = environment.detectors and os.environ.get("FORCE_CUDA") == "1"
    return (
        environment.python.exists()
        and (not cuda_wanted or bool(stamp.get("cuda_ops")))
        and _ingredients(environment).items() <= stamp.items()
    )


def _digest(files: list[Path]) -> str:
    digest = hashlib.sha256()
    for file in files:
        content = file.read_bytes()
        digest.update(f"{file.name}:{len(content)}:".encode())
        digest.update(content)
    return digest.hexdigest()


def _cache() -> Path:
    root = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return Path(root) / "hubmap-ml" / "wheels"


@contextlib.contextmanager
def _scratch(beside: Path) -> Iterator[Path]:
    folder = beside / f".build-{os.getpid()}"
    folder.mkdir(parents=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def _only_one_at_a_time() -> Iterator[None]:
    """Wait while another set-up of this checkout runs."""
    (ROOT / ".tools").mkdir(exist_ok=True)
    with (ROOT / ".tools" / "setup.lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            _say("waiting for another set-up of this folder")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _run(command: list[str], settings: dict[str, str]) -> None:
    """Run a command whose own error output the user sees.

    Raises:
        SetupError: it failed.
    """
    ran = subprocess.run(command, env=settings, check=False)
    if ran.returncode != 0:
        words = " ".join(word for word in map(os.path.basename, command) if word)
        raise SetupError(f"failed, see above: {words}")


def _say(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    sys.exit(main())
