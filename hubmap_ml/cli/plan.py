"""The command `plan`: what an experiment will cost, as a table."""

import json
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from hubmap_ml.cli.options import AsJson, Changes, Device, ExperimentName, Raw, Workers, whole

if TYPE_CHECKING:
    from hubmap_ml.stages.plan import Plan
    from hubmap_ml.stages.plan_figures import Row


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command(rich_help_panel="The chain")(plan)


def plan(
    experiment: ExperimentName = "demo",
    raw: Raw = "",
    set: Changes = "",
    workers: Workers = "-1",
    device: Device = "auto",
    nproc: Annotated[
        str, typer.Option("--nproc", help="Processes that will share a batch; one's part is measured.")
    ] = "1",
    iterations: Annotated[str, typer.Option("--iterations", help="How many of each stage are timed.")] = "3",
    as_json: AsJson = False,
) -> None:
    """Say what memory, hours and disk an experiment will take. Example: hubmap-ml plan --experiment hubmap2023"""
    from hubmap_ml.stages import plan as stage

    found = stage.run(
        experiment=experiment,
        raw=raw,
        set=set,
        workers=whole(workers, "workers"),
        device=device,
        nproc=whole(nproc, "nproc"),
        iterations=whole(iterations, "iterations"),
    )
    if as_json:
        typer.echo(json.dumps(found.to_data()))
    else:
        _print(found)


def _print(found: "Plan") -> None:
    from hubmap_ml.cli.tables import wide_console
    from hubmap_ml.spec.durations import duration

    console = wide_console()
    table = Table(title=found.outcome.verdict, title_justify="left", title_style="bold")
    for name in ("member", "stage"):
        table.add_column(name)
    for name in ("trainings", "epochs x iterations", "s each", "memory", "time of one", "time", "disk"):
        table.add_column(name, justify="right")
    if found.reference is not None:
        table.add_column("reference: s, memory, time of one", justify="right")
    for member in dict.fromkeys(row.member for row in found.rows):
        rows = [row for row in found.rows if row.member == member]
        for row in rows:
            known = _reference(row) if found.reference is not None else ()
            table.add_row(member, row.stage, *_figures(row), *known)
        if len(rows) > 1:
            sums = found.of(member)
            empty = [""] * (found.reference is not None)
            table.add_row(
                f"[bold]{member}[/]", "in all", "", "", "", f"{sums.memory_mib:,.0f} MiB", "",
                duration(sums.hours * 3600), f"{sums.disk_gb:.2f} GB", *empty, end_section=True,
            )  # fmt: skip
    console.print(table)
    for row in found.rows:
        if row.note:
            console.print(f"{row.stage} of {row.member}: {row.note}", soft_wrap=True, markup=False)
    if found.reference is not None:
        console.print(f"[dim]reference[/] {found.reference.machine}", soft_wrap=True)
    for note in found.notes:
        console.print(f"[dim]{note}[/]", soft_wrap=True)
    console.print(f"[dim]run[/] {found.outcome.run_id}", soft_wrap=True)


def _figures(row: "Row") -> tuple[str, ...]:
    from hubmap_ml.spec.durations import duration

    if row.measured is None:
        return f"{row.trainings}", f"{row.epochs} x ?", "–", "–", "–", "–", "–"
    return (
        f"{row.trainings}",
        f"{row.epochs} x {row.epoch_length}",
        f"{row.measured.iteration_s:.2f}",
        f"{row.measured.memory_mib:,.0f} MiB",
        duration(row.training_s),
        duration(row.seconds),
        f"{row.disk_bytes / 1e9:.2f} GB",
    )


def _reference(row: "Row") -> tuple[str]:
    from hubmap_ml.spec.durations import duration

    found = row.reference
    if found is None:
        return ("–",)
    return (f"{found.iteration_s:.2f} s, {found.memory_mib:,.0f} MiB, {duration(found.wall_s)}",)
