from mlflow import MlflowClient

from hubmap_ml.tracking import child_rows, stage_run
from hubmap_ml.tracking.children import PARENT, create_children

ROWS = [({"trial": k, "score": 0.1 * k}, {"score": 1.0 - k / 10, "score/fold_0": 0.5}) for k in range(3)]


def children(store: MlflowClient, parent: str) -> list:  # type: ignore[type-arg]
    ids = [item.experiment_id for item in store.search_experiments()]
    found = store.search_runs(ids, f"tags.`{PARENT}` = '{parent}'")
    return sorted(found, key=lambda run: str(run.info.run_name))


def test_rows_become_finished_runs_below_their_parent(store: MlflowClient) -> None:
    with stage_run(experiment="demo", stage="tune", name="tune · htc", tags={"hubmap.member": "htc"}) as run:
        run.recorder.ask(child_rows("trial", ROWS))
    found = children(store, run.run_id)
    assert [item.info.run_name for item in found] == ["trial 1", "trial 2", "trial 3"]
    for item, (params, metrics) in zip(found, ROWS, strict=True):
        assert item.info.status == "FINISHED"
        assert item.data.params == {key: str(value) for key, value in params.items()}
        assert item.data.metrics == metrics
        assert item.data.tags["hubmap.member"] == "htc"
        assert "hubmap.stage" not in item.data.tags  # no stage finds it in place of its own
        assert item.info.experiment_id == store.get_run(run.run_id).info.experiment_id


def test_rows_that_are_sent_twice_are_made_once(store: MlflowClient) -> None:
    with stage_run(experiment="demo", stage="tune", name="tune") as run:
        create_children(store, run.run_id, child_rows("trial", ROWS[:1]))
        for _ in range(2):
            create_children(store, run.run_id, child_rows("trial", ROWS))
    assert len(children(store, run.run_id)) == 3
