"""Command lines of ours: all commands, one understood without being run, one run in this process."""

import shlex
import signal
import sys
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
import typer

from hubmap_ml.cli.main import app, main


def all_commands() -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every command with its words after ``hubmap-ml``, groups left out."""
    waiting = [((), typer.main.get_command(app))]
    while waiting:
        words, command = waiting.pop(0)
        inner = getattr(command, "commands", None)
        if inner is None:
            yield words, command
        else:
            waiting += [((*words, name), one) for name, one in inner.items()]


def parsed(words: Sequence[str]) -> Any:
    """Parse the words after ``hubmap-ml`` as the command line does, without calling anything; returns the context.

    Raises:
        InputError: they are no command line of ours.
    """
    command: Any = typer.main.get_command(app)
    name, left, context = "hubmap-ml", list(words), None
    while True:
        context = command.make_context(name, left, parent=context)
        if not hasattr(command, "commands"):
            return context
        left = [*context._protected_args, *context.args]
        name, command, left = command.resolve_command(context, left)


def known_options(words: Sequence[str]) -> None:
    """Check that words that are perhaps no whole command line name a command of ours and its options.

    Raises:
        AssertionError: they do not.
    """
    own = {option for parameter in typer.main.get_command(app).params for option in parameter.opts}
    if words[0] in own | {"--help"}:
        return
    by_words = dict(all_commands())
    found = next((by_words[tuple(words[:n])] for n in (2, 1) if tuple(words[:n]) in by_words), None)
    groups = {found_words[:1] for found_words in by_words if len(found_words) > 1}
    assert found is not None or tuple(words[:1]) in groups, f"hubmap-ml {shlex.join(words)}: no such command"
    if found is not None:
        options = {option for parameter in found.params for option in parameter.opts} | {"--help", "--debug"}
        for word in words:
            if word.startswith("--"):
                assert word.partition("=")[0] in options, f"hubmap-ml {shlex.join(words)}: no option {word}"


def called(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    """Call the console script in this process; returns its exit code."""
    monkeypatch.setattr(sys, "argv", ["hubmap-ml", *words])
    monkeypatch.delenv("MLFLOW_RUN_ID", raising=False)
    kept = signal.getsignal(signal.SIGTERM)
    try:
        with pytest.raises(SystemExit) as ended:
            main()
    finally:
        signal.signal(signal.SIGTERM, kept)
    return int(ended.value.code or 0)
