"""Build backend (PEP 517) that compiles mmcv-full 1.7.2 from its published source distribution.

A plain ``pip install mmcv-full`` fails, or worse succeeds in seconds without the ops, because mmcv-full
declares none of what its ``setup.py`` imports. This package declares it (``pyproject.toml``), so that pip, uv
and the environments that MLflow makes can build it by path, without flags or environment variables:

    pip wheel ./packaging/mmcv-full

The sources are fetched by pip itself, hence from the index, proxy and certificates that the user configured;
pip checks their SHA-256 before it runs any of them, and so does this module. Nothing in them is changed.

Environment: ``MAX_JOBS`` (compiler processes; default: all cores that the memory allows) and ``FORCE_CUDA=1``
(CUDA ops where no GPU is visible, such as on a login node) are passed on. A failure is a ``BuildError`` of
one line.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

NAME = "mmcv-full"
VERSION = "1.7.2"
SHA256 = "aa276a2c68fa84db9bbcdcf6ae941e30f0cb4a7f175bd283516669e00bab3759"
ARCHIVE = f"{NAME}-{VERSION}.tar.gz"

# The largest op files take this much with torch's headers; more processes than memory end in a killed
# compiler.
BYTES_A_JOB = 1_500_000_000


# setuptools puts CFLAGS in place of Python's own flags. These are Python's usual ones without debug symbols,
# which make the wheel twice as large and the build slower.
COMPILER_FLAGS = "-O3 -DNDEBUG -fwrapv -g0"


class BuildError(Exception):
    """What went wrong and what to do about it, in one line."""


def get_requires_for_build_wheel(config_settings: dict[str, Any] | None = None) -> list[str]:
    """Nothing beyond pyproject.toml's list."""
    return []


def prepare_metadata_for_build_wheel(
    metadata_directory: str, config_settings: dict[str, Any] | None = None
) -> str:
    """mmcv-full's own metadata; the name of the folder made inside ``metadata_directory``."""
    with _sources():
        from setuptools import build_meta

        return str(build_meta.prepare_metadata_for_build_wheel(metadata_directory, config_settings))


def build_wheel(
    wheel_directory: str,
    config_settings: dict[str, Any] | None = None,
    metadata_directory: str | None = None,
) -> str:
    """Compile the wheel into ``wheel_directory`` and return its file name."""
    target = str(Path(wheel_directory).absolute())
    with _sources():
        from setuptools import build_meta

        return str(build_meta.build_wheel(target, config_settings, None))


def build_sdist(sdist_directory: str, config_settings: dict[str, Any] | None = None) -> str:
    """Not offered: the source distribution is mmcv-full's own.

    Raises:
        BuildError: always.
    """
    raise BuildError(f"{NAME} {VERSION}: only wheels are built here; its source distribution is {ARCHIVE}")


def fetch(destination: Path) -> Path:
    """The verified source archive inside ``destination``, downloaded by pip unless it is in the cache.

    Raises:
        BuildError: pip found no such archive, or its SHA-256 differs.
    """
    cached = _cache_folder() / ARCHIVE
    if cached.is_file() and _sha256(cached) == SHA256:
        return cached
    requirements = destination / "requirements.txt"
    requirements.write_text(f"{NAME}=={VERSION} --hash=sha256:{SHA256}\n")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
    command += ["--no-deps", "--no-binary", NAME, "--no-build-isolation", "--require-hashes"]
    command += ["--requirement", str(requirements), "--dest", str(destination)]
    pip = subprocess.run(command, capture_output=True, text=True, check=False)
    archive = destination / ARCHIVE
    if pip.returncode != 0 or not archive.is_file():
        output = (pip.stderr + pip.stdout).strip()
        if "DO NOT MATCH THE HASHES" in output:
            raise BuildError(
                f"{ARCHIVE} on this package index is not the file with SHA-256 {SHA256}: not used"
            )
        lines = (
            [line for line in output.splitlines() if "error" in line.lower()]
            or output.splitlines()
            or ["no word"]
        )
        raise BuildError(
            f"pip could not fetch {ARCHIVE} (is the package index reachable?): {lines[-1].strip()}"
        )
    check(archive)
    _keep(archive, cached)
    return archive


def check(archive: Path) -> None:
    """Refuse an archive that is not the published one.

    Raises:
        BuildError: its SHA-256 is not ``SHA256``.
    """
    found = _sha256(archive)
    if found != SHA256:
        raise BuildError(f"{archive.name} has SHA-256 {found}, expected {SHA256}: not used")


@contextlib.contextmanager
def _sources() -> Iterator[Path]:
    """The unpacked sources as working directory, with the build's environment set; as before afterwards."""
    before, environment = Path.cwd(), dict(os.environ)
    with tempfile.TemporaryDirectory(prefix="mmcv-full-") as folder:
        archive = fetch(Path(folder))
        with tarfile.open(archive) as bundle:
            bundle.extractall(folder, filter="data")
        sources = Path(folder) / f"{NAME}-{VERSION}"
        os.environ["MMCV_WITH_OPS"] = "1"
        os.environ.setdefault("MAX_JOBS", str(_jobs()))
        os.environ.setdefault("CFLAGS", COMPILER_FLAGS)
        os.chdir(sources)
        sys.path.insert(0, str(sources))
        try:
            yield sources
        finally:
            sys.path.remove(str(sources))
            os.chdir(before)
            os.environ.clear()
            os.environ.update(environment)


def _jobs() -> int:
    """Compiler processes: one a core, as far as the memory reaches."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        import psutil
    except ImportError:
        return cores
    return max(1, min(cores, int(psutil.virtual_memory().available // BYTES_A_JOB)))


def _cache_folder() -> Path:
    root = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return Path(root) / "hubmap-ml" / "sources"


def _keep(archive: Path, cached: Path) -> None:
    """Put a copy into the cache, whole or not at all; a cache that cannot be written is no error."""
    with contextlib.suppress(OSError):
        cached.parent.mkdir(parents=True, exist_ok=True)
        beside = cached.with_name(f"{cached.name}.{os.getpid()}")
        beside.write_bytes(archive.read_bytes())
        beside.replace(cached)


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
