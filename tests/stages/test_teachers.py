"""Which networks stand behind a registered version that is to teach."""

import json
from pathlib import Path

import pytest
from mlflow import MlflowClient

from hubmap_ml.spec import InputError
from hubmap_ml.stages.teachers import networks_behind
from hubmap_ml.tracking import by_uri, ensure_model, experiment_id, open_store


def run(client: MlflowClient, stage: str, *upstream: str, **tags: str) -> str:
    given = {"stage": stage, "upstream_runs": ",".join(upstream), **tags}
    made = client.create_run(
        experiment_id(client, "here"), tags={f"hubmap.{key}": value for key, value in given.items()}
    )
    client.set_terminated(made.info.run_id)
    return str(made.info.run_id)


def version(client: MlflowClient, name: str, **tags: str) -> str:
    ensure_model(client, name)
    given = {f"hubmap.{key}": value for key, value in tags.items()}
    made = client.create_model_version(name, source="file:///nowhere", tags=given)
    return f"models:/{name}/{made.version}"


def test_all_networks_of_all_members_stand_behind_a_version_and_strangers_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    client = open_store()
    trained = [run(client, "finetune", fold=str(k)) for k in range(3)]
    refitted = run(client, "finetune", fold="-1")
    imported = run(client, "finetune", taken_in="true")
    predicted = [run(client, "predict", run(client, "prepare"), one) for one in trained]
    folds = version(client, "x.folds", predict_runs=",".join(predicted))
    refit = version(
        client, "x.refit",
        predict_runs=",".join(predicted), refit_predict_runs=run(client, "predict", refitted),
    )  # fmt: skip
    live = version(client, "x.live", predict_runs=run(client, "predict", imported))
    stored = version(client, "x.stored", predict_runs=run(client, "predict"))

    def behind(*members: str) -> list[str]:
        uri = version(client, "x.ensemble", members=json.dumps(members)) if len(members) > 1 else members[0]
        return [found.run_id for found in networks_behind(client, by_uri(client, uri))]

    assert behind(folds) == trained
    assert behind(refit) == [refitted], "it predicts with the refit, not with what scored it"
    assert behind(folds, refit) == [*trained, refitted]
    for stranger in (live, stored):
        for members in ((stranger,), (folds, stranger)):
            with pytest.raises(
                InputError, match=f"{stranger} does not say what trained it, or was made elsewhere"
            ):
                behind(*members)
