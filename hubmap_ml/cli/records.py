"""Commands that look at what runs left behind, here or elsewhere: lineage, diff, reproduce, import-log, gc."""

import json
from typing import Annotated

import typer

from hubmap_ml.cli.options import AsJson, Device, Workers, whole


def register(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    for command in (lineage, diff, reproduce, import_log, gc):
        app.command(rich_help_panel="Records")(command)


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


def diff(
    before: Annotated[str, typer.Argument(help="Run id, or its beginning.")],
    after: Annotated[str, typer.Argument(help="Run id, or its beginning.")],
    as_json: AsJson = False,
) -> None:
    """Show what two runs were told differently, and the gain of the second. Example: hubmap-ml diff 3f2a 91bc"""
    from hubmap_ml.stages import diff as command

    found = command.run(before, after)
    if as_json:
        typer.echo(json.dumps(found.to_data()))
        return
    for name, changes in found.changes.items():
        typer.echo(name)
        for item in changes:
            sides = {"added": f"+ {item.after!r}", "removed": f"- {item.before!r}"}
            typer.echo(f"  {item.path}: {sides.get(item.kind, f'{item.before!r} -> {item.after!r}')}")
    if not found.changes:
        typer.echo("told the same")
    for word in found.words:
        typer.echo(word)
    gain = found.gain
    if gain is not None:
        scores = f"{gain.metric} {gain.before:.4f} -> {gain.after:.4f}, {gain.gain:+.4f}"
        typer.echo(f"{scores} on {gain.n_images} images: {gain.words}")


def reproduce(
    run_id: Annotated[str, typer.Argument(help="Run id, or its beginning.")],
    raw: Annotated[str, typer.Option("--raw", help="Folder of raw files, where they have moved.")] = "",
    workers: Workers = "-1",
    device: Device = "auto",
    as_json: AsJson = False,
) -> None:
    """Run a stage again from its record alone; exit code 1 if anything differs. Example: hubmap-ml reproduce 3f2a"""
    from hubmap_ml.stages import reproduce as command

    result = command.run(run_id, raw=raw, workers=whole(workers, "workers"), device=device)
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


def import_log(
    file: Annotated[str, typer.Argument(help="Log of an mmdet 2 training (.log or .log.json).")],
    experiment: Annotated[str, typer.Option("--experiment", help="In whose runs it belongs.")] = "reference",
    name: Annotated[
        str, typer.Option("--name", help="Name of the run; the file's where none is given.")
    ] = "",
    epoch_length: Annotated[
        str,
        typer.Option(
            "--epoch-length", help="Iterations an epoch, for a .log.json without its .log beside it."
        ),
    ] = "0",
    as_json: AsJson = False,
) -> None:
    """Make a run of a training elsewhere, to plot ours over it. Example: hubmap-ml import-log 20230708.log"""
    from dataclasses import asdict

    from hubmap_ml.stages import import_log as command

    length = whole(epoch_length, "epoch-length")
    found = command.run(file, experiment=experiment, name=name, epoch_length=length)
    if as_json:
        typer.echo(json.dumps(asdict(found)))
    else:
        typer.echo(f"{found.verdict}\nrun {found.run_id}{'' if found.new else ', imported before'}")


def gc(
    delete: Annotated[
        bool, typer.Option("--delete", help="Remove what is listed; without it nothing is.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """List checkpoints and run folders that nothing needs, and remove them with --delete. Example: hubmap-ml gc"""
    from dataclasses import asdict

    from hubmap_ml.tracking import open_store, removable, remove

    client = open_store()
    found = removable(client)
    if delete:
        for item in found:
            remove(client, item)
    size = sum(item.size for item in found)
    if as_json:
        typer.echo(json.dumps({"deleted": delete, "size": size, "items": [asdict(item) for item in found]}))
        return
    for item in found:
        typer.echo(
            f"{item.size / 1e6:9.1f} MB  {item.kind} of {item.title} {item.run_id[:12]} ({item.why}): {item.place}"
        )
    verdict = "removed" if delete else "could go (hubmap-ml gc --delete removes it)"
    typer.echo(f"{size / 1e6:9.1f} MB {verdict}" if found else "nothing that is not needed")
