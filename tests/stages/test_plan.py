"""Which trainings a plan counts, what it says of those that fail, and how it looks; the measuring itself is e2e."""

import dataclasses
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from hubmap_ml.cli import plan as command
from hubmap_ml.cli.main import app
from hubmap_ml.spec import InputError
from hubmap_ml.stages import plan
from hubmap_ml.stages.session import find_experiment, open_session
from hubmap_ml.stages.worker import TorchWorker, WorkerError
from hubmap_ml.tracking import open_store
from tests.e2e.rehearsing import CHANGES, FOLDER, REHEARSAL
from tests.stages.test_plan_figures import MEASURED, ROW


@pytest.fixture(scope="module")
def own_store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    folder = tmp_path_factory.mktemp("store")
    with pytest.MonkeyPatch.context() as patched:
        patched.chdir(folder)
        patched.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder}/mlflow.db")
        patched.setenv("HUBMAP_ML_WORK", str(folder / "work"))
        patched.delenv("MLFLOW_RUN_ID", raising=False)
        yield


@pytest.mark.usefixtures("own_store")
def test_each_training_is_counted_once_and_each_configuration_tried_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tried: list[str] = []

    def call(self: TorchWorker, function: object, *arguments: Any) -> object:
        place = arguments[-1].name
        tried.append(place)
        if place == "detectors_x101-pretrain":
            raise WorkerError("Traceback …\ntorch.OutOfMemoryError: CUDA out of memory")
        return MEASURED, 7

    monkeypatch.setattr(TorchWorker, "call", call)
    found = plan.run(experiment=str(REHEARSAL), set=CHANGES, workers=0, device="cpu", nproc=3)
    rows = {(row.member, row.stage): row for row in found.rows}
    trainings = {key: row.trainings for key, row in rows.items()}
    assert trainings == {
        ("vit_ps50", "pretrain"): 1, ("vit_ps50", "finetune"): 1,
        ("vit_ps60", "pretrain"): 1, ("vit_ps60", "finetune"): 1,
        ("vit_ps60_all", "pretrain"): 0, ("vit_ps60_all", "finetune"): 1,
        ("cbnet", "pretrain"): 1, ("cbnet", "finetune"): 2,
        ("detectors_x101", "pretrain"): 1, ("detectors_x101", "finetune"): 1,
        ("detectors_r50", "pretrain"): 1, ("detectors_r50", "finetune"): 1,
        ("vit_plain", "pretrain"): 0, ("vit_plain", "finetune"): 1,
    }  # fmt: skip
    assert rows["vit_plain", "pretrain"].note == "the same trainings as pretrain of vit_ps50"
    assert len(tried) == len(set(tried)) == len(rows) - 2  # not again what another member's stage showed
    assert rows["cbnet", "finetune"].predicted_images == 2 * (4 + 4)
    assert rows["vit_ps60_all", "finetune"].predicted_images == 4
    assert (rows["cbnet", "finetune"].kept, rows["vit_ps60_all", "finetune"].kept) == (2, 1)
    assert rows["detectors_x101", "pretrain"].note == "torch.OutOfMemoryError: CUDA out of memory"
    assert found.total.missing == 1
    known = rows["vit_ps60_all", "finetune"].reference
    assert known is not None
    assert known.iteration_s == 5.72

    run = open_store().get_run(found.outcome.run_id)
    assert run.info.status == "FINISHED"
    assert run.data.tags["mlflow.note.content"].splitlines()[0] == found.outcome.verdict
    assert run.data.metrics["plan/hours"] == found.total.hours
    kept = json.loads(Path(run.info.artifact_uri, "plan.json").read_text())
    assert kept == json.loads(json.dumps(found.to_data()))
    assert "hubmap.stage_key" not in run.data.tags  # no later stage finds it

    command._print(found)
    table = capsys.readouterr().out
    assert "5.72 s, 33,734 MiB, 2 h 31 min" in table
    assert "1 x 7" in table
    assert "pretrain of vit_plain: the same trainings as pretrain of vit_ps50\n" in table
    assert "1 stages could not be measured" in table
    assert "extrapolated: hours = iterations x epochs x trainings" in table
    assert "of 3 processes that share a batch one's part was measured" in table


