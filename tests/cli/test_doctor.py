"""What ``hubmap-ml doctor`` says about real, missing and broken things."""

import json
import socket
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import conda_standin
import pytest

from hubmap_ml.cli import doctor


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store made by MLflow itself."""
    file = tmp_path_factory.mktemp("store") / "mlflow.db"
    code = "import sys; from mlflow import MlflowClient; MlflowClient(sys.argv[1]).search_experiments()"
    subprocess.run([sys.executable, "-c", code, f"sqlite:///{file}"], check=True, capture_output=True)
    return file


def _store(uri: str, folder: Path) -> doctor.Check:
    return doctor.check_store({"MLFLOW_TRACKING_URI": uri}, folder)


def _executable(path: Path, text: str = "#!/bin/sh\n") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)
    return path


class TestReport:
    def test_it_is_json_with_a_verdict_and_a_remedy_for_all_that_is_not_ok(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        found = json.loads(json.dumps(doctor.report({"PATH": ""}, tmp_path)))
        names = [check["name"] for check in found["checks"]]
        assert names[:3] == ["python", "packages", "torch"]
        assert {"gpu", "conda", "store", "disk", "memory", "cores"} <= set(names)
        for check in found["checks"]:
            assert (check["status"] == "ok") == (check["remedy"] == "")
        assert found["verdict"] != "ok"  # no conda on an empty PATH
        doctor.render(found)
        printed = capsys.readouterr().out
        assert all(name in printed for name in names)
        assert "conda: " in printed

    def test_torch_and_mmcv_stay_out_of_this_process(self, tmp_path: Path) -> None:
        code = (
            "import sys; from pathlib import Path; from hubmap_ml.cli import doctor; "
            "doctor.check_store({}, Path('.')), doctor.check_conda({}), doctor.probe('/bin/false'); "
            "sys.exit(bool({'torch', 'mmcv', 'mlflow'} & set(sys.modules)))"
        )
        assert subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=False).returncode == 0


class TestTorch:
    def test_without_torch_the_environment_is_said_to_do_without(self, tmp_path: Path) -> None:
        bare = _executable(tmp_path / "python", f'#!/bin/sh\nexec "{sys.executable}" -S -E "$@"\n')
        probed = doctor.probe(str(bare))
        assert probed == {}
        assert doctor.check_torch(probed).status == "warning"
        assert doctor.check_ops(probed) == []
        assert doctor.check_gpu(probed).status == "ok"

    @pytest.mark.parametrize(
        ("files", "words"),
        [
            ({"torch.py": "raise OSError('libcuda is broken')"}, "OSError: libcuda is broken"),
            (
                {"torch.py": "import os, sys\nsys.stderr.write('Illegal instruction')\nos._exit(132)"},
                "Illegal",
            ),
        ],
    )
    def test_a_torch_that_does_not_load_is_a_problem(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: dict[str, str], words: str
    ) -> None:
        for name, text in files.items():
            (tmp_path / name).write_text(text)
        monkeypatch.setenv("PYTHONPATH", str(tmp_path))
        check = doctor.check_torch(doctor.probe(sys.executable))
        assert check.status == "problem"
        assert words in check.found

    def test_missing_ops_and_cpu_ops_beside_a_gpu_are_problems(self) -> None:
        base = {"torch": "2.12.1", "torch_cuda": "13.0", "gpus": []}
        assert doctor.check_ops({**base, "ops_error": "ImportError: x"})[0].status == "problem"
        cpu = {**base, "ops": "1.7.2", "ops_cuda": "not available"}
        assert doctor.check_ops(cpu)[0] == doctor.Check("mmcv ops", "ok", "mmcv-full 1.7.2, CUDA ops: no")
        beside_gpu = doctor.check_ops({**cpu, "gpus": ["A GPU, 80 GB"]})[0]
        assert (beside_gpu.status, "CUDA ops" in beside_gpu.remedy) == ("problem", True)
        assert doctor.check_ops({**cpu, "gpus": ["A GPU"], "ops_cuda": "13.0"})[0].status == "ok"


class TestConda:
    def test_the_marker_is_the_standins(self) -> None:
        assert doctor.STANDIN_MARKER == conda_standin.MARKER

    def test_mlflows_order_is_followed(self, tmp_path: Path) -> None:
        home = _executable(tmp_path / "home" / "bin" / "conda").parents[1]
        exe = _executable(tmp_path / "exe" / "conda")
        path = _executable(tmp_path / "path" / "conda")
        environ = {"PATH": str(path.parent), "CONDA_EXE": str(exe), "MLFLOW_CONDA_HOME": str(home)}
        assert str(home) in doctor.check_conda(environ).found
        del environ["MLFLOW_CONDA_HOME"]
        assert str(exe) in doctor.check_conda(environ).found
        del environ["CONDA_EXE"]
        assert str(path) in doctor.check_conda(environ).found

    def test_a_variable_that_points_nowhere_is_a_problem(self, tmp_path: Path) -> None:
        check = doctor.check_conda({"CONDA_EXE": str(tmp_path / "conda")})
        assert (check.status, "CONDA_EXE" in check.remedy) == ("problem", True)

    def test_the_standin_alone_is_fine_and_hiding_a_conda_is_not(self, tmp_path: Path) -> None:
        standin = _executable(tmp_path / "venv" / "conda", conda_standin.LAUNCHER)
        alone = doctor.check_conda({"PATH": f"{standin.parent}"})
        assert (alone.status, "stand-in" in alone.found) == ("ok", True)
        real = _executable(tmp_path / "real" / "conda")
        hiding = doctor.check_conda({"PATH": f"{standin.parent}:{real.parent}"})
        assert (hiding.status, hiding.remedy) == ("warning", f"export CONDA_EXE={real}")


class TestStore:
    def test_none_yet_is_fine(self, tmp_path: Path) -> None:
        check = doctor.check_store({}, tmp_path)
        assert (check.status, "not there yet" in check.found) == ("ok", True)

    def test_one_made_by_mlflow_is_fine(self, store: Path) -> None:
        check = _store(f"sqlite:///{store}", store.parent)
        assert check.status == "ok", check
        assert "0 runs" in check.found
        assert doctor.check_store({}, store.parent).status == "ok"
        assert _store("sqlite:///mlflow.db", store.parent).found.startswith("sqlite:///mlflow.db, 0 runs")

    @pytest.mark.parametrize(
        ("damage", "words"),
        [
            ("DROP TABLE experiments", "half-created: tables are missing"),
            ("DELETE FROM alembic_version", "half-created: no schema version"),
            ("UPDATE alembic_version SET version_num = '0'", "has tables of version 0"),
        ],
    )
    def test_a_half_created_one_is_a_problem(
        self, store: Path, tmp_path: Path, damage: str, words: str
    ) -> None:
        file = tmp_path / "mlflow.db"
        file.write_bytes(store.read_bytes())
        with sqlite3.connect(file) as connection:
            connection.execute(damage)
        connection.close()
        check = _store(f"sqlite:///{file}", tmp_path)
        assert (check.status, words in check.found) == ("problem", True), check

    def test_a_file_that_is_no_database_is_a_problem(self, tmp_path: Path) -> None:
        (tmp_path / "mlflow.db").write_text("not a database, but long enough to have a header" * 50)
        check = doctor.check_store({}, tmp_path)
        assert (check.status, "not a database" in check.found) == ("problem", True)

    def test_an_empty_file_is_half_created(self, tmp_path: Path) -> None:
        (tmp_path / "mlflow.db").touch()
        assert "half-created" in doctor.check_store({}, tmp_path).found

    @pytest.mark.parametrize("uri", ["file:///somewhere", "mlruns"])
    def test_a_folder_of_files_is_a_problem(self, tmp_path: Path, uri: str) -> None:
        assert _store(uri, tmp_path).status == "problem"

    @pytest.mark.parametrize("scheme", ["http", "postgresql+psycopg"])
    def test_a_server_that_is_down_is_a_problem_and_no_password_is_shown(
        self, tmp_path: Path, scheme: str
    ) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        check = _store(f"{scheme}://me:secret@127.0.0.1:{port}/x?password=secret", tmp_path)
        assert check.status == "problem"
        assert f"127.0.0.1:{port}" in check.found
        assert "secret" not in check.found + check.remedy

    @pytest.mark.parametrize(("code", "status"), [(200, "ok"), (401, "warning")])
    def test_a_server_that_answers(self, tmp_path: Path, code: int, status: str) -> None:
        for address in _serve(code):
            assert _store(address, tmp_path).status == status


def test_little_disk_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = type("usage", (), {"free": 1e9})
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda _: usage)
    assert doctor.check_disk(tmp_path).status == "problem"
    usage.free = 5e9
    assert doctor.check_disk(tmp_path).status == "warning"
    usage.free = 5e11
    assert doctor.check_disk(tmp_path).status == "ok"


def _serve(code: int) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(code if self.path == "/health" else 404)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
