"""`hubmap-ml score`: added, imported, listed, and the page that says what to make of it."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from hubmap_ml.cli.main import app
from hubmap_ml.spec import InputError

PUBLISHED = Path(__file__).parents[1] / "submission" / "sartorius_submissions.md"

pytestmark = pytest.mark.usefixtures("store")


def said(*words: str) -> str:
    done = CliRunner().invoke(app, ["score", *words], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout


def refused(*words: str) -> str:
    done = CliRunner().invoke(app, ["score", *words])
    assert isinstance(done.exception, InputError)
    return str(done.exception)


def test_a_table_becomes_a_log_once_and_a_page_with_a_verdict(tmp_path: Path) -> None:
    first = said("import", str(PUBLISHED), "--experiment", "sartorius")
    assert first == "20 submissions: 20 added, 0 completed, 0 known\n"
    again = json.loads(said("import", str(PUBLISHED), "--experiment", "sartorius", "--json"))
    assert {item["change"] for item in again["submissions"]} == {"known"}
    listed = json.loads(said("list", "--experiment", "sartorius", "--json"))
    assert len(listed) == 20
    assert (listed[0]["name"], listed[0]["public"], listed[0]["private"]) == ("NMS ensemble", 0.305, 0.312)
    out = tmp_path / "pages" / "scores.html"
    words = said("page", "--experiment", "sartorius", "--out", str(out))
    assert words.startswith("Trust the leaderboard: CV is coco_segm, the leaderboard dsb_map")
    assert "keep NMW v3: public 0.3060; private 0.3130" in words
    assert "NMW v3" in out.read_text()
    data = json.loads(said("page", "--experiment", "sartorius", "--out", str(out), "--json"))
    assert (data["trust"], data["groups"][0]["submissions"], data["groups"][0]["inversions"]) == (
        "leaderboard",
        4,
        5,
    )


def test_a_file_is_one_submission_whatever_is_said_of_it(tmp_path: Path) -> None:
    file = tmp_path / "submission.csv"
    file.write_text("id,predicted\n")
    added = json.loads(said("add", str(file), "--cv", "0.5", "--metric", "ap60", "--json"))
    assert added["change"] == "added"
    assert added["name"] == f"submission.csv {added['digest'][:8]}"
    copy = tmp_path / "copy.csv"
    copy.write_text(file.read_text())
    assert said("add", str(copy), "--public", "0.4", "--note", "wider [NMS]").startswith(
        f"completed: {added['name']}: public 0.4000; CV 0.5000 (ap60)"
    )
    table = said("list")
    assert "0.4000" in table
    assert "wider [NMS]" in table
    assert "--correct replaces it" in refused("add", str(file), "--public", "0.3")
    assert "public 0.3000" in said("add", str(file), "--public", "0.3", "--correct")


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (("add", "--public", "0.3"), "neither a file nor a name"),
        (("add", "nowhere.csv"), "nowhere.csv: no such file"),
        (("add", "--name", "a", "--public", "nan"), "public is nan"),
        (("import", "nowhere.md"), "nowhere.md does not exist"),
        (("page", "--experiment", "empty"), "no submission of 'empty' is in the log"),
        (("list", "--experiment", "no/such/folder"), "no such file, folder or name"),
    ],
)
def test_bad_input_is_one_line(words: tuple[str, ...], reason: str) -> None:
    assert reason in refused(*words)


def test_an_empty_log_says_so() -> None:
    assert said("list") == "no submission of demo is in the log\n"
    assert json.loads(said("list", "--json")) == []
