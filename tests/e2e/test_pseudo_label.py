"""Pseudo-labels for real: `main` with a student beside its teacher, then labels made in other ways."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from hubmap_ml.instances import read_coco
from hubmap_ml.stages.session import find_experiment
from hubmap_ml.tracking import lineage_of
from tests.e2e.running import Chain, call
from tests.e2e.test_reuse import Copy

pytestmark = pytest.mark.e2e

STAGES = """
import json, sys
from hubmap_ml.spec import InputError
from hubmap_ml.stages import main, pretrain, pseudo_label, reproduce
from hubmap_ml.tracking import search

def result(stage, given):
    if stage == "main":
        return main.run(**given).outcome.run_id
    if stage == "reproduce":
        return reproduce.run(search("tags.`hubmap.stage` = 'pseudo_label'")[0].run_id, device="cpu").to_data()
    return {"pretrain": pretrain, "pseudo_label": pseudo_label}[stage].run(**given).run_id

if __name__ == "__main__":
    for given in map(json.loads, sys.argv[1:]):
        try:
            found = result(given.pop("stage"), given)
        except InputError as error:
            found = str(error)
        print("FOUND " + json.dumps(found))
"""


def write(path: Path, **block: Any) -> str:
    """The tiny experiment with a student of fold 0, whose labels are made by other values."""
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
        "finetune": {**teacher["finetune"], "folds": [0]},
    }
    path.write_text(yaml.safe_dump(document))
    return str(path)


@dataclass(frozen=True)
class Round:
    """What a round left: its store, the steps of `main`, its new runs by stage, and what each call found."""

    copy: Copy
    steps: list[dict[str, object]]
    new: dict[str, Any]
    found: dict[str, Any]

    def document(self, run_id: str, name: str) -> Any:
        return json.loads(self.file(run_id, name).read_text())

    def file(self, run_id: str, name: str) -> Path:
        return Path(self.copy.client.download_artifacts(run_id, name))

    def run(self, name: str) -> Any:
        return self.copy.client.get_run(self.found[name])


@pytest.fixture(scope="module")
def taught(chain: Chain, tmp_path_factory: pytest.TempPathFactory) -> Round:
    copy = Copy.of(chain, tmp_path_factory.mktemp("round"))
    version = {"teachers": None, "model": "models:/tiny.ensemble/1"}

    def labels(name: str, **block: Any) -> dict[str, str]:
        return {"stage": "pseudo_label", "experiment": write(copy.folder / f"{name}.yaml", **block)}

    path = write(copy.folder / "experiment.yaml")
    each: dict[str, dict[str, str]] = {
        "main": {"stage": "main", "experiment": path},
        "again": {"stage": "pseudo_label", "experiment": path},
        "reproduced": {"stage": "reproduce"},
        "missing": {**labels("missing", score=0.5), "stage": "pretrain", "member": "student"},
        "version": labels("version", **version),
        "champion": {"stage": "pseudo_label", "experiment": path, "model": "champion"},
        "agreed": labels("agreed", **version, agreement=2),
        "refused": labels("refused", pool="finetune", touching="refuse"),
        "main refused": {**labels("refused", pool="finetune", touching="refuse"), "stage": "main"},
    }
    script = copy.folder / "stages.py"
    script.write_text(STAGES)
    done = call(copy.folder, "python", str(script), *map(json.dumps, each.values()))
    assert done.returncode == 0, done.stdout + done.stderr
    lines = [line for line in done.stdout.splitlines() if line.startswith("FOUND ")]
    found = dict(zip(each, (json.loads(line.removeprefix("FOUND ")) for line in lines), strict=True))
    steps = copy.data(found["main"], "steps.json")
    new = {str(row["stage"]): copy.client.get_run(str(row["run_id"])) for row in steps if not row["reused"]}
    return Round(copy, steps, new, found)


def test_main_trains_a_student_after_its_teacher(taught: Round) -> None:
    made = ["pseudo_label", "pretrain", "finetune", "predict", "tune", "promote", "ensemble", "report"]
    assert [name for name in taught.new if name != "submit"] == made
    assert all("maskrcnn" not in str(row["name"]) for row in taught.steps if not row["reused"])
    labels, student = taught.new["pseudo_label"], taught.new["pretrain"]
    info = taught.document(labels.info.run_id, "pseudo_labels.json")["info"]
    coco = read_coco(taught.file(labels.info.run_id, "pseudo_labels.json"))
    assert labels.data.metrics["images"] == len(coco.images) == info["images"] >= 1
    assert len(info["left_out"]) == labels.data.metrics["left_out_images"] >= 1
    assert not set(coco.images.ids) & set(info["left_out"])
    assert info["generation"] == 1
    (teacher,) = info["teachers"]
    assert len(teacher["runs"]) == len(teacher["weights"]) == 1
    trained = taught.copy.client.get_run(teacher["runs"][0])
    assert (trained.data.tags["hubmap.member"], trained.data.tags["hubmap.fold"]) == ("maskrcnn", "0")

    seen = taught.document(student.info.run_id, "training_images.json")
    assert [part["stage"] for part in seen] == ["teacher pretrain", "teacher finetune", "pretrain"]
    assert student.data.params["labels"] == labels.info.run_id
    assert labels.data.tags["hubmap.leak_level"] != "trained_on"


def test_pool_and_labels_are_one_file_with_every_tile(taught: Round) -> None:
    labels, student = taught.new["pseudo_label"].info.run_id, taught.new["pretrain"].info.run_id
    document = taught.document(student, "pool_and_pseudo_labels.json")
    info, ids = document["info"], [record["id"] for record in document["images"]]
    inputs = taught.document(student, "stage_inputs.json")["values"]
    assert sorted(map(str, ids)) == sorted([*inputs["train"], *inputs["valid"], *inputs["pseudo"]])
    assert info["pseudo_labelled"] == inputs["pseudo"]
    assert info["chooses_the_epoch"] == inputs["valid"]
    assert len(inputs["pseudo"]) == taught.new["pretrain"].data.metrics["pseudo/images"] >= 1
    assert info["run"] == labels
    merged = read_coco(taught.file(student, "pool_and_pseudo_labels.json"))
    alone = read_coco(taught.file(labels, "pseudo_labels.json"))
    for name in inputs["pseudo"]:
        ours, theirs = (each.image(int(each.images.rows_of([name])[0])) for each in (merged, alone))
        assert ours.areas.tolist() == theirs.areas.tolist()


def test_the_generation_stands_in_card_registry_report_and_lineage(taught: Round) -> None:
    client = taught.copy.client
    version = client.get_model_version_by_alias("tiny.student", "promoted")
    assert version.tags["hubmap.generation"] == "1"
    assert "learnt from pseudo-labels round1 of generation 1" in version.description
    assert "hubmap.generation" not in client.get_model_version("tiny.maskrcnn", "1").tags
    page = taught.file(taught.new["report"].info.run_id, "report.html").read_text()
    assert "learnt from pseudo-labels round1 of generation 1" in page
    assert "pseudo_label · fold 0 · round1" in page
    lineage = lineage_of(client, f"models:/tiny.student/{version.version}").nodes.values()
    later = {node.title for node in lineage if node.facts.get("generation") == "1"}
    assert later > {
        "pseudo_label · round1 · fold 0",
        "pretrain · student · fold 0",
        "finetune · student · fold 0",
    }
    assert "finetune · maskrcnn · fold 0" in {node.title for node in lineage} - later


def test_the_same_labels_are_found_again_and_reproduced(taught: Round) -> None:
    labels = taught.new["pseudo_label"].info.run_id
    assert taught.found["again"] == labels
    again = taught.found["reproduced"]
    assert again["recorded"] == labels
    assert again["identical"], again["differences"]
    assert again["same_key"]
    assert "annotations/instances.parquet" in again["compared"]


def test_a_student_without_its_labels_names_the_command(taught: Round) -> None:
    assert "-e pseudo-label" in taught.found["missing"]
    assert "labels=round1 -P fold=0" in taught.found["missing"]


def test_a_registered_version_teaches_and_says_what_it_has_seen(taught: Round) -> None:
    run = taught.run("version")
    info = taught.document(run.info.run_id, "pseudo_labels.json")["info"]
    (teacher,) = info["teachers"]
    assert teacher["name"] == "models:/tiny.ensemble/1"
    assert len(teacher["runs"]) == len(set(teacher["weights"].values())) == 2, "one network a fold"
    assert "method" not in info["rule"]
    assert run.data.tags["hubmap.leak_level"] == "trained_on"
    leader = taught.copy.client.get_model_version_by_alias("tiny.ensemble", "champion").version
    assert taught.run("champion").data.tags["hubmap.teachers"] == f"models:/tiny.ensemble/{leader}"
    assert "models:/tiny.ensemble/1 has 1 members" in taught.found["agreed"]


def test_a_pool_that_touches_held_out_images_is_refused(taught: Round) -> None:
    assert "touch or repeat images held out in fold 0 or test images" in taught.found["refused"]
    assert "touching: leave_out" in taught.found["refused"]
    assert taught.found["main refused"] == taught.found["refused"], "before the student or anybody is trained"
