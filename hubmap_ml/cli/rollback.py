"""The command `rollback`: an earlier ensemble leads again."""

from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command()(rollback)


def rollback(
    experiment: Annotated[
        str, typer.Option("--experiment", help="A file, a folder, or a name in experiments/.")
    ] = "demo",
    why: Annotated[str, typer.Option("--why", help="The reason; kept with the version.")] = "",
    to: Annotated[
        int, typer.Option("--to", help="Version that leads again; 0 is the one that led before.")
    ] = 0,
) -> None:
    """Let an earlier ensemble lead again. Example: hubmap-ml rollback --experiment demo --why 'worse outside'"""
    from hubmap_ml.stages.champion import model_name, roll_back
    from hubmap_ml.stages.session import open_session
    from hubmap_ml.tracking import open_store

    name = open_session(experiment=experiment).experiment.name
    before, now = roll_back(open_store(), name, to or None, why)
    typer.echo(f"{model_name(name)}: version {now} leads again, in place of {before}")
