"""Look at this machine and say what would stop an experiment, and what to do about it: ``hubmap-ml doctor``.

Each check is one fact with ``ok``, ``warning`` or ``problem`` and, unless it is ok, a remedy. Nothing is
changed and
nothing heavy is imported: torch and mmcv are asked in a process of their own, so the report also works
without them and survives one that crashes while it loads.
"""

import importlib.metadata
import importlib.util
import json
import os
import platform
import re
import shutil
import socket
import sqlite3
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Mapping
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal
from urllib.parse import unquote, urlsplit, urlunsplit

import psutil

from hubmap_ml.spec.credentials import without_credentials

Status = Literal["ok", "warning", "problem"]

STANDIN_MARKER = "stand-in of hubmap_ml"
"""What set-up's replacement for conda carries in its first lines (scripts/conda_standin.py)."""

GIGABYTE = 1_000_000_000
PROBE_TIMEOUT_S = 120

# Runs in the interpreter that will train; prints one line of JSON.
PROBE = """
import importlib.util, json
found = {}
try:
    import torch
except Exception as error:
    if importlib.util.find_spec("torch"):
        found["torch_error"] = f"{type(error).__name__}: {error}"
else:
    found["torch"] = torch.__version__
    found["torch_cuda"] = torch.version.cuda
    found["gpus"] = []
    if torch.cuda.is_available():
        for index in range(torch.cuda.device_count()):
            gpu = torch.cuda.get_device_properties(index)
            found["gpus"].append(f"{gpu.name}, {gpu.total_memory / 1e9:.0f} GB")
    try:
        import mmcv._ext, mmcv.ops
    except Exception as error:
        found["ops_error"] = f"{type(error).__name__}: {error}"
    else:
        found["ops"] = mmcv.__version__
        found["ops_cuda"] = mmcv.ops.get_compiling_cuda_version()
print("FOUND " + json.dumps(found))
"""

CORE_PACKAGES = ("mlflow", "optuna", "numpy", "pandas", "pyarrow", "pycocotools", "ensemble-boxes")
DETECTION_PACKAGES = ("torchvision", "mmdet", "mmcv-full", "albumentations")


@dataclass(frozen=True)
class Check:
    """One fact about this machine."""

    name: str
    status: Status
    found: str
    remedy: str = ""


def report(environ: Mapping[str, str] = os.environ, folder: Path | None = None) -> dict[str, Any]:
    """Examine the machine, as data for ``--json``.

    Args:
        environ: which store and which conda MLflow would use.
        folder: where experiments run; the current folder by default.

    Returns:
        ``{"verdict": "ok" | "warning" | "problem", "checks": [{"name", "status", "found", "remedy"}, …]}``.
    """
    where = folder or Path.cwd()
    probed = probe(sys.executable)
    checks = [
        check_python(),
        check_packages(training="torch" in probed),
        check_torch(probed),
        *check_ops(probed),
        check_gpu(probed),
        check_conda(environ),
        check_store(environ, where),
        check_disk(where),
        check_memory(),
        Check("cores", "ok", str(len(os.sched_getaffinity(0)))),
    ]
    order: tuple[Status, ...] = ("ok", "warning", "problem")
    verdict = max((check.status for check in checks), key=order.index)
    return {"verdict": verdict, "checks": [asdict(check) for check in checks]}


def render(found: Mapping[str, Any]) -> None:
    """Print a report as a table, and the remedies below it."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    colours = {"ok": "green", "warning": "yellow", "problem": "red"}
    table = Table(box=None, show_header=False, pad_edge=False)
    for check in found["checks"]:
        status = Text(check["status"], style=colours[check["status"]])
        table.add_row(check["name"], status, Text(check["found"], overflow="fold"))
    console = Console()
    console.print(table)
    for check in found["checks"]:
        if check["remedy"]:
            console.print(Text(f"{check['name']}: {check['remedy']}"), soft_wrap=True)


def probe(python: str) -> dict[str, Any]:
    """Ask ``python`` for torch, mmcv's ops and GPUs; without torch the answer is empty."""
    try:
        ran = subprocess.run(
            [python, "-W", "ignore", "-c", PROBE],
            capture_output=True,
            text=True,
            check=False,
            timeout=PROBE_TIMEOUT_S,
        )
    except subprocess.TimeoutExpired:
        return {"torch_error": f"no answer within {PROBE_TIMEOUT_S} s"}
    for line in ran.stdout.splitlines():
        if line.startswith("FOUND "):
            return dict(json.loads(line.removeprefix("FOUND ")))
    said = (ran.stderr.strip().splitlines() or [f"exit code {ran.returncode}"])[-1]
    return {"torch_error": f"loading it ended the process: {said}"}


def check_python() -> Check:
    """Python 3.11, on which the locked versions exist."""
    version = platform.python_version()
    if sys.version_info[:2] == (3, 11):
        return Check("python", "ok", version)
    return Check(
        "python", "problem", version, "this project runs on Python 3.11: make setup, then .venv/bin/…"
    )


