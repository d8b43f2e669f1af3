"""The build backend of mmcv-full: only the published sources are ever run. (Compiling them: tests/long.)"""

import hashlib
import os
import tarfile
from pathlib import Path

import build_mmcv_full
import pytest
from build_mmcv_full import ARCHIVE, BuildError

SETUP = (
    "open('{marker}', 'w').close()\nfrom setuptools import setup\nsetup(name='mmcv-full', version='1.7.2')\n"
)


@pytest.fixture
def forged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An index folder with an mmcv-full 1.7.2 that is not the published one, the only place pip may look
    at.
    """
    sources = tmp_path / "mmcv-full-1.7.2"
    sources.mkdir()
    (sources / "setup.py").write_text(SETUP.format(marker=tmp_path / "it ran"))
    (tmp_path / "index").mkdir()
    with tarfile.open(tmp_path / "index" / ARCHIVE, "w:gz") as archive:
        archive.add(sources, "mmcv-full-1.7.2")
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "index"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "index" / ARCHIVE


def _trust(archive: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build_mmcv_full, "SHA256", hashlib.sha256(archive.read_bytes()).hexdigest())


def test_other_sources_are_refused_in_one_line_before_any_of_them_runs(forged: Path, tmp_path: Path) -> None:
    (tmp_path / "to").mkdir()
    with pytest.raises(BuildError, match="is not the file with SHA-256 aa276a2c") as error:
        build_mmcv_full.fetch(tmp_path / "to")
    assert "\n" not in str(error.value)
    assert not (tmp_path / "it ran").exists()
    assert not list((tmp_path / "to").glob("*.gz"))


def test_an_index_without_the_sources_is_one_line(forged: Path, tmp_path: Path) -> None:
    forged.unlink()
    with pytest.raises(BuildError, match=r"pip could not fetch mmcv-full-1\.7\.2\.tar\.gz") as error:
        build_mmcv_full.fetch(tmp_path)
    assert "\n" not in str(error.value)


def test_the_archive_is_fetched_once_and_a_damaged_copy_is_not_used(
    forged: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _trust(forged, monkeypatch)
    for name in ("one", "two", "three"):
        (tmp_path / name).mkdir()
    assert build_mmcv_full.fetch(tmp_path / "one") == tmp_path / "one" / ARCHIVE
    kept = build_mmcv_full.fetch(tmp_path / "two")
    assert kept == tmp_path / "cache" / "hubmap-ml" / "sources" / ARCHIVE
    assert kept.read_bytes() == forged.read_bytes()
    kept.write_bytes(b"cut")
    assert build_mmcv_full.fetch(tmp_path / "three") == tmp_path / "three" / ARCHIVE


def test_check_names_both_digests(tmp_path: Path) -> None:
    (tmp_path / ARCHIVE).write_bytes(b"")
    with pytest.raises(BuildError, match=r"has SHA-256 e3b0c442.*, expected aa276a2c.*: not used"):
        build_mmcv_full.check(tmp_path / ARCHIVE)


def test_the_build_sees_its_settings_and_leaves_none_behind(
    forged: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _trust(forged, monkeypatch)
    monkeypatch.setenv("MAX_JOBS", "7")
    monkeypatch.delenv("CFLAGS", raising=False)
    before, folder = dict(os.environ), Path.cwd()
    with build_mmcv_full._sources() as sources:
        assert Path.cwd() == sources
        assert (sources / "setup.py").exists()
        assert os.environ["MMCV_WITH_OPS"] == "1"
        assert os.environ["MAX_JOBS"] == "7"
        assert "FORCE_CUDA" not in os.environ
    assert dict(os.environ) == before
    assert Path.cwd() == folder
    assert not sources.exists()


def test_compiler_processes_stay_within_cores_and_memory() -> None:
    assert 1 <= build_mmcv_full._jobs() <= len(os.sched_getaffinity(0))


def test_a_source_distribution_is_not_made_here(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match="only wheels are built here"):
        build_mmcv_full.build_sdist(str(tmp_path))
