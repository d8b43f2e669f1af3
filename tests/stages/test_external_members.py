"""Members made elsewhere: imported, taken in, tuned, promoted, fused and submitted; and what must be refused."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hubmap_ml.data import PreparedData, generate
from hubmap_ml.ensembling.policy import PREDICTIONS_ONLY_TAG
from hubmap_ml.instances import (
    Annotations,
    Masks,
    PredictionSet,
    read_predictions,
    write_coco_results,
    write_predictions,
)
from hubmap_ml.serving import load_predictor
from hubmap_ml.spec import InputError, load_experiment
from hubmap_ml.stages import ensemble, import_predictions, promote, submit, tune, upstream
from hubmap_ml.stages.imported_predictions import MANIFEST, open_import
from hubmap_ml.stages.session import Session, open_session
from hubmap_ml.tracking import open_store, versions
from tests.stages.registered_members import STEPS, TISSUE, candidates

MEMBERS = ("near", "far")


def experiment_text(members: str) -> str:
    return f"""
name: outside
data: {{raw: raw, folds: {{n: 2}}, pools: {{finetune: {{dataset: 1}}}}}}
postprocess: {json.dumps(STEPS)}
members: {members}
tune: {{trials: 3, space: {{score: [0.01, 0.5]}}}}
ensemble: {{select: all, trials: 3, space: {{}}}}
"""


EXTERNAL = ", ".join(f"{name}: {{kind: external, predictions: imported/{name}}}" for name in MEMBERS)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    monkeypatch.setenv("HUBMAP_ML_WORK", str(tmp_path / "work"))
    generate(tmp_path / "raw", TISSUE)
    (tmp_path / "experiment.yaml").write_text(experiment_text(f"{{{EXTERNAL}}}"))
    return tmp_path


def session_of(place: Path) -> Session:
    return open_session(experiment=str(place / "experiment.yaml"), raw=str(place / "raw"))


def decided(found: PredictionSet) -> PredictionSet:
    assert found.masks is not None
    bits = found.masks.binarize(0.5, found.heights_of_instances(), found.widths_of_instances())
    return found.replace(masks=Masks.from_bits(bits))


def truth_of_folds(data: PreparedData) -> Annotations:
    return data.annotations_of(np.flatnonzero(data.images.folds >= 0))


def give(
    place: Path, data: PreparedData, member: str, seed: int, *, test: bool = True, **options: Any
) -> Path:
    """Write what somebody else's tool would, and import it."""
    hidden = upstream.hidden_truth(data)
    assert hidden is not None
    write_coco_results(place / f"{member}.json", decided(candidates(truth_of_folds(data), seed, 0.2)))
    of_test = candidates(hidden, seed + 1, 0.2)
    table = data.images.take(data.images.rows_of(list(of_test.images.ids)))
    of_test = of_test.replace(images=table, categories=data.categories)
    write_coco_results(place / f"{member}_test.json", decided(of_test))
    found = import_predictions.run(
        place / f"{member}.json",
        experiment=str(place / "experiment.yaml"),
        raw=str(place / "raw"),
        member=member,
        **{"leak": "slide", "test": place / f"{member}_test.json" if test else None, **options},
    )
    return found.folder


def test_two_members_from_outside_become_an_ensemble_that_predicts_the_test_images_alone(place: Path) -> None:
    session = session_of(place)
    data = upstream.prepared(session).data
    for number, member in enumerate(MEMBERS):
        give(place, data, member, 10 * number)
    for member in MEMBERS:
        tune.work(session, member)
    assert promote.work(session).details["refused"] == {}
    client = open_store()
    member = versions(client, "outside.near")[-1]
    assert member.tags["hubmap.external"] == "true"
    assert member.tags["hubmap.gate.leak"] == "ok: leak level slide, as its user declares"

    fused = ensemble.work(session)
    assert fused.details["champion"] is None
    assert "predictions-only" in fused.verdict
    version = versions(client, "outside.ensemble")[-1]
    assert version.tags[PREDICTIONS_ONLY_TAG] == "true"
    assert "champion" not in client.get_registered_model("outside.ensemble").aliases

    with pytest.raises(InputError, match="champion"):
        submit.work(session, "", "")
    done = submit.work(session, version.uri, "")
    assert Path(done.details["file"]).is_file()
    assert done.details["test_score"] > 0
    with pytest.raises(InputError, match="knows only their images"):
        load_predictor(version.uri, device="cpu").predict(
            data.sources(np.flatnonzero(data.images.folds == 0))
        )


def test_a_member_without_the_test_images_is_registered_and_left_out_of_the_ensemble(place: Path) -> None:
    session = session_of(place)
    data = upstream.prepared(session).data
    give(place, data, "near", 0)
    give(place, data, "far", 10, test=False)
    for member in MEMBERS:
        tune.work(session, member)
    assert len(promote.work(session).details["promoted"]) == 2
    assert ensemble.work(session).details["members"] == ["models:/outside.near/1"]


