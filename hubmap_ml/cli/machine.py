"""Commands about this machine and its store: doctor, ui."""

from typing import Annotated

import typer

from hubmap_ml.cli.options import AsJson


def register(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    app.command(rich_help_panel="This machine")(doctor)
    app.command(rich_help_panel="This machine")(ui)


def doctor(as_json: AsJson = False) -> None:
    """Look at this machine: python, torch, operations, GPU, conda, store, disk. Example: hubmap-ml doctor --json"""
    import json

    from hubmap_ml.cli import doctor as examination

    found = examination.report()
    if as_json:
        typer.echo(json.dumps(found))
    else:
        examination.render(found)


def ui(
    port: Annotated[int, typer.Option("--port", help="Port on this machine.")] = 5000,
    open_browser: Annotated[bool, typer.Option("--open/--no-open", help="Open a browser.")] = False,
) -> None:
    """Start MLflow's pages on the project's store, in the model-training view. Example: hubmap-ml ui --open"""
    from hubmap_ml.tracking import serve_ui

    serve_ui(port, open_browser=open_browser)
