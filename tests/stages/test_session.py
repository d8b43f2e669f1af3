from pathlib import Path

import pytest

from hubmap_ml.spec import InputError
from hubmap_ml.stages.session import find_experiment, open_session


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


def test_settings_that_change_no_result_are_in_no_key() -> None:
    from hubmap_ml.stages import inputs

    def key(**settings: object) -> str:
        session = open_session(**settings)  # type: ignore[arg-type]
        return inputs.finetune(session, "maskrcnn", 0, ("a",), "d").key

    assert key() == key(workers=3, device="cpu", with_upstream=True)
    assert key() != key(set="optimizer.lr=0.5")
