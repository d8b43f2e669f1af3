"""Set-up: what it takes over from pip, when it builds, what it reuses, and its one-line errors."""

import os
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
import setup_environment
from setup_environment import (
    Environment,
    SetupError,
    WheelKey,
    cached_wheel,
    has_ops,
    keep_wheel,
    parse_pip_configuration,
    set_up,
    uv_settings,
)

ROOT = Path(__file__).resolve().parents[2]
KEY = WheelKey("cp311", "linux-x86_64", "2.12.1", "cpu", "c++ 12", "abc")


def _wheel(folder: Path, *names: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "mmcv_full-1.7.2-cp311-cp311-linux_x86_64.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        for name in names:
            wheel.writestr(name, "")
    return path


def _environment(folder: Path, python: str = "exit 0") -> Environment:
    """An environment whose interpreter is a shell script."""
    (folder / "bin").mkdir(parents=True)
    (folder / "bin" / "python").write_text(f"#!/bin/sh\n{python}\n")
    (folder / "bin" / "python").chmod(0o755)
    lock = folder / "x.lock"
    lock.write_text("x==1\n")
    return Environment(folder, lock, detectors=True, disk_bytes=0)


def test_pips_settings_reach_uv(tmp_path: Path) -> None:
    (tmp_path / "pip.conf").write_text(
        "[global]\nindex-url = https://one/simple\nextra-index-url =\n  https://two/simple\n  https://three/simple\n"
        "timeout = 7\n[install]\nfind-links = /wheels\ntrusted-host = one\n"
    )
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "PIP_CONFIG_FILE": str(tmp_path / "pip.conf"),
    }
    environment["PIP_CERT"] = "/ca.pem"
    command = [sys.executable, "-m", "pip", "config", "list"]
    listed = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    settings = uv_settings(parse_pip_configuration(listed.stdout), {})
    assert settings["UV_DEFAULT_INDEX"] == "https://one/simple"
    assert settings["UV_INDEX"].split()[-2:] == ["https://two/simple", "https://three/simple"]
    assert settings["UV_INDEX_STRATEGY"] == "unsafe-best-match"
    assert settings["UV_FIND_LINKS"] == "/wheels"
    assert settings["UV_INSECURE_HOST"] == "one"
    assert settings["UV_HTTP_TIMEOUT"] == "7"
    assert settings["SSL_CERT_FILE"] == "/ca.pem"


def test_what_the_user_told_uv_stays() -> None:
    pip = {"index-url": "https://one", "extra-index-url": "https://two", "cert": "/a.pem", "timeout": "7"}
    assert uv_settings(pip, {"UV_DEFAULT_INDEX": "https://mine", "SSL_CERT_FILE": "/b.pem"}) == {
        "UV_HTTP_TIMEOUT": "7"
    }
    assert uv_settings({}, {}) == {}


def test_a_variable_wins_over_a_section_and_a_section_over_global() -> None:
    listing = (
        ":env:.timeout='3'\nglobal.timeout='1'\ninstall.timeout='2'\ninstall.no-index='true'\nfreeze.x='y'\n"
    )
    assert parse_pip_configuration(listing) == {"timeout": "3", "no-index": "true"}
    assert uv_settings({"no-index": "true"}, {}) == {"UV_NO_INDEX": "1"}


def test_a_wheel_without_ops_is_recognised_and_never_taken_from_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    empty = _wheel(tmp_path / "empty", "mmcv/__init__.py", "mmcv/ops/_ext.txt")
    whole = _wheel(tmp_path / "whole", "mmcv/_ext.cpython-311-x86_64-linux-gnu.so")
    (tmp_path / "cut.whl").write_bytes(whole.read_bytes()[:50])
    assert not has_ops(empty)
    assert not has_ops(tmp_path / "cut.whl")
    assert not has_ops(tmp_path / "absent.whl")
    assert has_ops(whole)
    keep_wheel(empty, KEY)
    assert cached_wheel(KEY) is None
    kept = keep_wheel(whole, KEY)
    assert cached_wheel(KEY) == kept
    assert [file.name for file in kept.parent.iterdir()] == [whole.name]


