import json
from pathlib import Path

import pytest

from hubmap_ml.postprocess import STEPS
from hubmap_ml.spec import InputError
from hubmap_ml.stages.session import find_experiment, open_session, place_of, recorded_session


def test_an_experiment_is_found_by_name_folder_and_file() -> None:
    by_name = find_experiment("demo")
    assert by_name.name == "experiment.yaml"
    assert find_experiment(str(by_name.parent)).samefile(by_name)
    assert find_experiment(str(by_name)).samefile(by_name)


def test_the_current_folder_comes_before_the_project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = tmp_path / "experiments" / "demo" / "experiment.yaml"
    own.parent.mkdir(parents=True)
    own.write_text("name: demo")
    monkeypatch.chdir(tmp_path)
    assert find_experiment("demo").samefile(own)


def test_an_unknown_experiment_is_named_with_those_there_are() -> None:
    with pytest.raises(InputError, match="'dmeo'.*names here: .*demo"):
        find_experiment("dmeo")


def test_an_unknown_device_is_refused() -> None:
    with pytest.raises(InputError, match="device 'tpu'"):
        open_session(device="tpu")


def test_overrides_change_a_members_configuration_and_must_fit_it() -> None:
    session = open_session(set="runner.max_epochs=2")
    config = session.member_config("maskrcnn", "finetune")
    assert config is not None
    assert config["runner"]["max_epochs"] == 2
    with pytest.raises(InputError, match="no 'runner.epochs'"):
        open_session(set="runner.epochs=2").member_config("maskrcnn", "finetune")
    with pytest.raises(InputError, match="load_from"):
        open_session(set="+load_from=x").member_config("maskrcnn", "finetune")


def test_an_override_can_be_meant_for_one_stage_or_one_member() -> None:
    session = open_session(set="finetune.runner.max_epochs=2;htc.batch.global=1;htc.pretrain.optimizer.lr=7")

    def value(member: str, stage: str, part: str, key: str) -> object:
        config = session.member_config(member, stage)
        assert config is not None
        return config[part][key]

    assert value("maskrcnn", "finetune", "runner", "max_epochs") == 2
    assert value("maskrcnn", "pretrain", "runner", "max_epochs") != 2
    assert [value("htc", stage, "batch", "global") for stage in ("pretrain", "finetune")] == [1, 1]
    assert value("maskrcnn", "finetune", "batch", "global") != 1
    assert value("htc", "pretrain", "optimizer", "lr") == 7
    assert value("htc", "finetune", "optimizer", "lr") != 7


def test_mistakes_of_any_member_show_before_any_work(tmp_path: Path) -> None:
    text = find_experiment("demo").read_text()
    (tmp_path / "members").symlink_to(find_experiment("demo").parent.resolve() / "members")
    for old, new, said in [
        ("members/htc_stage2.py", "members/gone.py", "gone.py: no such configuration file"),
        ("{score: 0.001}", "{scroe: 0.001}", "scroe"),
        ("{mask_threshold: 0.5}, ", "", "mask_threshold"),
        ("{score: 0.001}", "{score: {default: 0.001, per_class: {tubule: 0.5}}}", "names the class 'tubule'"),
        ("{score: 0.001}", "{score: 0.001}, {soft_nms: {}}", "predict.dedupe_iou is 0.9, so near duplicates"),
    ]:
        (tmp_path / "experiment.yaml").write_text(text.replace(old, new))
        with pytest.raises(InputError, match=said):
            open_session(experiment=str(tmp_path)).check_members()


def test_an_experiment_may_have_any_step_of_post_processing(tmp_path: Path) -> None:
    text = find_experiment("demo").read_text()
    (tmp_path / "members").symlink_to(find_experiment("demo").parent.resolve() / "members")
    given = [
        "mask_threshold: {default: 0.5, per_class: {blood_vessel: 0.4}}", "fill_holes: ", "largest_component: {}",
        "remove_small_components: {min_area: 5}", "opening: {kernel: [2, 1]}", "closing: {border: 0}", "erosion: {}",
        "dilation: {}", "max_area: 9000", "exclude_inside: {class: blood_vessel}", "image_class: {rule: score_sum}",
        "no_overlaps: {min_area: 3}", "tight_boxes: {}",
    ]  # fmt: skip
    more = ", ".join(f"{{{step}}}" for step in given)
    text = text.replace("{mask_threshold: 0.5}", more).replace(
        "{score: 0.001}", "{score: 0.001}, {soft_nms: {}}"
    )
    text = text.replace("predict: {", "predict: {dedupe_iou: 1, ")
    (tmp_path / "experiment.yaml").write_text(text)
    session = open_session(experiment=str(tmp_path))
    session.check_members()
    named = {name for step in session.experiment.postprocess for name in step}
    assert named == set(STEPS)


def test_the_command_to_type_carries_what_was_given() -> None:
    from hubmap_ml.stages.upstream import missing

    session = open_session(experiment="tiny", set="finetune.optimizer.lr=0.5", raw="/some data")
    said = missing(session, "finetune", "maskrcnn", 1)
    assert (
        "mlflow run . -e finetune -P experiment=tiny -P raw='/some data' -P set=finetune.optimizer.lr=0.5"
        in said
    )
    assert "-P member=maskrcnn -P fold=1" in said


def test_a_session_made_of_a_record_reads_no_file_of_the_experiment() -> None:
    session = open_session(experiment="tiny", set="optimizer.lr=0.125")
    config = session.member_config("maskrcnn", "finetune")
    assert config is not None
    document = json.loads(json.dumps(session.experiment.model_dump(mode="json")))
    record = recorded_session(
        document,
        {"maskrcnn.finetune": config},
        reproduces="a",
        recorded={place_of("prepare"): "b"},
        device="cpu",
        workers=0,
    )
    assert record.experiment == session.experiment.model_copy(update={"folder": Path()})
    assert record.member_config("maskrcnn", "finetune") == config
    assert (record.reproduces, record.device, record.workers) == ("a", "cpu", 0)
    with pytest.raises(InputError, match=r"no configuration of maskrcnn\.pretrain"):
        record.member_config("maskrcnn", "pretrain")


def test_a_recorded_configuration_is_checked_and_never_changed_in_place() -> None:
    session = open_session(experiment="tiny")
    config = session.member_config("maskrcnn", "finetune")
    assert config is not None
    document = session.experiment.model_dump(mode="json")
    configs = {"maskrcnn.finetune": config, "maskrcnn.pretrain": {**config, "load_from": "x"}}
    record = recorded_session(document, configs, reproduces="a", recorded={}, raw="elsewhere")
    assert (record.experiment.data.raw, record.experiment.data.synthetic) == ("elsewhere", None)
    taken = record.member_config("maskrcnn", "finetune")
    assert taken is not None
    taken["optimizer"]["lr"] = "changed"
    assert record.member_config("maskrcnn", "finetune") == config
    with pytest.raises(InputError, match=r"recorded configuration of maskrcnn\.pretrain: 'load_from'"):
        record.member_config("maskrcnn", "pretrain")


def test_a_record_of_another_version_is_refused_by_its_key() -> None:
    document = open_session(experiment="tiny").experiment.model_dump(mode="json") | {"later": 1}
    with pytest.raises(InputError, match=r"experiment\.json of run a: unknown key 'later'"):
        recorded_session(document, {}, reproduces="a", recorded={})
