"""The command that scores one file of predictions."""

from pathlib import Path
from typing import Annotated

import typer

from hubmap_ml.cli.options import AsJson


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command(rich_help_panel="Predictions in files")(evaluate)


def evaluate(
    truth: Annotated[Path, typer.Option("--truth", help="COCO json.")],
    predictions: Annotated[
        Path,
        typer.Option(
            "--predictions", help="COCO results json, a folder of our Parquet, or a submission csv."
        ),
    ],
    metric: Annotated[str, typer.Option("--metric", help="ap60, coco_segm, dice or dsb_map.")] = "ap60",
    as_json: AsJson = False,
) -> None:
    """Score predictions. Example: hubmap-ml evaluate --truth t.json --predictions p.json --metric ap60 --json"""
    from hubmap_ml.stages import evaluate as stage

    stage.show(stage.run(truth, predictions, metric), as_json=as_json)