def check_packages(*, training: bool) -> Check:
    """The versions that results depend on."""
    versions, missing = [], []
    for name in CORE_PACKAGES + (DETECTION_PACKAGES if training else ()):
        try:
            versions.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            missing.append(name)
    found = ", ".join(versions)
    if missing:
        return Check("packages", "problem", f"{found}; missing: {', '.join(missing)}", "make setup")
    return Check("packages", "ok", found)


def check_torch(probed: Mapping[str, Any]) -> Check:
    """Torch itself; an environment without it evaluates, tunes and ensembles."""
    if "torch_error" in probed:
        return Check("torch", "problem", str(probed["torch_error"]), "make setup ARGS=--force")
    if "torch" not in probed:
        return Check(
            "torch", "warning", "none: no training or inference here", "make setup, then .venv/bin/…"
        )
    return Check("torch", "ok", f"{probed['torch']}, built for CUDA {probed['torch_cuda'] or 'no'}")


def check_ops(probed: Mapping[str, Any]) -> list[Check]:
    """mmcv's compiled operations; nothing to say where there is no torch."""
    if "torch" not in probed:
        return []
    if "ops" not in probed:
        error = str(probed.get("ops_error", "unknown"))
        return [Check("mmcv ops", "problem", f"missing ({error})", "make setup ARGS=--force")]
    cuda = probed["ops_cuda"] != "not available"
    found = f"mmcv-full {probed['ops']}, CUDA ops: {'yes' if cuda else 'no'}"
    if probed["gpus"] and not cuda:
        remedy = "training on the GPU needs CUDA ops: with nvcc on PATH, FORCE_CUDA=1 make setup"
        return [Check("mmcv ops", "problem", found, remedy)]
    return [Check("mmcv ops", "ok", found)]


def check_gpu(probed: Mapping[str, Any]) -> Check:
    """GPUs that torch sees."""
    if probed.get("gpus"):
        return Check("gpu", "ok", "; ".join(probed["gpus"]))
    if "torch" in probed and shutil.which("nvidia-smi"):
        listed = subprocess.run(["nvidia-smi", "--list-gpus"], capture_output=True, text=True, check=False)
        if listed.returncode == 0 and listed.stdout.strip():
            remedy = f"torch {probed['torch']} does not see it: check the driver against its CUDA version"
            return Check("gpu", "warning", listed.stdout.strip().splitlines()[0], remedy)
    return Check("gpu", "ok", "none: everything runs on the CPU")


def check_conda(environ: Mapping[str, str]) -> Check:
    """Which conda a plain ``mlflow run .`` would call, by MLflow's own rule."""
    remedy = "make setup, or add --env-manager local to mlflow run"
    for variable, place in (("MLFLOW_CONDA_HOME", "{}/bin/conda"), ("CONDA_EXE", "{}")):
        if value := environ.get(variable):
            named = Path(place.format(value))
            if named.is_file():
                return Check("conda", "ok", f"{named} ({variable})")
            return Check("conda", "problem", f"{named} does not exist", f"{variable} is wrong: unset it")
    on_path = [Path(entry) / "conda" for entry in environ.get("PATH", "").split(os.pathsep) if entry]
    condas = [conda for conda in on_path if conda.is_file() and os.access(conda, os.X_OK)]
    beside = Path(sys.executable).with_name("conda")
    if not condas and _is_standin(beside):
        remedy = f"source {beside.with_name('activate')}"
        found = "none on PATH: a plain `mlflow run .` fails (the environment's stand-in is not on it)"
        return Check("conda", "warning", found, remedy)
    if not condas:
        return Check("conda", "warning", "none: a plain `mlflow run .` fails", remedy)
    if not _is_standin(condas[0]):
        return Check("conda", "ok", f"{condas[0]} (PATH)")
    if real := next((conda for conda in condas if not _is_standin(conda)), None):
        return Check("conda", "warning", f"the stand-in hides {real}", f"export CONDA_EXE={real}")
    return Check("conda", "ok", f"the project's stand-in, {condas[0]}")


def check_store(environ: Mapping[str, str], folder: Path) -> Check:
    """The MLflow store: ``MLFLOW_TRACKING_URI``, else ``mlflow.db`` in the folder."""
    uri = environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{folder / 'mlflow.db'}"
    shown = without_credentials(uri)
    parts = urlsplit(uri)
    if parts.scheme == "sqlite":
        return _check_sqlite(Path(unquote(uri.split(":///", 1)[-1].split("?")[0])), shown, folder)
    if parts.scheme in {"http", "https"}:
        return _check_server(uri, shown)
    if parts.scheme.partition("+")[0] in {"postgresql", "mysql", "mssql"}:
        return _check_port(parts.hostname, parts.port, parts.scheme.partition("+")[0], shown)
    if parts.scheme in {"", "file"}:
        remedy = (
            "MLflow 3 refuses folders of files as a store: unset MLFLOW_TRACKING_URI, or use sqlite:///FILE"
        )
        return Check("store", "problem", shown, remedy)
    return Check("store", "ok", f"{shown} (not examined)")


