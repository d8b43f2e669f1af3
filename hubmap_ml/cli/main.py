"""The command line: its commands, and what all of them share.

Heavy imports stand inside functions: ``--help`` answers in under a second. Bad input ends with one line and exit code
2; ``--debug`` shows the traceback.
"""

import logging
import signal
import sys
from types import FrameType
from typing import Annotated

import typer

from hubmap_ml.cli import (
    compare,
    evaluate,
    from_outside,
    machine,
    plan,
    pseudo_label,
    records,
    rollback,
    score,
    stage_commands,
    status,
    tune,
)
from hubmap_ml.cli.one_line_errors import OneLineErrors
from hubmap_ml.cli.options import with_options

app = typer.Typer(
    name="hubmap-ml",
    cls=OneLineErrors,
    help="Experiments in biomedical segmentation: from raw files to a registered ensemble and its submission.",
    invoke_without_command=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for part in (
    stage_commands,
    plan,
    pseudo_label,
    tune,
    evaluate,
    compare,
    from_outside,
    status,
    records,
    rollback,
    score,
    machine,
):
    part.register(app)


@app.callback()
def options(
    context: typer.Context,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks and debug messages.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Say warnings only.")] = False,
) -> None:
    """Experiments in biomedical segmentation: from raw files to a registered ensemble and its submission.

    Example: hubmap-ml demo, then hubmap-ml ui
    """
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())
        return
    from hubmap_ml.spec.credentials import hide_credentials_in_logs

    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    hide_credentials_in_logs()
    level = logging.DEBUG if debug else logging.WARNING if quiet else logging.INFO
    logging.getLogger("hubmap_ml").setLevel(level)


def main() -> None:
    """Run the command line; the console script."""
    sys.argv[1:] = with_options(sys.argv[1:])
    debug = "--debug" in sys.argv[1:]
    if debug:  # allowed anywhere on the line
        sys.argv = [sys.argv[0], "--debug", *(word for word in sys.argv[1:] if word != "--debug")]
    from hubmap_ml.spec.credentials import without_credentials
    from hubmap_ml.spec.errors import DoneElsewhere, InputError

    signal.signal(signal.SIGTERM, _interrupt)  # as Ctrl-C: save, end the run, leave
    try:
        app(prog_name="hubmap-ml")
    except DoneElsewhere as done:
        typer.echo(str(done))
    except InputError as error:
        _fail_waiting_run(str(error))
        if debug:
            raise
        print(f"hubmap-ml: {without_credentials(str(error))}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt as error:
        print(f"hubmap-ml: {str(error) or 'interrupted'}", file=sys.stderr)
        sys.exit(130)
    except SystemExit as end:
        if end.code == 130:  # Typer turns an interruption into this, without its words
            print(f"hubmap-ml: {_words_of_interruption(end)}", file=sys.stderr)
        raise
    except Exception as error:
        _fail_waiting_run(f"{type(error).__name__}: {error}")
        if debug:
            raise
        lines = without_credentials(str(error)).strip().splitlines() or [""]
        print(f"hubmap-ml: {type(error).__name__}: {lines[-1]} (--debug shows where)", file=sys.stderr)
        sys.exit(1)


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _words_of_interruption(error: BaseException | None) -> str:
    while error is not None:
        if isinstance(error, KeyboardInterrupt) and str(error):
            return str(error)
        error = error.__cause__ or error.__context__
    return "interrupted"


def _fail_waiting_run(message: str) -> None:
    """End the run that MLflow made for this call, if one waits; without MLflow's import where none does."""
    import os

    if os.environ.get("MLFLOW_RUN_ID"):
        from hubmap_ml.tracking import fail_waiting_run

        fail_waiting_run(message)
