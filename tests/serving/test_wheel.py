"""The project's own wheel: whole, installable, the same each time; from sources or from an installation."""

import subprocess
import sys
import zipfile
from importlib import metadata
from pathlib import Path

import pytest

import hubmap_ml
from hubmap_ml.serving import build_wheel, wheel
from hubmap_ml.spec import InputError

SOURCES = Path(hubmap_ml.__file__).parent


def install(path: Path, target: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-deps",
        "--no-index",
        "--target",
        str(target),
    ]
    subprocess.run([*command, str(path)], check=True, capture_output=True)


def test_every_module_of_the_project_is_in_its_wheel(tmp_path: Path) -> None:
    path = build_wheel(tmp_path / "wheels")
    assert path.name == f"hubmap_ml-{hubmap_ml.__version__}-py3-none-any.whl"
    inside = set(zipfile.ZipFile(path).namelist())
    modules = {str(file.relative_to(SOURCES.parent)) for file in SOURCES.rglob("*.py")}
    assert modules <= inside


def test_the_same_sources_give_the_same_wheel(tmp_path: Path) -> None:
    assert build_wheel(tmp_path / "a").read_bytes() == build_wheel(tmp_path / "b").read_bytes()


def test_an_installed_project_is_packed_again_into_an_installable_wheel(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = build_wheel(tmp_path / "first")
    install(first, tmp_path / "site")
    (installed,) = metadata.distributions(path=[str(tmp_path / "site")])
    monkeypatch.setattr(wheel, "source_tree", lambda: None)
    monkeypatch.setattr(wheel.metadata, "distribution", lambda name: installed)
    second = build_wheel(tmp_path / "second")
    assert second.name == first.name
    contents = [
        {name: archive.read(name) for name in archive.namelist() if not name.endswith("RECORD")}
        for archive in (zipfile.ZipFile(first), zipfile.ZipFile(second))
    ]
    assert contents[0] == contents[1]
    install(second, tmp_path / "again")
    assert (tmp_path / "again" / "hubmap_ml" / "__init__.py").is_file()


def test_neither_sources_nor_installation_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> None:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(wheel, "source_tree", lambda: None)
    monkeypatch.setattr(wheel.metadata, "distribution", absent)
    with pytest.raises(InputError, match="not installed here"):
        build_wheel(tmp_path)
