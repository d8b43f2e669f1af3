"""What the whole chain leaves behind: runs, versions, a predictor that loads elsewhere, a submission that decodes."""

import base64
import csv
import json
import subprocess
import zlib
from pathlib import Path

import numpy as np
import pytest
from pycocotools import mask as coco

from tests.e2e.running import Chain, call

pytestmark = pytest.mark.e2e

STAGES = ["prepare", "pretrain", "finetune", "predict", "finetune", "predict", "tune", "promote", "ensemble",
          "submit", "report"]  # fmt: skip


def children(chain: Chain) -> list:  # type: ignore[type-arg]
    parent = chain.run_of("main").info.run_id  # type: ignore[attr-defined]
    ids = [item.experiment_id for item in chain.client.search_experiments()]
    return list(
        chain.client.search_runs(ids, f"tags.`mlflow.parentRunId` = '{parent}'", order_by=["start_time ASC"])
    )


def test_every_step_is_a_finished_run_nested_in_its_parent(chain: Chain) -> None:
    runs = children(chain)
    assert [run.data.tags["hubmap.stage"] for run in runs] == STAGES
    for run in [*runs, chain.run_of("main")]:
        assert run.info.status == "FINISHED"
        assert run.data.tags["mlflow.note.content"].splitlines()[0]
        assert run.data.metrics["time/seconds"] > 0
        assert run.data.metrics["system/peak_memory_mib"] > 50
        assert len(run.data.tags["hubmap.stage_key"]) == 64
    assert "tiny.ensemble" in chain.output


def test_a_study_leaves_its_trials_its_page_and_its_best_trials_as_runs(chain: Chain, tmp_path: Path) -> None:
    run = chain.run_of("tune")
    client, run_id = chain.client, run.info.run_id  # type: ignore[attr-defined]
    names = {item.path for item in client.list_artifacts(run_id)}
    assert {"trials.parquet", "study.json", "study.html"} <= names
    study = json.loads(Path(client.download_artifacts(run_id, "study.json", str(tmp_path))).read_text())
    assert study["assessment"]["in_sample"]["after"] == pytest.approx(study["value"])
    metrics = run.data.metrics  # type: ignore[attr-defined]
    assert {"score/base", "score/tuned", "score/cross_fitted", "gain/cross_fitted", "search/best"} <= set(
        metrics
    )
    ids = [run.info.experiment_id]  # type: ignore[attr-defined]
    best = client.search_runs(ids, f"tags.`mlflow.parentRunId` = '{run_id}'", order_by=["metrics.score DESC"])
    assert 1 <= len(best) <= 10
    assert best[0].data.metrics["score"] == pytest.approx(metrics["score/tuned"])


def test_scores_say_how_sure_they_are(chain: Chain) -> None:
    verdict = chain.run_of("predict").data.tags["mlflow.note.content"].splitlines()[0]  # type: ignore[attr-defined]
    assert "before tuning (95 % on these slides " in verdict
    ensemble = chain.run_of("ensemble").data  # type: ignore[attr-defined]
    tuned = chain.run_of("tune").data.metrics  # type: ignore[attr-defined]
    version = chain.client.get_model_version_by_alias("tiny.maskrcnn", "promoted")
    ends = [tuned.get(f"score/cross_fitted_{end}") for end in ("low", "high")]  # eight tiles may tell none
    assert [version.tags.get(f"hubmap.score_{end}") for end in ("low", "high")] == [
        None if end is None else repr(end) for end in ends
    ]
    assert ("(95 % on these slides" in version.description.splitlines()[2]) == (None not in ends)
    assert -1 < ensemble.metrics["gain/cross_fitted"] < 1
    assert (
        f"gain over it {ensemble.metrics['gain/cross_fitted']:+.3f}" in ensemble.tags["mlflow.note.content"]
    )


