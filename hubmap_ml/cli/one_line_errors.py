"""What cannot be understood of a command line is said in one line, as all bad input is."""

from typing import Any

import typer
from typer.core import TyperGroup


class OneLineErrors(TyperGroup):
    """A group of commands that turns Typer's errors, which print a box, into ``InputError``."""

    def make_context(self, info_name: str | None, args: list[str], *more: Any, **kept: Any) -> typer.Context:
        try:
            return super().make_context(info_name, args, *more, **kept)  # type: ignore[return-value]
        except typer.TyperException as error:
            raise _in_one_line(error) from None

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except typer.TyperException as error:
            raise _in_one_line(error) from None


def _in_one_line(error: typer.TyperException) -> Exception:
    from hubmap_ml.spec.errors import InputError

    context = getattr(error, "ctx", None)
    command = context.command_path if context is not None else "hubmap-ml"
    message = error.format_message() if hasattr(error, "format_message") else str(error)
    words = " ".join(command.split()[1:])
    said = f"{words}: " if words else ""
    return InputError(f"{said}{message.rstrip('.')}; see {command} --help")
