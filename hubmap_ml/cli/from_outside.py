"""The commands that bring results of other tools in."""

from pathlib import Path
from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    app.command("import-predictions")(import_predictions)
    app.command("import-workdir")(import_workdir)


def import_predictions(
    predictions: Annotated[
        Path,
        typer.Argument(help="Out-of-fold predictions: COCO results, csv, Detectron2, Ultralytics, Parquet."),
    ],
    experiment: Annotated[
        str, typer.Option("--experiment", help="A file, a folder, or a name in experiments/.")
    ],
    member: Annotated[str, typer.Option("--member", help="Name of the external member.")],
    leak: Annotated[
        str,
        typer.Option(
            "--leak", help="What its networks knew: none, slide, neighbour, duplicate or trained_on."
        ),
    ],
    test: Annotated[
        Path | None, typer.Option("--test", help="Predictions of the test images; ensembles need them.")
    ] = None,
    test_leak: Annotated[
        str, typer.Option("--test-leak", help="Leak level of the test images; by default as --leak.")
    ] = "",
    sets: Annotated[
        list[str] | None, typer.Option("--set", help="POOL=FILE: predictions of a pool's images; several.")
    ] = None,
    format: Annotated[
        str, typer.Option("--format", help="auto, coco, csv, detectron2, ultralytics or parquet.")
    ] = "auto",
    first_class: Annotated[
        int,
        typer.Option("--first-class", help="Number of the first class where classes are counted; -1 tells."),
    ] = -1,
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder to write; imported/MEMBER beside the experiment.")
    ] = None,
    raw: Annotated[
        str, typer.Option("--raw", help="Folder of raw files, in place of the experiment's own.")
    ] = "",
) -> None:
    """Make an external member of predictions. Example: hubmap-ml import-predictions oof.json --test test.json
    --experiment nuclei --member theirs --leak none
    """
    from hubmap_ml.stages import import_predictions as stage

    found = stage.run(
        predictions,
        experiment=experiment,
        member=member,
        leak=leak,
        test=test,
        test_leak=test_leak,
        sets=_named(sets or []),
        out=out,
        kind=format,
        first_class=None if first_class < 0 else first_class,
        raw=raw,
    )
    typer.echo(stage.show(found, member, experiment))


def import_workdir(
    work_dir: Annotated[
        Path, typer.Argument(help="mmdet's work_dir, or a folder with one for each fold (foldK).")
    ],
    experiment: Annotated[
        str, typer.Option("--experiment", help="A file, a folder, or a name in experiments/.")
    ],
    member: Annotated[str, typer.Option("--member", help="Name of the external member.")],
    leak: Annotated[
        str,
        typer.Option(
            "--leak", help="What its networks knew: none, slide, neighbour, duplicate or trained_on."
        ),
    ],
    fold: Annotated[int, typer.Option("--fold", help="Fold that a work_dir without folds held out.")] = 0,
    checkpoint: Annotated[str, typer.Option("--checkpoint", help="last or best.")] = "last",
    ema: Annotated[bool, typer.Option("--ema", help="Take the averaged weights.")] = False,
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder to write; imported/MEMBER beside the experiment.")
    ] = None,
    raw: Annotated[
        str, typer.Option("--raw", help="Folder of raw files, in place of the experiment's own.")
    ] = "",
) -> None:
    """Make a live member of trained networks. Example: hubmap-ml import-workdir work_dirs/htc
    --experiment nuclei --member theirs --leak none
    """
    from hubmap_ml.stages import import_workdir as stage

    found = stage.run(
        work_dir,
        experiment=experiment,
        member=member,
        leak=leak,
        fold=fold,
        checkpoint=checkpoint,
        ema=ema,
        out=out,
        raw=raw,
    )
    typer.echo(stage.show(found, member, experiment))


def _named(sets: list[str]) -> dict[str, Path]:
    from hubmap_ml.spec.errors import InputError

    found = {}
    for text in sets:
        name, equals, path = text.partition("=")
        if not (name and equals and path):
            raise InputError(f"--set is {text!r}; POOL=FILE is expected")
        found[name] = Path(path)
    return found