def test_a_training_run_tells_its_story(chain: Chain) -> None:
    run = chain.run_of("finetune")
    client, run_id = chain.client, run.info.run_id  # type: ignore[attr-defined]
    names = set(run.data.metrics)  # type: ignore[attr-defined]
    assert {"train/loss", "train/loss_mask", "train/lr", "val/ap60", "val_coco/segm_mAP", "headline"} <= names
    epochs = client.get_metric_history(run_id, "val/ap60")
    assert [point.step for point in epochs] == list(range(1, len(epochs) + 1))
    artifacts = {item.path for item in client.list_artifacts(run_id)}
    assert {"checkpoints", "images", "member_config.json", "load_report.json", "experiment.json"} <= artifacts
    report = json.loads(Path(client.download_artifacts(run_id, "load_report.json")).read_text())
    assert report["loaded"]
    assert not report["unexpected"]
    contexts = {tag.value for item in run.inputs.dataset_inputs for tag in item.tags}  # type: ignore[attr-defined]
    assert contexts == {"training", "validation"}
    for name in ("best", "last"):
        files = {Path(item.path).name for item in client.list_artifacts(run_id, f"checkpoints/{name}")}
        assert {"weights.safetensors", "config.json"} <= files


def test_leaks_are_measured_through_both_stages_and_carried_to_the_registry(chain: Chain) -> None:
    client = chain.client
    for predicted in (run for run in children(chain) if run.data.tags["hubmap.stage"] == "predict"):
        trained = client.get_run(predicted.data.tags["hubmap.upstream_runs"].split(",")[1])
        path = client.download_artifacts(trained.info.run_id, "training_images.json")
        seen = json.loads(Path(path).read_text())
        assert [part["stage"] for part in seen] == ["pretrain", "finetune"]
        assert seen[1]["run"] == trained.info.run_id
        report = json.loads(Path(client.download_artifacts(predicted.info.run_id, "leaks.json")).read_text())
        found = report["out_of_fold"]
        assert found["level"] == predicted.data.tags["hubmap.leak_level"] in ("slide", "neighbour")
        slides = {row["slide"]: row["through"] for row in found["slides"]}
        assert slides == {"1": "pretrain+finetune", "2": "pretrain+finetune"}
        for kind, count in found["counts"].items():
            assert predicted.data.metrics[f"leak/{kind}_pairs"] == count
        assert all(row["seen"] in seen[0]["images"] + seen[1]["images"] for row in found["pairs"])
    worst = chain.run_of("tune").data.tags["hubmap.leak_level"]  # type: ignore[attr-defined]
    for stage in ("tune", "promote", "ensemble", "report"):
        note = chain.run_of(stage).data.tags["mlflow.note.content"]  # type: ignore[attr-defined]
        assert f"leak level {worst}" in note
    for name in ("tiny.maskrcnn", "tiny.ensemble"):
        for version in client.search_model_versions(f"name = '{name}'"):
            assert version.tags["hubmap.leak_level"] == worst


def test_no_artifact_is_a_pickle(chain: Chain) -> None:
    suffixes = {path.suffix for path in (chain.folder / "mlruns").rglob("*") if path.is_file()}
    assert not suffixes & {".pkl", ".pickle", ".pth", ".pt", ".joblib"}


FRESH = """
import sys
import mlflow, numpy as np, pandas as pd
image = sys.argv[1]
model = mlflow.pyfunc.load_model("models:/tiny.ensemble@champion")
table = model.predict(pd.DataFrame({"image": [image, np.zeros((60, 80, 3), np.uint8)]}))
assert list(table.columns) == ["image", "label", "score", "box", "rle"], list(table.columns)
same = model.unwrap_python_model().table([image])
first = table[table["image"] == table["image"].iloc[0]] if len(table) else table
assert len(same) == len(first), (len(same), len(first))
print("rows", len(table))
"""


def test_the_champion_predicts_in_a_fresh_process(chain: Chain) -> None:
    image = next((chain.folder / ".hubmap_ml" / "raw").glob("*/test/*.tif"))
    done = call(chain.folder, "python", "-c", FRESH, str(image), MLFLOW_ALLOW_PICKLE_DESERIALIZATION="false")
    assert done.returncode == 0, done.stderr
    assert "rows" in done.stdout


