"""What an experiment will cost, measured on the tiny one, whose real costs are known."""

import json

import pytest

from tests.e2e.running import Chain, call

pytestmark = pytest.mark.e2e


def test_a_plan_is_measured_and_extrapolated(chain: Chain) -> None:
    words = ("plan", "-P", "experiment=tiny", "-P", "iterations=1", "-P", "workers=0", "--json")
    done = call(chain.folder, "hubmap-ml", *words)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    rows = {row["stage"]: row for row in found["rows"]}
    assert (rows["pretrain"]["trainings"], rows["finetune"]["trainings"]) == (1, 2)
    for stage, row in rows.items():
        run = chain.run_of(stage)
        client, run_id = chain.client, run.info.run_id  # type: ignore[attr-defined]
        said = client.get_metric_history(run_id, "train/loss")
        assert max(point.step for point in said) == row["epochs"] * row["epoch_length"]
        sizes = {item.path: item.file_size for item in client.list_artifacts(run_id, "checkpoints/last")}
        assert row["measured"]["weights_bytes"] == sizes["checkpoints/last/weights.safetensors"]
        assert row["measured"]["iteration_s"] > 0
        assert row["measured"]["memory_mib"] > 100
        assert row["kept"] == 2
    predicted = [
        chain.client.get_run(item.info.run_id).data.metrics
        for item in chain.client.search_runs(
            [chain.run_of("predict").info.experiment_id],  # type: ignore[attr-defined]
            "tags.`hubmap.stage` = 'predict' and attributes.status = 'FINISHED'",
        )
        if "hubmap.reproduces" not in item.data.tags and "hubmap.reuses" not in item.data.tags
    ]
    images = sum(metrics["out_of_fold/images"] + metrics["test/images"] for metrics in predicted[:2])
    assert rows["finetune"]["predicted_images"] == images
    assert found["total"]["hours"] == pytest.approx(
        sum(row["extrapolated"]["hours"] for row in found["rows"])
    )
    assert found["members"]["maskrcnn"] == found["total"]
    run = chain.client.get_run(found["run"])
    assert (run.info.status, run.data.tags["hubmap.stage"]) == ("FINISHED", "plan")
    assert not (chain.folder / ".hubmap_ml" / "runs" / found["run"] / "trials").exists()
