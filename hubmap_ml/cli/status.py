"""The command `status`: what runs, what failed and why, what is best."""

import json
from typing import TYPE_CHECKING, Annotated

import typer

from hubmap_ml.cli.options import AsJson

if TYPE_CHECKING:
    from rich.console import Console

    from hubmap_ml.stages.status import Status

SHOWN = 10
"""Failures on the screen; --json has all."""


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command(rich_help_panel="Records")(status)


def status(
    experiment: Annotated[
        str, typer.Option("--experiment", help="Name of an experiment; all where none is given.")
    ] = "",
    as_json: AsJson = False,
) -> None:
    """Show what runs, what failed and why, and what is best. Example: hubmap-ml status --experiment demo"""
    from hubmap_ml.cli.tables import wide_console
    from hubmap_ml.stages import status as stage

    found = stage.run(experiment)
    if as_json:
        typer.echo(json.dumps(found.to_data()))
        return
    console = wide_console()
    _show_running(console, found)
    _show_failed(console, found)
    _show_best(console, found)


def _show_running(console: "Console", found: "Status") -> None:
    from rich.markup import escape
    from rich.table import Table

    from hubmap_ml.spec.durations import duration

    if not found.running:
        console.print("nothing runs")
        return
    table = Table(title="Running", title_justify="left")
    for name in ("experiment", "run", "for", "newest", "by", "last sign of life"):
        table.add_column(name, overflow="fold")
    for run in found.running:
        sign = "none yet" if run.silent_s is None else f"{duration(run.silent_s)} ago"
        words = "[red]gone; the next start of any stage ends it[/]" if run.gone else sign
        table.add_row(
            *map(escape, (run.experiment, run.name, duration(run.seconds), run.told, run.worker)), words
        )
    console.print(table)


def _show_failed(console: "Console", found: "Status") -> None:
    from rich.markup import escape
    from rich.table import Table

    from hubmap_ml.spec.durations import duration

    if not found.failed:
        return
    table = Table(title="Failed, and not done since", title_justify="left")
    for name in ("experiment", "run", "when", "why", ""):
        table.add_column(name, overflow="fold")
    for run in found.failed[:SHOWN]:
        ago = f"{duration(run.ago_s)} ago"
        table.add_row(*map(escape, (run.experiment, run.name, ago, run.why, run.run_id[:12])))
    console.print(table)
    if len(found.failed) > SHOWN:
        console.print(f"and {len(found.failed) - SHOWN} more (--json has all)")


def _show_best(console: "Console", found: "Status") -> None:
    from rich.markup import escape
    from rich.table import Table

    if not found.best:
        console.print("nothing is tuned yet, so nothing can be best")
        return
    table = Table(title="Best", title_justify="left")
    for name in ("experiment", "", "", "score", "95 % on these slides", "leak level"):
        table.add_column(name, justify="right" if name == "score" else "left", overflow="fold")
    for one in found.best:
        score = "–" if one.score is None else f"{one.score:.4f}"
        proxy = f" (of {one.proxy_of})" if one.proxy_of else ""
        words = (
            one.experiment,
            one.name,
            one.what,
            score + proxy,
            one.interval.in_words(".4f"),
            one.leak_level,
        )
        table.add_row(*map(escape, words), style="bold" if one.what.startswith("champion") else "")
    console.print(table)
