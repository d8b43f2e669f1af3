"""Commands that read what a finished chain left behind, and one that runs its steps again."""

import json
from pathlib import Path

import pytest

from tests.e2e.running import Chain, call

pytestmark = pytest.mark.e2e


def run_id(chain: Chain, stage: str) -> str:
    return str(chain.run_of(stage).info.run_id)  # type: ignore[attr-defined]


def test_the_champion_is_followed_to_the_raw_data(chain: Chain) -> None:
    done = call(chain.folder, "hubmap-ml", "lineage", "models:/tiny.ensemble@champion", "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    titles = {node["title"] for node in found["nodes"] if node["kind"] != "raw data"}
    assert titles == {
        "models:/tiny.ensemble/1", "models:/tiny.maskrcnn/1", "ensemble", "promote", "tune · maskrcnn", "prepare",
        "pretrain · maskrcnn", *(f"{stage} · maskrcnn · fold {k}" for stage in ("finetune", "predict") for k in (0, 1)),
    }  # fmt: skip
    prepared = chain.run_of("prepare").data.tags["hubmap.data_digest"]  # type: ignore[attr-defined]
    assert [node["id"] for node in found["nodes"] if node["kind"] == "raw data"] == [prepared]
    assert all(len(node["commit"]) == 40 for node in found["nodes"] if node["kind"] == "run")
    shown = call(chain.folder, "hubmap-ml", "lineage", run_id(chain, "predict")[:12])
    assert "raw data" in shown.stdout
    assert "(above)" in shown.stdout


@pytest.mark.parametrize("stage", ["prepare", "pretrain", "finetune", "predict", "tune"])
def test_a_stage_run_again_from_its_record_gives_the_same_on_the_cpu(chain: Chain, stage: str) -> None:
    ids = [item.experiment_id for item in chain.client.search_experiments()]
    found = chain.client.search_runs(
        ids, f"tags.`hubmap.stage` = '{stage}'", order_by=["attributes.start_time ASC"]
    )
    recorded = found[0].info.run_id
    done = call(chain.folder, "hubmap-ml", "reproduce", recorded, "--device", "cpu", "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    result = json.loads(done.stdout.splitlines()[-1])
    assert result["recorded"] == recorded
    assert result["identical"]
    assert result["same_key"]
    assert len(result["compared"]) >= 2
    again = chain.client.get_run(result["repeated"])
    assert again.data.tags["hubmap.reproduces"] == recorded
    assert "hubmap.stage_key" not in again.data.tags  # later stages go on finding the recorded run


def test_a_record_that_was_tampered_with_is_a_difference(chain: Chain) -> None:
    recorded = run_id(chain, "tune")
    study = Path(chain.client.download_artifacts(recorded, "study.json"))
    kept = study.read_text()
    study.write_text(json.dumps({**json.loads(kept), "value": 0.5}))
    try:
        done = call(chain.folder, "hubmap-ml", "reproduce", recorded)
    finally:
        study.write_text(kept)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "study.json: value: recorded 0.5" in done.stdout


def test_other_data_at_hand_are_refused(chain: Chain) -> None:
    other = chain.folder / "other"
    other.mkdir(exist_ok=True)
    (other / "polygons.jsonl").write_text("")
    done = call(chain.folder, "hubmap-ml", "reproduce", run_id(chain, "tune"), "--raw", str(other))
    assert done.returncode == 2
    assert "are not those that run" in done.stderr


def test_two_runs_differ_by_what_they_were_told_and_by_their_scores(chain: Chain) -> None:
    ensemble, tuned = chain.run_of("ensemble"), run_id(chain, "tune")
    done = call(chain.folder, "hubmap-ml", "diff", tuned, ensemble.info.run_id, "--json")  # type: ignore[attr-defined]
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    changes = {item["path"]: item for item in found["changes"]["stage_inputs.json"]}
    assert (changes["stage"]["before"], changes["stage"]["after"]) == ("tune", "ensemble")
    assert changes["values.ensemble"]["kind"] == "added"
    assert "experiment.json" not in found["changes"]
    gain, tune = found["gain"], chain.client.get_run(tuned)
    assert gain["before"] == pytest.approx(tune.data.metrics["score/cross_fitted"], abs=1e-9)
    assert gain["after"] == pytest.approx(ensemble.data.metrics["score/tuned"], abs=1e-9)  # type: ignore[attr-defined]
    assert gain["low"] <= gain["gain"] <= gain["high"]
    assert gain["n_images"] == 8


def test_nothing_of_a_finished_chain_is_removed_but_repetitions(chain: Chain) -> None:
    listed = call(chain.folder, "hubmap-ml", "gc", "--json")
    assert listed.returncode == 0, listed.stderr
    items = json.loads(listed.stdout)["items"]
    repeated = {item["run_id"] for item in items}
    for name in repeated:
        assert "hubmap.reproduces" in chain.client.get_run(name).data.tags
    assert call(chain.folder, "hubmap-ml", "gc", "--delete").returncode == 0
    assert json.loads(call(chain.folder, "hubmap-ml", "gc", "--json").stdout)["items"] == []
    champion = "import mlflow; mlflow.pyfunc.load_model('models:/tiny.ensemble@champion')"
    done = call(chain.folder, "python", "-c", champion)
    assert done.returncode == 0, done.stderr
