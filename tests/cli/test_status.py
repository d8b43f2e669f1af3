"""`hubmap-ml status` in words and as JSON."""

import json

import pytest
from mlflow import MlflowClient
from typer.testing import CliRunner

from hubmap_ml.cli.main import app
from hubmap_ml.tracking import PROMOTED, point_alias, register_folder, stage_run, versions


def said(*words: str) -> str:
    done = CliRunner().invoke(app, ["status", *words], catch_exceptions=False)
    assert done.exit_code == 0
    return done.stdout


def test_an_empty_store_has_nothing_and_says_so(store: MlflowClient) -> None:
    assert said() == "nothing runs\nnothing is tuned yet, so nothing can be best\n"
    assert json.loads(said("--json")) == {"running": [], "failed": [], "best": []}


def test_what_runs_what_failed_and_what_is_best_stand_in_one_answer(store: MlflowClient) -> None:
    for member, score in (("a", 0.5), ("b", 0.4)):
        with stage_run(
            experiment="demo", stage="tune", name=f"tune · {member}", tags={"hubmap.member": member}
        ) as run:
            run.tag({"hubmap.leak_level": "slide"})
            run.recorder.metrics(
                {"score/cross_fitted_low": score - 0.1, "score/cross_fitted_high": score + 0.1}, step=0
            )
            run.recorder.data({}, "predictor/manifest.json")
            run.say("fine", score)
    tags = {"hubmap.headline": "0.4", "hubmap.leak_level": "neighbour", "hubmap.tune_run": run.run_id}
    register_folder(store, name="demo.b", run_id=run.run_id, artifact="predictor", tags=tags, description="")
    point_alias(store, "demo.b", PROMOTED, versions(store, "demo.b")[0])
    with pytest.raises(ValueError), stage_run(experiment="demo", stage="predict", name="predict · [a]"):  # noqa: PT011
        raise ValueError("the disk said no")
    with stage_run(experiment="demo", stage="finetune", name="finetune · c · fold 1"):
        words = said()
        data = json.loads(said("--json", "--experiment", "demo"))
    for part in (
        "finetune · c · fold 1",
        "predict · [a]",
        "the disk said no",
        "promoted v1",
        "0.3000 to 0.5000",
    ):
        assert part in words
    assert [(one["name"], one["what"], one["score"], one["leak_level"]) for one in data["best"]] == [
        ("b", "promoted v1", 0.4, "neighbour"),
        ("a", "not promoted", 0.5, "slide"),
    ]
    assert (data["best"][0]["interval"]["low"], data["best"][0]["interval"]["high"]) == pytest.approx(
        (0.3, 0.5)
    )
    assert [run["why"] for run in data["failed"]] == ["ValueError: the disk said no"]
    assert [run["name"] for run in data["running"]] == ["finetune · c · fold 1"]
    assert json.loads(said("--json", "--experiment", "other"))["best"] == []
