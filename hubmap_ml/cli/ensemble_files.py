"""The options of `ensemble` that compare prediction files instead of building an experiment's ensemble."""

import json
from pathlib import Path
from typing import Annotated

import typer

Truth = Annotated[
    Path | None,
    typer.Option("--truth", help="COCO json: compare prediction files instead of promoted members."),
]
Predictions = Annotated[
    list[Path] | None,
    typer.Option(
        "--predictions", help="With --truth: COCO results, a folder of our Parquet, or a csv; several."
    ),
]
Further = Annotated[
    list[Path] | None, typer.Argument(help="Further files after --predictions.", show_default=False)
]
Report = Annotated[Path, typer.Option("--report", help="With --truth: the page to write.")]
Metric = Annotated[str, typer.Option("--metric", help="With --truth: ap60, coco_segm or dsb_map.")]


def compare(truth: Path, predictions: list[Path], report: Path, metric: str, as_json: bool) -> None:
    """Compare prediction files and tell the result."""
    from hubmap_ml.ensembling.from_files import comparison_to_data
    from hubmap_ml.stages import ensemble_files as stage

    done = stage.run(truth, predictions, report, metric=metric)
    if as_json:
        typer.echo(json.dumps({**comparison_to_data(done), "report": str(report)}))
    else:
        stage.show(done, report)


def refuse_without_truth(predictions: list[Path]) -> None:
    """Say what is missing where prediction files came without a truth.

    Raises:
        InputError: there are prediction files.
    """
    from hubmap_ml.spec.errors import InputError

    if predictions:
        raise InputError(f"{predictions[0]} came without a truth: add --truth FILE (COCO json)")
