"""Members made elsewhere: imported, taken in, tuned, promoted, fused and submitted; and what must be refused."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from hubmap_ml.cli.main import app
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
from hubmap_ml.stages import (
    ensemble,
    import_predictions,
    promote,
    report,
    reproduce,
    submit,
    tune,
    upstream,
)
from hubmap_ml.stages.imported_predictions import MANIFEST, Imported, open_import
from hubmap_ml.stages.session import Outcome, Session, open_session
from hubmap_ml.tracking import open_store, search, versions
from tests.stages.registered_members import STEPS, TISSUE, candidates

POOLS = "{finetune: {dataset: 1}, unlabelled: {dataset: 3}}"


def experiment_text(members: str) -> str:
    return f"""
name: outside
data: {{raw: raw, folds: {{n: 2}}, pools: {POOLS}}}
postprocess: {json.dumps(STEPS)}
members: {members}
tune: {{trials: 3, space: {{score: [0.01, 0.5]}}}}
ensemble: {{select: all, budget_s_per_tile: 1, trials: 3, space: {{}}}}
"""


def external(*members: str) -> str:
    return f"{{{', '.join(f'{name}: {{kind: external, predictions: imported/{name}}}' for name in members)}}}"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with raw data and a store that all tests share; each names members of its own."""
    folder = tmp_path_factory.mktemp("outside")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder}/mlflow.db")
        patch.setenv("HUBMAP_ML_WORK", str(folder / "work"))
        generate(folder / "raw", TISSUE)
        yield folder


def session_of(place: Path, *members: str) -> Session:
    (place / "experiment.yaml").write_text(experiment_text(external(*members)))
    return open_session(experiment=str(place / "experiment.yaml"), raw=str(place / "raw"))


@pytest.fixture(scope="module")
def data(place: Path) -> PreparedData:
    return upstream.prepared(session_of(place, "nobody")).data


def decided(found: PredictionSet) -> PredictionSet:
    assert found.masks is not None
    bits = found.masks.binarize(0.5, found.heights_of_instances(), found.widths_of_instances())
    return found.replace(masks=Masks.from_bits(bits))


def truth_of_folds(data: PreparedData) -> Annotations:
    return data.annotations_of(np.flatnonzero(data.images.folds >= 0))


def bring(place: Path, predictions: Path, member: str, **options: Any) -> Imported:
    return import_predictions.run(
        predictions,
        experiment=str(place / "experiment.yaml"),
        raw=str(place / "raw"),
        member=member,
        **{"leak": "slide", **options},
    )


def leave_files(place: Path, data: PreparedData, member: str, seed: int) -> None:
    """Write COCO results of the images of folds and of the test images."""
    hidden = upstream.hidden_truth(data)
    assert hidden is not None
    write_coco_results(place / f"{member}.json", decided(candidates(truth_of_folds(data), seed, 0.2)))
    of_test = candidates(hidden, seed + 1, 0.2)
    table = data.images.take(data.images.rows_of(list(of_test.images.ids)))
    of_test = of_test.replace(images=table, categories=data.categories)
    write_coco_results(place / f"{member}_test.json", decided(of_test))


def bring_by_command(place: Path, data: PreparedData) -> None:
    """Import member "far" as a person would, and hold what is told against the experiment's own words."""
    leave_files(place, data, "far", 10)
    done = CliRunner().invoke(
        app,
        ["import-predictions", "far.json", "--experiment", "experiment.yaml", "--raw", "raw", "--member", "far",
         "--leak", "slide", "--test", "far_test.json", "--set", f"unlabelled={place / 'pool'}"],
    )  # fmt: skip
    assert done.exit_code == 0, done.exception
    assert external("far")[1:-1] in done.output.replace("\n", "")


def give(
    place: Path, data: PreparedData, member: str, seed: int, *, with_test: bool = True, **options: Any
) -> Path:
    """Write what somebody else's tool would, and import it."""
    leave_files(place, data, member, seed)
    test = {"test": place / f"{member}_test.json"} if with_test else {}
    return bring(place, place / f"{member}.json", member, **{**test, **options}).folder


@pytest.fixture(scope="module")
def chain(place: Path, data: PreparedData) -> tuple[Session, Outcome]:
    """Two members from outside, tuned, promoted and fused; one of them knows a pool too."""
    session = session_of(place, "near", "far")
    unlabelled = data.pool(session.experiment.data.pools["unlabelled"])
    write_predictions(place / "pool", candidates(data.annotations_of(unlabelled), 5, 0.2))
    give(place, data, "near", 0, sets={"unlabelled": place / "pool"})
    bring_by_command(place, data)
    for member in ("near", "far"):
        tune.work(session, member)
    assert promote.work(session).details["refused"] == {}
    return session, ensemble.work(session)


def test_members_from_outside_say_so(chain: tuple[Session, Outcome]) -> None:
    member = versions(open_store(), "outside.near")[-1]
    assert member.tags["hubmap.external"] == "true"
    assert member.tags["hubmap.gate.leak"] == "ok: leak level slide, as its user declares"
    assert "made elsewhere, with declared leak levels: near, far" in chain[1].verdict


