"""What the documentation tells people to type is understood, and what it names is there.

``tests/e2e/test_documentation.py`` runs what a finished chain makes cheap to run.
"""

import ast
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.command_lines import known_options, parsed
from tests.documented_commands import PAGES, PROJECT, Documented, blocks, documented, inline

ENTRIES: dict[str, Any] = yaml.safe_load((PROJECT / "MLproject").read_text())["entry_points"]
TARGETS = set(re.findall(r"^([a-z0-9-]+):.*## ", (PROJECT / "Makefile").read_text(), flags=re.MULTILINE))
THEIRS = {"experiments/mine"}
"""Places that a page tells people to make."""

FOREIGN = {"export", "docker", "mc", "for", "echo", "done", "pg_restore"}
"""The shell's and other programs' words: only their block's syntax is checked."""


@pytest.mark.parametrize("line", documented(), ids=str)
def test_a_documented_command_is_understood(line: Documented) -> None:
    program, *words = line.words
    if program == "hubmap-ml":
        parsed(words)
    elif program == "mlflow" and words[0] == "run":
        _mlflow_run(words[1:])
    elif program == "mlflow":
        from mlflow.cli import cli

        command: Any = cli
        while hasattr(command, "commands"):
            command = command.commands[words.pop(0)]
        command.make_context("mlflow", words)
    elif program == "make":
        assert set(words) <= TARGETS | {word for word in words if "=" in word}
    elif program == "python":
        assert words[0] == "-c"
        ast.parse(words[1])
    else:
        assert program in FOREIGN, f"{line}: what is {program!r}?"


def _mlflow_run(words: list[str]) -> None:
    assert words.pop(0) == "."
    entry, given = "main", []
    while words:
        option = words.pop(0)
        assert option in ("-e", "-P", "--env-manager"), option
        value = words.pop(0)
        if option == "-e":
            entry = value
        elif option == "-P":
            given.append(value.partition("=")[0])
    assert set(given) <= set(ENTRIES[entry]["parameters"]), (entry, given)


@pytest.mark.parametrize("line", documented(), ids=str)
def test_what_a_documented_command_names_is_in_the_project(line: Documented) -> None:
    for word in line.words:
        for path in re.findall(r"(?:^|=)((?:docs|experiments|tests|scripts|benchmarks)/[\w./-]+)", word):
            assert path in THEIRS or path == "docs/.env" or (PROJECT / path).exists(), path


@pytest.mark.parametrize("line", inline(), ids=str)
def test_a_command_in_a_sentence_exists(line: Documented) -> None:
    known_options(line.words)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_blocks_are_of_their_language_and_links_lead_somewhere(page: Path) -> None:
    for text in blocks(page, "sh"):
        subprocess.run(["bash", "-n"], input=text, text=True, check=True)
    for text in blocks(page, "python"):
        ast.parse(text)
    for text in blocks(page, "yaml"):
        assert isinstance(yaml.safe_load(text.replace("{…}", "{}")), dict)
    for text in blocks(page, ""):
        assert "hubmap-ml " not in text, "commands belong into a block of sh"
    source = page.read_text(encoding="utf-8")
    assert "\n    hubmap-ml " not in source, "commands belong into a block of sh"
    for link in re.findall(r"\]\(([^)#]+)\)", source):
        assert link.startswith("https://") or (page.parent / link).exists(), link


def test_every_page_is_in_the_readmes_list() -> None:
    listed = set(re.findall(r"\(docs/([\w-]+\.md)\)", (PROJECT / "README.md").read_text(encoding="utf-8")))
    assert listed == {page.name for page in PAGES} - {"README.md"}


def test_the_readme_is_under_two_screens() -> None:
    assert len((PROJECT / "README.md").read_text(encoding="utf-8").splitlines()) <= 125
