"""Say whether everything that names a dependency names the same one: pyproject, both locks, conda.yaml,
mmcv-full.

``python scripts/check_dependencies.py`` prints each difference in a line and exits with 1 if there is one.
The tests and the stand-in for conda call ``differences``. The remedy is nearly always ``make lock``.
"""

from __future__ import annotations

import re
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
BUILT_HERE = "mmcv-full"
"""Compiled by packaging/mmcv-full, so in no lock."""
BUILD_FOLDER = "./packaging/mmcv-full"
NEEDS_TORCH = ("torch", "torchvision", "mmdet", "albumentations")


@dataclass(frozen=True)
class Project:
    """What pyproject.toml declares."""

    name: str
    python: str
    """Such as ``3.11``."""
    core: tuple[Requirement, ...]
    extras: dict[str, tuple[Requirement, ...]]

    def requirements(self, *extras: str) -> list[Requirement]:
        """Core and the named extras, with the project's references to its own extras resolved."""
        wanted = list(self.core)
        for extra in extras:
            for requirement in self.extras[extra]:
                if canonicalize_name(requirement.name) == self.name:
                    wanted += self.requirements(*requirement.extras)[len(self.core) :]
                else:
                    wanted.append(requirement)
        return wanted


def differences(root: Path = ROOT) -> list[str]:
    """Every disagreement between the project's dependency files, each as one line; empty if they are in step.

    Raises:
        ValueError: a file is missing or cannot be read as what it is.
    """
    project = _read_project(root / "pyproject.toml")
    big, big_faults = _read_lock(root / "requirements.lock")
    core, core_faults = _read_lock(root / "requirements-core.lock")
    found = big_faults + core_faults
    found += _unmet(project.requirements(*project.extras), big, "requirements.lock")
    found += _unmet(project.requirements("test"), core, "requirements-core.lock")
    found += [
        f"requirements-core.lock has {name}=={version}, requirements.lock has {big.get(name, 'none')}"
        for name, version in core.items()
        if big.get(name) != version
    ]
    found += [
        f"requirements-core.lock has {name}: it must do without" for name in NEEDS_TORCH if name in core
    ]
    found += _conda_differences(root, project, big)
    found += _build_differences(root, project, big)
    return found


def _read_project(path: Path) -> Project:
    table = _read_toml(path)["project"]
    python = re.match(r">=(\d+\.\d+)", table["requires-python"])
    if not python:
        raise ValueError(f"{path.name}: requires-python is {table['requires-python']!r}, expected '>=3.x,…'")
    return Project(
        name=canonicalize_name(table["name"]),
        python=python[1],
        core=tuple(map(Requirement, table["dependencies"])),
        extras={
            extra: tuple(map(Requirement, listed)) for extra, listed in table["optional-dependencies"].items()
        },
    )


def _read_lock(path: Path) -> tuple[dict[str, str], list[str]]:
    """Name to version, and what is wrong with the file itself."""
    pins: dict[str, str] = {}
    faults = []
    hashes = 0
    text = _read(path)
    for line in text.splitlines():
        if "://" in line or line.startswith("-"):
            faults.append(f"{path.name}: {line.split()[0]} names a place to download from")
        elif pinned := re.match(r"([A-Za-z0-9][\w.-]*)(?:\[[^\]]*\])?==([^\s;\\]+)", line):
            if pins and hashes == 0:
                faults.append(f"{path.name}: {list(pins)[-1]} has no hash")
            pins[canonicalize_name(pinned[1])] = pinned[2]
            hashes = 0
        elif line.strip().startswith("--hash=sha256:"):
            hashes += 1
    if pins and hashes == 0:
        faults.append(f"{path.name}: {list(pins)[-1]} has no hash")
    if not pins:
        faults.append(f"{path.name}: no pinned package in it")
    return pins, faults


def _unmet(requirements: list[Requirement], pins: dict[str, str], lock: str) -> list[str]:
    found = []
    for requirement in requirements:
        name = canonicalize_name(requirement.name)
        if name == BUILT_HERE:
            if name in pins:
                found.append(f"{lock} has {name}: it is built by {BUILD_FOLDER}")
        elif name not in pins:
            found.append(f"pyproject.toml asks for {requirement}, {lock} has no {name}")
        elif not requirement.specifier.contains(pins[name], prereleases=True):
            found.append(f"pyproject.toml asks for {requirement}, {lock} has {name}=={pins[name]}")
    return found


def _conda_differences(root: Path, project: Project, pins: dict[str, str]) -> list[str]:
    found = []
    try:
        entries: list[Any] = yaml.safe_load(_read(root / "conda.yaml"))["dependencies"]
    except (yaml.YAMLError, TypeError, KeyError) as error:
        raise ValueError(f"conda.yaml: not readable as an environment ({type(error).__name__})") from error
    if f"python={project.python}" not in entries:
        found.append(f"conda.yaml does not say python={project.python}, which pyproject.toml asks for")
    listed = [line for entry in entries if isinstance(entry, dict) for line in entry.get("pip", [])]
    named = {}
    for line in listed:
        if line == BUILD_FOLDER:
            continue
        try:
            requirement = Requirement(line)
        except InvalidRequirement:
            found.append(f"conda.yaml: {line!r} is no name==version")
            continue
        name = canonicalize_name(requirement.name)
        named[name] = requirement
        if str(requirement.specifier) != f"=={pins.get(name)}":
            found.append(f"conda.yaml has {line}, requirements.lock has {name}=={pins.get(name, 'none')}")
    if BUILD_FOLDER not in listed:
        found.append(f"conda.yaml does not list {BUILD_FOLDER}, which builds {BUILT_HERE}")
    found += [
        f"pyproject.toml asks for {requirement}, conda.yaml does not list it"
        for requirement in project.requirements("detect")
        if canonicalize_name(requirement.name) not in {*named, BUILT_HERE}
    ]
    return found


def _build_differences(root: Path, project: Project, pins: dict[str, str]) -> list[str]:
    """mmcv-full's build must use the torch that it will run with, and build the version that is asked for."""
    found = []
    folder = root / "packaging" / "mmcv-full"
    for line in _read_toml(folder / "pyproject.toml")["build-system"]["requires"]:
        requirement = Requirement(line)
        name = canonicalize_name(requirement.name)
        exact = [specifier.version for specifier in requirement.specifier if specifier.operator == "=="]
        if exact and pins.get(name) != exact[0]:
            found.append(
                f"packaging/mmcv-full is built with {line}, requirements.lock has {pins.get(name, 'none')}"
            )
    built = re.search(r'^VERSION = "(.+)"', _read(folder / "build_mmcv_full.py"), flags=re.MULTILINE)
    asked = [r for r in project.requirements("detect") if canonicalize_name(r.name) == BUILT_HERE]
    for requirement in asked:
        if not built or not requirement.specifier.contains(built[1]):
            version = built[1] if built else "no version"
            found.append(f"pyproject.toml asks for {requirement}, packaging/mmcv-full builds {version}")
    return found


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(_read(path))
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"{path.name}: {error}") from error


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError as error:
        raise ValueError(f"{path.name}: {error.strerror}") from error


def main(root: Path = ROOT) -> int:
    """Print the differences; 1 if there are any."""
    try:
        found = differences(root)
    except ValueError as error:
        found = [str(error)]
    for line in found:
        print(line, file=sys.stderr)
    if not found:
        print("dependencies are in step")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
