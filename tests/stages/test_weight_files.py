"""Published weights come from where the experiment says, are what it says, and are fetched once."""

import dataclasses
import hashlib
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from hubmap_ml.spec import InputError, Weights
from hubmap_ml.stages import weight_files
from hubmap_ml.tracking import open_store
from tests.team_server import BUCKET, s3

STATE = {"weight": torch.arange(4.0)}


@dataclasses.dataclass
class Served:
    """A published file, the address of its folder on a web server, and what was asked of that."""

    file: Path
    address: str
    asked: list[str]

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.file.read_bytes()).hexdigest()


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HUBMAP_ML_WORK", str(tmp_path / "work"))
    return tmp_path / "work"


@pytest.fixture
def served(tmp_path: Path, work: Path) -> Iterator[Served]:
    asked: list[str] = []

    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, format: str, *arguments: object) -> None:
            asked.append(self.path)

    folder = tmp_path / "web"
    folder.mkdir()
    torch.save({"state_dict": STATE}, folder / "w.pth")
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield Served(folder / "w.pth", f"http://127.0.0.1:{server.server_port}", asked)
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_path_starts_at_the_experiment(served: Served) -> None:
    named = Weights(source="web/w.pth")
    folder = served.file.parent.parent
    assert weight_files.local_file(named, folder) == served.file
    assert weight_files.digest(named, folder) == served.sha256
    kept = weight_files.as_safetensors(named, folder, digest=served.sha256)
    assert torch.equal(load_file(kept)["weight"], STATE["weight"])
    assert served.asked == []


def test_a_missing_path_says_where_to_put_the_file(work: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=rf"{tmp_path}/gone\.pth: no such weights file; put it there"):
        weight_files.local_file(Weights(source="gone.pth"), tmp_path)


def test_a_recorded_path_finds_the_same_bytes_in_the_work_folder(
    served: Served, work: Path, tmp_path: Path
) -> None:
    place = work / "weights" / served.sha256 / "w.pth"
    place.parent.mkdir(parents=True)
    place.write_bytes(served.file.read_bytes())
    found = weight_files.local_file(Weights(source="elsewhere/w.pth", sha256=served.sha256), tmp_path)
    assert found == place


def test_a_file_of_the_web_is_fetched_once(served: Served, work: Path, tmp_path: Path) -> None:
    named = Weights(source=f"{served.address}/w.pth", sha256=served.sha256)
    assert weight_files.digest(named, tmp_path) == served.sha256
    assert served.asked == []  # the experiment says it already
    first = weight_files.as_safetensors(named, tmp_path, digest=served.sha256)
    assert weight_files.local_file(named, tmp_path) == work / "weights" / served.sha256 / "w.pth"
    assert weight_files.as_safetensors(named, tmp_path, digest=served.sha256) == first
    assert served.asked == ["/w.pth"]
    assert sorted(path.name for path in first.parent.iterdir()) == [
        "plain.safetensors",
        "plain.sha256",
        "w.pth",
    ]
    first.write_bytes(first.read_bytes()[:-1] + b"?")
    assert weight_files.as_safetensors(named, tmp_path, digest=served.sha256) == first
    assert torch.equal(load_file(first)["weight"], STATE["weight"])


def test_another_file_than_the_one_named_is_refused(served: Served, work: Path, tmp_path: Path) -> None:
    named = Weights(source=f"{served.address}/w.pth", sha256="0" * 64)
    with pytest.raises(InputError, match=rf"came with SHA-256 {served.sha256}, the experiment names 0000"):
        weight_files.local_file(named, tmp_path)
    assert not [path for path in (work / "weights").rglob("*") if path.is_file()]
    with pytest.raises(
        InputError, match=r"w\.pth: SHA-256 .* is not the 000000000000… that the experiment names"
    ):
        weight_files.local_file(Weights(source=str(served.file), sha256="0" * 64), tmp_path)


def test_without_a_network_one_line_says_which_file_to_put_where(
    served: Served, work: Path, tmp_path: Path
) -> None:
    sha256 = served.sha256
    gone = Weights(source=f"{served.address}/gone.pth", sha256=sha256)
    place = work / "weights" / sha256 / "gone.pth"
    with pytest.raises(
        InputError, match=rf"gone\.pth cannot be reached \(HTTP 404\): put the file at {place}"
    ):
        weight_files.local_file(gone, tmp_path)
    closed = Weights(source="http://127.0.0.1:9/w.pth", sha256=sha256)
    place = work / "weights" / sha256 / "w.pth"
    with pytest.raises(InputError, match=rf"cannot be reached .*refused.*put the file at {place}$"):
        weight_files.local_file(closed, tmp_path)
    place.write_bytes(served.file.read_bytes())
    assert weight_files.local_file(closed, tmp_path) == place


def test_a_file_of_s3(served: Served, work: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import boto3

    with s3("key", "secret") as variables:
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        client = boto3.client("s3", endpoint_url=variables["MLFLOW_S3_ENDPOINT_URL"])
        client.upload_file(str(served.file), BUCKET, "models/w 1.pth")
        named = Weights(source=f"s3://{BUCKET}/models/w%201.pth", sha256=served.sha256)
        found = weight_files.local_file(named, tmp_path)
        assert found == work / "weights" / served.sha256 / "w 1.pth"
        assert found.read_bytes() == served.file.read_bytes()
        other = Weights(source=f"s3://{BUCKET}/absent.pth", sha256=served.sha256)
        with pytest.raises(InputError, match=r"absent\.pth cannot be reached .*put the file at"):
            weight_files.local_file(other, tmp_path)


def test_a_file_of_a_run_and_of_a_registered_version(
    served: Served, work: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    client = open_store()
    run = client.create_run(client.create_experiment("x", artifact_location=str(tmp_path / "artifacts")))
    client.log_artifact(run.info.run_id, str(served.file), "kept")
    source = f"runs:/{run.info.run_id}/kept"
    assert weight_files.digest(Weights(source=f"{source}/w.pth"), tmp_path) == served.sha256
    assert weight_files.local_file(Weights(source=source), tmp_path).name == "w.pth"
    client.create_registered_model("shelf")
    client.create_model_version("shelf", f"{run.info.artifact_uri}/kept", run.info.run_id)
    client.set_registered_model_alias("shelf", "best", "1")
    for address in ("models:/shelf/1/w.pth", "models:/shelf/1", "models:/shelf@best/w.pth"):
        assert weight_files.digest(Weights(source=address), tmp_path) == served.sha256, address
    (tmp_path / "artifacts" / run.info.run_id / "artifacts" / "kept" / "v.pth").write_bytes(b"")
    with pytest.raises(InputError, match=r"a folder with 2 weights files \(v\.pth, w\.pth\); name the file"):
        weight_files.local_file(Weights(source=source), tmp_path)
    with pytest.raises(InputError, match="runs:/nowhere/w.pth"):
        weight_files.local_file(Weights(source="runs:/nowhere/w.pth"), tmp_path)
