from pathlib import Path
from typing import Any

import pytest
import yaml

from hubmap_ml.spec import InputError, Weights, load_experiment
from hubmap_ml.spec.experiment import Ensemble
from hubmap_ml.spec.members import Predict

GOOD: dict[str, Any] = {
    "name": "vessels",
    "data": {"raw": "${VESSELS_RAW}", "folds": {"n": 3}},
    "members": {
        "a": {"finetune": {"config": "members/a.py"}},
        "b": {
            "pretrain": {"config": "members/b.py"},
            "finetune": {"config": "members/b.py", "folds": [0, 2]},
        },
    },
}


def write(folder: Path, document: object) -> Path:
    path = folder / "experiment.yaml"
    path.write_text(document if isinstance(document, str) else yaml.safe_dump(document))
    return path


def changed(place: str, value: object) -> dict[str, Any]:
    document = yaml.safe_load(yaml.safe_dump(GOOD))
    *parents, last = place.split(".")
    part = document
    for key in parents:
        part = part.setdefault(key, {})
    part[last] = value
    return document


def test_an_experiment_is_read_with_its_defaults(tmp_path: Path) -> None:
    experiment = load_experiment(write(tmp_path, GOOD), environment={"VESSELS_RAW": "/data"})
    assert experiment.data.raw == "/data"
    assert experiment.folder == tmp_path
    assert experiment.folds_of("a") == (0, 1, 2)
    assert experiment.folds_of("b") == (0, 2)
    assert experiment.member_named("") == "a"


def test_raw_by_parameter_takes_the_place_of_the_variable(tmp_path: Path) -> None:
    assert load_experiment(write(tmp_path, GOOD), raw="/other", environment={}).data.raw == "/other"


def test_raw_by_parameter_takes_the_place_of_generated_tissue(tmp_path: Path) -> None:
    document = changed("data", {"synthetic": {"seed": 1}})
    data = load_experiment(write(tmp_path, document), raw="/other").data
    assert (data.raw, data.synthetic) == ("/other", None)


@pytest.mark.parametrize(
    ("place", "value", "said"),
    [
        ("metrc", "ap60", "unknown key 'metrc'; allowed here: name, task, metric"),
        ("members.a.finetune.pol", "x", "unknown key 'members.a.finetune.pol'; allowed here: config, pool"),
        ("metric", "ap61", "metric"),
        ("members.ensemble", {"finetune": {"config": "x"}}, "not a member's name"),
        ("members.b.finetune.folds", [7], "there are 0 to 2"),
        ("members.b.finetune.folds", [0, 0], "name each fold once"),
        ("members.b.finetune.folds", [], "name each fold once"),
        ("task", "semantic", "task"),
        ("members.b.pretrain.pool", "nowhere", "pool 'nowhere' is none of"),
        ("members.a.predict.views", ["none", "rot45"], "members.a.predict.views"),
        ("ensemble", {"select": "all", "weights": {"nobody": 2.0}}, "'nobody', which is no member"),
        ("tune.space.score", [0.6, 0.1], "runs backwards"),
        ("tune.space.nms_iou", [0.3, 0.95], "dedupe_iou"),
        ("data.raw", {"a": 1}, "data.raw"),
        ("data.synthetic", {"seed": 1}, "not both"),
        ("data.folds.method", "random", "data.folds.method"),
        (
            "data.folds.block",
            512,
            "data.folds: 'block' is an option of spatial_blocks, and the method is stratified",
        ),
        (
            "data.folds",
            {"method": "grouped", "groups": "slide"},
            "'groups' is an option of stratified_grouped",
        ),
        ("data.folds", {"method": "spatial_blocks", "block": 0}, "data.folds.block"),
        (
            "data.folds.sed",
            1,
            "unknown key 'data.folds.sed'; allowed here: method, n, by, groups, seed, block",
        ),
        ("data.folds.seed", -1, "data.folds.seed"),
        ("name", "two words", "a name is a letter"),
        ("members", {}, "members"),
    ],
)
def test_a_mistake_is_one_line_with_its_place(tmp_path: Path, place: str, value: object, said: str) -> None:
    path = write(tmp_path, changed(place, value))
    with pytest.raises(InputError) as caught:
        load_experiment(path, environment={"VESSELS_RAW": "/data"})
    assert said in str(caught.value)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_variable_that_is_not_set_is_named_with_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="VESSELS_RAW is not set.*raw="):
        load_experiment(write(tmp_path, GOOD), environment={})