@pytest.mark.usefixtures("own_store")
def test_pseudo_labels_make_epochs_longer_and_a_stage_1_for_each_fold(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(TorchWorker, "call", lambda *_: (MEASURED, 7))
    document = yaml.safe_load(find_experiment("tiny").read_text())
    teacher = document["members"].pop("maskrcnn")
    for stage in ("pretrain", "finetune"):
        teacher[stage]["config"] = str(find_experiment("tiny").resolve().parent / teacher[stage]["config"])
    student = {**teacher, "pretrain": {**teacher["pretrain"], "pseudo": "round1"}}
    document["members"] = {"teacher": teacher, "student": student}
    document["data"]["synthetic"] = {**document["data"]["synthetic"], "unlabelled_per_slide": 2}
    document["data"]["pools"]["unlabelled"] = {"dataset": 3}
    document["pseudo_label"] = {"round1": {"teachers": ["teacher"], "touching": "leave_out"}}
    (tmp_path / "experiment.yaml").write_text(yaml.safe_dump(document))
    found = plan.run(experiment=str(tmp_path), workers=0, device="cpu")
    rows = {(row.member, row.stage): row for row in found.rows}
    assert [rows[name, "pretrain"].trainings for name in ("teacher", "student")] == [1, 2]
    assert rows["teacher", "pretrain"].epoch_length == 7
    config = open_session(experiment=str(tmp_path)).member_config("student", "pretrain")
    assert config is not None
    said = rows["student", "pretrain"].note
    labelled = int(said.removeprefix("counts ").partition(" ")[0])
    assert said == f"counts {labelled} images as if all got pseudo-labels"
    assert 1 <= labelled <= 4
    more = labelled * config["batch"].get("repeat", 1) / config["batch"]["global"]
    assert rows["student", "pretrain"].epoch_length == 7 + math.ceil(more)


@pytest.mark.usefixtures("own_store")
@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--iterations", "0"), "iterations is 0; 1 to 1000"),
        (("--iterations", "some"), "--iterations is 'some'; it must be a whole number"),
        (("--experiment", "nowhere"), "experiment 'nowhere': no such file, folder or name"),
        (("--experiment", "tiny", "--set", "optimizer.rl=1"), "set: there is no 'optimizer.rl'"),
        (("--experiment", "tiny", "--device", "tpu"), "device 'tpu' is none of"),
    ],
)
def test_bad_input_is_one_line(words: tuple[str, ...], said: str) -> None:
    result = CliRunner().invoke(app, ["plan", *words])
    assert isinstance(result.exception, InputError)
    assert said in str(result.exception)
    assert "\n" not in str(result.exception)


@pytest.mark.usefixtures("own_store")
def test_a_bad_reference_is_said_before_anything_is_tried(tmp_path: Path) -> None:
    text = REHEARSAL.read_text().replace("members/", f"{FOLDER}/members/")
    (tmp_path / "experiment.yaml").write_text(text)
    (tmp_path / "reference.yaml").write_text("machine: 3")
    with pytest.raises(InputError, match=r"reference\.yaml: machine"):
        plan.run(experiment=str(tmp_path), set=CHANGES, device="cpu")


def test_a_row_that_failed_has_dashes() -> None:
    failed = dataclasses.replace(ROW, measured=None)
    assert command._figures(failed) == ("5", "10 x ?", "–", "–", "–", "–", "–")
    assert command._figures(ROW) == (
        "5",
        "10 x 36",
        "2.00",
        "900 MiB",
        "15 min 20 s",
        "1 h 46 min",
        "10.00 GB",
    )
