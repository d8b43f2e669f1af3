"""`hubmap-ml pretrain` from a published checkpoint, end to end."""

import json
from pathlib import Path

import pytest
import torch
from mlflow import MlflowClient

from hubmap_ml.models import build_detector
from hubmap_ml.spec import load_config_file
from hubmap_ml.stages.session import find_experiment
from tests.e2e.running import BIN, Chain, call

pytestmark = [pytest.mark.long, pytest.mark.timeout(900)]


def test_stage_1_starts_from_a_published_checkpoint_and_tells_what_fitted(tmp_path: Path) -> None:
    tiny = find_experiment("tiny").resolve()
    config = load_config_file(tiny.parent / "members" / "maskrcnn_stage1.py")
    state = {f"module.{key}": value for key, value in build_detector(config, 80).state_dict().items()}
    torch.save({"state_dict": state, "meta": {"epoch": 12}}, tmp_path / "coco.pth")
    text = tiny.read_text().replace("config: members", f"config: {tiny.parent}/members")
    (tmp_path / "experiment.yaml").write_text(
        text.replace("  maskrcnn:\n", "  maskrcnn:\n    weights: coco.pth\n")
    )
    done = call(tmp_path, str(BIN / "hubmap-ml"), "pretrain", "--experiment", "experiment.yaml")
    assert done.returncode == 0, done.stdout + done.stderr
    client = MlflowClient(tracking_uri=f"sqlite:///{tmp_path}/mlflow.db")
    run = Chain(tmp_path, done.stdout, client).run_of("pretrain")
    assert run.data.params["starts_from"].startswith("coco.pth (sha256 ")
    report = json.loads(Path(client.download_artifacts(run.info.run_id, "load_report.json")).read_text())
    assert {key.rsplit(".", 2)[-2] for key in report["reinitialised"]} == {"fc_cls", "fc_reg", "conv_logits"}
    assert not report["missing"]
    (tmp_path / "coco.pth").unlink()
    again = call(tmp_path, str(BIN / "hubmap-ml"), "pretrain", "--experiment", "experiment.yaml")
    assert again.returncode == 2
    assert "coco.pth: no such weights file; put it there" in again.stderr
