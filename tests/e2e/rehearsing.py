"""The recipes of HuBMAP 2023 at a size for a CPU: two iterations, stopped between them, and on to the registry."""

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from mlflow import MlflowClient

from hubmap_ml.spec import Interrupted
from hubmap_ml.stages import finetune, predict, pretrain, promote
from hubmap_ml.training.mmdet.runner import EpochRunner

FOLDER = Path(__file__).parents[2] / "experiments" / "hubmap2023"
REHEARSAL = FOLDER / "rehearsal.yaml"
CHANGES = (FOLDER / "rehearsal.set").read_text()
"""What is typed as ``-P set="$(cat experiments/hubmap2023/rehearsal.set)"``."""


def store_in(folder: Path, monkeypatch: pytest.MonkeyPatch) -> MlflowClient:
    """A store and a work folder of their own for the stages that this process runs."""
    monkeypatch.chdir(folder)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder}/mlflow.db")
    monkeypatch.setenv("HUBMAP_ML_WORK", str(folder / "work"))
    monkeypatch.delenv("MLFLOW_RUN_ID", raising=False)
    return MlflowClient(tracking_uri=f"sqlite:///{folder}/mlflow.db")


def only(member: str, folder: Path, *, folds: list[int]) -> Path:
    """The rehearsal with one member alone, on some of its folds."""
    document = yaml.safe_load(REHEARSAL.read_text())
    recipe = document["members"][member]
    for stage in ("pretrain", "finetune"):
        recipe[stage]["config"] = str(FOLDER / recipe[stage]["config"])
    recipe["finetune"]["folds"] = folds
    document["members"] = {member: recipe}
    path = folder / "experiment.yaml"
    path.write_text(yaml.safe_dump(document))
    return path


def rehearse(experiment: Path, member: str, client: MlflowClient, folds: tuple[int, ...] = (0,)) -> None:
    """Train both stages of a member, each told to stop after its first iteration and started again, and predict."""
    words: dict[str, Any] = {
        "experiment": str(experiment),
        "member": member,
        "set": changes_for(experiment),
        "workers": 0,
        "device": "cpu",
    }
    resumed(pretrain.run, client, words)
    for fold in folds:
        resumed(finetune.run, client, words | {"fold": fold})
        run = client.get_run(predict.run(**words, fold=fold).run_id)
        assert run.info.status == "FINISHED"
        assert run.data.metrics["out_of_fold/images"] == 4
        assert run.data.metrics["out_of_fold/candidates"] > 0


def register(experiment: Path, client: MlflowClient) -> dict[str, str]:
    """Tune and promote; returns the gate's verdict on each registered version's member."""
    outcome = promote.run(
        experiment=str(experiment),
        set=changes_for(experiment),
        workers=0,
        device="cpu",
        with_upstream=True,
    )
    names = [uri.split("/")[1] for uri in outcome.details["registered"]]
    return {
        name.partition(".")[2]: version.tags["hubmap.gate"]
        for name in names
        for version in client.search_model_versions(f"name = '{name}'")
    }


def changes_for(experiment: Path) -> str:
    """The changes, without those for members that an experiment does not have."""
    every = yaml.safe_load(REHEARSAL.read_text())["members"]
    there = yaml.safe_load(experiment.read_text())["members"]
    kept = [
        part
        for part in (part.strip() for part in CHANGES.split(";"))
        if part.lstrip("+").partition(".")[0] not in set(every) - set(there)
    ]
    return "; ".join(kept)


def resumed(run: Callable[..., Any], client: MlflowClient, words: dict[str, Any]) -> None:
    words = words | {"fresh": True}  # two members have one stage 1; both of them are trained here
    step = EpochRunner._step

    def told_to_stop(self: EpochRunner, batch: dict[str, Any]) -> None:
        step(self, batch)
        os.kill(os.getpid(), signal.SIGTERM)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(EpochRunner, "_step", told_to_stop)
        with pytest.raises(Interrupted, match="epoch 1, iteration 1"):
            run(**words)
    made = client.get_run(run(**words).run_id)
    assert made.info.status == "FINISHED"
    before = client.get_run(made.data.tags["hubmap.resumes"])
    assert before.info.status == "KILLED"
    points = client.get_metric_history(made.info.run_id, "train/loss")
    assert [point.step for point in points] == [2]
