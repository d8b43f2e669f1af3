"""Pseudo-labels for real: a trained member labels, and another one's stage 1 learns from it."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from hubmap_ml.instances import read_coco
from hubmap_ml.stages.session import find_experiment
from tests.e2e.running import Chain, call
from tests.e2e.test_reuse import Copy, copy  # noqa: F401

pytestmark = pytest.mark.e2e


def with_student(folder: Path, **block: Any) -> Path:
    source = find_experiment("tiny").resolve()
    document = yaml.safe_load(source.read_text())
    teacher = document["members"]["maskrcnn"]
    for stage in ("pretrain", "finetune"):
        teacher[stage]["config"] = str(source.parent / teacher[stage]["config"])
    document["data"]["pools"] |= {"unlabelled": {"dataset": [2, 3]}, "few": {"dataset": 2, "source_wsi": 1}}
    document["pseudo_label"] = {
        "round1": {"teachers": ["maskrcnn"], "score": 0.01, "touching": "leave_out", **block}
    }
    document["members"]["student"] = {
        "pretrain": {**teacher["pretrain"], "pool": "few", "pseudo": "round1"},
        "finetune": teacher["finetune"],
    }
    path = folder / "experiment.yaml"
    path.write_text(yaml.safe_dump(document))
    return path


def train(copy: Copy, path: Path) -> dict[str, Any]:  # noqa: F811
    """Train the student's stage 1 on fold 0; return the new runs by stage."""
    before = {run.info.run_id for run in copy.runs()}
    words = ("pretrain", "--experiment", str(path), "--member", "student", "--fold", "0")
    refused = call(copy.folder, "hubmap-ml", *words)
    assert refused.returncode == 2
    assert "-e pseudo-label" in refused.stderr
    assert "labels=round1" in refused.stderr
    done = call(copy.folder, "hubmap-ml", *words, "--with-upstream", "true")
    assert done.returncode == 0, done.stdout + done.stderr
    new = [run for run in copy.runs() if run.info.run_id not in before and run.info.status == "FINISHED"]
    return {run.data.tags["hubmap.stage"]: run for run in new}


def test_a_student_learns_from_its_folds_teacher(chain: Chain, copy: Copy) -> None:  # noqa: F811
    new = train(copy, with_student(copy.folder))
    assert set(new) == {"pseudo_label", "pretrain"}, "the teacher is there already"
    labels, student = new["pseudo_label"], new["pretrain"]

    file = Path(copy.client.download_artifacts(labels.info.run_id, "pseudo_labels.json"))
    info = json.loads(file.read_text())["info"]
    made = read_coco(file)
    assert labels.data.metrics["images"] == len(made.images) == info["images"] >= 1
    assert set(made.images.datasets) <= {"2", "3"}
    assert not set(made.images.ids) & set(info["left_out"])
    assert info["generation"] == 1
    assert labels.data.tags["hubmap.generation"] == "1"
    (teacher,) = info["teachers"]
    assert len(teacher["runs"]) == len(teacher["weights"]) == 1
    trained = copy.client.get_run(teacher["runs"][0])
    assert trained.data.tags["hubmap.fold"] == "0"

    seen = copy.data(student.info.run_id, "training_images.json")
    assert [part["stage"] for part in seen] == ["teacher pretrain", "teacher finetune", "pretrain"]
    own = set(seen[-1]["images"])
    learnt = student.data.metrics["pseudo/images"]
    assert len(own & set(made.images.ids)) >= learnt >= 1, "images of its own pool keep their truth"
    assert student.data.params["labels"] == labels.info.run_id
    assert labels.data.tags["hubmap.leak_level"] != "trained_on"

    again = call(
        copy.folder, "hubmap-ml", "pseudo-label", "--experiment", str(copy.folder / "experiment.yaml")
    )
    assert again.returncode == 0, again.stdout + again.stderr
    assert f"reused run {labels.info.run_id}" in again.stdout


def test_shared_labels_have_seen_the_held_out_images(chain: Chain, copy: Copy) -> None:  # noqa: F811
    new = train(copy, with_student(copy.folder, shared=True))
    assert new["pseudo_label"].data.tags["hubmap.leak_level"] == "trained_on"
    seen = copy.data(new["pretrain"].info.run_id, "training_images.json")
    assert [part["stage"] for part in seen].count("teacher finetune") == 2


def test_a_registered_version_teaches_and_says_what_it_has_seen(chain: Chain, copy: Copy) -> None:  # noqa: F811
    path = with_student(copy.folder, teachers=None, model="models:/tiny.ensemble/1", generation=3)
    done = call(copy.folder, "hubmap-ml", "pseudo-label", "--experiment", str(path))
    assert done.returncode == 0, done.stdout + done.stderr
    (labels,) = copy.runs("tags.`hubmap.stage` = 'pseudo_label'")
    info = json.loads(
        Path(copy.client.download_artifacts(labels.info.run_id, "pseudo_labels.json")).read_text()
    )["info"]
    (teacher,) = info["teachers"]
    assert teacher["name"] == "models:/tiny.ensemble/1"
    assert len(teacher["runs"]) == len(set(teacher["weights"].values())) == 2, "one network a fold"
    assert info["generation"] == 3
    assert labels.data.tags["hubmap.leak_level"] == "trained_on"

    path = with_student(copy.folder)
    words = ("pseudo-label", "--experiment", str(path), "--model", "champion")
    done = call(copy.folder, "hubmap-ml", *words)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "by models:/tiny.ensemble/" in done.stdout
    with_student(copy.folder, teachers=None, model="models:/tiny.ensemble/1")
    again = call(copy.folder, "hubmap-ml", "pseudo-label", "--experiment", str(path))
    assert "reused run" in again.stdout, "the experiment names the version that led"


def test_a_pool_that_touches_held_out_images_is_refused(chain: Chain, copy: Copy) -> None:  # noqa: F811
    path = with_student(copy.folder, pool="finetune", touching="refuse")
    refused = call(copy.folder, "hubmap-ml", "pseudo-label", "--experiment", str(path))
    assert refused.returncode == 2
    assert "touch or repeat images held out in fold 0" in refused.stderr
