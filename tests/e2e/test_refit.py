"""A recipe trained on all data: no score of its own, its recipe's by proxy, in registry, ensemble and report."""

import json
from pathlib import Path

import pytest
import yaml

from hubmap_ml.stages.session import find_experiment
from tests.e2e.running import Chain, call
from tests.e2e.test_reuse import Copy, copy  # noqa: F401

pytestmark = pytest.mark.e2e


def with_refit(folder: Path) -> Path:
    source = find_experiment("tiny").resolve()
    document = yaml.safe_load(source.read_text())
    for stage in ("pretrain", "finetune"):
        part = document["members"]["maskrcnn"][stage]
        part["config"] = str(source.parent / part["config"])
    document["members"]["whole"] = {"refit": "maskrcnn"}
    document["ensemble"]["select"] = "all"  # chosen by score, two members of one score are one
    path = folder / "experiment.yaml"
    path.write_text(yaml.safe_dump(document))
    return path


def test_a_refit_joins_the_ensemble_by_proxy(chain: Chain, copy: Copy) -> None:  # noqa: F811
    before = {run.info.run_id for run in copy.runs()}
    path = with_refit(copy.folder)
    done = call(copy.folder, "hubmap-ml", "main", "--experiment", str(path))
    assert done.returncode == 0, done.stdout + done.stderr

    new = {run.data.tags["hubmap.stage"]: run for run in copy.runs() if run.info.run_id not in before}
    assert set(new) - {"submit"} == {"main", "finetune", "predict", "promote", "ensemble", "report"}
    trained = new["finetune"]
    assert trained.data.tags["mlflow.runName"] == "finetune · whole · all data"
    seen = json.loads(
        Path(copy.client.download_artifacts(trained.info.run_id, "training_images.json")).read_text()
    )
    assert len(seen[-1]["images"]) == 8, "all clean tiles of both folds"
    assert "headline" not in trained.data.metrics
    assert {item.path for item in copy.client.list_artifacts(trained.info.run_id, "checkpoints")} == {
        "checkpoints/last"
    }

    registered = copy.client.get_model_version_by_alias("tiny.whole", "promoted")
    recipe = copy.client.get_model_version_by_alias("tiny.maskrcnn", "promoted")
    assert registered.tags["hubmap.score_by_proxy_of"] == "tiny.maskrcnn"
    assert registered.tags["hubmap.headline"] == recipe.tags["hubmap.headline"]
    assert "hubmap.score_by_proxy_of" not in recipe.tags
    assert "by proxy of tiny.maskrcnn" in registered.description

    fused = max(
        (item for item in copy.client.search_model_versions("name = 'tiny.ensemble'")),
        key=lambda item: item.version,
    )
    assert "trained on all data" in new["ensemble"].data.tags["mlflow.note.content"]
    assert json.loads(fused.tags["hubmap.members"]) == ["models:/tiny.maskrcnn/1", "models:/tiny.whole/1"]
    page = Path(copy.client.download_artifacts(new["report"].info.run_id, "report.html")).read_text()
    assert "by proxy of maskrcnn" in page

    again = call(copy.folder, "hubmap-ml", "main", "--experiment", str(path))
    assert "finetune · whole · all data" in again.stdout
    runs = [run for run in copy.runs() if run.info.run_id not in before]
    assert [run.data.tags["hubmap.stage"] for run in runs].count("finetune") == 1

    refused = call(copy.folder, "hubmap-ml", "tune", "--experiment", str(path), "--member", "whole")
    assert refused.returncode == 2
    assert "tune 'maskrcnn'" in refused.stderr
