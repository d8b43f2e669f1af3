"""The ensemble stage over a real store: selection, registration, who leads, and what a crash leaves behind."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from hubmap_ml.ensembling import standing
from hubmap_ml.ensembling.policy import ROLLBACK_TAG
from hubmap_ml.instances import read_predictions
from hubmap_ml.metrics import evaluate
from hubmap_ml.serving.fetching import local_folder
from hubmap_ml.spec import InputError
from hubmap_ml.stages import champion, ensemble, inputs, upstream
from hubmap_ml.stages.session import Session
from hubmap_ml.tracking import Version, get_run, open_store, versions
from tests.registry_crashes import Crash, crash_after
from tests.stages.registered_members import make, with_ensemble

NAME = "table.ensemble"
QUICK: dict[str, Any] = {"trials": 3, "rounds": 3, "space": {}}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Session]]:
    folder = tmp_path_factory.mktemp("base")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder}/mlflow.db")
        patch.setenv("HUBMAP_ML_WORK", str(folder / "work"))
        made = make(folder, costs={"good": 2.0, "fair": 1.0, "poor": 0.5})
        yield folder, with_ensemble(made, **QUICK)


@pytest.fixture
def place(
    base: tuple[Path, Session], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[Session, Callable[[], None]]:
    """A session over a copy of the store; the second value goes to another fresh copy."""
    folder, session = base
    count = iter(range(99))

    def fresh_copy() -> None:
        own = shutil.copy(folder / "mlflow.db", tmp_path / f"{next(count)}.db")
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{own}")
        monkeypatch.setenv("HUBMAP_ML_WORK", str(tmp_path / f"work{own.stem}"))

    monkeypatch.chdir(tmp_path)
    fresh_copy()
    return session, fresh_copy


def aliases(name: str = NAME) -> dict[str, str]:
    return {key: str(value) for key, value in open_store().get_registered_model(name).aliases.items()}


def registered() -> list[Version]:
    return versions(open_store(), NAME)


def state() -> Any:
    """What the registry says, without what differs from run to run."""
    told = []
    for one in registered():
        tags = {k: v for k, v in one.tags.items() if k != "hubmap.run" and not k.startswith(ROLLBACK_TAG)}
        told.append((tags, [v for k, v in one.tags.items() if k.startswith(ROLLBACK_TAG)]))
    return aliases(), told


def found_by(version: Version) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(
        get_run(open_store(), version.run_id).artifact("ensemble.json").read_text()
    )
    return found


def test_it_selects_registers_and_says_both_scores(place: Any) -> None:
    session, _ = place
    outcome = ensemble.work(session)
    [version] = registered()
    assert aliases() == {"champion": "1"}
    assert "cross-fitted" in outcome.verdict
    assert "refitted" in outcome.verdict
    assert outcome.verdict.endswith("version 1, champion")
    found = found_by(version)
    assert "poor" not in found["registered"]["weights"]
    assert "good" in found["registered"]["weights"]
    assert set(found["by_fold"]) == {"0", "1"}
    assert {(pair["first"], pair["second"]) for pair in found["diversity"]} == {
        ("good", "fair"), ("good", "poor"), ("fair", "poor"),
    }  # fmt: skip
    assert [one["name"] for one in found["contributions"]] == ["good", "fair", "poor"]
    pinned = json.loads(version.tags["hubmap.members"])
    assert (
        pinned
        == outcome.details["members"]
        == [f"models:/table.{name}/1" for name in found["registered"]["weights"]]
    )
    cost = {"good": 2.0, "fair": 1.0}
    assert float(version.tags["hubmap.s_per_image"]) == sum(
        cost[name] for name in found["registered"]["weights"]
    )
    page = get_run(open_store(), version.run_id).artifact("ensemble.md").read_text()
    for name in ("good", "fair", "poor"):
        assert f"| {name} |" in page
    assert f"{found['cross_fitted']:.4f} cross-fitted, {found['refitted']:.4f} refitted" in page
    assert "| good and fair |" in page
    # the cross-fitted predictions score what the run says
    data = upstream.prepared(session).data
    kept = read_predictions(get_run(open_store(), version.run_id).artifact("cross_fitted"))
    values = [
        evaluate("ap60", data.annotations_of(data.images.rows_of(list(part.images.ids))), part).value
        for part in (
            kept.take_images([k for k, f in enumerate(kept.images.folds) if f == fold]) for fold in (0, 1)
        )
    ]
    assert sum(values) / 2 == pytest.approx(found["cross_fitted"])


def test_a_budget_a_fixed_list_and_all_are_obeyed(place: Any) -> None:
    session, _ = place
    tight = with_ensemble(session, budget_s_per_tile=1.2)
    ensemble.work(tight)
    assert found_by(registered()[-1])["registered"]["weights"] == {"fair": 1.0}
    fixed = with_ensemble(session, select="fixed", fixed=("poor", "good"), weights={"good": 3.0})
    ensemble.work(fixed)
    assert found_by(registered()[-1])["registered"]["weights"] == {"poor": pytest.approx(1 / 3), "good": 1.0}
    ensemble.work(with_ensemble(session, select="all"))
    assert set(found_by(registered()[-1])["registered"]["weights"]) == {"good", "fair", "poor"}
    with pytest.raises(InputError, match=r"budget_s_per_tile 1\.2"):
        ensemble.work(with_ensemble(session, select="all", budget_s_per_tile=1.2))
    with pytest.raises(InputError, match="no member is within"):
        ensemble.work(with_ensemble(session, budget_s_per_tile=0.1))


def test_what_is_registered_predicts_what_was_chosen(place: Any) -> None:
    from hubmap_ml.serving import load_predictor

    session, _ = place
    ensemble.work(with_ensemble(session, select="all", weights={"good": 2.0}))
    predictor = load_predictor(f"models:/{NAME}/1")
    assert predictor.tree.child.weights == (1.0, 0.5, 0.5)
    assert [child.name for child in predictor.tree.child.children] == ["good", "fair", "poor"]


def test_weights_of_a_class_are_registered_as_its_own(place: Any) -> None:
    from hubmap_ml.serving import load_predictor

    session, _ = place
    ensemble.work(with_ensemble(session, per_class=True))
    found = found_by(registered()[0])["registered"]
    fusion = load_predictor(f"models:/{NAME}/1").tree.child
    assert found["class_weights"]["blood_vessel"] == found["weights"]
    assert dict(fusion.class_weights) == {"blood_vessel": tuple(found["weights"].values())}
    assert fusion.weights is None


def test_weights_by_reference_give_the_same_predictions_and_must_be_what_was_registered(place: Any) -> None:
    from hubmap_ml.serving import load_predictor

    session, _ = place
    ensemble.work(with_ensemble(session, select="all"))
    ensemble.work(with_ensemble(session, select="all", carry="references"))
    data = upstream.prepared(session).data
    rows = [row for row, fold in enumerate(data.images.folds) if fold == 1][:3]
    whole, named = (
        load_predictor(f"models:/{NAME}/{number}").predict(data.sources(rows)) for number in (1, 2)
    )
    assert len(whole) == len(named) > 0
    assert (whole.scores == named.scores).all()
    source = local_folder(f"models:/{NAME}/2")
    assert source is not None
    inside = source / "artifacts" / "predictor"
    assert {path.name for path in inside.rglob("*") if path.is_file()} == {
        "predictor.json",
        "references.json",
    }
    said = json.loads((inside / "references.json").read_text())
    assert {one["version"] for one in said.values()} == {
        f"models:/table.{name}/1" for name in ("good", "fair", "poor")
    }
    said["leaves/good_fold0"]["digest"] = "0" * 64
    (inside / "references.json").write_text(json.dumps(said))
    with pytest.raises(InputError, match="does not hold the leaves/good_fold0 that was registered"):
        load_predictor(f"models:/{NAME}/2")
    said["leaves/good_fold0"]["version"] = "models:/table.good/7"
    (inside / "references.json").write_text(json.dumps(said))
    with pytest.raises(InputError, match="table.good/7 is not in this store"):
        load_predictor(f"models:/{NAME}/2")


def test_a_better_ensemble_leads_and_a_worse_one_challenges(place: Any) -> None:
    session, _ = place
    poor = with_ensemble(session, select="fixed", fixed=("poor",))
    ensemble.work(poor)
    better = ensemble.work(with_ensemble(session, select="fixed", fixed=("good", "fair")))
    assert better.verdict.endswith("version 2, champion")
    assert aliases() == {"champion": "2"}
    worse = ensemble.work(with_ensemble(session, select="fixed", fixed=("poor", "fair")))
    assert "challenger of version 2" in worse.verdict
    assert aliases() == {"champion": "2", "challenger": "3"}
    forced = with_ensemble(session, select="fixed", fixed=("poor", "fair"), champion={"force": True})
    assert ensemble.work(forced).verdict.endswith("champion by force")
    assert aliases() == {"champion": "4"}
    assert registered()[-1].tags["hubmap.forced"] == "true"
    again = ensemble.work(better_session := with_ensemble(session, select="fixed", fixed=("good", "fair")))
    assert (again.reused and "behind of version 4" not in again.verdict) or better_session
    assert aliases() == {"champion": "4"}


def test_a_rollback_stays_and_the_next_is_compared_with_who_leads(place: Any) -> None:
    session, _ = place
    ensemble.work(with_ensemble(session, select="fixed", fixed=("poor",)))
    ensemble.work(with_ensemble(session, select="fixed", fixed=("good", "fair")))
    assert champion.roll_back(open_store(), "table", None, "worse outside") == (2, 1)
    assert aliases() == {"champion": "1"}
    done = ensemble.work(with_ensemble(session, select="fixed", fixed=("good", "fair")))
    assert done.reused
    assert aliases() == {"champion": "1"}
    [kept] = [v for k, v in registered()[0].tags.items() if k.startswith(ROLLBACK_TAG)]
    assert json.loads(kept)["why"] == "worse outside"
    ensemble.work(with_ensemble(session, select="fixed", fixed=("good",)))
    assert "hubmap.against.1" in registered()[-1].tags
    assert aliases() == {"champion": "3"}
    assert champion.roll_back(open_store(), "table", 2, "after all") == (3, 2)


@pytest.mark.parametrize(
    ("to", "why", "message"),
    [
        (None, " ", "say why"),
        (9, "x", "no version 9"),
        (1, "x", "leads already"),
        (None, "x", "the first that leads"),
    ],
)
def test_a_rollback_that_cannot_be_is_one_line(place: Any, to: int | None, why: str, message: str) -> None:
    session, _ = place
    ensemble.work(with_ensemble(session, select="fixed", fixed=("poor",)))
    with pytest.raises(InputError, match=message):
        champion.roll_back(open_store(), "table", to, why)
    with pytest.raises(InputError, match="no registered model 'other"):
        champion.roll_back(open_store(), "other", None, "x")


def first(session: Session) -> None:
    ensemble.work(session)


def second(session: Session) -> None:
    ensemble.work(with_ensemble(session, select="fixed", fixed=("poor",)))


def compares_anew(session: Session) -> None:
    """The newest version was made beside another: its comparison with who leads is missing."""
    ensemble.work(with_ensemble(session, select="fixed", fixed=("good", "fair")))


def rolls_back(session: Session) -> None:
    if aliases() != {"champion": "2"}:
        champion.roll_back(open_store(), "table", None, "why not")


def nothing(session: Session) -> None:
    return


def two_at_once(session: Session) -> None:
    """Two versions that were both compared with version 1, as two calls at once leave them."""
    ensemble.work(with_ensemble(session, select="fixed", fixed=("poor",)))
    ensemble.work(with_ensemble(session, select="fixed", fixed=("fair",)))
    ensemble.work(with_ensemble(session, select="fixed", fixed=("good", "fair")))
    last = registered()[-1]
    open_store().delete_model_version_tag(NAME, str(last.number), "hubmap.against.2")


def beaten(session: Session) -> None:
    """Three that led, so that a rollback that is counted twice shows."""
    ensemble.work(with_ensemble(session, select="fixed", fixed=("poor",)))
    ensemble.work(with_ensemble(session, select="all", champion={"force": True}))
    ensemble.work(with_ensemble(session, select="fixed", fixed=("good",), champion={"force": True}))


@pytest.mark.parametrize(
    ("before", "work"),
    [(nothing, first), (first, second), (two_at_once, compares_anew), (beaten, rolls_back)],
    ids=["first version", "challenger", "missing comparison", "rollback"],
)
def test_after_a_crash_behind_any_registry_call_the_next_call_ends_where_an_unbroken_one_does(
    place: Any, monkeypatch: pytest.MonkeyPatch, before: Any, work: Any, base: Any
) -> None:
    session, _ = place
    before(session)
    here = Path(str(open_store().tracking_uri).removeprefix("sqlite:///"))
    kept = shutil.copy(here, here.with_suffix(".kept"))

    def copy(number: int) -> None:
        own = shutil.copy(kept, here.with_name(f"crash{number}.db"))
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{own}")

    copy(0)
    with monkeypatch.context() as patch:
        calls = crash_after(patch, 0)
        work(session)
    expected = state()
    assert calls
    for number in range(1, len(calls) + 1):
        copy(number)
        with monkeypatch.context() as patch:
            crash_after(patch, number)
            with pytest.raises(Crash):
                work(session)
        work(session)
        assert state() == expected, f"after call {number}, {calls[number - 1]}"


def test_two_calls_at_once_agree(place: Any, base: Any, tmp_path: Path) -> None:
    """Two processes register different ensembles over one champion; the aliases are what the tags say."""
    session, _ = place
    ensemble.work(with_ensemble(session, select="fixed", fixed=("poor",)))
    code = (
        "import sys; from hubmap_ml.stages import ensemble; from hubmap_ml.stages.session import open_session;"
        "from tests.stages.registered_members import with_ensemble;"
        f"s = open_session(experiment={str(base[0] / 'experiment.yaml')!r}, raw={str(base[0] / 'raw')!r});"
        "ensemble.work(with_ensemble(s, trials=3, rounds=3, space={}, select='fixed', fixed=tuple(sys.argv[1:])))"
    )
    started = [
        subprocess.Popen([sys.executable, "-c", code, *names], cwd=tmp_path)
        for names in (("good",), ("good", "fair"))
    ]
    assert [process.wait(timeout=300) for process in started] == [0, 0]
    told = registered()
    assert len(told) == 3
    line = inputs.line(session, upstream.prepared(session).data)
    found = standing([champion._record(version) for version in told], line=line)
    assert found.champion is not None
    assert found.missing == ()
    expected = {"champion": str(found.champion.version)}
    if found.challenger is not None:
        expected["challenger"] = str(found.challenger.version)
    assert aliases() == expected
    assert champion.recompute(open_store(), NAME, line) == found


def test_a_value_that_fusion_does_not_have_is_refused_before_any_work(place: Any) -> None:
    session, _ = place
    with pytest.raises(InputError, match=r"ensemble\.space: fusion has no value 'iou'"):
        ensemble.work(with_ensemble(session, space={"iou": [0.5]}))
    with pytest.raises(InputError, match="conf_type 'max' is an option of wbf"):
        ensemble.check_fusion(with_ensemble(session, space={"method": ["nms"], "conf_type": ["max"]}))
    assert registered() == []