def test_their_ensemble_predicts_the_images_that_they_know_and_no_other(
    chain: tuple[Session, Outcome], data: PreparedData
) -> None:
    session, fused = chain
    assert fused.details["champion"] is None
    assert "predictions-only" in fused.verdict
    client = open_store()
    version = versions(client, "outside.ensemble")[-1]
    assert version.tags[PREDICTIONS_ONLY_TAG] == "true"
    assert "champion" not in client.get_registered_model("outside.ensemble").aliases
    with pytest.raises(InputError, match="champion"):
        submit.work(session, "", "")

    done = submit.work(session, version.uri, "")
    assert Path(done.details["file"]).is_file()
    assert done.details["test_score"] > 0
    predictor = load_predictor(version.uri, device="cpu")
    unlabelled = data.pool(session.experiment.data.pools["unlabelled"])
    assert len(predictor.predict(data.sources(unlabelled)).scores)
    with pytest.raises(InputError, match="knows only their images"):
        predictor.predict(data.sources(np.flatnonzero(data.images.folds == 0)))

    rows = {row["name"]: row for row in report.work(session).details["rows"]}
    assert rows["outside.ensemble"]["badge"] == f"predictions-only v{version.number}"
    assert rows["outside.ensemble"]["hidden_test"] == done.details["test_score"]
    assert rows["outside.near"]["badge"] == "promoted v1, made elsewhere"


@pytest.mark.parametrize("stage", ["predict", "tune"])
def test_their_runs_are_repeated_from_the_record_wherever_that_is_asked(
    chain: tuple[Session, Outcome], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stage: str
) -> None:
    [run] = search(f"tags.`hubmap.stage` = '{stage}' and tags.`hubmap.member` = 'near'")
    monkeypatch.chdir(tmp_path)
    done = reproduce.run(run.run_id)
    assert done.identical, done.differences
    assert done.same_key


def test_a_member_without_the_test_images_is_registered_and_left_out_of_the_ensemble(
    place: Path, data: PreparedData
) -> None:
    session = session_of(place, "whole", "part")
    give(place, data, "whole", 0)
    give(place, data, "part", 10, with_test=False)
    for member in ("whole", "part"):
        tune.work(session, member)
    assert len(promote.work(session).details["promoted"]) == 2
    assert ensemble.work(session).details["members"] == ["models:/outside.whole/1"]


@pytest.mark.parametrize("level", ["duplicate", "trained_on"])
def test_a_declared_leak_fails_the_gate(place: Path, data: PreparedData, level: str) -> None:
    session = session_of(place, level)
    give(place, data, level, 10, leak=level)
    tune.work(session, level)
    with pytest.raises(InputError, match=f"no member passes the gate: {level}: .*leak level {level}"):
        promote.work(session)


def test_changed_predictions_are_refused(place: Path, data: PreparedData) -> None:
    session = session_of(place, "changed")
    folder = give(place, data, "changed", 0)
    write_predictions(folder / "out_of_fold", candidates(truth_of_folds(data), 7, 0.2))
    with pytest.raises(InputError, match="not the predictions that were imported"):
        tune.work(session, "changed")


def test_what_is_imported_is_what_was_given(place: Path, data: PreparedData) -> None:
    wanted = candidates(truth_of_folds(data), 3, 0.2)
    write_predictions(place / "ours", wanted)
    found = bring(place, place / "ours", "same")
    assert set(found.ids) == {"out_of_fold"}
    back = read_predictions(found.folder / "out_of_fold")
    assert np.array_equal(back.scores, wanted.scores)
    assert back.images.folds.tolist() == wanted.images.folds.tolist()
    assert back.masks is not None
    assert not back.masks.all_bits
    with pytest.raises(InputError, match="exists already"):
        bring(place, place / "ours", "same")


def test_folds_without_any_instance_count_as_not_predicted(place: Path, data: PreparedData) -> None:
    first = np.flatnonzero(data.images.folds == 0)
    write_coco_results(place / "one.json", decided(candidates(data.annotations_of(first), 3, 0.2)))
    assert bring(place, place / "one.json", "one").ids["out_of_fold"] == set(data.images.ids[first])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"leak": "little"}, "'little' is no leak level"),
        ({"sets": {"elsewhere": Path("x.json")}}, "'elsewhere' is no pool"),
        ({"sets": {"test": Path("x.json")}}, "is given without --set"),
        ({"test": Path("missing.json")}, "missing.json: no such file"),
    ],
)
def test_a_wrong_word_is_one_line_and_leaves_nothing(
    place: Path, data: PreparedData, options: dict[str, Any], words: str
) -> None:
    with pytest.raises(InputError, match=words):
        give(place, data, "wrong", 0, **options)
    assert not [path for path in (place / "imported").glob("*") if "wrong" in path.name]


def test_a_missing_or_foreign_manifest_is_one_line(place: Path) -> None:
    with pytest.raises(InputError, match="run 'hubmap-ml import-predictions .*--member missing FILE' first"):
        tune.work(session_of(place, "missing"), "missing")
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

    (tmp_path / "experiment.yaml").write_text(experiment_text(external("near", "far")))
    first = load_experiment(tmp_path / "experiment.yaml")
    again = experiment_from_data(first.model_dump(mode="json"), "record")
    assert again.members == first.members
