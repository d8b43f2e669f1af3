"""All commands: they say what they do with an example that works, and what is wrong with what they were given."""

import re
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.cli.test_main import COMMAND
from tests.command_lines import all_commands, called, parsed

COMMANDS = dict(all_commands())
NAMES = list(COMMANDS)
LISTS = {"lineage", "diff", "gc", "doctor", "evaluate", "compare", "score list"}
PRINTS_FOR_PEOPLE = {"demo", "ui"}


@pytest.mark.parametrize("name", NAMES, ids=" ".join)
def test_each_command_says_what_it_does_with_an_example_that_is_understood(name: tuple[str, ...]) -> None:
    command: Any = COMMANDS[name]
    assert "Example" in command.help
    paragraphs = [" ".join(paragraph.split()) for paragraph in command.help.split("\n\n")]
    examples = [
        found for text in paragraphs for found in re.findall(rf"hubmap-ml {' '.join(name)}\b[^;]*", text)
    ]
    assert examples, command.help
    for example in examples:
        parsed(shlex.split(example.rstrip("."))[1:])
    for parameter in command.params:
        if parameter.name != "help":
            assert parameter.help, f"{name}: {parameter.name} has no help"


@pytest.mark.parametrize("name", NAMES, ids=" ".join)
def test_what_a_command_does_not_know_is_one_line_and_exit_code_2(
    name: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert called(monkeypatch, *name, "--no-such-option") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"hubmap-ml: {' '.join(name)}: No such option: --no-such-option")
    assert line.endswith(f"see hubmap-ml {' '.join(name)} --help")


@pytest.mark.parametrize("name", NAMES, ids=" ".join)
def test_a_script_can_read_what_a_command_finds(name: tuple[str, ...]) -> None:
    options = {option for parameter in COMMANDS[name].params for option in parameter.opts}
    assert ("--json" in options) is (" ".join(name) not in PRINTS_FOR_PEOPLE)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("fine",), "No such command 'fine'"),
        (("score",), "score: Missing command"),
        (("finetune", "--foldd", "1"), "(Possible options: --fold)"),
        (("compare", "--truth", "t.json"), "compare: Missing option '--predictions'"),
        (("score", "add", "--public", "high"), "score add: Invalid value for '--public'"),
        (("ui", "--port", "x"), "ui: Invalid value for '--port'"),
    ],
)
def test_a_mistake_in_the_line_itself_is_one_line(
    words: tuple[str, ...], said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert called(monkeypatch, *words) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line


def test_no_words_show_the_commands_in_groups(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert called(monkeypatch) == 0
    said = capsys.readouterr().out
    assert "The chain" in said
    assert "finetune" in said


def complete(words: str, folder: Path) -> list[str]:
    """What bash would be offered for the last of the words."""
    import os

    asked = {"_HUBMAP_ML_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(words.count(" "))}
    done = subprocess.run(
        COMMAND, capture_output=True, text=True, env=os.environ | asked, check=True, cwd=folder
    )
    return done.stdout.split()


def test_the_shell_completes_commands_options_and_experiments(tmp_path: Path) -> None:
    (tmp_path / "experiments" / "mine").mkdir(parents=True)
    (tmp_path / "experiments" / "mine" / "experiment.yaml").touch()
    assert complete("hubmap-ml fine", tmp_path) == ["finetune"]
    assert "--experiment" in complete("hubmap-ml finetune --", tmp_path)
    assert complete("hubmap-ml finetune --experiment ", tmp_path) == ["mine"]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_can_be_shown_and_installed(shell: str, tmp_path: Path) -> None:
    import os

    env = os.environ | {"HOME": str(tmp_path), "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"}
    shown, installed = (
        subprocess.run([*COMMAND, option, shell], capture_output=True, text=True, env=env, check=True)
        for option in ("--show-completion", "--install-completion")
    )
    assert "hubmap-ml" in shown.stdout
    assert f"{shell} completion installed" in installed.stdout
    assert any(
        "hubmap-ml" in path.name or "hubmap-ml" in path.read_text()
        for path in tmp_path.rglob("*")
        if path.is_file()
    )
