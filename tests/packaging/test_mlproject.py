"""MLproject's commands run the code of the folder that they are called in, whatever made the environment."""

from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]


def test_commands_run_the_package_of_the_folder_they_are_called_in() -> None:
    # No console script: environments made by MLflow hold the dependencies only. MLflow installs from a folder of links
    # that it deletes afterwards, so an editable install of the project would point nowhere.
    entries = yaml.safe_load((ROOT / "MLproject").read_text())["entry_points"]
    assert entries
    for name, entry in entries.items():
        assert entry["command"].startswith("python -m hubmap_ml "), name


def test_the_environment_is_the_locked_one() -> None:
    project = yaml.safe_load((ROOT / "MLproject").read_text())
    assert project["conda_env"] == "conda.yaml"
    assert not (ROOT / "python_env.yaml").exists()  # would win over conda.yaml where MLproject named neither
    assert not (ROOT / "uv.lock").exists()  # names package hosts