@pytest.mark.parametrize("field", ["python", "platform", "torch", "cuda", "compiler", "sources"])
def test_a_wheel_is_reused_only_where_everything_is_equal(
    field: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    keep_wheel(_wheel(tmp_path / "built", "mmcv/_ext.so"), KEY)
    assert cached_wheel(replace(KEY)) is not None
    assert cached_wheel(replace(KEY, **{field: "other"})) is None


def test_nothing_is_done_when_nothing_changed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    environment = _environment(tmp_path / "env")
    stamp = setup_environment._ingredients(environment)
    assert not setup_environment._is_current(environment, {})
    assert setup_environment._is_current(environment, dict(stamp))
    environment.lock.write_text("x==2\n")
    assert not setup_environment._is_current(environment, dict(stamp))


def test_cuda_ops_asked_for_later_are_a_change(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    environment = _environment(tmp_path / "env")
    monkeypatch.setenv("FORCE_CUDA", "1")
    stamp = setup_environment._ingredients(environment)
    assert not setup_environment._is_current(environment, {**stamp, "cuda_ops": False})
    assert setup_environment._is_current(environment, {**stamp, "cuda_ops": True})


def test_uv_is_fetched_in_the_locked_version_with_its_hashes() -> None:
    lines = setup_environment._locked("uv").splitlines()
    assert lines[0].startswith("uv==")
    assert len(lines) > 1
    assert all(line.strip().startswith("--hash=sha256:") for line in lines[1:])
    assert not lines[-1].endswith("\\")


def test_too_little_disk_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lock = tmp_path / "x.lock"
    lock.write_text("x==1\n")
    with pytest.raises(SetupError, match=r"GB free .* needs about 1000000000: make room"):
        set_up(Environment(tmp_path / "env", lock, detectors=False, disk_bytes=10**18))


def test_a_missing_lock_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match=r"x\.lock is missing: make lock"):
        set_up(Environment(tmp_path / "env", tmp_path / "x.lock", detectors=False, disk_bytes=0))


def test_no_python_311_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "python3.11").write_text("#!/bin/sh\nexit 1\n")
    (tmp_path / "python3.11").chmod(0o755)
    (tmp_path / "dirname").symlink_to("/usr/bin/dirname")
    ran = subprocess.run(
        ["/bin/sh", str(ROOT / "scripts" / "setup.sh")],
        env={"PATH": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 1
    assert ran.stdout == ""
    assert len(ran.stderr.splitlines()) == 1
    assert "no Python 3.11 found" in ran.stderr


class TestTheBuild:
    @pytest.fixture(autouse=True)
    def _own_cache_and_compiler(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "bin").mkdir()
        (tmp_path / "bin" / "c++").write_text("#!/bin/sh\necho c++ 1.0\n")
        (tmp_path / "bin" / "c++").chmod(0o755)
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
        monkeypatch.setenv("PATH", str(tmp_path / "bin"))
        for variable in ("CXX", "FORCE_CUDA", "CUDA_HOME"):
            monkeypatch.delenv(variable, raising=False)

    def test_no_compiler_is_one_line(self, tmp_path: Path) -> None:
        (tmp_path / "bin" / "c++").unlink()
        environment = _environment(tmp_path / "env", "echo 2.12.1 0")
        with pytest.raises(SetupError, match=r"no C\+\+ compiler"):
            setup_environment._mmcv_wheel(environment, dict(os.environ))

    def test_a_gpu_without_cuda_compiler_is_one_line(self, tmp_path: Path) -> None:
        environment = _environment(tmp_path / "env", "echo 2.12.1 1")
        with pytest.raises(SetupError, match="a GPU is visible but no CUDA compiler"):
            setup_environment._mmcv_wheel(environment, dict(os.environ))

    def test_a_failing_build_says_why_and_where_to_read_on(self, tmp_path: Path) -> None:
        failing = 'echo noise; echo "x.BuildError: the reason"; exit 1'
        script = f'case "$2" in *build_wheel*) {failing};; esac; echo 2.12.1 0'
        environment = _environment(tmp_path / "env", script)
        with pytest.raises(
            SetupError, match=r"could not be built: the reason \(whole output: .*mmcv-full\.log"
        ):
            setup_environment._mmcv_wheel(environment, dict(os.environ))
        assert (environment.folder / "mmcv-full.log").read_text().startswith("noise\n")

    @pytest.mark.parametrize(("member", "accepted"), [("mmcv/_ext.so", True), ("mmcv/nothing.py", False)])
    def test_a_build_is_kept_only_with_ops_and_then_not_repeated(
        self, tmp_path: Path, member: str, accepted: bool
    ) -> None:
        built = _wheel(tmp_path / "built", member)
        script = (
            'case "$2" in *build_wheel*) echo built >> "$0.log"\n'
            f'folder=$(echo "$2" | /usr/bin/sed "s/.*build_wheel(\'//; s/\').*//"); '
            f'/bin/cp "{built}" "$folder"; exit 0;; esac; echo 2.12.1 0'
        )
        environment = _environment(tmp_path / "env", script)
        if accepted:
            first = setup_environment._mmcv_wheel(environment, dict(os.environ))
            assert setup_environment._mmcv_wheel(environment, dict(os.environ)) == first
            assert has_ops(first)
            assert (environment.folder / "bin" / "python.log").read_text() == "built\n"
        else:
            with pytest.raises(SetupError, match="was built without ops"):
                setup_environment._mmcv_wheel(environment, dict(os.environ))
        assert not list(environment.folder.glob(".build-*"))


def test_an_environment_without_ops_does_not_pass(tmp_path: Path) -> None:
    environment = _environment(tmp_path / "env", "echo 'ImportError: no mmcv._ext' >&2; exit 1")
    with pytest.raises(SetupError, match=r"without working ops \(ImportError: no mmcv\._ext\)"):
        setup_environment.check_ops(environment.python)


def test_this_environments_ops_load() -> None:
    pytest.importorskip("torch")
    assert setup_environment.check_ops(Path(sys.executable)) in {True, False}


def test_set_up_creates_the_store_once_and_only_where_runs_of_this_checkout_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    python = _environment(tmp_path / "env", "touch mlflow.db; echo made >> calls").python
    monkeypatch.setattr(setup_environment, "ROOT", tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://elsewhere")
    setup_environment.create_store(python)
    assert not (tmp_path / "mlflow.db").exists()
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    setup_environment.create_store(python)
    setup_environment.create_store(python)
    assert (tmp_path / "calls").read_text() == "made\n"


def test_a_store_that_cannot_be_created_stops_the_set_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(setup_environment, "ROOT", tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with pytest.raises(SetupError, match=r"mlflow\.db cannot be created \(no room\)"):
        setup_environment.create_store(_environment(tmp_path / "env", "echo no room >&2; exit 1").python)
