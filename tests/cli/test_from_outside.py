"""The commands that bring results of other tools in: their words."""

import pytest
from typer.testing import CliRunner

from hubmap_ml.cli.main import app
from hubmap_ml.spec import InputError

WORDS = ["--experiment", "tiny", "--member", "theirs"]


@pytest.mark.parametrize("command", ["import-predictions", "import-workdir"])
def test_the_leak_level_must_be_declared(command: str) -> None:
    done = CliRunner().invoke(app, [command, "somewhere", *WORDS])
    assert done.exit_code == 2
    assert "--leak" in done.output


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (["import-predictions", "a.json", "--leak", "none", "--set", "b.json"], "POOL=FILE is expected"),
        (["import-predictions", "a.json", "--leak", "some"], "'some' is no leak level"),
        (["import-workdir", "a", "--leak", "none", "--checkpoint", "first"], "--checkpoint is 'first'"),
        (["import-workdir", "missing", "--leak", "none"], "missing: no such folder"),
    ],
)
def test_a_wrong_word_is_one_line(line: list[str], words: str) -> None:
    done = CliRunner().invoke(app, [*line, *WORDS])
    assert isinstance(done.exception, InputError)
    assert words in str(done.exception)
