from pathlib import Path

import pytest
from mlflow import MlflowClient

from hubmap_ml.spec import Interrupted, StageInputs
from hubmap_ml.tracking import forget, interrupted, link, stage_run

INPUTS = StageInputs("finetune", {"lr": 0.1}, (), "data")


def killed(*, checkpoint: str | None, key: StageInputs = INPUTS) -> str:
    """A run that was asked to stop; with a checkpoint folder in its place, or where a crash may leave it."""
    with (
        pytest.raises(Interrupted),
        stage_run(experiment="demo", stage="finetune", name="finetune") as run,
    ):
        run.identify(key)
        if checkpoint:
            (run.recorder.folder / "checkpoints" / checkpoint).mkdir(parents=True)
        raise Interrupted("interrupted at epoch 1, iteration 7; start it again to go on")
    return run.run_id


def test_an_interrupted_run_says_where_it_stands(store: MlflowClient) -> None:
    run = store.get_run(killed(checkpoint=None))
    assert run.info.status == "KILLED"
    note = run.data.tags["mlflow.note.content"]
    assert note == "interrupted at epoch 1, iteration 7; start it again to go on"


@pytest.mark.parametrize("place", ["last", ".last.old"])
def test_the_newest_run_with_a_checkpoint_is_gone_on_from(
    store: MlflowClient, tmp_path: Path, place: str
) -> None:
    killed(checkpoint="last")
    second = killed(checkpoint=place)
    killed(checkpoint=None)  # died before it had copied what it was to go on from
    killed(checkpoint="last", key=StageInputs("finetune", {"lr": 0.2}, (), "data"))
    found = interrupted(store, "demo", INPUTS.key, own="another")
    assert found is not None
    assert found[0].run_id == second
    assert found[1] == tmp_path / "work" / "runs" / second / "checkpoints" / "last"
    assert interrupted(store, "other", INPUTS.key, own="another") is None


def test_both_runs_know_of_each_other_and_the_old_one_is_killed(store: MlflowClient) -> None:
    old = killed(checkpoint="last")
    store.set_terminated(old, "FAILED")
    with stage_run(experiment="demo", stage="finetune", name="finetune") as run:
        run.identify(INPUTS)
        found = interrupted(store, "demo", INPUTS.key, own=run.run_id)
        assert found is not None
        link(store, found[0], run.run_id)
        forget(store, "demo", INPUTS.key, own=run.run_id)
    assert store.get_run(old).info.status == "KILLED"
    assert store.get_run(old).data.tags["hubmap.resumed_by"] == run.run_id
    assert store.get_run(run.run_id).data.tags["hubmap.resumes"] == old
    assert interrupted(store, "demo", INPUTS.key, own="another") is None
