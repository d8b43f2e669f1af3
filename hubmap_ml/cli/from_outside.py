"""The commands that bring results of other tools in."""

import json
from pathlib import Path
from typing import Annotated

import typer

from hubmap_ml.cli.options import AsJson, ExperimentName, Raw


def register(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    app.command("import-predictions", rich_help_panel="From outside")(import_predictions)
    app.command("import-workdir", rich_help_panel="From outside")(import_workdir)


def import_predictions(
    predictions: Annotated[
        Path,
        typer.Argument(
            help="Out-of-fold predictions: COCO results, csv, Detectron2, Ultralytics, Parquet.",
        ),
    ],
    experiment: ExperimentName = "",
    member: Annotated[str, typer.Option("--member", help="Name of the external member.")] = "",
    leak: Annotated[
        str,
        typer.Option(
            "--leak", help="What its networks knew: none, slide, neighbour, duplicate or trained_on."
        ),
    ] = "",
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
        str, typer.Option("--format", help="auto, coco, csv, rle, detectron2, ultralytics or parquet.")
    ] = "auto",
    first_class: Annotated[
        int,
        typer.Option("--first-class", help="Number of the first class where classes are counted; -1 tells."),
    ] = -1,
    columns: Annotated[
        list[str] | None,
        typer.Option(
            "--column", help="Of a csv of run lengths: image=, mask=, score= or class=NAME; several."
        ),
    ] = None,
    runs: Annotated[
        str, typer.Option("--runs", help="How its runs go: columns (down), rows (along) or coco (counts).")
    ] = "",
    first_pixel: Annotated[
        int, typer.Option("--first-pixel", help="Number of the first pixel in its runs: 0 or 1.")
    ] = 1,
    images: Annotated[
        Path | None,
        typer.Option(
            "--images", help="Without an experiment: COCO json, or csv of id, height, width; writes Parquet."
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder to write; imported/MEMBER beside the experiment.")
    ] = None,
    raw: Raw = "",
    as_json: AsJson = False,
) -> None:
    """Make an external member of predictions. Example: hubmap-ml import-predictions oof.json --test test.json
    --experiment nuclei --member theirs --leak none
    """
    from hubmap_ml.spec.errors import InputError
    from hubmap_ml.stages import import_predictions as stage
    from hubmap_ml.stages.foreign_predictions import how_to_read

    how = how_to_read(
        format,
        first_class=None if first_class < 0 else first_class,
        columns=_named("--column", columns or [], "KEY=NAME"),
        runs=runs,
        first_pixel=first_pixel,
    )
    of_members = {
        "--experiment": experiment, "--member": member, "--leak": leak, "--test": test, "--test-leak": test_leak,
        "--set": sets, "--raw": raw,
    }  # fmt: skip
    if images is not None:
        given = [option for option, value in of_members.items() if value]
        if given:
            raise InputError(f"{given[0]} is said of an experiment's member; --images imports without one")
        if out is None:
            raise InputError("--images imports without an experiment: name the folder to write with --out")
        converted = stage.convert(predictions, images, out, how)
        counts = {"instances": len(converted.scores), "images": len(converted.images), "folder": str(out)}
        typer.echo(json.dumps(counts) if as_json else stage.show_converted(converted, out))
        return
    missing = [option for option in ("--experiment", "--member", "--leak") if not of_members[option]]
    if missing:
        raise InputError(
            f"{missing[0]} is missing; or import without an experiment by --images FILE --out FOLDER"
        )
    found = stage.run(
        predictions,
        experiment=experiment,
        member=member,
        leak=leak,
        test=test,
        test_leak=test_leak,
        sets={pool: Path(path) for pool, path in _named("--set", sets or [], "POOL=FILE").items()},
        out=out,
        how=how,
        raw=raw,
    )
    if as_json:
        images_of = {name: len(ids) for name, ids in found.ids.items()}
        typer.echo(_told(member, found.folder, str(found.leak_level), images=images_of))
    else:
        typer.echo(stage.show(found, member, experiment))


def import_workdir(
    work_dir: Annotated[
        Path, typer.Argument(help="mmdet's work_dir, or a folder with one for each fold (foldK).")
    ],
    experiment: ExperimentName,
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
    raw: Raw = "",
    as_json: AsJson = False,
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
    if as_json:
        typer.echo(_told(member, found.folder, str(found.leak_level), folds=list(found.digests)))
    else:
        typer.echo(stage.show(found, member, experiment))


def _told(member: str, folder: Path, leak_level: str, **more: object) -> str:
    return json.dumps({"member": member, "folder": str(folder), "leak_level": leak_level, **more})


def _named(option: str, texts: list[str], form: str) -> dict[str, str]:
    from hubmap_ml.spec.errors import InputError

    found = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not (name and equals and value):
            raise InputError(f"{option} is {text!r}; {form} is expected")
        if name in found:
            raise InputError(f"{option} {name}=… is given twice")
        found[name] = value
    return found