@pytest.mark.parametrize("level", ["duplicate", "trained_on"])
def test_a_declared_leak_fails_the_gate(place: Path, level: str) -> None:
    session = session_of(place)
    data = upstream.prepared(session).data
    give(place, data, "near", 0)
    give(place, data, "far", 10, leak=level)
    for member in MEMBERS:
        tune.work(session, member)
    refused = promote.work(session).details["refused"]
    assert list(refused) == ["far"]
    assert level in refused["far"]


def test_changed_predictions_are_refused(place: Path) -> None:
    session = session_of(place)
    data = upstream.prepared(session).data
    folder = give(place, data, "near", 0)
    other = give(place, data, "far", 10)
    shutil.copy(other / "out_of_fold" / "instances.parquet", folder / "out_of_fold" / "instances.parquet")
    with pytest.raises(InputError, match="not the predictions that were imported"):
        tune.work(session, "near")


def test_what_is_imported_is_what_was_given(place: Path) -> None:
    data = upstream.prepared(session_of(place)).data
    wanted = candidates(truth_of_folds(data), 3, 0.2)
    write_predictions(place / "ours", wanted)
    found = import_predictions.run(
        place / "ours",
        experiment=str(place / "experiment.yaml"),
        raw=str(place / "raw"),
        member="near",
        leak="none",
    )
    assert set(found.ids) == {"out_of_fold"}
    back = read_predictions(found.folder / "out_of_fold")
    assert np.array_equal(back.scores, wanted.scores)
    assert back.images.folds.tolist() == wanted.images.folds.tolist()
    assert back.masks is not None
    assert not back.masks.all_bits


def test_folds_without_any_instance_count_as_not_predicted(place: Path) -> None:
    data = upstream.prepared(session_of(place)).data
    first = np.flatnonzero(data.images.folds == 0)
    write_coco_results(place / "one.json", decided(candidates(data.annotations_of(first), 3, 0.2)))
    found = import_predictions.run(
        place / "one.json", experiment=str(place / "experiment.yaml"), raw=str(place / "raw"), member="near",
        leak="none",
    )  # fmt: skip
    assert found.ids["out_of_fold"] == set(data.images.ids[first])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"leak": "little"}, "'little' is no leak level"),
        ({"kind": "tar"}, "--format is 'tar'"),
        ({"sets": {"elsewhere": Path("x.json")}}, "'elsewhere' is no pool"),
        ({"sets": {"test": Path("x.json")}}, "is given without --set"),
        ({"test": Path("missing.json")}, "missing.json: no such file"),
    ],
)
def test_a_wrong_word_is_one_line_and_leaves_nothing(
    place: Path, options: dict[str, Any], words: str
) -> None:
    data = upstream.prepared(session_of(place)).data
    with pytest.raises(InputError, match=words):
        give(place, data, "near", 0, **options)
    assert not (place / "imported").exists() or not list((place / "imported").iterdir())


def test_an_import_is_not_written_over(place: Path) -> None:
    data = upstream.prepared(session_of(place)).data
    give(place, data, "near", 0)
    with pytest.raises(InputError, match="exists already"):
        give(place, data, "near", 0)


def test_a_missing_or_foreign_manifest_is_one_line(place: Path) -> None:
    with pytest.raises(InputError, match="run 'hubmap-ml import-predictions .*--member near FILE' first"):
        tune.work(session_of(place), "near")
    (place / MANIFEST).write_text('{"format": "other"}')
    with pytest.raises(InputError, match="not an import of predictions"):
        open_import(place)


@pytest.mark.parametrize(
    ("member", "words"),
    [
        ("{kind: external}", "give both or neither"),
        ("{predictions: imported/near}", "give both or neither"),
        ("{kind: external, predictions: a, refit: b}", "no member trained on folds"),
        (
            "{kind: external, predictions: a, finetune: {config: b.py}}",
            "'finetune' is said of a trained member",
        ),
        ("{kind: external, predictions: a, predict: {score: 0.1}}", "'predict' is said of a trained member"),
        ("{kind: external, predictions: a, weights: w.pth}", "'weights' is said of a trained member"),
    ],
)
def test_what_an_external_member_cannot_say_is_refused(tmp_path: Path, member: str, words: str) -> None:
    (tmp_path / "experiment.yaml").write_text(experiment_text(f"{{near: {member}}}"))
    with pytest.raises(InputError, match=words):
        load_experiment(tmp_path / "experiment.yaml")


def test_a_recorded_experiment_with_external_members_reads_back(tmp_path: Path) -> None:
    from hubmap_ml.spec import experiment_from_data

    (tmp_path / "experiment.yaml").write_text(experiment_text(f"{{{EXTERNAL}}}"))
    first = load_experiment(tmp_path / "experiment.yaml")
    again = experiment_from_data(first.model_dump(mode="json"), "record")
    assert again.members == first.members
