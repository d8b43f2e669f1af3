"""The command `rollback`: an earlier ensemble leads again."""

import json
from typing import Annotated

import typer

from hubmap_ml.cli.options import AsJson, ExperimentName


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command(rich_help_panel="Records")(rollback)


def rollback(
    experiment: ExperimentName = "demo",
    why: Annotated[str, typer.Option("--why", help="The reason; kept with the version.")] = "",
    to: Annotated[
        int, typer.Option("--to", help="Version that leads again; 0 is the one that led before.")
    ] = 0,
    as_json: AsJson = False,
) -> None:
    """Let an earlier ensemble lead again. Example: hubmap-ml rollback --experiment demo --why 'worse outside'"""
    from hubmap_ml.stages.champion import model_name, roll_back
    from hubmap_ml.stages.session import open_session
    from hubmap_ml.tracking import open_store

    name = open_session(experiment=experiment).experiment.name
    before, now = roll_back(open_store(), name, to or None, why)
    if as_json:
        typer.echo(json.dumps({"model": model_name(name), "leads": now, "led": before}))
        return
    typer.echo(f"{model_name(name)}: version {now} leads again, in place of {before}")
