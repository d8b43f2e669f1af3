"""Commands that read what a finished chain left behind, and one that runs its steps again."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.running import Chain, call

pytestmark = pytest.mark.e2e


def run_id(chain: Chain, stage: str) -> str:
    """The chain's own run of a stage: the first one, before any repetition."""
    ids = [item.experiment_id for item in chain.client.search_experiments()]
    oldest = ["attributes.start_time ASC"]
    return str(
        chain.client.search_runs(ids, f"tags.`hubmap.stage` = '{stage}'", order_by=oldest)[0].info.run_id
    )


def done_anew(chain: Chain, run: Any) -> bool:
    """Whether a later run with the same key took a run's place."""
    ids = [item.experiment_id for item in chain.client.search_experiments()]
    same = f"tags.`hubmap.stage_key` = '{run.data.tags.get('hubmap.stage_key')}'"
    newest = chain.client.search_runs(ids, same, order_by=["attributes.start_time DESC"])[0]
    return bool(newest.info.run_id != run.info.run_id)


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


def test_what_was_handed_in_is_in_the_score_log_and_its_score_is_added_later(chain: Chain) -> None:
    file = chain.client.download_artifacts(run_id(chain, "submit"), "submission.csv")
    words = ("score", "add", file, "--public", "0.61", "--experiment", "tiny", "--json")
    done = call(chain.folder, "hubmap-ml", *words)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["change"] == "completed"
    assert (found["model"], found["cv_metric"], found["folds"]) == (
        "models:/tiny.ensemble/1",
        "ap60",
        "2 folds stratified by source_wsi seed 42",
    )
    ensemble = chain.client.get_run(run_id(chain, "ensemble")).data
    assert found["cv"] == pytest.approx(ensemble.metrics["headline"])
    listed = json.loads(
        call(chain.folder, "hubmap-ml", "score", "list", "--experiment", "tiny", "--json").stdout
    )
    assert {item["run_id"]: item["public"] for item in listed}[found["run_id"]] == 0.61


def test_the_state_of_things_names_the_champion_its_members_and_their_leaks(chain: Chain) -> None:
    done = call(chain.folder, "hubmap-ml", "status", "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["running"] == []
    best = {one["name"]: one for one in found["best"]}
    assert best["ensemble"]["what"] == "champion v1"
    assert best["maskrcnn"]["what"] == "promoted v1"
    ensemble = chain.client.get_run(run_id(chain, "ensemble")).data
    assert best["ensemble"]["score"] == pytest.approx(ensemble.metrics["headline"])
    assert best["ensemble"]["leak_level"] == ensemble.tags["hubmap.leak_level"]
    assert best["maskrcnn"]["interval"]["words"] == "not estimated"  # too few tiles


STAGES = ("prepare", "pretrain", "finetune", "predict", "tune")
REPEAT = """
import json, sys
from hubmap_ml.stages import reproduce
for run_id in sys.argv[1:]:
    print("REPEATED " + json.dumps(reproduce.run(run_id, device="cpu").to_data()))
"""


@pytest.fixture(scope="module")
def repeated(chain: Chain) -> dict[str, dict[str, Any]]:
    """The first run of each stage, run again: all in one process, whose imports take longer than the work."""
    recorded = [run_id(chain, stage) for stage in STAGES]
    done = call(chain.folder, "python", "-c", REPEAT, *recorded)
    assert done.returncode == 0, done.stdout + done.stderr
    lines = [
        line.removeprefix("REPEATED ") for line in done.stdout.splitlines() if line.startswith("REPEATED ")
    ]
    return {found["stage"]: found for found in map(json.loads, lines)}


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_run_again_from_its_record_gives_the_same_on_the_cpu(
    chain: Chain, repeated: dict[str, dict[str, Any]], stage: str
) -> None:
    result = repeated[stage]
    assert result["differences"] == []
    assert result["identical"]
    assert result["same_key"]
    assert len(result["compared"]) >= 2
    again = chain.client.get_run(result["repeated"])
    assert again.data.tags["hubmap.reproduces"] == result["recorded"]
    assert "hubmap.stage_key" not in again.data.tags  # later stages go on finding the recorded run


def test_a_record_that_was_tampered_with_is_a_difference(chain: Chain) -> None:
    recorded = run_id(chain, "tune")
    study = Path(chain.client.get_run(recorded).info.artifact_uri.removeprefix("file://")) / "study.json"
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
    tuned, fused = run_id(chain, "tune"), run_id(chain, "ensemble")
    done = call(chain.folder, "hubmap-ml", "diff", tuned, fused, "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    changes = {item["path"]: item for item in found["changes"]["stage_inputs.json"]}
    assert (changes["stage"]["before"], changes["stage"]["after"]) == ("tune", "ensemble")
    assert changes["values.ensemble"]["kind"] == "added"
    assert "experiment.json" not in found["changes"]
    gain, tune, ensemble = found["gain"], chain.client.get_run(tuned), chain.client.get_run(fused)
    assert gain["before"] == pytest.approx(tune.data.metrics["score/cross_fitted"], abs=1e-9)
    assert gain["after"] == pytest.approx(ensemble.data.metrics["score/tuned"], abs=1e-9)
    assert (gain["low"], gain["high"]) == (None, None)  # so few tiles allow no interval, and the words say so
    assert "not estimable from" in gain["words"]
    assert gain["n_images"] == 8


def test_nothing_of_a_finished_chain_is_removed_but_what_was_repeated_failed_or_done_anew(
    chain: Chain,
) -> None:
    done = call(chain.folder, "hubmap-ml", "gc", "--delete", "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["deleted"]
    own = {run_id(chain, stage) for stage in ("pretrain", "finetune", "predict")}
    for item in found["items"]:
        run = chain.client.get_run(item["run_id"])
        assert run.info.run_id not in own
        assert "hubmap.reproduces" in run.data.tags or run.info.status == "FAILED" or done_anew(chain, run)
    champion = "import mlflow; mlflow.pyfunc.load_model('models:/tiny.ensemble@champion')"
    done = call(chain.folder, "python", "-c", champion)
    assert done.returncode == 0, done.stderr
