"""Commands that look at what runs left behind: lineage, diff, reproduce, gc."""

import json
from typing import Annotated

import typer

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def register(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    for command in (lineage, reproduce):
        app.command()(command)


def lineage(
    target: Annotated[
        str, typer.Argument(help="Run id (or its beginning), models:/NAME@ALIAS or models:/NAME/N.")
    ],
    as_json: AsJson = False,
) -> None:
    """Show what a run or version came from. Example: hubmap-ml lineage models:/demo.ensemble@champion"""
    from hubmap_ml.cli.lineage_tree import print_tree
    from hubmap_ml.tracking import lineage_of, open_store

    found = lineage_of(open_store(), target)
    if as_json:
        typer.echo(json.dumps(found.to_data()))
    else:
        print_tree(found)


def reproduce(
    run_id: Annotated[str, typer.Argument(help="Run id, or its beginning.")],
    raw: Annotated[str, typer.Option("--raw", help="Folder of raw files, where they have moved.")] = "",
    workers: Annotated[str, typer.Option("--workers", help="Processes that load data.")] = "-1",
    device: Annotated[str, typer.Option("--device", help="auto, cpu, cuda or cuda:N.")] = "auto",
    as_json: AsJson = False,
) -> None:
    """Run a stage again from its record alone; exit code 1 if anything differs. Example: hubmap-ml reproduce 3f2a"""
    from hubmap_ml.cli.main import _whole
    from hubmap_ml.stages import reproduce as command

    result = command.run(run_id, raw=raw, workers=_whole(workers, "workers"), device=device)
    if as_json:
        typer.echo(json.dumps(result.to_data()))
    else:
        for warning in result.warnings:
            typer.echo(f"note: {warning}")
        for item in result.differences:
            typer.echo(f"{item.what}: recorded {item.recorded}, repeated {item.repeated}")
        verdict = "identical" if result.identical else f"{len(result.differences)} differences"
        typer.echo(
            f"{result.stage} of run {result.recorded[:12]}, repeated as {result.repeated[:12]}: {verdict} "
            f"({', '.join(result.compared)})"
        )
    if not result.identical:
        raise typer.Exit(1)
