"""The command `pseudo-label`: trained members or a registered version label a pool for others to learn from."""

from typing import Annotated

import typer

from hubmap_ml.cli.options import (
    AsJson,
    Changes,
    Device,
    ExperimentName,
    Fresh,
    Raw,
    WithUpstream,
    Workers,
    whole,
    yes,
)
from hubmap_ml.cli.tables import tell


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command("pseudo-label", rich_help_panel="The chain")(pseudo_label)


def pseudo_label(
    experiment: ExperimentName = "demo",
    labels: Annotated[
        str, typer.Option("--labels", help="Name in pseudo_label; the first where none is given.")
    ] = "",
    fold: Annotated[
        str, typer.Option("--fold", help="Fold whose students learn from them; -1 for students of all data.")
    ] = "0",
    model: Annotated[
        str,
        typer.Option(
            "--model", help="Labels in place of the declared teachers: champion, or models:/NAME/NUMBER."
        ),
    ] = "",
    raw: Raw = "",
    set: Changes = "",
    workers: Workers = "-1",
    device: Device = "auto",
    with_upstream: WithUpstream = "false",
    fresh: Fresh = "false",
    as_json: AsJson = False,
) -> None:
    """Label a pool of images with trained members. Example: hubmap-ml pseudo-label --labels round1 --fold 1"""
    from hubmap_ml.stages import pseudo_label as stage

    tell(
        stage.run(
            experiment=experiment,
            labels=labels,
            fold=whole(fold, "fold"),
            model=model,
            raw=raw,
            set=set,
            workers=whole(workers, "workers"),
            device=device,
            with_upstream=yes(with_upstream, "with-upstream"),
            fresh=yes(fresh, "fresh"),
        ),
        as_json,
    )
