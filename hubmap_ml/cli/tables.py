"""What the command line shows of a stage, while the chain runs, and at its end."""

import dataclasses
import json
from collections.abc import Callable
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from hubmap_ml.stages.main import Chain
    from hubmap_ml.stages.session import Outcome


def tell(outcome: "Outcome", as_json: bool = False, file: str = "") -> None:
    """Print what a stage reports: one line, and where it left its file; or all of it as one JSON line.

    Args:
        outcome: of the stage.
        as_json: print JSON.
        file: the detail that says where the stage's file lies.
    """
    if as_json:
        typer.echo(json.dumps(dataclasses.asdict(outcome)))
        return
    how = "reused " if outcome.reused else ""
    typer.echo(f"{outcome.name}: {outcome.verdict} ({how}run {outcome.run_id}, {outcome.seconds:.0f} s)")
    if file:
        typer.echo(str(outcome.details[file]))


def step_printer() -> Callable[["Outcome"], None]:
    """Return a function that prints one line for each finished step."""
    console = wide_console()

    def tell(outcome: "Outcome") -> None:
        took = f"reused run {outcome.run_id[:8]}" if outcome.reused else f"{outcome.seconds:.0f} s"
        console.print(f"[green]✓[/] [bold]{outcome.name}[/]  {outcome.verdict}  [dim]{took}[/]")

    return tell


def print_chain(chain: "Chain") -> None:
    """Print the final table: members and ensemble, with scores, time and memory."""
    from rich.table import Table

    console = wide_console()
    table = Table(title=chain.outcome.verdict, title_justify="left", title_style="bold")
    table.add_column("")
    for name in ("out of fold", "cross-fitted", "hidden test", "time", "peak memory"):
        table.add_column(name, justify="right")
    table.add_column("leak level")
    table.add_column("")
    for row in chain.rows:
        table.add_row(
            row.name,
            _score(row.out_of_fold),
            _score(row.cross_fitted),
            _score(row.hidden_test),
            f"{row.seconds:.0f} s",
            f"{row.peak_mib:.0f} MiB",
            row.leak_level,
            row.badge,
        )
    console.print(table)
    console.print(f"[dim]report[/] {chain.report}", soft_wrap=True)
    if chain.submission:
        console.print(f"[dim]submission[/] {chain.submission}", soft_wrap=True)


def wide_console() -> "Console":
    """A console as wide as the terminal; in a file or pipe, wide enough for a line a step."""
    from rich.console import Console

    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=160)


def _score(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"