def test_the_submission_gives_back_the_pixels_that_were_predicted(chain: Chain) -> None:
    import pyarrow.parquet as pq

    run = chain.run_of("submit")
    kept = Path(chain.client.download_artifacts(run.info.run_id, ""))  # type: ignore[attr-defined]
    raw = next((chain.folder / ".hubmap_ml" / "raw").iterdir())
    with (kept / "submission.csv").open() as file:
        rows = list(csv.DictReader(file))
    with (raw / "sample_submission.csv").open() as file:
        assert [row["id"] for row in rows] == [row["id"] for row in csv.DictReader(file)]
    n_instances = len(pq.read_table(kept / "predictions" / "instances.parquet"))
    n_read = 0
    for row in rows:
        words = row["prediction_string"].split()
        assert len(words) % 3 == 0
        for label, score, text in zip(words[::3], words[1::3], words[2::3], strict=True):
            assert label == "0"
            assert 0 <= float(score) <= 1
            counts = zlib.decompress(base64.b64decode(text))
            mask = coco.decode({"size": [int(row["height"]), int(row["width"])], "counts": counts})
            assert mask.shape == (int(row["height"]), int(row["width"]))
            assert np.any(mask)
            n_read += 1
    assert n_read == n_instances


@pytest.mark.parametrize(
    "words",
    [("tune",), ("promote",), ("ensemble",), ("report",), ("submit", "--predictions")],
    ids=" ".join,
)
def test_what_needs_no_torch_imports_none(chain: Chain, words: tuple[str, ...]) -> None:
    more = []
    if "--predictions" in words:
        run = chain.run_of("submit")
        more = [chain.client.download_artifacts(run.info.run_id, "predictions")]  # type: ignore[attr-defined]
    code = (
        "import sys; from hubmap_ml.cli.main import main\n"
        f"sys.argv = ['hubmap-ml', *{[*words, *map(str, more), '--experiment', 'tiny']!r}]\n"
        "try:\n    main()\nexcept SystemExit as end:\n    assert not end.code, end.code\n"
        "heavy = [name for name in ('torch', 'mmcv', 'mmdet', 'albumentations') if name in sys.modules]\n"
        "assert not heavy, heavy\n"
    )
    done = call(chain.folder, "python", "-c", code)
    assert done.returncode == 0, done.stderr


CORE = Path(__file__).parents[2] / ".venv-core" / "bin"


@pytest.mark.parametrize(
    "words", [("tune",), ("ensemble",), ("report",), ("submit", "--predictions")], ids=" ".join
)
def test_the_environment_without_torch_goes_on_from_the_same_store(
    chain: Chain, words: tuple[str, ...]
) -> None:
    more = []
    if "--predictions" in words:
        run = chain.run_of("submit")
        more = [chain.client.download_artifacts(run.info.run_id, "predictions")]  # type: ignore[attr-defined]
    done = call(chain.folder, str(CORE / "hubmap-ml"), *words, *map(str, more), "--experiment", "tiny")
    assert done.returncode == 0, done.stderr


def test_a_stage_without_its_upstream_says_what_to_type(chain: Chain) -> None:
    done = call(chain.folder, "hubmap-ml", "predict", "--experiment", "tiny", "--set", "optimizer.lr=0.123")
    assert done.returncode == 2
    words = "mlflow run . -e pretrain -P experiment=tiny -P set=optimizer.lr=0.123 -P member=maskrcnn"
    assert words in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_evaluating_the_members_candidates_from_parquet(chain: Chain) -> None:
    run = chain.run_of("submit")
    found = chain.client.download_artifacts(run.info.run_id, "predictions")  # type: ignore[attr-defined]
    truth = next((chain.folder / ".hubmap_ml" / "raw").glob("*/hidden_truth.json"))
    words = ("hubmap-ml", "evaluate", "--truth", str(truth), "--predictions", found, "--json")
    done: subprocess.CompletedProcess[str] = call(chain.folder, *words)
    assert done.returncode == 0, done.stderr
    line = json.loads(done.stdout.splitlines()[-1])
    assert line["value"] == pytest.approx(run.data.metrics["test/score"], abs=1e-12)  # type: ignore[attr-defined]