def check_disk(folder: Path) -> Check:
    """Room where runs and checkpoints are written."""
    free = shutil.disk_usage(folder).free / GIGABYTE
    found = f"{free:.1f} GB free in {folder}"
    if free < 2:
        return Check("disk", "problem", found, "make room: checkpoints and candidates will not fit")
    if free < 10:
        return Check("disk", "warning", found, "a five-fold experiment writes about 10 GB")
    return Check("disk", "ok", found)


def check_memory() -> Check:
    """Memory that this process may use, a container's limit included."""
    memory = psutil.virtual_memory()
    total, available = memory.total, memory.available
    limit = Path("/sys/fs/cgroup/memory.max")
    if limit.is_file() and (written := limit.read_text().strip()).isdigit():
        total, available = min(total, int(written)), min(available, int(written))
    found = f"{available / GIGABYTE:.1f} of {total / GIGABYTE:.1f} GB available"
    if available < 4 * GIGABYTE:
        return Check("memory", "warning", found, "training a detector takes 2.5 to 7 GB")
    return Check("memory", "ok", found)


def schema_head() -> str | None:
    """Return the newest revision of MLflow's tables that the installed MLflow knows, without importing it."""
    spec = importlib.util.find_spec("mlflow")
    if spec is None or not spec.submodule_search_locations:
        return None
    folder = Path(spec.submodule_search_locations[0]) / "store" / "db_migrations" / "versions"
    revisions, replaced = set(), set()
    for file in folder.glob("*.py"):
        text = file.read_text()
        revisions |= set(re.findall(r'^revision = "(\w+)"', text, flags=re.MULTILINE))
        replaced |= set(re.findall(r'^down_revision = "(\w+)"', text, flags=re.MULTILINE))
    heads = revisions - replaced
    return heads.pop() if len(heads) == 1 else None


def _check_sqlite(file: Path, shown: str, folder: Path) -> Check:
    if not file.is_absolute():
        file = folder / file
    if not file.exists():
        if not os.access(file.parent, os.W_OK):
            return Check(
                "store", "problem", f"{shown}: {file.parent} cannot be written", "choose another store"
            )
        return Check("store", "ok", f"{shown} (not there yet: the first run makes it)")
    if not os.access(file, os.R_OK | os.W_OK):
        return Check("store", "problem", f"{shown} cannot be read and written", f"check the owner of {file}")
    aside = f"move {file} away (or restore a backup); a new one is made by the next run"
    try:
        with closing(sqlite3.connect(f"{file.resolve().as_uri()}?mode=ro", uri=True, timeout=5)) as store:
            tables = {
                name for (name,) in store.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
            }
            if not {"alembic_version", "experiments", "runs"} <= tables:
                return Check("store", "problem", f"{shown} is half-created: tables are missing", aside)
            revision = next(iter(store.execute("SELECT version_num FROM alembic_version")), (None,))[0]
            runs = store.execute("SELECT count(*) FROM runs").fetchone()[0]
    except sqlite3.Error as error:
        return Check("store", "problem", f"{shown} cannot be read ({error})", aside)
    head = schema_head()
    if revision is None:
        return Check("store", "problem", f"{shown} is half-created: no schema version", aside)
    if head is not None and revision != head:
        remedy = f"if no other process is creating it: mlflow db upgrade {shown}"
        return Check(
            "store", "problem", f"{shown} has tables of version {revision}, MLflow wants {head}", remedy
        )
    return Check("store", "ok", f"{shown}, {runs} runs, {file.stat().st_size / 1e6:.1f} MB")


def _check_server(uri: str, shown: str) -> Check:
    parts = urlsplit(uri)
    netloc = parts.netloc.rpartition("@")[2]
    address = urlunsplit((parts.scheme, netloc, f"{parts.path.rstrip('/')}/health", "", ""))
    try:
        with urllib.request.urlopen(address, timeout=5) as answer:
            return Check("store", "ok", f"{shown} answers ({answer.status})")
    except urllib.error.HTTPError as error:
        return Check(
            "store", "warning", f"{shown} answers {error.code}", "check the address and your credentials"
        )
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        return Check(
            "store", "problem", f"{shown} does not answer ({reason})", "is the server up? MLFLOW_TRACKING_URI"
        )


def _check_port(host: str | None, port: int | None, kind: str, shown: str) -> Check:
    usual = {"postgresql": 5432, "mysql": 3306, "mssql": 1433}[kind]
    try:
        with socket.create_connection((host or "localhost", port or usual), timeout=5):
            return Check("store", "ok", f"{shown} (the server listens)")
    except OSError as error:
        return Check(
            "store", "problem", f"{shown} does not answer ({error})", "is the database up and reachable?"
        )


def _is_standin(executable: Path) -> bool:
    try:
        with executable.open("rb") as file:
            return STANDIN_MARKER.encode() in file.read(500)
    except OSError:
        return False