def test_each_method_of_folds_has_a_column_of_its_own(tmp_path: Path) -> None:
    for method, by in (("stratified", "source_wsi"), ("grouped", "group"), ("spatial_blocks", "source_wsi")):
        path = write(tmp_path, changed("data.folds", {"method": method, "n": 3}))
        assert load_experiment(path, raw="/data").data.folds.by == by
    path = write(tmp_path, changed("data.folds", {"method": "grouped", "n": 3, "by": "slide", "seed": None}))
    folds = load_experiment(path, raw="/data").data.folds
    assert (folds.by, folds.seed) == ("slide", None)


@pytest.mark.parametrize("text", ["a: [1", "- 1\n- 2\n", ""])
def test_what_is_no_mapping_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(InputError, match="experiment"):
        load_experiment(write(tmp_path, text))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nothing.yaml"):
        load_experiment(tmp_path / "nothing.yaml")


@pytest.mark.parametrize("name", ["demo", "tiny", "nuclei", "hubmap2023"])
def test_the_experiments_of_the_project_are_valid(name: str) -> None:
    path = Path(__file__).parents[2] / "experiments" / name / "experiment.yaml"
    folders = dict.fromkeys(("HUBMAP_NUCLEI_RAW", "HUBMAP_RAW", "HUBMAP_WEIGHTS"), "/data")
    experiment = load_experiment(path, environment=folders)
    assert experiment.name == name
    for member in experiment.members.values():
        for stage in (member.pretrain, member.finetune):
            assert stage is None or (experiment.folder / stage.config).is_file()


def test_a_checkpoint_that_is_gone_on_with_must_be_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VESSELS_RAW", "/data")
    kept = load_experiment(write(tmp_path, changed("keep", {"checkpoints": ["last", "best"]})))
    assert kept.keep.checkpoints == ("last", "best")
    with pytest.raises(InputError, match="goes on with checkpoint 'last', which keep.checkpoints"):
        load_experiment(write(tmp_path, changed("keep", {"checkpoints": ["best"]})))
    with pytest.raises(InputError, match="named twice"):
        load_experiment(write(tmp_path, changed("keep", {"checkpoints": ["last", "last"]})))
    with pytest.raises(InputError, match=r"unknown key 'keep\.predictions'; allowed here: checkpoints"):
        load_experiment(write(tmp_path, changed("keep", {"predictions": True})))


def test_all_eight_views_have_a_name_of_their_own() -> None:
    predict = {"views": "d4", "merge": "in_network"}
    made = Predict.model_validate(predict)
    assert len(made.views) == len(set(made.views)) == 8
    assert Predict.model_validate(made.model_dump()) == made


@pytest.mark.parametrize(
    ("ensemble", "words"),
    [
        ({"method": "nms", "conf_type": "max"}, "option of wbf"),
        ({"vote_share": 0.2}, "option of masks: votes"),
        ({"weights": {"a": 0.0}}, "greater than 0"),
    ],
)
def test_options_of_a_fusion_that_do_not_fit_are_refused(ensemble: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Ensemble.model_validate(ensemble)


@pytest.mark.parametrize(
    ("weights", "scheme"),
    [
        ("beit.pth", ""),
        ({"source": "/shelf/beit.pth", "ema": True}, ""),
        ({"source": "https://example.org/w.pth", "sha256": "0" * 64}, "https"),
        ({"source": "s3://shelf/w.pth", "sha256": "0" * 64}, "s3"),
        ("runs:/abc/checkpoints/last/weights.safetensors", "runs"),
        ("models:/shelf@best/w.pth", "models"),
    ],
)
def test_weights_to_start_from_have_an_address(weights: Any, scheme: str) -> None:
    assert (
        Weights.model_validate(weights if isinstance(weights, dict) else {"source": weights}).scheme == scheme
    )


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ("https://example.org/w.pth", "may change: say the file's sha256"),
        ("s3://shelf/w.pth", "may change: say the file's sha256"),
        ("ftp://example.org/w.pth", "none of a path, https"),
        ({"source": "w.pth", "sha256": "ABC"}, "sha256"),
    ],
)
def test_weights_that_could_be_anything_are_refused(tmp_path: Path, weights: Any, message: str) -> None:
    path = tmp_path / "experiment.yaml"
    members = {"a": {"finetune": {"config": "a.py"}, "weights": weights}}
    path.write_text(yaml.safe_dump({"name": "x", "data": {"raw": "raw"}, "members": members}))
    with pytest.raises(InputError, match=message):
        load_experiment(path)
