"""Understanding command lines of ours without running them."""

import shlex
from collections.abc import Iterator, Sequence
from typing import Any

import typer

from hubmap_ml.cli.main import app


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
    by_words = dict(all_commands())
    found = next((by_words[tuple(words[:n])] for n in (2, 1) if tuple(words[:n]) in by_words), None)
    groups = {found_words[:1] for found_words in by_words if len(found_words) > 1}
    assert found is not None or tuple(words[:1]) in groups, f"hubmap-ml {shlex.join(words)}: no such command"
    if found is not None:
        options = {option for parameter in found.params for option in parameter.opts} | {"--help", "--debug"}
        for word in words:
            if word.startswith("--"):
                assert word.partition("=")[0] in options, f"hubmap-ml {shlex.join(words)}: no option {word}"
